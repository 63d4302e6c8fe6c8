"""What scanning a text gave, so that a chat history that comes again with every turn is scanned once.

Keyed by a keyed hash: the cache holds no original text, only masked ones.  Bounded in bytes, least recently used out.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from agent.model import Finding

# An entry's fixed cost (key, tuple, dict slot), measured with sys.getsizeof on CPython 3.11.
_ENTRY_BYTES = 400
_FINDING_BYTES = 300


class Scanned:
    """The masked text, its findings without field and role, and why a part was not scanned."""

    __slots__ = ("findings", "masked", "size_bytes", "unscanned")

    def __init__(self, masked: str, findings: tuple[Finding, ...], unscanned: str) -> None:
        self.masked = masked
        self.findings = findings
        self.unscanned = unscanned
        self.size_bytes = _ENTRY_BYTES + len(masked) * 2 + _FINDING_BYTES * len(findings)


class ScanCache:
    """At most `limit_bytes` of results; `hits` and `misses` count look-ups since the start."""

    def __init__(self, key: bytes, limit_bytes: int) -> None:
        self._key = key[:64]
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[bytes, Scanned] = OrderedDict()
        self.size_bytes = 0
        self.hits = 0
        self.misses = 0

    def key_of(self, text: str, direction: str) -> bytes:
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), key=self._key, person=direction.encode()[:16], digest_size=16
        ).digest()

    def get(self, key: bytes) -> Scanned | None:
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return entry

    def put(self, key: bytes, entry: Scanned) -> None:
        if entry.size_bytes > self._limit_bytes:
            return
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self.size_bytes -= replaced.size_bytes
        self._entries[key] = entry
        self.size_bytes += entry.size_bytes
        while self.size_bytes > self._limit_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.size_bytes -= oldest.size_bytes
