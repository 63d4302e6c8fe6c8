"""The canary: a synthetic leak in each enabled path, again and again, and whether its violation comes out in time.

A detector, a probe or a policy that fails silently is found out by what it no longer finds.  Each leak is unique, a
random card number beside a random token, so that no cache answers for the detectors.  Its violations are the canary's
alone: the audit log keeps them, every other sink and the counts of violations never see them.

Paths: `logs` through the container log source, `runtime` through a process that is started (Tetragon or own probes),
`plaintext` through a prompt over TLS.  The leak's token is told to nobody who could use it to hide behind the canary.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog

from agent.app.loading import plugin_name
from agent.config import CanarySettings, Settings
from agent.model import Evaluation, GenAiOperation, Outcome, ProcessActivity
from agent.telemetry import CanaryCounts

log = structlog.get_logger("reeve.canary")

CanaryPath: TypeAlias = Literal["logs", "runtime", "plaintext"]
NAME = "reeve-canary"
POLICY = "agent-canary"
_RUNTIME_SOURCES = ("ebpf", "tetragon")
# A run that somebody asks for over HTTP is not made more often than this.
_LEAST_SECONDS = 5.0
_CLIENT = Path(__file__).with_name("canary_client.py")


@dataclass(slots=True)
class PathState:
    """How one path fared.  Times are seconds since 1970; `seconds` is what the last good run took."""

    is_up: bool = True
    seconds: float = 0.0
    last_success: float = 0.0
    last_run: float = 0.0
    problem: str = ""


def enabled_paths(settings: Settings) -> tuple[CanaryPath, ...]:
    """The paths that the configured sources make, as far as they are wanted."""
    wanted = settings.canary.paths if settings.canary is not None else ()
    found: list[CanaryPath] = []
    for name, config in settings.sources.items():
        kind, config = plugin_name(name, config), config or {}
        if kind == "containerlogs":
            found.append("logs")
        if kind in _RUNTIME_SOURCES and not config.get("scope"):
            found.append("runtime")
            if kind == "ebpf" and (config.get("plaintext") or {}).get("select"):
                found.append("plaintext")
    return tuple(path for path in dict.fromkeys(found) if wanted is None or path in wanted)


def with_canary(settings: Settings) -> Settings:
    """The settings with the canary's own places among what the sources watch."""
    directory = _directory(settings)
    sources: dict[str, dict[str, Any] | None] = {}
    for name, given in settings.sources.items():
        config = dict(given or {})
        match plugin_name(name, given):
            case "containerlogs":
                config["paths"] = [*config.get("paths", ["/var/log/pods"]), str(directory / "pods")]
                if config.get("include_namespaces"):
                    config["include_namespaces"] = [*config["include_namespaces"], NAME]
            case "ebpf" if (config.get("plaintext") or {}).get("select"):
                plaintext = dict(config["plaintext"])
                plaintext["select"] = [*plaintext["select"], {"binaries": [f"*/{NAME}-client"]}]
                config["plaintext"] = plaintext
        sources[name] = config
    return settings.model_copy(update={"sources": sources})


def _directory(settings: Settings) -> Path:
    return settings.state_dir / "canary"


def card_number() -> str:
    """Sixteen digits that are a card number by their check digit, different each time."""
    digits = [4, *(secrets.randbelow(10) for _ in range(14))]
    doubled = [d if index % 2 else (d * 2 - 9 if d > 4 else d * 2) for index, d in enumerate(digits)]
    text = "".join(map(str, [*digits, -sum(doubled) % 10]))
    return " ".join(text[start : start + 4] for start in range(0, 16, 4))


