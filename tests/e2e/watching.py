"""The eBPF source in a thread of its own, with everything that it sends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.model import Event, FileActivity, GenAiOperation, LossReport, Sensitive, StatusReport, Text
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.examination import kernel_checks
from agent.sources.ebpf.source import EbpfSource
from agent.testing import MemoryOutput


def skip_unless_bpf_works(request: pytest.FixtureRequest) -> None:
    """Skips (or fails, if peers are required and this is root) with what is missing."""
    missing = [check for check in kernel_checks() if check.state == "bad"]
    if not missing:
        return
    why = "; ".join(f"{check.name}: {check.what} ({check.remedy})" for check in missing)
    is_required = request.config.getoption("--require-peers") and not any(one.name == "rights" for one in missing)
    (pytest.fail if is_required else pytest.skip)(f"PEER SKIPPED: eBPF does not work here: {why}")


class Eyes:
    """A running source."""

    def __init__(self, **settings: Any) -> None:
        self.source = EbpfSource(EbpfConfig(**settings), "ebpf", "node-1")
        self.out = MemoryOutput()
        self._loop = asyncio.new_event_loop()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self.source.run(self.out))
        except BaseException as error:  # noqa: BLE001 - told by `start` and `stop`
            self._failure = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def start(self) -> None:
        self._thread.start()
        self.wait(lambda: self.out.is_connected or self._failure is not None, 60)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.source.stop(), self._loop).result(10)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the source did not end"
        if self._failure is not None:
            raise self._failure

    @staticmethod
    def wait(is_true: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Wait until something is so; whether it came to be."""
        until = time.monotonic() + seconds
        while not (so := is_true()) and time.monotonic() < until:
            time.sleep(0.02)
        return so

    @property
    def events(self) -> list[Event]:
        return self.out.events

    def operations(self, since: int = 0) -> list[GenAiOperation]:
        return [event.body for event in self.events[since:] if isinstance(event.body, GenAiOperation)]

    def texts(self, since: int = 0) -> list[tuple[str, str]]:
        """Role and text of all messages; an answer that was told in parts is one text."""
        whole: dict[tuple[str, str], list[str]] = {}
        for number, body in enumerate(self.operations(since)):
            for place, one in enumerate(body.messages):
                is_part = bool(one.new_until and body.exchange_id)
                key = (body.exchange_id, one.role) if is_part else (f"{number}/{place}", one.role)
                whole.setdefault(key, []).append(raw(one.text)[one.new_from : one.new_until or None])
        return [(role, "".join(parts)) for (_, role), parts in whole.items()]

    def losses(self) -> list[LossReport]:
        return [event.body for event in self.events if isinstance(event.body, LossReport)]

    def states(self) -> list[StatusReport]:
        return [event.body for event in self.events if isinstance(event.body, StatusReport)]


def raw(text: Text) -> str:
    return text.reveal() if isinstance(text, Sensitive) else text


@contextlib.contextmanager
def watching(**settings: Any) -> Iterator[Eyes]:
    eyes = Eyes(**settings)
    eyes.start()
    try:
        yield eyes
    finally:
        eyes.stop()


def seen(eyes: Eyes, since: int, is_it) -> object | None:
    """The first body that is it, when it comes."""
    found = []

    def look() -> bool:
        found[:] = [event.body for event in eyes.events[since:] if is_it(event.body)]
        return bool(found)

    eyes.wait(look, 5)
    return found[0] if found else None


def python(text: str, *words: str, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-c", textwrap.dedent(text), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


def opens(eyes: Eyes, since: int, path: str) -> object | None:
    return seen(eyes, since, lambda body: isinstance(body, FileActivity) and raw(body.path) == path)


def started(body: object, arguments: str) -> bool:
    return getattr(body, "action", "") == "exec" and raw(body.process.arguments) == arguments


def words(body) -> list[str]:
    return [raw(one) for one in body.arguments]
