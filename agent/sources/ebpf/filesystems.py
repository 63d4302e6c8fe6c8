"""On what kind of file system an open file lies: fstatfs(2), which Python does not offer."""

from __future__ import annotations

import ctypes
import os

OVERLAY = 0x794C7630  # OVERLAYFS_SUPER_MAGIC of linux/magic.h
# struct statfs is 120 bytes on 64-bit machines; its type comes first, as wide as a register.
_STATFS_BYTES = 256
_LIBC = ctypes.CDLL(None, use_errno=True)


def filesystem_of(descriptor: int) -> int:
    """The type's number of linux/magic.h.  Raises OSError."""
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(descriptor, answer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return ctypes.c_ulong.from_buffer(answer).value
