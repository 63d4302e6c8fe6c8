"""Engines in processes of their own, so that scanning uses all the processors the agent is given.

Two threads scan slower than one: the work is Python object work, and they fight for the interpreter's lock (measured on
two shared cores: 0.6 to 0.7 x with two threads, 1.2 to 1.6 x with two processes).  Events of one pod go to one worker,
in order.  When a worker dies, what it had not answered is sent again; an event that two workers die of, on its own, is
answered with `WorkerDied`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from agent.config import Problems, Settings
from agent.engine import Engine
from agent.engine.courier import packed, unpacked
from agent.model import Evaluation, Event
from agent.pipeline import Answer
from agent.plugins import Surroundings

log = structlog.get_logger("reeve.workers")

_LENGTH_BYTES = 8
# A worker that says nothing for so long is stuck: the costliest text takes a second (detectors/analyzer/budget.py).
STUCK_SECONDS = 60.0
# Loading rules and building the prefilter for the first time takes a few seconds.
START_SECONDS = 120.0
_SECONDS_PER_EVENT = 1.0
# A worker that dies as soon as it is started is not started in a tight loop.
_RESTART_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 10.0
_DEATHS_OF_ONE_EVENT = 2


Fallback: TypeAlias = Callable[[Sequence[tuple[Event, bool]]], Awaitable[list[Answer]]]
"""Evaluates in the agent's own process, when no worker comes up."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker makes its engine of."""

    settings: Settings
    surroundings: Surroundings
    key: bytes
    file: str


@dataclass(slots=True, eq=False)
class _Frame:
    """Events on their way to one worker, and where their answers go."""

    items: list[tuple[Event, bool]]
    places: list[int]
    answers: list[Answer | None]
    done: asyncio.Event
    deaths: int = 0
    number: int = field(default_factory=itertools.count().__next__)  # the answer repeats it

    def settle(self, answers: Sequence[Answer]) -> None:
        for place, answer in zip(self.places, answers, strict=True):
            self.answers[place] = answer
        if all(answer is not None for answer in self.answers):
            self.done.set()

    def single(self) -> list[_Frame]:
        """A frame for each event."""
        return [
            _Frame([item], [place], self.answers, self.done)
            for item, place in zip(self.items, self.places, strict=True)
        ]


@dataclass(slots=True)
class _Stats:
    """What a worker says of its engine with each answer."""

    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    cache: tuple[int, int, int] = (0, 0, 0)


