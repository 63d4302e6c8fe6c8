"""The door of this folder: stacks, servers, prompts and answers, and the check that all of them agree.

`python -m tests.peers.llm.matrix` runs every stack against every server and exits 1 if one answer is not the
predicted one.  Nothing here looks at plaintext; that is for the tests that import these functions.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.peers.llm import endpoints
from tests.peers.llm.answers import DEFAULT_TOKENS, expected_answer, prompts, tokens_of
from tests.peers.llm.building import Missing
from tests.peers.llm.serving import Kind, Request, Server, start_server
from tests.peers.llm.stacks import Exchange, Job, Stack, build, run

__all__ = [
    "DEFAULT_TOKENS",
    "Exchange",
    "Job",
    "Missing",
    "Request",
    "Server",
    "Stack",
    "build",
    "check_answers",
    "expected_answer",
    "prompts",
    "run",
    "start_server",
    "tokens_of",
]

COUNT = 20
CONCURRENCY = 10
SIZES = {"100": 100, "4K": 4096, "256K": 262144}
SMALL = {"4K": SIZES["4K"]}
# Every stack against both servers in full; what else the server in Go can do, with one size.
SETTINGS: list[tuple[Kind, dict[str, Any], dict[str, int]]] = [
    ("go", {}, SIZES),
    ("python", {}, SIZES),
    ("go", {"http2": False}, SMALL),
    ("go", {"gzip": True}, SMALL),
    ("go", {"plain": True}, SMALL),
]


def check_answers(exchanges: Sequence[Exchange], sent: Sequence[str], max_tokens: int = DEFAULT_TOKENS) -> None:
    """Raises AssertionError at the first exchange without the predicted answer."""
    assert len(exchanges) == len(sent)
    for exchange, prompt in zip(exchanges, sent, strict=True):
        wanted = hashlib.sha256(expected_answer(prompt, max_tokens).encode()).hexdigest()
        assert exchange.status == 200, f"prompt {exchange.prompt_index}: status {exchange.status}"
        assert exchange.answer_sha256 == wanted, f"prompt {exchange.prompt_index}: another answer than predicted"


def _cell(stack: Stack, server: Server, sent: Sequence[str], stream: bool, protocol: str) -> tuple[str, str | None]:
    """Seconds and the number of connections; and what was wrong."""
    # Answers to all but the smallest prompts are longer than a TLS record (16 KiB), with what is around tokens.
    max_tokens = DEFAULT_TOKENS if len(sent[0]) <= 100 else 2000 if stream else 20000
    before, start = len(server.requests()), time.monotonic()
    try:
        exchanges = run(stack, server.url, sent, CONCURRENCY, stream, ca_file=server.ca_file, max_tokens=max_tokens)
        seconds = time.monotonic() - start
        check_answers(exchanges, sent, max_tokens)
        seen = server.requests()[before:]
        assert len(seen) == len(sent), f"the server saw {len(seen)} requests"
        assert {one.protocol for one in seen} == {protocol}, f"not all over {protocol}"
    except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        return "FAILED", str(error)[:500]
    return f"{seconds:.2f}s {len({one.client for one in seen}):2d}c", None


def _table(kind: Kind, options: dict[str, Any], sizes: dict[str, int], stacks: Sequence[Stack]) -> list[str]:
    """Print one server's table and give what failed."""
    title = " ".join([kind, *(f"{name}={value}" for name, value in options.items())])
    columns = [(name, stream) for name in sizes for stream in (False, True)]
    sent = {name: prompts(COUNT, size, seed=7) for name, size in sizes.items()}
    print(f"\nserver: {title}; {COUNT} prompts, {CONCURRENCY} at a time; seconds and connections")
    print(f"{'':20}" + "".join(f"{name + (' stream' if stream else ''):>14}" for name, stream in columns))
    failures = []
    with start_server(kind, **options) as server:
        if (kind, options) == ("go", {}):
            endpoints.check(server)
        offers_http2 = kind == "go" and options.get("http2", True) and not options.get("plain", False)
        for stack in stacks:
            print(f"{stack.name:20}", end="")
            for name, stream in columns:
                protocol = stack.protocol if offers_http2 else "HTTP/1.1"
                shown, problem = _cell(stack, server, sent[name], stream, protocol)
                print(f"{shown:>14}", end="", flush=True)
                if problem:
                    failures.append(f"{title}, {stack.name}, {name}{' stream' if stream else ''}: {problem}")
            print()
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description="Every stack against every server, all answers checked.")
    parser.add_argument("stacks", nargs="*", help="only these stacks")
    parser.add_argument("--require", action="store_true", help="a stack that is not available is a failure")
    given = parser.parse_args()
    start = time.monotonic()
    built = {name: stack for name, stack in build().items() if name in given.stacks or not given.stacks}
    if unknown := set(given.stacks) - set(built):
        parser.error(f"no such stack: {', '.join(sorted(unknown))}; there are {', '.join(build())}")
    print(f"built in {time.monotonic() - start:.1f}s")
    for name, stack in built.items():
        about = f"NOT AVAILABLE: {stack.reason}" if isinstance(stack, Missing) else f"{stack.tls}; {stack.versions}"
        print(f"{name:20}{about}")
    present = [stack for stack in built.values() if isinstance(stack, Stack)]
    failures = [f"{name}: {stack.reason}" for name, stack in built.items() if isinstance(stack, Missing)]
    if not given.require:
        failures.clear()
    for kind, options, sizes in SETTINGS:
        failures += _table(kind, options, sizes, present)
    print(f"\n{len(present)} stacks, {len(failures)} failures, {time.monotonic() - start:.0f}s")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
