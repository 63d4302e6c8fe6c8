"""Real peers: Go programs of ours around Tetragon's and Cilium's own code, built once and kept outside of the checkout."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import lzma
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from agent._pb import tetragon_pb2
from tests.e2e.saying import print_said

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "reeve" / "peers"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-peers", action="store_true", help="a peer that cannot be built is a failure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    print_said(terminalreporter, config)


def built(name: str, require: bool) -> Path:
    """The peer's program; skips (or fails) with the compiler's words if it cannot be built."""
    folder = ROOT / "tests" / "peers" / name
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".go", ".mod", ".sum"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    program = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    give_up = pytest.fail if require else pytest.skip
    if shutil.which("go") is None:
        give_up(f"PEER SKIPPED: {name} needs Go (1.24 or newer) to be built")
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{program}.new", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        give_up(f"PEER SKIPPED: {name} does not build: {done.stderr[-2000:]}")
    os.rename(f"{program}.new", program)
    return program


class Peer:
    """A running peer and its control."""

    def __init__(self, program: Path, arguments: list[str], log: Path) -> None:
        self._arguments = [str(program), *arguments]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._arguments, stdout=subprocess.PIPE, stderr=log)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self._log.read_text()[-2000:]
        self.told: dict[str, Any] = json.loads(line)

    @property
    def address(self) -> str:
        return str(self.told["listen"])

    @property
    def metrics_url(self) -> str:
        return f"http://{self.told['ctl']}/metrics"

    def ask(self, path: str, method: str = "POST", body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(f"http://{self.told['ctl']}{path}", method=method, data=body)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    async def tell(self, path: str, method: str = "POST", body: bytes | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.ask, path, method, body)

    def stats(self) -> dict[str, Any]:
        return self.ask("/stats", "GET")

    async def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 20.0) -> dict[str, Any]:
        """Wait until the peer's own figures say so."""
        deadline = time.monotonic() + seconds
        while not holds(stats := await asyncio.to_thread(self.stats)):
            assert time.monotonic() < deadline, stats
            await asyncio.sleep(0.05)
        return stats

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill(signal.SIGTERM)


Starter = Callable[..., Peer]


def _starter(name: str, command: list[str], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    program = built(name, bool(request.config.getoption("--require-peers")))
    running: list[Peer] = []

    def start(*arguments: str) -> Peer:
        peer = Peer(program, [*command, *arguments], tmp_path / f"{name}-{len(running)}.log")
        running.append(peer)
        return peer

    yield start
    for peer in running:
        peer.close()


@pytest.fixture
def tetragon_peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    """Starts Tetragon API servers: `tetragon_peer("-events", file)`."""
    yield from _starter("tetragon", ["serve"], request, tmp_path)


@pytest.fixture
def hubble_peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    """Starts real Hubble observers."""
    yield from _starter("hubble", [], request, tmp_path)


@pytest.fixture(scope="session")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events as marshalled protobuf: the recorded ones where they are at hand, else made-up ones of the same kinds."""
    target = tmp_path_factory.mktemp("events") / "events.bin"
    recorded = ROOT.parent / "shared" / "data" / "tetragon" / "recorded.jsonl.xz"
    lines = lzma.decompress(recorded.read_bytes()).splitlines() if recorded.exists() else made_up()
    with target.open("wb") as file:
        for line in lines:
            message = json_format.Parse(line, tetragon_pb2.GetEventsResponse(), ignore_unknown_fields=True)
            raw = message.SerializeToString()
            file.write(len(raw).to_bytes(4, "big") + raw)
    return target


def made_up(count: int = 500) -> list[bytes]:
    """Exec, exit and file events of a few processes."""
    lines = []
    for number in range(count):
        process = {
            "exec_id": f"node:{number // 3}",
            "pid": number // 3 + 1,
            "binary": "/usr/bin/python3",
            "arguments": f"serve.py --port {number}",
            "pod": {"namespace": "llm", "name": "vllm-0", "pod_labels": {"app": "vllm"}},
        }
        member = ("process_exec", "process_kprobe", "process_exit")[number % 3]
        payload: dict[str, Any] = {"process": process, "parent": {"exec_id": "node:init", "binary": "/sbin/init"}}
        if member == "process_kprobe":
            payload |= {"function_name": "security_file_permission", "policy_name": "files"}
            payload["args"] = [{"file_arg": {"path": f"/data/{number}"}}, {"int_arg": 4}]
        stamp = f"2026-11-24T10:{number // 60 % 60:02d}:{number % 60:02d}.{number:06d}Z"
        lines.append(json.dumps({member: payload, "node_name": "node-1", "time": stamp}).encode())
    return lines


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
