"""A record to what it means: an event, a note for later, or a piece of an exchange."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.model import Body, DecodeError, Event, KernelActivity, NetworkActivity, Process, ProcessActivity, event_id
from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.cgroups import place_of_path
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.decode import (
    OBSERVER,
    body_of,
    descriptor_of,
    makes_namespaces,
    owner_of_socket,
    permission_of,
    signal_name,
    text_of,
)
from agent.sources.ebpf.layout import HEAD_BYTES, Head, Kind, head_of
from agent.sources.ebpf.owners import Owners
from agent.sources.ebpf.plaintext import Plaintext, piece_of
from agent.sources.ebpf.processes import Known, ProcessTable, arguments_of, normal_path
from agent.sources.ebpf.runtime import Pod

if TYPE_CHECKING:
    from agent.sources.ebpf.coverage import CoverageWatch

_WITH_PATH = frozenset(
    {Kind.OPEN, Kind.UNLINK, Kind.TRUNCATE, Kind.RENAME, Kind.LINK, Kind.UTIMES, Kind.CHMOD, Kind.SETCAP}
    | {Kind.CHOWN, Kind.MKDIR, Kind.RMDIR, Kind.MKNOD}
)
_WITH_DESCRIPTOR = frozenset({Kind.FCHMOD, Kind.FCHOWN, Kind.FUTIMES, Kind.FSETCAP})
# Told whatever the file is.
_ANY_FILE = frozenset({Kind.SETCAP, Kind.FSETCAP, Kind.MKNOD})
_RIGHTS = 0o6002
_KINDS = frozenset(Kind)
_OF_SOCKETS = frozenset({Kind.LISTEN, Kind.CLOSE})
_PIECE_BYTES = 16 * 1024
_DECIDED = 4000
_LONGEST_PATH = 256
_HERE = -100  # AT_FDCWD


class Sets(Protocol):
    """The kernel's sets of processes."""

    def read_content_of(self, pid: int, *, is_wanted: bool) -> None: ...

    def leave_out(self, pid: int) -> None: ...

    def decide_path(self, path: bytes, *, is_wanted: bool) -> None: ...

    def looks_at_relative(self, pid: int, *, is_wanted: bool) -> None: ...


class Answer(NamedTuple):
    """What became of a record: an event of its own, or why it is none; and events that it completed."""

    event: Event | None = None
    aside: str = ""
    error: str = ""
    made: Iterable[Event] = ()


_MERGED = Answer(aside="merged")


