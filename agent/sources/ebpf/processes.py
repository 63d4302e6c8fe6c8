"""The processes of the node as the probes told them: who runs what, whose child it is, in whose pod.

A short-lived process is gone before anybody can ask the kernel of it; what is told of it was told when it started, and
its pod is its parent's.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from agent.model import Generations, Process, Resource, Sensitive, Text
from agent.sources.ebpf.layout import HEAD_BYTES, Head

# About 1 KB for each; a node rarely has more than some thousands.
_MOST = 32_768
_ANCESTORS = 8
_PENDING = 1024
_ENDED = 4096
_BY_DESCRIPTOR = re.compile(r"/dev/fd/\d|/proc/[\w-]+/fd/\d|memfd:")

OwnerOf = Callable[[int], Resource | None]


class Known(msgspec.Struct):
    """A process, its parent's number, and whose it is."""

    process: Process
    parent: int
    owner: Resource
    binary: str  # its path as it was started, and its file, to select processes by; never told from here
    file: str = ""
    cwd: str = ""
    is_near: bool = False  # relative paths of it are told
    is_cut: bool = False  # its arguments are longer than what was recorded
    is_forked: bool = False  # it runs its parent's program still
    cgroup: int = 0  # the number of its control group, as the kernel told it last


class Arguments(NamedTuple):
    """What a call of execve asked for."""

    path: str
    arguments: str
    environment: dict[str, Text]
    is_cut: bool


def arguments_of(head: Head, record: bytes) -> Arguments:
    """The texts of an EXEC_ARGS record: path, arguments without the program's own name, telling variables."""
    texts = record[HEAD_BYTES : HEAD_BYTES + head.size]
    end, is_cut = head.a & 0xFFFFFFFF, bool(head.a >> 32)
    path, *arguments = texts[:end].split(b"\0")[:-1] or [b""]
    environment: dict[str, Text] = {}
    for one in texts[end : end + head.b].split(b"\0"):
        name, separator, value = one.decode("utf-8", "replace").partition("=")
        if separator:
            environment[name] = Sensitive(value)
    shown = " ".join(_quoted(one.decode("utf-8", "replace")) for one in arguments[1:])
    return Arguments(path.decode("utf-8", "replace"), shown, environment, is_cut)


def _quoted(argument: str) -> str:
    """As Tetragon shows arguments: quoted if there is a blank in it."""
    return f'"{argument}"' if " " in argument or not argument else argument


