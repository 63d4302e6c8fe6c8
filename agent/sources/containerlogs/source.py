"""The container log source: one watcher over all directories, a few readers, an acknowledged offset for each file.

A directory is read when the watcher names it; nothing polls files.  A reader sends what one turn gave and moves the
checkpoint when the outcome allows it; an errored batch is read again from the last checkpoint, after a wait.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import structlog
import watchfiles

from agent.model import Outcome
from agent.pipeline import Output
from agent.plugins import Surroundings
from agent.sources.containerlogs.config import ContainerLogsConfig
from agent.sources.containerlogs.paths import LogPath, matches, parse_path
from agent.sources.containerlogs.store import CheckpointStore
from agent.sources.containerlogs.tail import ContainerTail, Turn

log = structlog.get_logger("reeve.containerlogs")

# A container keeps a handful of rotated files; positions of more than this are looked through for gone ones.
_KNOWN_FILES = 16
# The first answer of the watcher says that it watches; after it directories are listed once more.
_WATCH_TIMEOUT_MS = 500
# How often directories (not files) are listed although nothing was reported: 2 000 of them take about 20 ms.
_LOOK_SECONDS = 30.0
_RETRY_FIRST_SECONDS, _RETRY_LONGEST_SECONDS = 1.0, 30.0


class ContainerLogsSource:
    """Tails every container below the configured paths."""

    def __init__(self, config: ContainerLogsConfig, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self._checkpoint_file = config.checkpoint_file or surroundings.state_dir / f"{name}.checkpoints.sqlite"
        self._store: CheckpointStore | None = None
        self._tails: dict[Path, ContainerTail] = {}
        self._ready: asyncio.Queue[Path] = asyncio.Queue()
        self._queued: set[Path] = set()
        self._busy: set[Path] = set()
        self._failures: dict[Path, int] = {}
        self._there_at_start: frozenset[Path] = frozenset()
        self._stopping = asyncio.Event()

    async def stop(self) -> None:
        self._stopping.set()

    async def run(self, out: Output) -> None:
        self._store = await asyncio.to_thread(CheckpointStore, self._checkpoint_file)
        for path in self._config.paths:
            if not path.is_dir():
                log.warning("A log path does not exist yet; it is not watched.", path=str(path))
        tasks = [asyncio.create_task(self._watch())]
        tasks += [asyncio.create_task(self._tick())]
        tasks += [asyncio.create_task(self._work(out)) for _ in range(self._config.workers)]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a reader that failed is a bug: let the line say so
        finally:
            self._stopping.set()
            # Readers finish the turn they are in, so that what was delivered is also committed.
            await asyncio.wait(tasks, timeout=self._drain_seconds())
            for task in (stopping, *tasks):
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            for tail in self._tails.values():
                tail.close()
            self._store.close()

    @staticmethod
    def _drain_seconds() -> float:
        return 20.0

    # -- what is to be read

    async def _watch(self) -> None:
        paths = [path for path in self._config.paths if path.is_dir()]
        await asyncio.to_thread(self._forget_gone)
        self._there_at_start = frozenset(await self._wake_all(paths))
        if not paths:
            await self._stopping.wait()
            return
        looked = 0.0
        async for changes in watchfiles.awatch(
            *paths,
            stop_event=self._stopping,
            debounce=200,
            step=20,
            rust_timeout=_WATCH_TIMEOUT_MS,
            yield_on_timeout=True,
            recursive=True,
            watch_filter=None,
        ):
            # What came before the watch was set, or while the kernel's queue overflowed, is found by looking.
            if time.monotonic() - looked >= _LOOK_SECONDS:
                await self._wake_all(paths)
                looked = time.monotonic()
            directories = {Path(path).parent for _, path in changes if parse_path(path) is not None}
            directories.update(Path(path) for _, path in changes if Path(path) in self._tails)
            # A new directory may hold files already when its watch begins.
            directories.update(
                found
                for change, path in changes
                if change is watchfiles.Change.added and os.path.isdir(path)
                for found in _log_directories([Path(path)])
            )
            for directory in directories:
                self._wake(directory)

    async def _wake_all(self, paths: list[Path]) -> list[Path]:
        """Wake what is there, and what is open although it is gone; the directories that are there."""
        found = await asyncio.to_thread(lambda: list(_log_directories(paths)))
        for directory in {*found, *list(self._tails)}:
            self._wake(directory)
        return found

    def _forget_gone(self) -> None:
        assert self._store is not None
        for container in self._store.containers():
            if not Path(container).is_dir():
                self._store.forget(container, keep=())

    def _wake(self, directory: Path) -> None:
        if directory not in self._queued and self._is_wanted(directory):
            self._queued.add(directory)
            self._ready.put_nowait(directory)

    def _is_wanted(self, directory: Path) -> bool:
        if directory in self._tails:
            return True
        place = next(iter(_places([directory])), None)
        if place is None:
            return False
        namespace, pod = place.resource.namespace, place.resource.pod
        config = self._config
        return (
            matches(config.include_namespaces, namespace)
            and not matches(config.exclude_namespaces, namespace)
            and not (pod and matches(config.exclude_pods, pod))
        )

    async def _tick(self) -> None:
        """Wake containers whose lines waited long enough for a successor."""
        while not self._stopping.is_set():
            await asyncio.sleep(self._config.group_seconds / 2)
            for directory, tail in list(self._tails.items()):
                if tail.is_waiting:
                    self._wake(directory)

    # -- reading

    async def _work(self, out: Output) -> None:
        while not self._stopping.is_set():
            directory = await self._next()
            if directory is None:
                return
            self._queued.discard(directory)
            if directory in self._busy:
                self._wake_later(directory, 0.05)
                continue
            if not self._has_place(directory):
                self._wake_later(directory, self._config.group_seconds / 2)
                continue
            self._busy.add(directory)
            try:
                has_more = await self._turn(directory, out)
            except OSError as error:
                log.warning("A container's log cannot be read or its checkpoint kept.", error=type(error).__name__)
                has_more = self._failed(directory)
            finally:
                self._busy.discard(directory)
            if has_more:
                self._wake(directory)

    async def _next(self) -> Path | None:
        """The next directory to read; None when stopping."""
        get = asyncio.create_task(self._ready.get())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([get, stopping], return_when=asyncio.FIRST_COMPLETED)
            return get.result() if get.done() and not self._stopping.is_set() else None
        finally:
            get.cancel()
            stopping.cancel()

    def _wake_later(self, directory: Path, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._wake, directory)

    def _read(self, directory: Path) -> tuple[ContainerTail, Turn]:
        assert self._store is not None
        tail = self._tails.get(directory)
        if tail is None:
            known = self._store.positions(str(directory))
            at_end = self._config.start_at == "end"
            at_end = at_end and directory in self._there_at_start
            tail = self._tails[directory] = ContainerTail(directory, self._node, known, start_at_end=at_end)
        turn = tail.read(self._config.read_bytes)
        if tail.is_waiting:
            tail.add_late(turn, self._config.group_seconds, self._config.partial_seconds)
        return tail, turn

    async def _turn(self, directory: Path, out: Output) -> bool:
        """Read, send, and commit if the outcome allows it; whether to go on at once."""
        tail, turn = await asyncio.to_thread(self._read, directory)
        out.read(turn.lines)
        for name, count in turn.errors.items():
            out.decode_error(name, count)
        outcome = Outcome.DELIVERED
        if turn.events:
            outcome = await (await out.send(turn.events))
        if outcome.may_checkpoint:
            await asyncio.to_thread(self._commit, directory, tail, turn.position)
            self._failures.pop(directory, None)
            self._close_gone(directory, tail, turn)
            return turn.has_more
        return self._failed(directory)

    def _failed(self, directory: Path) -> bool:
        """Forget what was read since the checkpoint and read it again later."""
        failures = self._failures[directory] = self._failures.get(directory, 0) + 1
        tail = self._tails.pop(directory, None)
        if tail is not None:
            tail.close()
        self._wake_later(directory, min(_RETRY_LONGEST_SECONDS, _RETRY_FIRST_SECONDS * 2 ** min(failures - 1, 10)))
        return False

    def _commit(self, directory: Path, tail: ContainerTail, position: int) -> None:
        assert self._store is not None
        commits = tail.positions(position)
        if commits:
            self._store.commit(str(directory), commits)
        tail.acknowledged(position, commits)
        if tail.known_count > _KNOWN_FILES:
            self._store.forget(str(directory), keep=tail.known_now())

    def _close_gone(self, directory: Path, tail: ContainerTail, turn: Turn) -> None:
        """Let go of a container whose directory was removed, once nothing of it waits."""
        if not turn.has_more and not tail.is_waiting and (tail.is_gone or not directory.is_dir()):
            tail.close()
            del self._tails[directory]
            return
        self._tails[directory] = self._tails.pop(directory)  # the most recently read one is the last

    def _has_place(self, directory: Path) -> bool:
        """Whether a directory may be read now: it is open, or one more may be, or a quiet one can be closed for it.

        Of a quiet one everything is committed and nothing waits: it is found again by its positions.
        """
        # Copies: `_read` opens tails in another thread.
        open_now = len({*list(self._tails), *self._busy})
        if directory in self._tails or open_now < self._config.open_files:
            return True
        for quiet, tail in list(self._tails.items()):
            if quiet not in self._busy and quiet not in self._queued and not tail.is_waiting:
                tail.close()
                del self._tails[quiet]
                return True
        return False


def _places(directories: Iterable[Path]) -> Iterable[LogPath]:
    for directory in directories:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            place = parse_path(str(directory / name))
            if place is not None:
                yield place


def _log_directories(roots: Iterable[Path]) -> Iterable[Path]:
    """Directories at or below the roots that hold container logs."""
    for root in roots:
        for directory, _, names in os.walk(root):
            if any(parse_path(os.path.join(directory, name)) is not None for name in names):
                yield Path(directory)


def build(config: ContainerLogsConfig, name: str, surroundings: Surroundings) -> ContainerLogsSource:
    return ContainerLogsSource(config, name, surroundings)