class Meaning:
    """Fed with records in the order of the ring."""

    def __init__(self, config: EbpfConfig, node: str, owners: Owners, sets: Sets) -> None:
        self._config = config
        self._node = node.encode()
        self._owners = owners
        self._sets = sets
        self.table = ProcessTable(node, owners.of_pid, owners.host)
        plain = config.plaintext
        chunks = max(1, plain.message_bytes // _PIECE_BYTES)
        self.plaintext = Plaintext(
            message_bytes=plain.message_bytes,
            connections=plain.connections,
            idle_seconds=plain.idle_seconds,
            whole_call=chunks * _PIECE_BYTES,
        )
        self.coverage: CoverageWatch | None = None
        self.content: set[int] = set()  # processes whose plaintext is read
        self._decides_by_path = bool(plain.select) and all(one.is_by_binary for one in plain.select)
        self._decided: set[str] = set()
        self._paths = config.paths
        self._told_troubles: Counter[str] = Counter()
        self._offset = 0
        self._offset_until = 0
        self._next_early = 0.0

    def scan(self) -> None:
        """Learn the processes that are there, and choose among them."""
        for pid in self.table.scan():
            if (known := self.table.get(pid)) is not None and pid != os.getpid():
                self._choose(pid, known)

    def learn(self, pods: list[Pod]) -> None:
        """Pods got names or labels: choose again among their processes."""
        self._owners.learn(pods)
        uids = {pod.uid for pod in pods}
        for pid, known in self.table.of_pods(uids):
            self.table.moved(pid)
            self._choose(pid, known)

    def wall_time(self, boot_time: int) -> int:
        """Nanoseconds since 1970 of a time since boot."""
        if boot_time > self._offset_until:
            now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._offset, self._offset_until = time.time_ns() - now, now + 1_000_000_000
        return boot_time + self._offset

    def take(self, record: bytes, count: int) -> Answer:
        """What a record (that stands for `count`) means."""
        if len(record) < HEAD_BYTES:
            return Answer(error="short_record")
        head = head_of(record)
        match head.kind:
            case Kind.EXEC_ARGS:
                self.table.asked(head.tid, arguments_of(head, record))
                return _MERGED
            case Kind.EXEC:
                return self._started(head, record)
            case Kind.FORK:
                return self._forked(head, record)
            case Kind.EXIT:
                return self._ended(head, record)
            case Kind.CGROUP:
                place = place_of_path(text_of(head, record))
                # A path that was cut, or another hierarchy's, names no container: the process is asked.
                self.table.moved(int(head.a), self._owners.of_place(place) if place.container_id else None)
                return _MERGED
            case Kind.CHDIR | Kind.FCHDIR:
                self._moved(head, record)
                return _MERGED
            case Kind.PLAIN | Kind.PLAIN_END:
                return self._plaintext(head, record)
        return self._activity(head, record, count)

    def look(self, wall_time: int) -> list[Event]:
        """What the clock tells: requests that wait, connections that are idle."""
        now = time.monotonic()
        if now < self._next_early:
            return []
        self._next_early = now + self._config.plaintext.early_seconds / 2
        return self.plaintext.look(time.clock_gettime_ns(time.CLOCK_BOOTTIME), wall_time)

    def end(self) -> list[Event]:
        return self.plaintext.end(time.time_ns())

    def troubles(self) -> dict[str, int]:
        """Troubles of conversations since the last call, by name."""
        now = self.plaintext.troubles
        grown = {name: count - self._told_troubles[name] for name, count in now.items()}
        self._told_troubles = Counter(now)
        return {name: count for name, count in grown.items() if count}

    # ---------------------------------------------------------------- lives

    def _started(self, head: Head, record: bytes) -> Answer:
        when = self.wall_time(head.time)
        path = text_of(head, record)
        known = self.table.started(head, path, when)
        is_chosen = self._choose(head.pid, known)
        is_new_path = self._decides_by_path and path.startswith("/") and path not in self._decided
        if is_new_path and len(self._decided) < _DECIDED:
            # By binary alone: the kernel can decide the next time, before the process says a word.
            self._decided.add(path)
            self._sets.decide_path(path.encode(), is_wanted=head.pid in self.content)
        if not is_chosen:
            return Answer(aside="out_of_scope")
        tags = ["stdin_is_socket"] if _is_socket(head.pid) else []
        if known.is_cut:
            tags.append("arguments_truncated")
        body = ProcessActivity(
            action="exec",
            process=known.process,
            parent=self.table.parent(known),
            ancestors=self.table.ancestors(known),
            observer_policy=OBSERVER,
            tags=tuple(tags),
        )
        return self._event(head, record, body, known)

    def _moved(self, head: Head, record: bytes) -> None:
        """A process changes its directory, or tries to: the kernel is asked, if the process is still there."""
        known = self.table.find(head.pid)
        if known is not None:
            meant = text_of(head, record)
            inner = normal_path(meant, known.cwd) if head.kind == Kind.CHDIR else ""
            known.cwd = _linked(f"/proc/{head.pid}/cwd") or inner or known.cwd
            # The kernel tells its relative paths since the call; a process that is full of others need not.
            known.is_near = self._paths.is_near(known.cwd)
            if not known.is_near:
                self._sets.looks_at_relative(head.pid, is_wanted=False)

    def _forked(self, head: Head, record: bytes) -> Answer:
        self.table.forked(head)
        child = int(head.a)
        if head.pid in self.content:
            self.content.add(child)
            if self.coverage is not None and self._config.plaintext.http_ports:
                self.coverage.watch(child)  # for the listeners it inherits
        if not makes_namespaces(head.b):
            return _MERGED
        known = self.table.find(head.pid)
        if known is None or not self._is_in_scope(known):
            return _MERGED
        body = body_of(head, record, known.process, self.table.parent(known))
        return self._event(head, record, body, known)

    def _ended(self, head: Head, record: bytes) -> Answer:
        made = self.plaintext.process_ended(head.pid, self.wall_time(head.time))
        if head.pid in self.content:
            # The kernel has forgotten it at its end; but it may have been put into the set after that.
            self.content.discard(head.pid)
            self._sets.read_content_of(head.pid, is_wanted=False)
        if self.coverage is not None:
            self.coverage.forget(head.pid)
        known = self.table.ended(head.pid)
        if known is None or known.is_forked or not self._is_in_scope(known):
            return Answer(aside="unknown_exit" if known is None else "merged", made=made)
        status, signal = int(head.a) & 0xFF, int(head.b)
        body = ProcessActivity(
            action="exit",
            process=known.process,
            parent=self.table.parent(known),
            exit_code=status,
            signal=signal_name(signal) if signal else "",
            observer_policy=OBSERVER,
        )
        return self._event(head, record, body, known)._replace(made=made)

    def _choose(self, pid: int, known: Known) -> bool:
        """Whether a process is watched; tells the kernel so, and whether its plaintext is read."""
        try:
            return self._chosen(pid, known)
        except BpfError:
            # A set of the kernel is full (a fork bomb): this process is told, and not read.
            self.plaintext.troubles["process_set_full"] += 1
            return self._is_in_scope(known)

    def _chosen(self, pid: int, known: Known) -> bool:
        if not self._is_in_scope(known):
            self._sets.leave_out(pid)
            return False
        if self._config.reads_plaintext:
            is_wanted = any(one.fits(known.owner, (known.binary, known.file)) for one in self._config.plaintext.select)
            if is_wanted != (pid in self.content) or self._decides_by_path:
                self._sets.read_content_of(pid, is_wanted=is_wanted)
                (self.content.add if is_wanted else self.content.discard)(pid)
            if is_wanted and self.coverage is not None:
                self.coverage.watch(pid)
        return True

    def _is_in_scope(self, known: Known) -> bool:
        scope = self._config.scope
        return not scope or any(fnmatchcase(known.owner.namespace, one) for one in scope if known.owner.namespace)

    # ----------------------------------------------------------- activities

    def _activity(self, head: Head, record: bytes, count: int) -> Answer:
        pid = owner_of_socket(head, record) if head.kind in _OF_SOCKETS else head.pid
        known = self.table.find(pid)
        if known is None:
            # Gone, and its start was not told: what it did is told all the same.
            known = Known(Process(pid=pid, uid=head.uid), 0, self._owners.host, "")
        if not self._is_in_scope(known):
            return Answer(aside="out_of_scope")
        if head.kind not in _KINDS:
            return Answer(error="unknown_record")
        path = self._path(head, record, known)
        if path is None:
            return Answer(aside="path_not_told")
        body = body_of(head, record, known.process, self.table.parent(known), count, path)
        if isinstance(body, NetworkActivity) and self.coverage is not None and pid in self.content:
            self.coverage.connected(pid, body)
        return self._event(head, record, body, known)

    def _path(self, head: Head, record: bytes, known: Known) -> str | None:
        """The path of a record about a file, absolute; None if it is not one of those that are told."""
        if head.kind == Kind.UNREAD:
            path = normal_path(_text_at(head.pid, int(head.a)), known.cwd)
        elif head.kind in _WITH_DESCRIPTOR:
            path = _linked(f"/proc/{head.pid}/fd/{descriptor_of(int(head.b))}")
        elif head.kind in _WITH_PATH:
            raw = text_of(head, record)
            path = normal_path(raw, _directory(head, raw, known))
            if raw == path or not path.startswith("/"):
                return path  # the kernel has chosen it
        else:
            return ""
        chosen = head.kind in _ANY_FILE or (head.kind in (Kind.CHMOD, Kind.FCHMOD) and bool(head.a & _RIGHTS))
        is_write = head.kind not in (Kind.OPEN, Kind.UNREAD) or permission_of(head.a) != "read"
        return path if chosen or self._paths.is_told(path, is_write=is_write) else None

    def _event(self, head: Head, record: bytes, body: Body | DecodeError, known: Known) -> Answer:
        if isinstance(body, DecodeError):
            return Answer(error=body.name)
        if isinstance(body, KernelActivity) and not body.arguments and body.function == "clone":
            return _MERGED
        when = self.wall_time(head.time)
        event = Event(
            id=event_id(b"ebpf", self._node, record),
            source="ebpf",
            body=body,
            resource=known.owner,
            time_unix_nano=when,
            observed_time_unix_nano=time.time_ns(),
        )
        return Answer(event)

    # ------------------------------------------------------------ plaintext

    def _plaintext(self, head: Head, record: bytes) -> Answer:
        when = self.wall_time(head.time)
        if head.kind == Kind.PLAIN_END:
            return Answer(aside="plaintext", made=self.plaintext.closed(head.pid, int(head.a), when))
        piece = piece_of(head, record)
        if piece is None:
            return Answer(error="short_record")
        known = self.table.find(head.pid)
        if known is None:
            known = Known(Process(pid=head.pid, uid=head.uid), 0, self._owners.host, "")
        return Answer(aside="plaintext", made=self.plaintext.take(head, piece, known, when))


def _directory(head: Head, path: str, known: Known) -> str:
    """What a path is relative to, if its process is still there to ask or its directory is known."""
    if path.startswith("/"):
        return ""
    directory = descriptor_of(int(head.b))
    if directory == _HERE:
        return known.cwd or _linked(f"/proc/{head.pid}/cwd")
    return _linked(f"/proc/{head.pid}/fd/{directory}")


def _text_at(pid: int, address: int) -> str:
    """A text in a process's memory, that was not there yet when the process named it; nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(_LONGEST_PATH).partition(b"\0")[0].decode("utf-8", "replace")
    except (OSError, ValueError, OverflowError):
        return ""


def _linked(place: str) -> str:
    try:
        return os.readlink(place)
    except OSError:
        return ""


def _is_socket(pid: int) -> bool:
    """Whether a program starts with a socket as its input: what a reverse shell does."""
    try:
        return os.readlink(f"/proc/{pid}/fd/0").startswith("socket:")
    except OSError:
        return False
