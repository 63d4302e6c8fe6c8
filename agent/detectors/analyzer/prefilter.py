"""Which of many patterns can match in a text at all: one Hyperscan database, one scan.  The one door to Hyperscan.

The database is built from the patterns' superset forms and kept in a file, named by the patterns, the library and the
processor; a file that is damaged, foreign or of another processor is built again.  Building took 1.2 s for Presidio's
44 default patterns, loading 5 ms.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import hyperscan

_LIBRARY = version("hyperscan")
_DIGEST_BYTES = 32
# An agent needs four (two profiles, secrets, phones); the rest are of rules as they were.
_KEPT_FILES = 24
# A pattern for which Hyperscan would need more than its own limits is cut to its beginning by nobody: it is always on.
_FLAGS = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_ALLOWEMPTY


def _processor() -> str:
    """What a built database depends on besides its patterns."""
    features = ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            lines = [line for line in file if line.startswith(("flags", "Features", "model name"))]
            features = "".join(sorted(set(lines)))
    except OSError:
        features = platform.processor()
    return f"{platform.machine()} {features}"


class Prefilter:
    """The numbers of the patterns that may match in a text.  Not for two threads at once: each makes its own."""

    def __init__(self, patterns: Sequence[str], directory: Path | None = None) -> None:
        """`patterns[n]` is known as `n`.  With a directory the built database is kept there."""
        self._hits: list[int] = []
        self._always: list[int] = []
        self._database: hyperscan.Database | None = None
        self._scratch: hyperscan.Scratch | None = None
        name = hashlib.sha256("\0".join((_LIBRARY, _processor(), *patterns)).encode()).hexdigest()[:32]
        path = directory / f"{name}.hsdb" if directory else None
        if patterns:
            self._database = _loaded(path) if path else None
            if self._database is None:
                self._database = self._built(patterns)
                if path and not self._always:
                    _stored(path, self._database)
            self._scratch = hyperscan.Scratch(self._database)

    def _built(self, patterns: Sequence[str]) -> hyperscan.Database:
        try:
            return _compiled(patterns, range(len(patterns)))
        except hyperscan.error:
            good = [number for number, pattern in enumerate(patterns) if _compiles(pattern)]
            self._always = [number for number in range(len(patterns)) if number not in set(good)]
            return _compiled([patterns[number] for number in good], good)

    def hits(self, octets: bytes) -> list[int]:
        """Numbers of patterns that may match, each once, in no order.  The list is good until the next call."""
        hits = self._hits
        hits[:] = self._always
        if self._database is not None and octets:
            self._database.scan(octets, match_event_handler=self._note, scratch=self._scratch)
        return hits

    def _note(self, number: int, *_: object) -> None:
        self._hits.append(number)


def _compiled(patterns: Sequence[str], numbers: Sequence[int]) -> hyperscan.Database:
    database = hyperscan.Database()
    database.compile(
        expressions=[pattern.encode("ascii") for pattern in patterns],
        ids=list(numbers),
        elements=len(patterns),
        flags=[_FLAGS] * len(patterns),
    )
    return database


def _compiles(pattern: str) -> bool:
    try:
        _compiled([pattern], [0])
    except hyperscan.error:
        return False
    return True


def _loaded(path: Path) -> hyperscan.Database | None:
    """The database of a file that is whole, and that nobody but us could have written; None for any other."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (os.geteuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        content = file.read()
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        return hyperscan.loadb(body, hyperscan.HS_MODE_BLOCK)
    except (hyperscan.error, ValueError):
        return None


def _stored(path: Path, database: hyperscan.Database) -> None:
    """Keep a database; one that cannot be kept is built again at the next start."""
    body = bytes(hyperscan.dumpb(database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.replace(name, path)
        kept = sorted(path.parent.glob("*.hsdb"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in kept[_KEPT_FILES:]:
            old.unlink()
    except OSError:
        return
