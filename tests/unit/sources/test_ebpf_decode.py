"""agent.sources.ebpf.decode: every record is a body or a named error, in Tetragon's words."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import (
    DecodeError,
    Endpoint,
    FileActivity,
    KernelActivity,
    NetworkActivity,
    Process,
    ProcessActivity,
    Sensitive,
)
from agent.sources.ebpf import decode
from agent.sources.ebpf.decode import body_of, descriptor_of, endpoint_of, permission_of, signal_name, text_of
from agent.sources.ebpf.layout import Kind
from tests.unit.sources.ebpf_records import address_4, address_6, address_unix, head_and_record, mapped, state

PROCESS = Process(exec_id="e", pid=100, binary=Sensitive("/bin/sh"))
UNSIGNED = 2**64
V6 = bytes.fromhex("20010db8000000000000000000000001")


def body(kind, payload=b"", path="", count=1, **head):
    head, record = head_and_record(kind, payload, **head)
    return body_of(head, record, PROCESS, None, count, path)


def words(activity):
    return [one.reveal() for one in activity.arguments]


@given(
    st.sampled_from(list(Kind)),
    st.binary(max_size=300),
    st.integers(0, 2**32 - 1),
    st.integers(0, UNSIGNED - 1),
    st.integers(0, UNSIGNED - 1),
)
def test_every_kind_gives_a_body_or_a_named_error(kind, payload, size, a, b):
    made = body(kind, payload, size=size, a=a, b=b)
    assert made is not None
    if isinstance(made, DecodeError):
        assert made.name in ("bad_address", "unknown_record")


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in Kind
        if kind.name not in ("EXEC_ARGS", "EXEC", "EXIT", "CGROUP", "CHDIR", "FCHDIR", "PLAIN", "PLAIN_END")
    ],
)
def test_every_kind_of_an_activity_has_a_body(kind):
    payload = state(mapped(b"\1\1\1\1"), 1, bytes(16), 0, 100) if kind in (Kind.LISTEN, Kind.CLOSE) else b""
    payload = address_4(b"\1\2\3\4", 1) if kind in (Kind.CONNECT, Kind.ACCEPT, Kind.DATAGRAM) else payload
    made = body(kind, payload or b"/x\0", path="/x")
    assert not isinstance(made, DecodeError)
    assert (made.process, made.observer_policy, made.count) == (PROCESS, "ebpf", 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (os.O_RDONLY, "read"),
        (os.O_WRONLY, "write"),
        (os.O_RDWR, "read|write"),
        (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "write|create|truncate"),
        (os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, "read"),
        (3, "read|write"),
    ],
)
def test_flags_of_open_are_told_in_words(flags, words):
    assert permission_of(flags) == words
    made = body(Kind.OPEN, b"/etc/shadow\0", path="/etc/shadow", a=flags)
    assert isinstance(made, FileActivity)
    assert (made.action, made.permission, made.path, made.function) == (
        "open",
        words,
        Sensitive("/etc/shadow"),
        "openat",
    )


@pytest.mark.parametrize(
    ("kind", "action", "function"),
    [
        (Kind.UNLINK, "remove", "unlink"),
        (Kind.RMDIR, "remove", "rmdir"),
        (Kind.RENAME, "rename", "rename"),
        (Kind.TRUNCATE, "truncate", "truncate"),
        (Kind.SETCAP, "other", "setxattr"),
        (Kind.FSETCAP, "other", "fsetxattr"),
        (Kind.MKNOD, "other", "mknod"),
    ],
)
def test_what_is_done_to_a_file(kind, action, function):
    made = body(kind, b"/x\0", path="/x")
    assert (made.action, made.function, made.path) == (action, function, Sensitive("/x"))


@pytest.mark.parametrize(("mode", "shown"), [(0o104755, "04755"), (0o6755, "06755"), (0o644, "0644"), (0, "00")])
def test_rights_are_octal(mode, shown):
    assert body(Kind.CHMOD, b"/x\0", path="/x", a=mode).permission == shown
    assert body(Kind.FCHMOD, path="/x", a=mode).permission == shown


def test_a_path_that_was_cut_is_marked():
    assert body(Kind.OPEN, b"/" + b"x" * 254 + b"\0", path="/x").tags == ("path_truncated",)
    assert body(Kind.OPEN, b"/" + b"x" * 253 + b"\0", path="/x").tags == ()


def test_a_text_ends_at_its_nul():
    head, record = head_and_record(Kind.OPEN, b"/etc/shadow\0rest")
    assert text_of(head, record) == "/etc/shadow"


def test_a_text_that_is_no_utf_8_is_a_text_all_the_same():
    head, record = head_and_record(Kind.OPEN, b"/\xff\xfe\0")
    assert text_of(head, record) == "/\ufffd\ufffd"


@pytest.mark.parametrize(("number", "shown"), [(-100 & (UNSIGNED - 1), -100), (0xFFFFFF9C, -100), (3, 3), (0, 0)])
def test_a_descriptor_has_a_sign(number, shown):
    assert descriptor_of(number) == shown


@pytest.mark.parametrize(
    ("kind", "a", "b", "action", "arguments"),
    [
        (Kind.PTRACE, 16, 7, "trace", ["PTRACE_ATTACH", "7"]),
        (Kind.PTRACE, 0x4206, 7, "trace", ["PTRACE_SEIZE", "7"]),
        (Kind.PTRACE, 4, 7, "trace", ["PTRACE_POKETEXT", "7"]),
        (Kind.VM_READ, 7, 0, "trace", ["7"]),
        (Kind.VM_WRITE, 7, 0, "trace", ["7"]),
        (Kind.GETFD, 5, 3, "trace", ["5", "3"]),
        (Kind.SETUID, 0, 0, "credentials", ["0"]),
        (Kind.SETREUID, UNSIGNED - 1, 0, "credentials", ["-1", "0"]),
        (Kind.CAPSET, 0, 0, "credentials", []),
        (Kind.SETNS, 0x40000000, 3, "namespace", ["net"]),
        (Kind.UNSHARE, 0x10020000, 0, "namespace", ["mnt,user"]),
        (Kind.SIGNAL, 9, 7, "other", ["SIGKILL", "7"]),
    ],
)
def test_what_a_process_does(kind, a, b, action, arguments):
    made = body(kind, a=a, b=b)
    assert isinstance(made, ProcessActivity)
    assert (made.action, words(made)) == (action, arguments)


@pytest.mark.parametrize(
    ("kind", "payload", "a", "function", "arguments"),
    [
        (Kind.MOUNT, b"/mnt\0", 0, "mount", ["/mnt"]),
        (Kind.UMOUNT, b"/mnt\0", 0, "umount", ["/mnt"]),
        (Kind.BPF_CALL, b"", 5, "bpf", ["BPF_PROG_LOAD"]),
        (Kind.RAW_SOCKET, b"", 17, "socket", ["AF_PACKET"]),
        (Kind.RAW_SOCKET, b"", 2, "socket", ["SOCK_RAW"]),
        (Kind.MODULE_OUT, b"kvm\0", 0, "delete_module", ["kvm"]),
        (Kind.CHROOT, b"", 0, "chroot", [""]),
    ],
)
def test_what_concerns_the_kernel(kind, payload, a, function, arguments):
    made = body(kind, payload, a=a)
    assert isinstance(made, KernelActivity)
    assert (made.function, words(made)) == (function, arguments)


def test_new_namespaces_of_a_clone_are_named():
    made = body(Kind.FORK, a=200, b=0x20000000 | 0x40000000)
    assert (made.function, words(made)) == ("clone", ["pid,net"])
    assert decode.makes_namespaces(0x20000000)
    assert not decode.makes_namespaces(0x01200011)  # fork(3): SIGCHLD and the tids


@pytest.mark.parametrize(
    ("number", "name"), [(9, "SIGKILL"), (0, "0"), (15, "SIGTERM"), (99, "99"), (2**63, str(2**63))]
)
def test_a_signal_has_a_name_or_its_number(number, name):
    assert signal_name(number) == name


# ------------------------------------------------------------------- network


@pytest.mark.parametrize(
    ("raw", "endpoint"),
    [
        (address_4(b"\x7f\0\0\1", 443), Endpoint(address="127.0.0.1", port=443)),
        (address_6(V6, 8443), Endpoint(address="2001:db8::1", port=8443)),
        (address_6(mapped(b"\1\2\3\4"), 80), Endpoint(address="1.2.3.4", port=80)),
        (address_4(bytes(4), 0), Endpoint(address="0.0.0.0", port=0)),
    ],
)
def test_an_address(raw, endpoint):
    assert endpoint_of(raw) == (endpoint, "")


@pytest.mark.parametrize(
    "raw", [b"", b"\2", b"\2\0\0\0\0\0\0", b"\xff\xff" + bytes(110), b"\0" * 112, address_6(V6, 1)[:20]]
)
def test_what_is_no_address(raw):
    assert endpoint_of(raw) is None
    assert body(Kind.CONNECT, raw) == DecodeError(name="bad_address")


def test_a_connection_out_has_a_destination():
    made = body(Kind.CONNECT, address_4(b"\1\2\3\4", 443))
    assert made == NetworkActivity(
        action="connect",
        source=Endpoint(),
        destination=Endpoint(address="1.2.3.4", port=443),
        direction="egress",
        process=PROCESS,
        observer_policy="ebpf",
    )


def test_a_connection_in_has_a_source():
    made = body(Kind.ACCEPT, address_4(b"\1\2\3\4", 50000))
    assert (made.action, made.direction) == ("accept", "ingress")
    assert (made.source, made.destination) == (Endpoint(address="1.2.3.4", port=50000), Endpoint())


def test_a_datagram_is_sent_by_udp():
    made = body(Kind.DATAGRAM, address_4(b"\1\1\1\1", 53))
    assert (made.action, made.protocol, made.destination.port) == ("send", "udp", 53)


def test_a_runtime_s_socket_is_a_file_that_is_connected_to():
    made = body(Kind.CONNECT, address_unix(b"/run/docker.sock"))
    assert isinstance(made, FileActivity)
    assert (made.action, made.permission, made.path) == ("open", "connect", Sensitive("/run/docker.sock"))


def test_a_local_connection_that_is_accepted_is_no_connection_to_a_socket():
    made = body(Kind.ACCEPT, address_unix(b"/run/docker.sock"))
    assert getattr(made, "function", "") != "connect"


def test_an_accepted_peer_without_a_name_is_no_network_connection():
    assert not isinstance(body(Kind.ACCEPT, address_unix(b"")), NetworkActivity)


def test_a_listener_has_a_source_only():
    made = body(Kind.LISTEN, state(mapped(bytes(4)), 8080, mapped(bytes(4)), 0, 77), a=5, b=5)
    assert (made.action, made.source, made.destination) == (
        "listen",
        Endpoint(address="0.0.0.0", port=8080),
        Endpoint(),
    )
    assert (made.bytes_sent, made.bytes_received) == (0, 0)


def test_a_connection_that_ended_tells_its_bytes():
    made = body(Kind.CLOSE, state(mapped(b"\1\1\1\1"), 5000, V6, 443, 77), a=10, b=20)
    assert (made.source.address, made.destination) == ("1.1.1.1", Endpoint(address="2001:db8::1", port=443))
    assert (made.bytes_sent, made.bytes_received) == (10, 20)


def test_a_socket_belongs_to_who_used_it_and_not_to_the_task_at_hand():
    assert decode.owner_of_socket(*head_and_record(Kind.CLOSE, state(bytes(16), 1, bytes(16), 2, 77), pid=0)) == 77
    assert decode.owner_of_socket(*head_and_record(Kind.CLOSE, b"short", pid=5)) == 5


@pytest.mark.parametrize("kind", [Kind.LISTEN, Kind.CLOSE])
def test_a_state_that_is_too_short_is_an_error(kind):
    assert body(kind, bytes(47)) == DecodeError(name="unknown_record")
