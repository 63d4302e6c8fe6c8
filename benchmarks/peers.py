"""The Tetragon peer for benchmarks, and recorded events in two sizes as marshalled protobuf."""

from __future__ import annotations

import contextlib
import json
import lzma
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from agent._pb import tetragon_pb2

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "tetragon"


def program() -> Path | None:
    """The peer's program, built if need be; None without Go."""
    if shutil.which("go") is None:
        return None
    target = Path.home() / ".cache" / "reeve" / "peers" / "bench-tetragon"
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["go", "build", "-trimpath", "-o", target, "."], cwd=ROOT / "tests" / "peers" / "tetragon", check=True
    )
    return target


def write_events(name: str, folder: Path) -> Path | None:
    """`small` are documentation events, `large` recorded ones with credentials and namespaces; None if not at hand."""
    source = DATA / {"small": "docs-events.jsonl", "large": "recorded.jsonl.xz"}[name]
    if not source.exists():
        return None
    raw = source.read_bytes()
    lines = (lzma.decompress(raw) if source.suffix == ".xz" else raw).splitlines()
    target = folder / f"{name}.bin"
    with target.open("wb") as file:
        for line in lines:
            message = json_format.Parse(line, tetragon_pb2.GetEventsResponse(), ignore_unknown_fields=True)
            if message.WhichOneof("event") is None or not message.HasField("time"):
                continue
            one = message.SerializeToString()
            file.write(len(one).to_bytes(4, "big") + one)
    return target


class Peer:
    """A running Tetragon peer."""

    def __init__(self, binary: Path, folder: Path, *arguments: str) -> None:
        command = [str(binary), "serve", "-listen", f"unix://{folder}/t.sock", "-premarshal", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self.told: dict[str, Any] = json.loads(self._process.stdout.readline())

    @property
    def address(self) -> str:
        return str(self.told["listen"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, path: str, method: str = "POST") -> dict[str, Any]:
        request = urllib.request.Request(f"http://{self.told['ctl']}{path}", method=method)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextlib.contextmanager
def serving(binary: Path, events: Path, *arguments: str) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(binary, Path(folder), "-events", str(events), *arguments)
        try:
            yield peer
        finally:
            peer.close()
