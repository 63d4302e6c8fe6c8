"""What the clients in Python share: arguments, the request, reading an answer, the line per exchange.

Every program of this folder takes `--url U --prompts FILE --concurrency N [--stream] [--ca FILE] [--max-tokens N]`,
sends each prompt of FILE (a JSON list) to U/v1/chat/completions, prints `index sha256-of-the-answer status` per
exchange in the order in which they end (`-` for no answer), and exits 1 if any failed.  Standard library only;
how bytes go over the wire is for each client's own library to decide.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = "/v1/chat/completions"
MODEL = "gpt-4o-mini"
# Longer than any exchange takes under a tracer; the default of httpx (5 s) is not.
TIMEOUT_SECONDS = 120.0

Answer = tuple[str, int]


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}: {body[:200]!r}")
        self.status = status


@dataclass(frozen=True)
class Task:
    """What the command line asks for."""

    url: str
    prompts: list[str]
    concurrency: int
    stream: bool
    ca: str | None
    max_tokens: int

    @property
    def endpoint(self) -> str:
        return self.url + PATH

    def messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "You are a test."}, {"role": "user", "content": prompt}]

    def options(self) -> dict[str, Any]:
        """The optional members of a request."""
        return ({"max_tokens": self.max_tokens} if self.max_tokens else {}) | ({"stream": True} if self.stream else {})

    def request(self, prompt: str) -> dict[str, Any]:
        return {"model": MODEL, "messages": self.messages(prompt)} | self.options()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    def answer(self, status: int, body: bytes) -> Answer:
        """The answer's text from a whole body, streamed or not; raises Refused or ValueError."""
        if status != 200:
            raise Refused(status, body)
        if not self.stream:
            return json.loads(body)["choices"][0]["message"]["content"], status
        # By bytes: str.splitlines, and so httpx's iter_lines, also splits at U+2028 and U+0085 inside of JSON.
        events = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
        if not events or events.pop() != b"[DONE]":
            raise ValueError("the stream ended without [DONE]")
        choices = [choice for event in events for choice in json.loads(event)["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices), status


def task(extra: argparse.ArgumentParser | None = None) -> tuple[Task, argparse.Namespace]:
    """The task, and the arguments it was made of for clients with flags of their own."""
    parser = argparse.ArgumentParser(parents=[extra] if extra else [])
    parser.add_argument("--url", required=True, help="scheme, host and port")
    parser.add_argument("--prompts", required=True, type=Path, help="file with a JSON list of prompts")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--ca", help="CA file (PEM)")
    parser.add_argument("--max-tokens", type=int, default=0, help="the answer's length (0: not asked for)")
    given = parser.parse_args()
    prompts = json.loads(given.prompts.read_bytes())
    return Task(given.url, prompts, given.concurrency, given.stream, given.ca, given.max_tokens), given


def exit_after(task: Task, ask: Callable[[str], Answer]) -> None:
    """Ask every prompt from a pool of threads and exit."""
    with ThreadPoolExecutor(task.concurrency) as pool:

        def one(index: int) -> bool:
            try:
                return _told(index, ask(task.prompts[index]))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the others go on
                return _told(index, error)

        outcomes = list(pool.map(one, range(len(task.prompts))))
    sys.exit(0 if all(outcomes) else 1)


async def exit_after_async(task: Task, ask: Callable[[str], Awaitable[Answer]]) -> None:
    """The same in one event loop."""
    room = asyncio.Semaphore(task.concurrency)

    async def one(index: int) -> bool:
        async with room:
            try:
                return _told(index, await ask(task.prompts[index]))
            except Exception as error:  # noqa: BLE001
                return _told(index, error)

    outcomes = await asyncio.gather(*map(one, range(len(task.prompts))))
    sys.exit(0 if all(outcomes) else 1)


def _told(index: int, outcome: Answer | Exception) -> bool:
    # One write per line: threads share standard output.
    if isinstance(outcome, Exception):
        sys.stderr.write(f"{index}: {type(outcome).__name__}: {outcome}\n")
        status = getattr(outcome, "status", getattr(outcome, "status_code", 0))  # the latter is the SDK's
        sys.stdout.write(f"{index} - {status}\n")
        return False
    text, status = outcome
    sys.stdout.write(f"{index} {hashlib.sha256(text.encode()).hexdigest()} {status}\n")
    return True
