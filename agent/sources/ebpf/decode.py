"""Records of the probes to bodies, in the same words as Tetragon's events: one rule or policy reads both.

Pure: a record, and what is known of its process, go in.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import struct

from agent.model import (
    Body,
    DecodeError,
    Endpoint,
    FileAction,
    FileActivity,
    KernelActivity,
    NetworkAction,
    NetworkActivity,
    Process,
    ProcessAction,
    ProcessActivity,
    Sensitive,
)
from agent.sources.ebpf.layout import HEAD_BYTES, Head, Kind

OBSERVER = "ebpf"
_STATE = struct.Struct("<HHHH16s16sII")
_AF_UNIX, _AF_INET, _AF_INET6, _AF_PACKET = 1, 2, 10, 17
_FILES: dict[Kind, tuple[FileAction, str]] = {
    Kind.UNLINK: ("remove", "unlink"),
    Kind.TRUNCATE: ("truncate", "truncate"),
    Kind.RENAME: ("rename", "rename"),
    Kind.LINK: ("other", "link"),
    Kind.UTIMES: ("other", "utimensat"),
    Kind.CHMOD: ("other", "chmod"),
    Kind.SETCAP: ("other", "setxattr"),
    Kind.CHOWN: ("other", "chown"),
    Kind.MKDIR: ("other", "mkdir"),
    Kind.RMDIR: ("remove", "rmdir"),
    Kind.MKNOD: ("other", "mknod"),
    # These came with a descriptor, which user space made a path of.
    Kind.FCHMOD: ("other", "fchmod"),
    Kind.FCHOWN: ("other", "fchown"),
    Kind.FUTIMES: ("other", "utimensat"),
    Kind.FSETCAP: ("other", "fsetxattr"),
}
_PROCESSES: dict[Kind, tuple[ProcessAction, str]] = {
    Kind.PTRACE: ("trace", "ptrace"),
    Kind.VM_READ: ("trace", "process_vm_readv"),
    Kind.VM_WRITE: ("trace", "process_vm_writev"),
    Kind.GETFD: ("trace", "pidfd_getfd"),
    Kind.MEMFD: ("memory", "memfd_create"),
    Kind.SETNS: ("namespace", "setns"),
    Kind.UNSHARE: ("namespace", "unshare"),
    Kind.SETUID: ("credentials", "setuid"),
    Kind.SETGID: ("credentials", "setgid"),
    Kind.SETREUID: ("credentials", "setreuid"),
    Kind.SETREGID: ("credentials", "setregid"),
    Kind.SETRESUID: ("credentials", "setresuid"),
    Kind.SETRESGID: ("credentials", "setresgid"),
    Kind.CAPSET: ("credentials", "capset"),
    Kind.SIGNAL: ("other", "kill"),
}
_KERNEL: dict[Kind, str] = {
    Kind.BPF_CALL: "bpf",
    Kind.MOUNT: "mount",
    Kind.UMOUNT: "umount",
    Kind.PIVOT: "pivot_root",
    Kind.CHROOT: "chroot",
    Kind.MODULE: "init_module",
    Kind.BY_HANDLE: "open_by_handle_at",
    Kind.URING: "io_uring_setup",
    Kind.HOSTNAME: "sethostname",
    Kind.PERSONALITY: "personality",
    Kind.USERFAULT: "userfaultfd",
    Kind.PERF: "perf_event_open",
    Kind.KEYS: "add_key",
    Kind.KEXEC: "kexec_load",
    Kind.MODULE_OUT: "delete_module",
    Kind.RAW_SOCKET: "socket",
}
_COMMANDS = {5: "BPF_PROG_LOAD", 8: "BPF_PROG_ATTACH", 17: "BPF_RAW_TRACEPOINT_OPEN", 28: "BPF_LINK_CREATE"}
_REQUESTS = {
    4: "PTRACE_POKETEXT",
    5: "PTRACE_POKEDATA",
    6: "PTRACE_POKEUSER",
    13: "PTRACE_SETREGS",
    16: "PTRACE_ATTACH",
    0x4206: "PTRACE_SEIZE",
}
_NAMESPACES = {
    0x00020000: "mnt",
    0x02000000: "cgroup",
    0x04000000: "uts",
    0x08000000: "ipc",
    0x10000000: "user",
    0x20000000: "pid",
    0x40000000: "net",
    0x00000080: "time",
}
_NEW_NAMESPACES = 0x7E020000
_ACTIONS: dict[Kind, NetworkAction] = {Kind.CONNECT: "connect", Kind.ACCEPT: "accept", Kind.DATAGRAM: "send"}
_MAX_RECORDED_PATH = 255


def text_of(head: Head, record: bytes) -> str:
    """The text of a record, up to its NUL."""
    return record[HEAD_BYTES : HEAD_BYTES + head.size].partition(b"\0")[0].decode("utf-8", "replace")


def descriptor_of(number: int) -> int:
    """A file descriptor as a signed number; -100 is the working directory."""
    return (number & 0xFFFFFFFF) - (1 << 32) if number & 0x80000000 else number & 0xFFFFFFFF


def permission_of(flags: int) -> str:
    """Flags of open(2) in words."""
    words = [("read", "write", "read|write", "read|write")[flags & os.O_ACCMODE]]
    if flags & os.O_CREAT:
        words.append("create")
    if flags & os.O_TRUNC:
        words.append("truncate")
    return "|".join(words)


def body_of(
    head: Head, record: bytes, process: Process, parent: Process | None, count: int = 1, path: str = ""
) -> Body | DecodeError:
    """The body of a record other than those of process lives and plaintext; `path` is its text made absolute."""
    kind = Kind(head.kind)
    if kind in (Kind.OPEN, Kind.UNREAD):
        flags = head.a if kind is Kind.OPEN else 0
        return FileActivity(
            action="open",
            path=Sensitive(path),
            permission=permission_of(flags),
            function="openat",
            process=process,
            parent=parent,
            count=count,
            observer_policy=OBSERVER,
            tags=_cut(head),
        )
    if (file := _FILES.get(kind)) is not None:
        action, function = file
        return FileActivity(
            action=action,
            path=Sensitive(path),
            permission=f"0{head.a & 0o7777:o}" if kind in (Kind.CHMOD, Kind.FCHMOD) else "",
            function=function,
            process=process,
            parent=parent,
            count=count,
            observer_policy=OBSERVER,
            tags=_cut(head),
        )
    if (activity := _PROCESSES.get(kind)) is not None:
        return ProcessActivity(
            action=activity[0],
            process=process,
            parent=parent,
            function=activity[1],
            arguments=tuple(Sensitive(one) for one in _arguments(kind, head, record)),
            count=count,
            observer_policy=OBSERVER,
        )
    if (function := _KERNEL.get(kind, "")) or kind is Kind.FORK:
        return KernelActivity(
            function=function or "clone",
            arguments=tuple(Sensitive(one) for one in _arguments(kind, head, record)),
            process=process,
            parent=parent,
            count=count,
            observer_policy=OBSERVER,
        )
    return _network(kind, head, record, process, count)


def _cut(head: Head) -> tuple[str, ...]:
    return ("path_truncated",) if head.size > _MAX_RECORDED_PATH else ()


def namespaces_of(flags: int) -> str:
    """The namespaces that flags of clone, unshare or setns name."""
    return ",".join(name for bit, name in _NAMESPACES.items() if flags & bit)


def makes_namespaces(flags: int) -> bool:
    """Whether a clone put the child into namespaces of its own."""
    return bool(flags & _NEW_NAMESPACES)


def _arguments(kind: Kind, head: Head, record: bytes) -> list[str]:
    match kind:
        case Kind.PTRACE:
            return [_REQUESTS.get(head.a, str(head.a)), str(descriptor_of(head.b))]
        case Kind.BPF_CALL:
            return [_COMMANDS.get(head.a, str(head.a))]
        case Kind.SETNS | Kind.UNSHARE | Kind.FORK:
            return [namespaces_of(head.b if kind is Kind.FORK else head.a)]
        case Kind.MEMFD | Kind.MOUNT | Kind.UMOUNT | Kind.PIVOT | Kind.CHROOT | Kind.KEYS | Kind.MODULE_OUT:
            return [text_of(head, record)]
        case Kind.SIGNAL:
            return [signal_name(head.a), str(descriptor_of(head.b))]
        case Kind.RAW_SOCKET:
            return ["AF_PACKET" if head.a == _AF_PACKET else "SOCK_RAW"]
        case Kind.SETREUID | Kind.SETREGID | Kind.SETRESUID | Kind.SETRESGID | Kind.GETFD:
            return [str(descriptor_of(head.a)), str(descriptor_of(head.b))]
        case Kind.CAPSET:
            return []
    return [str(descriptor_of(head.a))]


def signal_name(number: int) -> str:
    """A signal's name; its number if it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def endpoint_of(raw: bytes) -> tuple[Endpoint, str] | None:
    """A sockaddr: the endpoint, and the path of a local socket; None if it names nothing."""
    if len(raw) < 8:
        return None
    family = int.from_bytes(raw[:2], "little")
    if family == _AF_INET:
        return Endpoint(address=str(ipaddress.IPv4Address(raw[4:8])), port=int.from_bytes(raw[2:4], "big")), ""
    if family == _AF_INET6 and len(raw) >= 24:
        return Endpoint(address=_address(raw[8:24]), port=int.from_bytes(raw[2:4], "big")), ""
    if family == _AF_UNIX:
        return Endpoint(), raw[2:].partition(b"\0")[0].decode("utf-8", "replace")
    return None


