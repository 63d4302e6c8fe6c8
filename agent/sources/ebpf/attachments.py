"""Probes in TLS libraries and programs: found in what a process has mapped, attached once for each file.

A probe stands in a file and not in a process: every later process that maps the file is covered from its first byte.
Only the first process that brings a new file may speak before its probes stand; so libraries are looked for where they
usually are, as soon as a container's first process is known.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from glob import glob
from typing import NamedTuple

from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.filesystems import OVERLAY, filesystem_of
from agent.sources.ebpf.rooted import rooted
from agent.sources.ebpf.stacks import Finding, Point, finding_of

# Where a distribution's or an image's TLS libraries and programs with one inside are.
_USUAL = (
    "lib/*-linux-gnu/libssl.so*",
    "usr/lib/*-linux-gnu/libssl.so*",
    "usr/lib/libssl.so*",
    "usr/lib64/libssl.so*",
    "lib/libssl.so*",
    "usr/local/lib/libssl.so*",
    "opt/conda/lib/libssl.so*",
    "opt/venv/lib/libssl.so*",
    "usr/lib/*-linux-gnu/libgnutls.so*",
    "usr/lib64/libgnutls.so*",
    "usr/bin/node",
    "usr/local/bin/node",
    "usr/bin/nodejs",
    "usr/local/bin/bun",
    "usr/local/bin/deno",
)
# Mapped files worth a look: libraries that are TLS, and those that bring one along.  Others are many and large.
_LIKELY = re.compile(r"ssl|tls|crypto|grpc|conscrypt|nss|curl|node|boring|xet|reqwest|_http|aiohttp|quic|jvm", re.I)
_MOST_FILES = 1024
_UNUSED_SECONDS = 600.0

# A process of somebody else, to an agent that may not look at it (its directory in /proc is there, and closed).
_CLOSED = Finding(
    None, blind="its files are closed to the agent; it needs the capabilities SYS_PTRACE and DAC_READ_SEARCH"
)

Attach = Callable[[str, Point], int]
Detach = Callable[[int], None]


class Identity(NamedTuple):
    """A file, wherever it is mounted.

    Each container has an overlay of its own over the layers of its image, and probes stand in the layer's file: one for
    all containers of an image.  There the device says nothing; a number that stayed when the file was copied up into
    the container's own layer goes with another time of change.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, descriptor: int) -> Identity:
        status = os.fstat(descriptor)
        device, changed = status.st_dev, 0
        if os.major(device) == 0 and filesystem_of(descriptor) == OVERLAY:
            device, changed = 0, status.st_ctime_ns
        return cls(device, status.st_ino, status.st_size, status.st_mtime_ns, changed)


class Coverage(NamedTuple):
    """What can be read of a process, and what cannot.  `is_new` if probes were put into a file of it just now: what it
    said before, nobody saw.  `is_gone` if it ended before it could be looked at."""

    stacks: tuple[str, ...]
    blind: tuple[str, ...]
    is_new: bool
    is_gone: bool


class Attachments:
    """For one thread.  `attach` and `detach` are the kernel's side."""

    def __init__(self, attach: Attach, detach: Detach) -> None:
        self._attach = attach
        self._detach = detach
        self._findings: dict[Identity, Finding] = {}
        self._events: dict[Identity, list[int]] = {}
        self._used: dict[Identity, float] = {}
        self._roots: set[tuple[int, int]] = set()
        self._fresh: set[tuple[Point, ...]] = set()  # what was put into files by the call at hand

    @property
    def files(self) -> int:
        return len(self._events)

    def cover(self, pid: int, program: str = "") -> Coverage:
        """Attach to everything TLS that a process has mapped.  `program` is looked at where it lies if the process has
        ended: the next one that runs it shall be seen."""
        root = root_of(pid)
        self._fresh.clear()
        self.prepare(root)
        libraries = (rooted(root, one) for one in mapped_libraries(pid))
        found = [self._look(path) for path in [f"/proc/{pid}/exe", *libraries]]
        known = [one for one in found if one is not None]
        is_gone = not known
        if is_gone and program.startswith("/"):
            looked_at = len(self._findings)
            if (found_there := self._look(program)) is not None:
                known.append(found_there)
                # A program that was known before, as its libraries were: nothing of it was missed.
                is_gone = len(self._findings) > looked_at
        return Coverage(
            tuple(dict.fromkeys(one.stack for one in known if one.stack is not None)),
            tuple(dict.fromkeys(one.blind for one in known if one.blind)),
            is_new=any(one.points in self._fresh for one in known if one.points),
            is_gone=is_gone,
        )

    def prepare(self, root: str) -> None:
        """Look at the usual places of a root, once."""
        try:
            status = os.stat(root or "/")
        except OSError:
            return
        key = (status.st_dev, status.st_ino)
        if key in self._roots:
            return
        for pattern in _USUAL:
            for path in glob(pattern, root_dir=root or "/"):
                self._look(rooted(root, f"/{path}"))
        if os.path.isdir(root or "/"):  # else its process ended meanwhile, and nothing was found
            if len(self._roots) >= _MOST_FILES:
                self._roots.clear()
            self._roots.add(key)

    def _look(self, path: str) -> Finding | None:
        """What a file brings, with its probes standing; None if it is gone.

        The file is held open meanwhile and reached by its descriptor: its process, and with it the way to it, may go.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except PermissionError:
            return _CLOSED
        except OSError:
            return None
        try:
            identity = Identity.of(descriptor)
            self._used[identity] = time.monotonic()
            found = self._findings.get(identity)
            if found is None:
                self._forget()
                found = finding_of(descriptor)
                if found.points:
                    found = self._stand(descriptor, identity, found)
                self._findings[identity] = found
            return found
        finally:
            os.close(descriptor)

    def _stand(self, descriptor: int, identity: Identity, found: Finding) -> Finding:
        events: list[int] = []
        try:
            for point in found.points:
                events.append(self._attach(f"/proc/self/fd/{descriptor}", point))
        except (BpfError, OSError) as error:
            for event in events:
                self._detach(event)
            return Finding(None, blind=f"its probes were refused: {error}")
        self._events[identity] = events
        self._fresh.add(found.points)
        return found

    def _forget(self) -> None:
        """Let go of files that no watched process has had mapped for long."""
        if len(self._findings) < _MOST_FILES:
            return
        before = time.monotonic() - _UNUSED_SECONDS
        oldest = sorted(self._used, key=self._used.__getitem__)[: _MOST_FILES // 4]
        for identity in (one for one in oldest if self._used[one] < before or len(self._findings) >= _MOST_FILES):
            for event in self._events.pop(identity, []):
                self._detach(event)
            self._findings.pop(identity, None)
            self._used.pop(identity, None)

    def close(self) -> None:
        for events in self._events.values():
            for event in events:
                self._detach(event)
        self._events.clear()


def root_of(pid: int) -> str:
    """The way to a process's root: none if it is ours, which stays when the process goes."""
    try:
        is_ours = os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino
        return "" if is_ours and os.readlink(f"/proc/{pid}/root") == "/" else f"/proc/{pid}/root"
    except OSError:
        return f"/proc/{pid}/root"


def mapped_libraries(pid: int) -> list[str]:
    """Paths of likely libraries that a process has mapped as code, as it sees them."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            text = file.read(4 * 1024 * 1024)
    except OSError:
        return []
    found: dict[str, None] = {}
    for line in text.splitlines():
        parts = line.split(None, 5)
        if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):
            path = parts[5].removesuffix(" (deleted)")
            if _LIKELY.search(os.path.basename(path)) or "site-packages" in path:
                found[path] = None
    return list(found)