class ProcessTable:
    """Bounded; fed with records in the order of the ring."""

    def __init__(self, node: str, owner_of: OwnerOf, host: Resource) -> None:
        self._node = node
        self._owner_of = owner_of
        self._host = host
        self.hears_moves = False
        self._known: dict[int, Known] = {}
        self._pending: dict[int, Arguments] = {}
        self._ended: Generations[int, Known] = Generations(_ENDED)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, pid: int) -> Known | None:
        return self._known.get(pid)

    def exec_id(self, pid: int, time: int) -> str:
        """The node, the start and the number: as Tetragon makes its own."""
        return base64.b64encode(f"{self._node}:{time}:{pid}".encode()).decode()

    def asked(self, tid: int, arguments: Arguments) -> None:
        """A call of execve that may succeed."""
        if len(self._pending) >= _PENDING:
            self._pending.pop(next(iter(self._pending)))
        self._pending[tid] = arguments

    def started(self, head: Head, path: str, wall_time: int) -> Known:
        """A program has started in a process."""
        pid = head.pid
        before = self._known.get(pid)
        # A thread that is not the first may have called execve: its number is in `a`.
        asked = self._pending.pop(int(head.a), None) or self._pending.pop(pid, None)
        parent = before.parent if before is not None else parent_of(pid)
        # A process stays in its parent's control group until it is moved, which is told (`moved`); one that was made in
        # another (CLONE_INTO_CGROUP) shows it by the number of its group.
        is_there_still = before is not None and self.hears_moves and before.cgroup == head.cgroup
        owner = before.owner if before is not None and is_there_still else self._owner_of(pid)
        if owner is None and before is not None:
            owner = before.owner
        if owner is None:  # gone already
            inherited = self._known.get(parent) or self._ended.get(parent)
            owner = inherited.owner if inherited is not None else None
        # Links are read after the fact: a process that started another program meanwhile has that one's.  The name it
        # was started under came with the record, and is a script's own.
        file = _link(pid, "exe")
        cwd = before.cwd if before is not None and before.cwd else _link(pid, "cwd")
        is_fileless = _BY_DESCRIPTOR.match(path) is not None or file.startswith("/memfd:")
        shown = normal_path(path, cwd)
        above = self._known.get(parent) or self._ended.get(parent)
        process = Process(
            exec_id=self.exec_id(pid, head.time),
            pid=pid,
            uid=head.uid,
            binary=Sensitive(shown),
            arguments=Sensitive(asked.arguments) if asked is not None and asked.arguments else "",
            environment=asked.environment if asked is not None else {},
            cwd=Sensitive(cwd) if cwd else "",
            start_time_unix_nano=wall_time,
            parent_exec_id=above.process.exec_id if above is not None else _parent_id(before),
            is_fileless=is_fileless or file.endswith(" (deleted)"),
            is_setuid=_is_setuid(pid),
        )
        known = Known(process, parent, owner or self._host, shown, file.removesuffix(" (deleted)"), cwd)
        known.is_cut = asked is not None and asked.is_cut
        known.cgroup = head.cgroup
        return self._keep(pid, known)

    def forked(self, head: Head) -> None:
        """A process made another one, which runs the same program until it starts its own."""
        parent, child = head.pid, int(head.a)
        above = self._known.get(parent) or self.find(parent)
        if above is None:
            return
        process = msgspec.structs.replace(
            above.process,
            exec_id=self.exec_id(child, head.time),
            pid=child,
            parent_exec_id=above.process.exec_id,
        )
        self._keep(
            child,
            msgspec.structs.replace(
                above, process=process, parent=parent, is_cut=False, is_forked=True, cgroup=head.cgroup
            ),
        )

    def find(self, pid: int) -> Known | None:
        """A process that nobody told us of: it was there before the probes, or its start was lost."""
        known = self._known.get(pid)
        if known is not None:
            return known
        owner = self._owner_of(pid)
        if owner is None:
            return self._ended.get(pid)
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = [one.decode("utf-8", "replace") for one in file.read(16 * 1024).split(b"\0")[:-1]]
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return None
        binary = _link(pid, "exe").removesuffix(" (deleted)")
        parent = parent_of(pid)
        above = self._known.get(parent)
        arguments = " ".join(_quoted(word) for word in words[1:])
        process = Process(
            exec_id=self.exec_id(pid, 0),
            pid=pid,
            uid=uid,
            binary=Sensitive(binary or (words[0] if words else "")),
            arguments=Sensitive(arguments) if arguments else "",
            parent_exec_id=above.process.exec_id if above is not None else "",
        )
        return self._keep(pid, Known(process, parent, owner, binary, binary, _link(pid, "cwd")))

    def ended(self, pid: int) -> Known | None:
        """A process has ended; what was known of it, for the last time."""
        self._pending.pop(pid, None)
        known = self._known.pop(pid, None)
        if known is not None:
            self._ended.put(pid, known)  # for its children, and for sockets that the kernel closes after it
        return known

    def of_pods(self, uids: set[str]) -> list[tuple[int, Known]]:
        """The processes of these pods."""
        return [(pid, known) for pid, known in self._known.items() if known.owner.pod_uid in uids]

    def moved(self, pid: int, told: Resource | None = None) -> None:
        """A process is somebody else's: whose was told, or is asked."""
        known = self._known.get(pid)
        owner = told or self._owner_of(pid)
        if known is not None and owner is not None:
            known.owner = owner

    def parent(self, known: Known) -> Process | None:
        above = self._above(known)
        return above.process if above is not None else None

    def _above(self, known: Known) -> Known | None:
        """The parent, if it is the one that made this process and not a later one with its number."""
        above = self._known.get(known.parent)
        if above is None or above.process.exec_id != known.process.parent_exec_id:
            ended = self._ended.get(known.parent)
            above = ended if ended is not None else above
        return above

    def ancestors(self, known: Known) -> tuple[Process, ...]:
        """Above the parent, nearest first."""
        found: list[Process] = []
        above = self._above(known)
        while above is not None and len(found) < _ANCESTORS:
            above = self._above(above) if above.parent else None
            if above is not None:
                found.append(above.process)
        return tuple(found)

    def _keep(self, pid: int, known: Known) -> Known:
        if pid not in self._known and len(self._known) >= _MOST:
            self._known.pop(next(iter(self._known)))
        self._known[pid] = known
        return known

    def scan(self) -> list[int]:
        """Learn the processes that are there; their numbers."""
        numbers = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        return [pid for pid in numbers if self.find(pid) is not None]


def normal_path(path: str, directory: str) -> str:
    """A path as one would write it: absolute if it is known from where, without `.`, `..` and doubled slashes."""
    if not path.startswith("/"):
        if not directory:
            return path
        path = f"{directory}/{path}"
    return "/" + os.path.normpath(path).lstrip("/")


def _parent_id(before: Known | None) -> str:
    return before.process.parent_exec_id if before is not None else ""


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def _is_setuid(pid: int) -> bool:
    try:
        return bool(os.stat(f"/proc/{pid}/exe").st_mode & 0o4000)
    except OSError:
        return False


def parent_of(pid: int) -> int:
    """The parent's number; 0 if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read(4096)
    except OSError:
        return 0
    # The name is in parentheses and may hold anything, also parentheses.
    return int(text[text.rfind(b")") + 2 :].split(b" ", 2)[1])
