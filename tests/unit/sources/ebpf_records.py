"""Records as the probes write them, for tests of what reads them."""

from __future__ import annotations

import struct

from agent.sources.ebpf.layout import HEAD, Head, Kind, head_of


def record_of(kind: int, payload: bytes = b"", **head: int) -> bytes:
    """A record of process 100 unless `head` says otherwise; `size` is the payload's unless it is given."""
    given = {"time": 1_000, "cpu": 0, "tid": 100, "pid": 100, "uid": 0, "cgroup": 1, "a": 0, "b": 0, **head}
    size = given.get("size", len(payload))
    names = (given["time"], given["cpu"], given["tid"], int(kind), given["pid"], given["uid"], size)
    return HEAD.pack(*names, given["cgroup"], given["a"], given["b"], b"sh") + payload


def head_and_record(kind: int, payload: bytes = b"", **head: int) -> tuple[Head, bytes]:
    record = record_of(kind, payload, **head)
    return head_of(record), record


def exec_args(*words: str, environment: tuple[str, ...] = (), is_cut: bool = False, tid: int = 100) -> bytes:
    """What execve was asked for: the path, then the arguments with the program's own name, then variables."""
    texts = b"".join(word.encode() + b"\0" for word in words)
    variables = b"".join(one.encode() + b"\0" for one in environment)
    return record_of(
        Kind.EXEC_ARGS, texts + variables, tid=tid, pid=tid, a=len(texts) | (is_cut << 32), b=len(variables)
    )


def address_4(address: bytes, port: int) -> bytes:
    return (struct.pack("<H", 2) + struct.pack(">H", port) + address).ljust(112, b"\0")


def address_6(address: bytes, port: int) -> bytes:
    return (struct.pack("<H", 10) + struct.pack(">H", port) + bytes(4) + address).ljust(112, b"\0")


def address_unix(path: bytes) -> bytes:
    return (struct.pack("<H", 1) + path).ljust(112, b"\0")


def state(source: bytes, source_port: int, destination: bytes, destination_port: int, pid: int) -> bytes:
    return struct.pack("<HHHH16s16sII", 2, 0, source_port, destination_port, source, destination, pid, 0)


def mapped(address: bytes) -> bytes:
    """An IPv4 address as the tracepoint shows it: in the form of an IPv6 one."""
    return bytes(10) + b"\xff\xff" + address
