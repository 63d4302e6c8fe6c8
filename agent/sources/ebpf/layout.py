"""What the probes write: kinds of records, and where things stand in one.

The same numbers are given to the C text when it is compiled, so that both sides read one table; `check_sizes` holds the
head's size against the C side's.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple


class Kind(enum.IntEnum):
    """A record's kind.  Names are the C side's, too."""

    EXEC_ARGS = 0
    EXEC = enum.auto()
    EXIT = enum.auto()
    FORK = enum.auto()
    CGROUP = enum.auto()
    OPEN = enum.auto()
    UNREAD = enum.auto()  # a path that could not be read at the call
    CHDIR = enum.auto()
    FCHDIR = enum.auto()
    UNLINK = enum.auto()
    TRUNCATE = enum.auto()
    RENAME = enum.auto()
    LINK = enum.auto()
    UTIMES = enum.auto()
    CHMOD = enum.auto()
    CHOWN = enum.auto()
    MKDIR = enum.auto()
    RMDIR = enum.auto()
    MKNOD = enum.auto()
    FCHMOD = enum.auto()
    FCHOWN = enum.auto()
    FUTIMES = enum.auto()
    SETCAP = enum.auto()
    FSETCAP = enum.auto()
    PTRACE = enum.auto()
    VM_READ = enum.auto()
    VM_WRITE = enum.auto()
    GETFD = enum.auto()
    MEMFD = enum.auto()
    BPF_CALL = enum.auto()
    MOUNT = enum.auto()
    UMOUNT = enum.auto()
    PIVOT = enum.auto()
    CHROOT = enum.auto()
    SETNS = enum.auto()
    UNSHARE = enum.auto()
    SETUID = enum.auto()
    SETGID = enum.auto()
    SETREUID = enum.auto()
    SETREGID = enum.auto()
    SETRESUID = enum.auto()
    SETRESGID = enum.auto()
    CAPSET = enum.auto()
    MODULE = enum.auto()
    BY_HANDLE = enum.auto()
    URING = enum.auto()
    SIGNAL = enum.auto()
    HOSTNAME = enum.auto()
    PERSONALITY = enum.auto()
    USERFAULT = enum.auto()
    PERF = enum.auto()
    KEYS = enum.auto()
    KEXEC = enum.auto()
    MODULE_OUT = enum.auto()
    RAW_SOCKET = enum.auto()
    DATAGRAM = enum.auto()
    CONNECT = enum.auto()
    ACCEPT = enum.auto()
    LISTEN = enum.auto()
    CLOSE = enum.auto()
    PLAIN = enum.auto()  # bytes of a plaintext connection
    PLAIN_END = enum.auto()  # one that was closed


KINDS = len(Kind)

# struct head of programs/shared.c: time cpu tid | kind pid uid size cgroup a b comm
HEAD = struct.Struct("<QIIIIIIQQQ16s")
HEAD_BYTES = HEAD.size
# All that the reader's thread looks at.
CPU_AND_KIND = struct.Struct("<8xI4xI")
# Folding compares a record from here on: time, CPU and thread do not make an event another one.
FOLD_FROM = 16


class Head(NamedTuple):
    """`time` in nanoseconds since boot; `a` and `b` as the kind says."""

    time: int
    cpu: int
    tid: int
    kind: int
    pid: int
    uid: int
    size: int
    cgroup: int
    a: int
    b: int
    comm: bytes


def head_of(record: bytes) -> Head:
    """A record's head.  Raises struct.error if the record is shorter than one."""
    return Head._make(HEAD.unpack_from(record))


def defines() -> str:
    """The table as C: kinds, and an assertion that the head has the size it has here."""
    lines = [f"#define {kind.name} {kind.value}" for kind in Kind]
    lines.append(f"#define KINDS {KINDS}")
    return "\n".join(lines) + "\n"


def assertions() -> str:
    """C that does not compile if its structures differ from what is read here."""
    return f'_Static_assert(sizeof(struct head) == {HEAD_BYTES}, "struct head differs from layout.HEAD");\n'
