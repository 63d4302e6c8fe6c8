"""Which kernel hook means which activity.  One table; a hook that is not in it is judged by its first argument."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from agent.model import FileAction, NetworkAction, ProcessAction

Meaning: TypeAlias = (
    tuple[Literal["file"], FileAction]
    | tuple[Literal["network"], NetworkAction]
    | tuple[Literal["process"], ProcessAction]
)

# System calls carry the architecture's prefix (facts: `__x64_sys_ptrace`, arm64 `__arm64_sys_ptrace`), tracepoints
# `sys_enter_`/`sys_exit_`, LSM hooks as kprobes `security_`.
_PREFIX = re.compile(r"^(?:__(?:x64|ia32|arm64|se|do)_sys_|__sys_|sys_enter_|sys_exit_|sys_|security_)")

MEANINGS: dict[str, Meaning] = {
    "file_open": ("file", "open"),
    "fd_install": ("file", "open"),
    "open": ("file", "open"),
    "openat": ("file", "open"),
    "openat2": ("file", "open"),
    "mmap_file": ("file", "map"),
    "path_truncate": ("file", "truncate"),
    "file_truncate": ("file", "truncate"),  # Linux 6.2: what has been opened, O_TRUNC and ftruncate
    "inode_rename": ("file", "rename"),
    "path_rename": ("file", "rename"),
    "rename": ("file", "rename"),
    "renameat2": ("file", "rename"),
    "path_unlink": ("file", "remove"),
    "inode_unlink": ("file", "remove"),
    "unlinkat": ("file", "remove"),
    "read": ("file", "read"),
    "write": ("file", "write"),
    "execve": ("file", "execute"),
    "execveat": ("file", "execute"),
    "sched_process_exec": ("file", "execute"),
    "bprm_check": ("file", "execute"),
    "bprm_check_security": ("file", "execute"),
    "bprm_creds_from_file": ("file", "execute"),
    "tcp_connect": ("network", "connect"),
    "socket_connect": ("network", "connect"),
    "connect": ("network", "connect"),
    "tcp_close": ("network", "close"),
    "tcp_sendmsg": ("network", "send"),
    "sendto": ("network", "send"),
    "udp_sendmsg": ("network", "send"),
    "ip_send_skb": ("network", "send"),
    "ip6_send_skb": ("network", "send"),
    "inet_csk_listen_start": ("network", "listen"),
    "inet_csk_accept": ("network", "accept"),
    "accept": ("network", "accept"),
    "accept4": ("network", "accept"),
    "ptrace": ("process", "trace"),
    "process_vm_readv": ("process", "trace"),
    "process_vm_writev": ("process", "trace"),
    "memfd_create": ("process", "memory"),
    "mmap": ("process", "memory"),
    "mprotect": ("process", "memory"),
    "pkey_mprotect": ("process", "memory"),
    "commit_creds": ("process", "credentials"),
    "setuid": ("process", "credentials"),
    "setgid": ("process", "credentials"),
    "setreuid": ("process", "credentials"),
    "setregid": ("process", "credentials"),
    "setresuid": ("process", "credentials"),
    "setresgid": ("process", "credentials"),
    "setfsuid": ("process", "credentials"),
    "setfsgid": ("process", "credentials"),
    "capset": ("process", "credentials"),
    "setns": ("process", "namespace"),
    "unshare": ("process", "namespace"),
    "create_user_ns": ("process", "namespace"),
}

# include/linux/fs.h: MAY_EXEC 1, MAY_WRITE 2, MAY_READ 4, MAY_APPEND 8.
MAY_WRITE, MAY_READ, MAY_APPEND = 2, 4, 8


def plain_name(function: str) -> str:
    """The hook's name without the prefix of its attachment."""
    return _PREFIX.sub("", function, count=1)


def permission_action(mask: int) -> FileAction:
    """What `security_file_permission` was asked for."""
    if mask & (MAY_WRITE | MAY_APPEND):
        return "write"
    return "read" if mask & MAY_READ else "other"