class _Worker:
    """One process, its socket, and the frames it has not answered."""

    def __init__(self, number: int, recipe: Recipe, fallback: Fallback) -> None:
        self._number = number
        self._recipe = recipe
        self._fallback = fallback
        self._is_up = False
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[_Frame] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._progress = 0.0  # when it last answered, or was given something to do
        self._past = _Stats()  # of processes that are gone
        self.stats = _Stats()
        self.deaths = 0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Raises TimeoutError or EOFError if the process does not come up."""
        reader = await self._spawn()
        self._is_up = True
        self._tasks = [asyncio.create_task(self._run(reader)), asyncio.create_task(self._watch())]

    async def _spawn(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - milliseconds; our own interpreter
                [sys.executable, "-c", f"from agent.app.workers import serve; serve({theirs.fileno()})"],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # results are the agent's to print
                cwd=Path(__file__).resolve().parents[2],
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 26)
        self._send(self._recipe)
        await asyncio.wait_for(_message(reader), START_SECONDS)  # it says so when its engine is made
        return reader

    def _send(self, message: Any) -> None:
        if self._writer is not None and not self._writer.is_closing():
            octets = packed(message)
            self._writer.write(len(octets).to_bytes(_LENGTH_BYTES, "big") + octets)

    def submit(self, frame: _Frame) -> None:
        """Queue a frame; it is sent now, or once there is a process again."""
        if not self._waiting:
            self._progress = time.monotonic()
        self._waiting.append(frame)
        if self._is_up:
            self._send((frame.number, frame.items))

    def reload(self) -> None:
        """Make the engine anew from the files on disk, after what was sent before."""
        if self._is_up:
            self._send("reload")  # a process that is being started reads the files anyway

    async def _run(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                number, answers, stats = await _message(reader)
                self._settle(number, answers, stats)
            except (EOFError, OSError, ValueError, IndexError, pickle.UnpicklingError) as error:
                reader = await self._revived(type(error).__name__)

    def _settle(self, number: int, answers: Sequence[Answer], stats: _Stats) -> None:
        """Raises ValueError or IndexError if the answer is not to what was asked."""
        frame = self._waiting[0]
        if frame.number != number:
            raise ValueError("an answer to something else")
        self._progress = time.monotonic()
        self.stats = _Stats(
            {name: self._past.rejected.get(name, Counter()) + counts for name, counts in stats.rejected.items()},
            (self._past.cache[0] + stats.cache[0], self._past.cache[1] + stats.cache[1], stats.cache[2]),
        )
        frame.settle(answers)
        self._waiting.popleft()

    async def _watch(self) -> None:
        """Kill the process if it is stuck; `_run` sees its end."""
        while True:
            await asyncio.sleep(min(STUCK_SECONDS / 4, 1.0))
            if not (self._is_up and self._waiting and self._process is not None):
                continue
            limit = STUCK_SECONDS + _SECONDS_PER_EVENT * len(self._waiting[0].items)
            if time.monotonic() - self._progress > limit and self._process.poll() is None:
                self._process.kill()

    async def _revived(self, why: str) -> asyncio.StreamReader:
        """A new process for one that died; what was not answered is sent again, in order."""
        self._is_up = False
        self._past = self.stats
        self._blame()
        for attempt in itertools.count(1):
            self.deaths += 1
            await self._end_process()
            status = self._process.returncode if self._process else None
            log.error("A worker died; its events are scanned again.", worker=self._number, why=why, status=status)
            await asyncio.sleep(min(_RESTART_SECONDS * attempt, _LONGEST_WAIT_SECONDS))
            try:
                reader = await self._spawn()
            except (EOFError, OSError, TimeoutError) as error:
                # The files on disk may be broken by now: the agent's own engine still has the last good set.
                why = type(error).__name__
                await self._evaluate_here()
                continue
            break
        for frame in self._waiting:
            self._send((frame.number, frame.items))
        self._progress = time.monotonic()
        self._is_up = True
        return reader

    async def _evaluate_here(self) -> None:
        while self._waiting:
            frame = self._waiting[0]
            frame.settle(await self._fallback(frame.items))
            self._waiting.popleft()

    def _blame(self) -> None:
        """The first frame was being worked on: its events go one by one, and one that a worker died of for the second
        time on its own is answered."""
        if not self._waiting:
            return
        first = self._waiting.popleft()
        if len(first.items) > 1:
            self._waiting.extendleft(reversed(first.single()))
            return
        first.deaths += 1
        if first.deaths < _DEATHS_OF_ONE_EVENT:
            self._waiting.appendleft(first)
        else:
            first.settle([("WorkerDied", 0.0)])

    async def _end_process(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end_process()
        for frame in self._waiting:
            frame.settle([("WorkerDied", 0.0)] * len(frame.places))


class WorkerPool:
    """A `BatchEvaluator`: several engines, used at once."""

    def __init__(self, count: int, recipe: Recipe, engine: Callable[[], Engine] | None = None) -> None:
        """`engine` gives the agent's own engine, for when no worker comes up."""
        self._engine = engine
        self._one_at_a_time = asyncio.Lock()
        self._workers = [_Worker(number, recipe, self._here) for number in range(count)]

    @property
    def parcels_at_once(self) -> int:
        """How many batches keep all workers busy."""
        return 2 * len(self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers)

    @property
    def deaths(self) -> int:
        return sum(worker.deaths for worker in self._workers)

    @property
    def cache(self) -> tuple[int, int, int]:
        """Hits, misses and bytes of all workers' caches."""
        hits, misses, size = zip(*(worker.stats.cache for worker in self._workers), strict=True)
        return sum(hits), sum(misses), sum(size)

    @property
    def rejected(self) -> Mapping[str, Counter[str]]:
        """What detectors rejected, by detector and rule."""
        total: dict[str, Counter[str]] = {}
        for worker in self._workers:
            for name, counts in worker.stats.rejected.items():
                total.setdefault(name, Counter()).update(counts)
        return total

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self._workers))

    def reload(self) -> None:
        for worker in self._workers:
            worker.reload()

    async def close(self) -> None:
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _here(self, items: Sequence[tuple[Event, bool]]) -> list[Answer]:
        if self._engine is None:
            return [("WorkerDied", 0.0)] * len(items)
        async with self._one_at_a_time:
            engine = self._engine()
            return await asyncio.to_thread(lambda: [_answer(engine, event, whole) for event, whole in items])

    async def evaluate_batch(self, items: Sequence[tuple[Event, bool]]) -> list[Answer]:
        """An answer for each event, in order.  Events of one pod are evaluated in the order of all calls."""
        answers: list[Answer | None] = [None] * len(items)
        done = asyncio.Event()
        places: dict[int, list[int]] = {}
        for place, (event, _) in enumerate(items):
            places.setdefault(self._worker_of(event), []).append(place)
        for number, own in places.items():
            self._workers[number].submit(_Frame([items[place] for place in own], own, answers, done))
        if items:
            await done.wait()
        return [answer for answer in answers if answer is not None]

    def _worker_of(self, event: Event) -> int:
        resource = event.resource
        name = resource.pod_uid or f"{resource.namespace}/{resource.pod}"
        return zlib.crc32(name.encode("utf-8", "surrogatepass")) % len(self._workers)