def _network(kind: Kind, head: Head, record: bytes, process: Process, count: int) -> Body | DecodeError:
    payload = record[HEAD_BYTES : HEAD_BYTES + head.size]
    if kind in (Kind.CONNECT, Kind.ACCEPT, Kind.DATAGRAM):
        found = endpoint_of(payload)
        if found is None or (found[0] == Endpoint() and kind is not Kind.CONNECT):
            return DecodeError(name="bad_address")
        peer, path = found
        if path:
            return FileActivity(
                action="open",
                path=Sensitive(path),
                permission="connect",
                function="connect",
                process=process,
                count=count,
                observer_policy=OBSERVER,
            )
        is_out = kind is not Kind.ACCEPT
        return NetworkActivity(
            action=_ACTIONS[kind],
            source=Endpoint() if is_out else peer,
            destination=peer if is_out else Endpoint(),
            direction="egress" if is_out else "ingress",
            protocol="udp" if kind is Kind.DATAGRAM else "",
            process=process,
            count=count,
            observer_policy=OBSERVER,
        )
    if kind in (Kind.LISTEN, Kind.CLOSE) and len(payload) >= _STATE.size:
        family, _, source_port, destination_port, source, destination, _, _ = _STATE.unpack_from(payload)
        del family
        return NetworkActivity(
            action="listen" if kind is Kind.LISTEN else "close",
            source=Endpoint(address=_address(source), port=source_port),
            destination=Endpoint(address=_address(destination), port=destination_port)
            if kind is Kind.CLOSE
            else Endpoint(),
            protocol="tcp",
            bytes_sent=head.a if kind is Kind.CLOSE else 0,
            bytes_received=head.b if kind is Kind.CLOSE else 0,
            process=process,
            count=count,
            observer_policy=OBSERVER,
        )
    return DecodeError(name="unknown_record")


def owner_of_socket(head: Head, record: bytes) -> int:
    """Whose socket a LISTEN or CLOSE record is about: the task at hand may be anybody."""
    payload = record[HEAD_BYTES : HEAD_BYTES + head.size]
    return int(_STATE.unpack_from(payload)[6]) if len(payload) >= _STATE.size else head.pid


def _address(raw: bytes) -> str:
    """Sixteen bytes as an address: an IPv4 one that a dual-stack socket shows as IPv6 is IPv4."""
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)
