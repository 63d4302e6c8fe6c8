"""Rules and policies reload by atomic swap: compiled aside, checked, put in force between two events.

A broken file leaves the last good set in force; log, metric and readiness detail say so until it is mended.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
import watchfiles

from agent.app.loading import load_detectors, load_judge, make_engine
from agent.config import Problems, Settings
from agent.engine import Detector, Engine
from agent.plugins import Surroundings
from agent.policy import Compiler, PolicyJudge
from agent.telemetry import Tally

log = structlog.get_logger("reeve.reload")

Loaded = TypeVar("Loaded")


class Ruleset:
    """What is in force: detectors and judge, and the engine made of them."""

    def __init__(
        self, settings: Settings, surroundings: Surroundings, key: bytes, tally: Tally, file: str = ""
    ) -> None:
        """Load everything.  Raises Problems."""
        self._settings = settings
        self._surroundings = surroundings
        self._key = key
        self._tally = tally
        self._file = file
        self._compiler = Compiler()
        self.broken: dict[str, str] = {}  # rules, policies -> what is wrong, while it is
        self.detectors: list[Detector] = load_detectors(settings, surroundings, file)
        self.judge: PolicyJudge = load_judge(settings.policies, self._compiler)
        self.engine: Engine = make_engine(settings, self.detectors, self.judge, key)

    def reload(self, changed: Sequence[Path]) -> bool:
        """Load again what lies where something changed; whether a new engine is in force."""
        is_rules = any(_is_below(path, self._surroundings.rules) for path in changed)
        is_policies = any(_is_below(path, self._settings.policies) for path in changed)
        detectors, judge = self.detectors, self.judge
        if is_rules:
            detectors = self._tried("rules", self._load_detectors) or detectors
        if is_policies:
            judge = self._tried("policies", self._load_judge) or judge
        if detectors is self.detectors and judge is self.judge:
            return False
        self.engine = make_engine(self._settings, detectors, judge, self._key)
        self.detectors, self.judge = detectors, judge
        return True

    def _load_detectors(self) -> list[Detector]:
        return load_detectors(self._settings, self._surroundings, self._file)

    def _load_judge(self) -> PolicyJudge:
        return load_judge(self._settings.policies, self._compiler)

    def _tried(self, what: str, load: Callable[[], Loaded]) -> Loaded | None:
        try:
            loaded = load()
        except Problems as problems:
            self.broken[what] = str(problems.problems[0])
            self._tally.reloaded(what, is_good=False)
            log.error(
                "Files on disk are broken; the last good set stays in force.",
                what=what,
                problems=[str(problem) for problem in problems.problems[:20]],
            )
            return None
        self.broken.pop(what, None)
        self._tally.reloaded(what, is_good=True)
        log.info("A new set is in force.", what=what)
        return loaded


def _is_below(path: Path, directories: Sequence[Path]) -> bool:
    whole = os.path.abspath(path)
    return any(
        whole == (root := os.path.abspath(directory)) or whole.startswith(root + os.sep) for directory in directories
    )


async def watch(
    ruleset: Ruleset, directories: Sequence[Path], swap: Callable[[Engine], None], stop: asyncio.Event
) -> None:
    """Reload when something below the directories changes, until `stop`."""
    existing = [directory for directory in directories if directory.exists()]
    if not existing:
        await stop.wait()
        return
    async for changes in watchfiles.awatch(*existing, stop_event=stop, debounce=500, step=100, watch_filter=None):
        changed = [Path(path) for _, path in changes if path.endswith((".yaml", ".yml")) or "..data" in path]
        if not changed:
            continue
        try:
            has_changed: bool = await asyncio.to_thread(ruleset.reload, changed)
        except Exception as error:  # noqa: BLE001 - a task boundary: the next change must still be seen
            log.error("A reload failed; the last good set stays in force.", error=type(error).__name__)
            continue
        if has_changed:
            swap(ruleset.engine)