class Canary:
    """A sink, for what comes out; and the loop that puts leaks in."""

    name = "canary"

    def __init__(self, settings: Settings) -> None:
        assert settings.canary is not None, "made only where the configuration names a canary"
        self._settings: CanarySettings = settings.canary
        self.paths = enabled_paths(settings)
        self._directory = _directory(settings)
        self._uid = str(uuid.uuid4())
        self._tokens: dict[CanaryPath, tuple[str, asyncio.Event]] = {}
        self.states: dict[CanaryPath, PathState] = {path: PathState() for path in self.paths}
        self.runs: Counter[tuple[str, str]] = Counter()  # path, outcome
        self._looping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = asyncio.Lock()
        self._last = 0.0

    # What comes out.

    def path_of(self, evaluation: Evaluation) -> CanaryPath | None:
        """Whose leak this is; None for everything that is not the canary's."""
        event = evaluation.event
        if event.resource.pod_uid == self._uid:
            return "logs"
        match event.body:
            case GenAiOperation(messages=messages):
                is_mine = any(self._is_token("plaintext", str(message.text)) for message in messages)
                return "plaintext" if is_mine else None
            case ProcessActivity(action="exec", process=process):
                # Arguments are there for all to see: whoever copies them hides nothing else by it.
                is_alone = all(result.policy == POLICY for result in evaluation.violations)
                return "runtime" if is_alone and self._is_token("runtime", str(process.arguments)) else None
        return None

    def _is_token(self, path: CanaryPath, text: str) -> bool:
        return path in self._tokens and self._tokens[path][0] in text

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._prepare)
        self._looping = asyncio.create_task(self._repeat())

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        for evaluation in evaluations:
            if evaluation.violations and (path := self.path_of(evaluation)) is not None:
                token, came = self._tokens.get(path, ("", asyncio.Event()))
                if path != "logs" or token in str(getattr(evaluation.event.body, "text", "")):
                    came.set()
        return [Outcome.DELIVERED] * len(evaluations)

    async def close(self) -> None:
        if self._looping is not None:
            self._looping.cancel()
            await asyncio.gather(self._looping, return_exceptions=True)

    # What goes in.

    async def _repeat(self) -> None:
        await asyncio.sleep(min(5.0, self._settings.every_seconds / 2))  # sources look around first
        while True:
            await self.run()
            await asyncio.sleep(self._settings.every_seconds * random.uniform(0.9, 1.0))  # noqa: S311 - spread

    async def run(self) -> None:
        """One leak in each path; returns when all have come out or their time is over."""
        async with self._running:
            if time.monotonic() - self._last >= _LEAST_SECONDS or not self._last:
                await asyncio.gather(*(self._run(path) for path in self.paths))
                self._last = time.monotonic()

    async def _run(self, path: CanaryPath) -> None:
        token = f"{NAME}-{secrets.token_hex(16)}"
        came = asyncio.Event()
        self._tokens[path] = (token, came)
        state = self.states[path]
        started = time.monotonic()
        problem = f"no violation came out within {self._settings.within_seconds:g} s"
        try:
            async with asyncio.timeout(self._settings.within_seconds):
                await asyncio.to_thread(self._plant, path, token)
                await came.wait()
            problem = ""
        except TimeoutError:
            pass
        except (OSError, subprocess.SubprocessError) as error:
            problem = f"no leak could be planted: {type(error).__name__}: {getattr(error, 'strerror', None) or ''}"
        state.last_run = time.time()
        if not problem:
            state.seconds, state.last_success = time.monotonic() - started, state.last_run
        if bool(problem) == state.is_up:
            (log.error if problem else log.info)("The canary's path has changed.", path=path, problem=problem or "none")
        state.is_up, state.problem = not problem, problem
        self.runs[path, "failure" if problem else "success"] += 1

    def _prepare(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        (self._directory / "pods" / f"{NAME}_{NAME}_{self._uid}" / "canary").mkdir(parents=True, mode=0o700)
        script = self._directory / f"{NAME}-client"
        script.write_text(f"#!{sys.executable} -IS\n" + _CLIENT.read_text(encoding="utf-8"), encoding="utf-8")
        script.chmod(0o700)

    def _plant(self, path: CanaryPath, token: str) -> None:
        text = f"{token} a customer paid with card {card_number()}"
        match path:
            case "logs":
                stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
                file = self._directory / "pods" / f"{NAME}_{NAME}_{self._uid}" / "canary" / "0.log"
                with file.open("ab", buffering=0) as out:
                    out.write(f"{stamp} stdout F {text}\n".encode())
            case "runtime":
                subprocess.run(["/bin/true", token], check=False, timeout=10)  # noqa: S603 - our own words
            case "plaintext":
                # The token and the leak go by a pipe: arguments are there for all to see.
                client = str(self._directory / f"{NAME}-client")
                subprocess.run([client], input=text.encode(), check=True, timeout=30)  # noqa: S603 - our own script

    # What is told.

    def detail(self) -> tuple[bool, Mapping[str, Any]]:
        """For `/canary`: whether every path is up, and how each fared."""
        paths: dict[str, Any] = {}
        for path, state in self.states.items():
            paths[path] = {
                "up": state.is_up,
                "runs": self.runs[path, "success"] + self.runs[path, "failure"],
                "seconds": round(state.seconds, 3),
                "last_success": _iso(state.last_success),
            }
            if state.problem:
                paths[path]["problem"] = state.problem
        is_good = all(state.is_up for state in self.states.values())
        return is_good, {"up": is_good, "within_seconds": self._settings.within_seconds, "paths": paths}

    def counts(self) -> CanaryCounts:
        """For the metrics."""
        return CanaryCounts(
            runs=dict(self.runs),
            up={path: state.is_up for path, state in self.states.items()},
            seconds={path: state.seconds for path, state in self.states.items()},
            last_success={path: state.last_success for path, state in self.states.items()},
        )

    def run_now(self) -> tuple[bool, Mapping[str, Any]]:
        """As `detail`, after a run of its own; for another thread than the loop's."""
        if self._loop is not None:
            planted = asyncio.run_coroutine_threadsafe(self.run(), self._loop)
            with contextlib.suppress(TimeoutError):
                planted.result(self._settings.within_seconds * 2 + _LEAST_SECONDS)
        return self.detail()


class WithoutCanaries:
    """A sink that never sees the canary's evaluations."""

    def __init__(self, sink: Any, canary: Canary) -> None:
        self._sink = sink
        self._canary = canary
        self.name: str = sink.name

    async def open(self) -> None:
        await self._sink.open()

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        kept = [index for index, one in enumerate(evaluations) if self._canary.path_of(one) is None]
        if len(kept) == len(evaluations):
            return list(await self._sink.write(evaluations))
        outcomes = [Outcome.DELIVERED] * len(evaluations)
        if kept:
            answers = await self._sink.write([evaluations[index] for index in kept])
            for index, outcome in zip(kept, answers, strict=True):
                outcomes[index] = outcome
        return outcomes

    async def close(self) -> None:
        await self._sink.close()


class CountedWithoutCanaries:
    """An observer that counts the canary's events, but not what was found in them."""

    def __init__(self, observer: Any, canary: Canary) -> None:
        self._observer = observer
        self._canary = canary

    def evaluated(self, evaluation: Evaluation, seconds: float) -> None:
        if self._canary.path_of(evaluation) is not None:
            evaluation = Evaluation(event=evaluation.event)
        self._observer.evaluated(evaluation, seconds)

    def engine_error(self, name: str) -> None:
        self._observer.engine_error(name)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


__all__ = ["Canary", "CountedWithoutCanaries", "WithoutCanaries", "card_number", "enabled_paths", "with_canary"]
