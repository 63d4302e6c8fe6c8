"""Repetitions of one thing by one process become one event with a count.

`security_file_permission` fires for every read() of a file, and a debugger makes hundreds of equal ptrace events in a
second.  The first one goes on at once; those that repeat it within the window come as one when the window ends.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

import msgspec

from agent.model import Event, FileActivity, KernelActivity, NetworkActivity, ProcessActivity

_Key: TypeAlias = tuple[object, ...]
_MOST = 4096
_LARGEST = 2048  # characters: what a pod can make long is not kept


class _Fold:
    __slots__ = ("count", "due", "last")

    def __init__(self, due: float) -> None:
        self.due = due
        self.count = 0
        self.last: Event | None = None


def _key_of(event: Event) -> _Key | None:
    """What makes two events one; None for what is never folded (exec, exit, connections)."""
    body = event.body
    match body:
        case FileActivity(process=process, path=path):
            if len(path) > _LARGEST:
                return None
            what: object = path
        case KernelActivity(process=process, arguments=arguments):
            if sum(map(len, arguments)) > _LARGEST:
                return None
            what = arguments
        case ProcessActivity(process=process, arguments=arguments) if body.function:
            if sum(map(len, arguments)) > _LARGEST:
                return None
            what = arguments
        case NetworkActivity(process=process, action="send"):
            what = (body.destination.address, body.destination.port)
        case _:
            return None
    if process is None or not process.exec_id or process.size > _LARGEST:
        return None
    function = getattr(body, "function", "")
    return type(body), process.exec_id, getattr(body, "action", ""), function, body.observer_policy, what


class Folding:
    """At most `most` windows are open; the oldest one is closed early."""

    def __init__(self, window_seconds: float, most: int = _MOST) -> None:
        self._window = window_seconds
        self._most = most
        self._open: OrderedDict[_Key, _Fold] = OrderedDict()
        self.folded = 0  # events that have gone into another one since it was last asked for

    def take(self, event: Event, now: float) -> list[Event]:
        """What goes on now because of this event: itself, a window that had to be closed, or nothing."""
        key = _key_of(event) if self._window else None
        if key is None:
            return [event]
        fold = self._open.get(key)
        if fold is not None and now < fold.due:
            fold.count += 1
            fold.last = event
            return []
        closed = self._close(key) if fold is not None else []
        if len(self._open) >= self._most:
            closed += self._close(next(iter(self._open)))
        self._open[key] = _Fold(now + self._window)
        return [*closed, event]

    def due(self, now: float) -> list[Event]:
        """One event for each window that has ended and held repetitions."""
        ended: list[Event] = []
        while self._open:
            key, fold = next(iter(self._open.items()))
            if fold.due > now:
                break
            ended += self._close(key)
        return ended

    @property
    def next_due(self) -> float | None:
        """When the oldest window ends."""
        return next(iter(self._open.values())).due if self._open else None

    def _close(self, key: _Key) -> list[Event]:
        fold = self._open.pop(key)
        if fold.last is None:
            return []
        self.folded += fold.count - 1
        body = msgspec.structs.replace(fold.last.body, count=fold.count)
        return [msgspec.structs.replace(fold.last, body=body)]

    def take_folded(self) -> int:
        """How many events went into another one since the last call."""
        folded, self.folded = self.folded, 0
        return folded
