"""What the reports do not say yet, on disk: an agent that is killed between two flushes tells it after its restart.

A line is the whole state of one result, not a difference, so that it may be read twice.  A run that has not read the
reports of the run before it yet cannot know the whole: its lines say how many it saw itself.  Two files: one is written
to, the other holds what the flush that is under way has taken on; it is deleted when that flush is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from agent.model import Resource
from agent.reports.aggregate import Aggregate, ResultKey, ResultState, SubjectKey, SubjectState, key_of

# At 1000 violations a second and a flush every 30 s it is about 15 MB.
MOST_BYTES = 64 * 1024 * 1024


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One result of one subject.  Without a `run` the count of the state is the whole, else `seen` is the run's."""

    resource: Resource
    state: ResultState
    policy_digest: str = ""
    run: str = ""
    seen: int = 0


_DECODER = msgspec.json.Decoder(Line)


class Journal:
    """Blocks; for one thread at a time.  Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._current = directory / "journal.jsonl"
        self._flushing = directory / "journal.flushing.jsonl"
        self._size = 0

    def read(self) -> Iterator[Line]:
        """All lines, older ones first; a line that was cut off by the end of the agent is left out."""
        for path in (self._flushing, self._current):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                for raw in file:
                    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                        yield _DECODER.decode(raw)

    def append(self, lines: bytes) -> bool:
        """Write down what `lines_of` gave; False if the journal is full, then it must be begun anew by `rewrite`."""
        if self._size + len(lines) > MOST_BYTES:
            return False
        with self._current.open("ab") as file:
            self._size = file.tell() + len(lines)
            file.write(lines)
        return True

    def rewrite(self, lines: bytes) -> None:
        """Everything that is not written in a report yet, in place of what is there."""
        temporary = self._current.with_suffix(".tmp")
        temporary.write_bytes(lines)
        self._size = len(lines)
        os.replace(temporary, self._current)
        self._flushing.unlink(missing_ok=True)

    def begin_flush(self) -> None:
        """What stands here now is what the flush takes on, beside what an earlier one could not do."""
        if not self._current.exists():
            return
        if self._flushing.exists():
            with self._flushing.open("ab") as target, self._current.open("rb") as source:
                while piece := source.read(1024 * 1024):
                    target.write(piece)
            self._current.unlink()
        else:
            os.replace(self._current, self._flushing)
        self._size = 0

    def end_flush(self) -> None:
        """The reports say it all."""
        self._flushing.unlink(missing_ok=True)


def lines_of(told: Iterable[tuple[SubjectState, ResultState]], run: str = "") -> bytes:
    """The states as lines; of a state that stands there several times, one.  `run` names a run that does not know yet
    what was told before it."""
    latest = {(id(subject), state.key): (subject, state) for subject, state in told}
    return b"".join(
        msgspec.json.encode(
            Line(
                resource=subject.resource,
                state=state,
                policy_digest=subject.policy_digest,
                run=run,
                seen=state.count - state.told - state.carried if run else 0,
            )
        )
        + b"\n"
        for subject, state in latest.values()
    )


def replayed(lines: Iterable[Line], aggregate: Aggregate) -> None:
    """Restore what the lines say: the last whole of each result, and what later runs saw beside it."""
    found: dict[tuple[SubjectKey, ResultKey], tuple[Line, int, dict[str, int]]] = {}
    for line in lines:
        key = (key_of(line.resource), line.state.key)
        _, whole, seen = found.get(key, (line, 0, {}))
        if line.run:
            seen[line.run] = max(seen.get(line.run, 0), line.seen)
        else:
            whole, seen = max(whole, line.state.count), {}
        found[key] = (line, whole, seen)
    for line, whole, seen in found.values():
        state = msgspec.structs.replace(line.state, count=whole)
        subject = aggregate.restore(line.resource, state, line.policy_digest, carried=sum(seen.values()))
        subject.is_changed = True
