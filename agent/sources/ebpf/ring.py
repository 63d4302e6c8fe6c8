"""A BPF ring buffer read in batches, without a callback for each record.

The kernel maps its pages twice in a row, so that no record is ever split.  A record is its length (with a busy and a
discarded bit) and itself, rounded up to eight bytes (linux/kernel/bpf/ringbuf.c).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

_PAGE = mmap.PAGESIZE
_BUSY = 1 << 31
_DISCARDED = 1 << 30
_HEAD = struct.Struct("<II")


class Ring:
    """The reader's side of one ring of `size` bytes (a power of two)."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.descriptor = descriptor
        self._mask = size - 1
        self._consumer = mmap.mmap(descriptor, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(descriptor, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._mine = memoryview(self._consumer).cast("Q")
        self._theirs = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[_PAGE:]
        self.largest_backlog = 0

    @property
    def written(self) -> int:
        """The place up to which records were reserved, since the ring was made."""
        return int(self._theirs[0])

    @property
    def read(self) -> int:
        """The place up to which records were read."""
        return int(self._mine[0])

    @property
    def waiting(self) -> int:
        """Bytes that are written and not read."""
        return int(self._theirs[0] - self._mine[0])

    def take(self, most_bytes: int = 4 * 1024 * 1024) -> list[bytes]:
        """Records that are whole, oldest first, at most about `most_bytes` of them; their room is given back."""
        position, end = self._mine[0], self._theirs[0]
        self.largest_backlog = max(self.largest_backlog, end - position)
        end = min(end, position + most_bytes)
        start, mask, data, unpack = position, self._mask, self._data, _HEAD.unpack_from
        records: list[bytes] = []
        while position < end:
            at = position & mask
            length, _ = unpack(data, at)
            if length & _BUSY:
                break
            if not length & _DISCARDED:
                records.append(bytes(data[at + 8 : at + 8 + length]))
            else:
                length &= ~_DISCARDED
            position += (length + 15) & ~7
        if position != start:
            self._mine[0] = position
        return records

    def close(self) -> None:
        for view in (self._mine, self._theirs, self._data):
            view.release()
        self._consumer.close()
        self._producer.close()


def drained(ring: Ring) -> Iterator[list[bytes]]:
    """Batches until nothing waits."""
    while batch := ring.take():
        yield batch