async def _message(reader: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return unpacked(await reader.readexactly(size))


def processors_given() -> int:
    """Whole processors that a control group's quota allows; 1 without a quota, so that a node is not taken over."""
    for root, quota, period in (
        ("/sys/fs/cgroup", "cpu.max", ""),
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = _read(f"{root}/{quota}").split()
            if period:
                words.append(_read(f"{root}/{period}"))
            if int(words[0]) > 0:
                return max(1, min(-(-int(words[0]) // int(words[1])), len(os.sched_getaffinity(0))))
    return 1


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def serve(handle: int) -> None:
    """A worker's life: a recipe, then events and answers, until the socket ends."""
    from agent.app.reload import Ruleset
    from agent.telemetry import Tally, configure

    with socket.socket(fileno=handle) as connection, connection.makefile("rb") as source:
        recipe: Recipe = _received(source)
        configure(recipe.settings.log.level, recipe.settings.log.format)
        try:
            ruleset = Ruleset(recipe.settings, recipe.surroundings, recipe.key, Tally(), recipe.file)
        except Problems as problems:
            log.error("A worker cannot start.", problems=[str(problem) for problem in problems.problems[:5]])
            return
        _write(connection, _stats(ruleset))
        ruleset.engine.warm()
        while (message := _received(source)) is not None:
            if message == "reload":
                ruleset.reload([*recipe.settings.rules, *recipe.settings.policies])
                continue
            number, items = message
            answers = [_answer(ruleset.engine, event, is_complete) for event, is_complete in items]
            _write(connection, (number, answers, _stats(ruleset)))


def _stats(ruleset: Any) -> _Stats:
    cache = ruleset.engine.cache
    return _Stats(
        {one.name: Counter(getattr(one, "rejected", {})) for one in ruleset.detectors},
        (cache.hits, cache.misses, cache.size_bytes) if cache else (0, 0, 0),
    )


def _write(connection: socket.socket, message: Any) -> None:
    octets = packed(message)
    connection.sendall(len(octets).to_bytes(_LENGTH_BYTES, "big") + octets)


def _answer(engine: Engine, event: Event, is_complete: bool) -> Answer:
    started = time.perf_counter()
    try:
        evaluation: Evaluation | str = engine.evaluate(event, is_window_complete=is_complete)
    except Exception as error:  # noqa: BLE001 - a task boundary: it becomes an outcome and a count
        evaluation = type(error).__name__
    return evaluation, time.perf_counter() - started


def _received(source: Any) -> Any:
    head = source.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    octets = source.read(size := int.from_bytes(head, "big"))
    return unpacked(octets) if len(octets) == size else None
