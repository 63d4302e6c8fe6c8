"""The probes: which tracepoint runs which program, and what for.

A probe whose tracepoint is missing, or whose program the kernel refuses, is off with a reason; the others run.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

ChosenGroup: TypeAlias = Literal["process", "files", "calls", "sockets", "volumes", "scope"]
Group: TypeAlias = ChosenGroup | Literal["plain"]
"""`plain` follows from the ports of plain HTTP, and is not chosen."""


class Probe(NamedTuple):
    """A tracepoint and the function of `programs/` that runs there.

    `is_needed` probes are those without which the group says little; `legacy` system calls exist on x86-64 only.
    """

    group: Group
    tracepoint: str
    function: str
    what: str
    is_legacy: bool = False


def _call(group: Group, name: str, what: str, *, is_legacy: bool = False, function: str = "") -> Probe:
    return Probe(group, f"syscalls:sys_enter_{name}", function or f"enter_{name}", what, is_legacy)


PROBES: tuple[Probe, ...] = (
    _call("process", "execve", "arguments of programs"),
    _call("process", "execveat", "arguments of programs started by descriptor"),
    Probe("process", "sched:sched_process_exec", "sched_exec", "programs that start"),
    _call("process", "exit_group", "exit codes"),
    _call("process", "exit", "exit codes"),
    Probe("process", "sched:sched_process_exit", "sched_exit", "processes that end"),
    Probe("process", "signal:signal_generate", "signal_sent", "signals that end processes"),
    Probe("process", "task:task_newtask", "new_task", "processes that fork"),
    Probe("scope", "cgroup:cgroup_attach_task", "attach_cgroup", "processes that enter a container"),
    _call("files", "openat", "files that are opened"),
    _call("files", "openat2", "files that are opened"),
    _call("files", "open", "files that are opened", is_legacy=True),
    _call("files", "creat", "files that are made", is_legacy=True),
    _call("files", "chdir", "working directories"),
    _call("files", "fchdir", "working directories"),
    _call("files", "unlinkat", "files that are removed"),
    _call("files", "unlink", "files that are removed", is_legacy=True),
    _call("files", "truncate", "files that are cut"),
    _call("files", "renameat2", "files that are renamed"),
    _call("files", "renameat", "files that are renamed"),
    _call("files", "rename", "files that are renamed", is_legacy=True),
    _call("files", "linkat", "links"),
    _call("files", "link", "links", is_legacy=True),
    _call("files", "symlinkat", "links"),
    _call("files", "symlink", "links", is_legacy=True),
    _call("files", "utimensat", "times that are set"),
    _call("files", "fchmodat", "rights that are set"),
    _call("files", "fchmodat2", "rights that are set"),
    _call("files", "chmod", "rights that are set", is_legacy=True),
    _call("files", "fchmod", "set-uid bits"),
    _call("files", "fchownat", "owners that are set"),
    _call("files", "chown", "owners that are set", is_legacy=True),
    _call("files", "lchown", "owners that are set", is_legacy=True),
    _call("files", "fchown", "owners that are set"),
    _call("files", "mkdirat", "directories that are made"),
    _call("files", "mkdir", "directories that are made", is_legacy=True),
    _call("files", "rmdir", "directories that are removed", is_legacy=True),
    _call("files", "mknodat", "devices that are made"),
    _call("files", "mknod", "devices that are made", is_legacy=True),
    _call("files", "setxattr", "capabilities of files"),
    _call("files", "lsetxattr", "capabilities of files"),
    _call("files", "setxattrat", "capabilities of files"),
    _call("files", "fsetxattr", "capabilities of files"),
    _call("calls", "ptrace", "debugging of another process"),
    _call("calls", "process_vm_readv", "memory of another process read"),
    _call("calls", "process_vm_writev", "memory of another process written"),
    _call("calls", "pidfd_getfd", "descriptors taken from another process"),
    _call("calls", "memfd_create", "files in memory"),
    _call("calls", "bpf", "BPF programs loaded"),
    _call("calls", "mount", "mounts"),
    _call("calls", "move_mount", "mounts"),
    _call("calls", "umount", "unmounts"),
    _call("calls", "pivot_root", "another root"),
    _call("calls", "chroot", "another root"),
    _call("calls", "setns", "namespaces entered"),
    _call("calls", "unshare", "namespaces made"),
    _call("calls", "setuid", "user changed"),
    _call("calls", "setgid", "group changed"),
    _call("calls", "setreuid", "user changed"),
    _call("calls", "setregid", "group changed"),
    _call("calls", "setresuid", "user changed"),
    _call("calls", "setresgid", "group changed"),
    _call("calls", "capset", "capabilities changed"),
    _call("calls", "init_module", "kernel modules loaded"),
    _call("calls", "finit_module", "kernel modules loaded"),
    _call("calls", "open_by_handle_at", "files opened past the mount namespace"),
    _call("calls", "io_uring_setup", "system calls that no probe sees"),
    _call("calls", "sethostname", "host name changed"),
    _call("calls", "setdomainname", "host name changed"),
    _call("calls", "personality", "address randomisation switched off"),
    _call("calls", "userfaultfd", "page faults taken over"),
    _call("calls", "perf_event_open", "performance events opened"),
    _call("calls", "add_key", "kernel keys"),
    _call("calls", "request_key", "kernel keys"),
    _call("calls", "kexec_load", "another kernel started"),
    _call("calls", "kexec_file_load", "another kernel started"),
    _call("calls", "delete_module", "kernel modules removed"),
    _call("calls", "fsopen", "mounts", function="enter_fsopen"),
    _call("calls", "socket", "raw sockets"),
    _call("sockets", "connect", "connections"),
    _call("sockets", "sendto", "datagrams"),
    _call("sockets", "sendmsg", "datagrams"),
    _call("sockets", "sendmmsg", "datagrams", function="enter_sendmsg"),
    _call("sockets", "accept4", "connections taken", function="enter_accept"),
    Probe("sockets", "syscalls:sys_exit_accept4", "leave_accept", "connections taken"),
    _call("sockets", "accept", "connections taken"),
    Probe("sockets", "syscalls:sys_exit_accept", "leave_accept", "connections taken"),
    Probe("sockets", "sock:inet_sock_set_state", "set_state", "listeners, and connections that end"),
    Probe("volumes", "sock:sock_send_length", "send_length", "bytes sent by a connection"),
    Probe("volumes", "sock:sock_recv_length", "recv_length", "bytes received by a connection"),
)

_TRANSFERS: tuple[tuple[str, str, str], ...] = (
    ("write", "plain_buffer", "plain_sent"),
    ("sendto", "plain_buffer", "plain_sent"),
    ("writev", "plain_vector", "plain_sent"),
    ("sendmsg", "plain_message", "plain_sent"),
    ("read", "plain_buffer", "plain_received"),
    ("recvfrom", "plain_receive", "plain_received"),
    ("readv", "plain_vector", "plain_received"),
    ("recvmsg", "plain_receive_message", "plain_received"),
)
# Attached only where ports of plain HTTP are configured: they cost every read and write of every process on the node.
PLAIN_PROBES: tuple[Probe, ...] = (
    _call("plain", "connect", "plaintext of connections", function="plain_connect"),
    _call("plain", "bind", "plaintext of servers", function="plain_bind"),
    _call("plain", "accept4", "plaintext of servers", function="plain_accept"),
    Probe("plain", "syscalls:sys_exit_accept4", "plain_accepted", "plaintext of servers"),
    _call("plain", "accept", "plaintext of servers", function="plain_accept"),
    Probe("plain", "syscalls:sys_exit_accept", "plain_accepted", "plaintext of servers"),
    _call("plain", "close", "ends of connections", function="plain_close"),
    *(_call("plain", name, "plaintext of sockets", function=at_call) for name, at_call, _ in _TRANSFERS),
    *(Probe("plain", f"syscalls:sys_exit_{name}", after, "plaintext of sockets") for name, _, after in _TRANSFERS),
)

# Tracepoints whose fields the programs read by offset.
READ_BY_OFFSET = [probe.tracepoint for probe in PROBES if not probe.tracepoint.startswith("syscalls:")]

# Programs, in the order in which their texts stand.
TEXTS: dict[str, frozenset[Group]] = {
    "process.c": frozenset({"process", "scope"}),
    "files.c": frozenset({"files"}),
    "calls.c": frozenset({"calls"}),
    "sockets.c": frozenset({"sockets", "volumes"}),
}
