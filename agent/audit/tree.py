"""The Merkle tree of RFC 6962 over audit records, kept as a compact range: log n hashes for n records.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32


def leaf_hash(record: bytes) -> bytes:
    """SHA-256(0x00 || record), RFC 6962 section 2.1; `record` is the line without its line break."""
    return hashlib.sha256(b"\x00" + record).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The roots of the full subtrees of a growing tree, from the largest (oldest) to the smallest."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Continue a range.  Raises ValueError if the number of hashes does not fit the size."""
        if len(hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in hashes):
            raise ValueError("the hashes do not fit the size")
        self.size = size
        self.hashes = list(hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf *hash* (32 bytes)."""
        if len(leaf) != HASH_BYTES:
            raise ValueError("a leaf hash has 32 bytes")
        self.hashes.append(leaf)
        size = self.size
        while size & 1:
            right = self.hashes.pop()
            self.hashes[-1] = _node_hash(self.hashes[-1], right)
            size >>= 1
        self.size += 1

    def root(self) -> bytes:
        """The tree head; of an empty tree the hash of the empty string (RFC 6962, 2.1)."""
        if not self.hashes:
            return hashlib.sha256(b"").digest()
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = _node_hash(left, root)
        return root

    def copy(self) -> CompactRange:
        return CompactRange(self.size, self.hashes)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The tree head over leaf hashes, oldest first."""
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()
