"""One fact that two sources tell is judged once.

Tetragon and our own probes may watch the same node.  Each of them tells a fact once; so an event is another source's
twin if that source has told as many of its kind as this one, this event included.  Whoever comes first is heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import msgspec

from agent.model import Event, FileActivity, Generations, KernelActivity, NetworkActivity, ProcessActivity

_REMEMBERED = 16_384
# Tetragon sends an event up to some seconds after the fact; a process does the same thing again later than that.
_WINDOW_NANOSECONDS = 10_000_000_000
_OBSERVERS = frozenset({"tetragon", "ebpf"})
# Names of one system call as a kprobe, a tracepoint and our own probes have it.
_PREFIXES = ("__x64_sys_", "__arm64_sys_", "sys_enter_", "sys_exit_", "sys_", "security_")
_SAME = {"file_open": "openat", "fd_install": "openat", "open": "openat", "openat2": "openat", "tcp_connect": "connect"}


class _Told(msgspec.Struct):
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    last: int = 0


class Twins:
    """Bounded; for one thread."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._told: Generations[Hashable, _Told] = Generations(remembered)

    def is_told(self, event: Event) -> bool:
        """Whether another source has told this already."""
        if event.source not in _OBSERVERS:
            return False
        fact = _key_of(event)
        if fact is None:
            return False
        key = (event.resource.node, fact)
        told = self._told.get(key)
        if told is None or abs(event.time_unix_nano - told.last) > _WINDOW_NANOSECONDS:
            told = _Told()
            self._told.put(key, told)
        told.last = max(told.last, event.time_unix_nano)
        told.counts[event.source] += getattr(event.body, "count", 1)
        mine = told.counts[event.source]
        return any(count >= mine for source, count in told.counts.items() if source != event.source)


def _plain(function: str) -> str:
    for prefix in _PREFIXES:
        if function.startswith(prefix):
            function = function.removeprefix(prefix)
            break
    return _SAME.get(function, function)


def _key_of(event: Event) -> Hashable | None:
    """What makes two events one fact; None for what only one source can tell."""
    body = event.body
    process = getattr(body, "process", None)
    if process is None or not process.pid:
        return None
    match body:
        case ProcessActivity(action="exec"):
            return "exec", process.pid, process.binary
        case ProcessActivity(action="exit"):
            return "exit", process.pid
        case ProcessActivity():
            return "process", process.pid, _plain(body.function), body.arguments
        case FileActivity():
            # A read or write is no open: only Tetragon's hooks of the same call are the same fact.
            return "file", body.action, process.pid, body.path
        case NetworkActivity(action="connect"):
            return "connect", process.pid, body.destination.address, body.destination.port
        case KernelActivity():
            return "kernel", process.pid, _plain(body.function), body.arguments[:1]
    return None
