"""Running one of the two servers, with a certificate that lives as long as it does."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tests.e2e.certificates import Authority
from tests.peers.llm.building import ROOT, Missing, go_program

Kind = Literal["go", "python"]
# A name and no address, so that clients send SNI.
HOST = "localhost"


class Request(NamedTuple):
    """A request as its server saw it; `client` is address and port, one per connection."""

    protocol: str
    path: str
    client: str


@dataclass(frozen=True)
class Server:
    """A running server.  `ca_file` is None without TLS."""

    host: str
    port: int
    ca_file: Path | None
    pid: int
    log: Path

    @property
    def url(self) -> str:
        return f"{'http' if self.ca_file is None else 'https'}://{self.host}:{self.port}"

    def requests(self) -> list[Request]:
        """All requests so far; one that has been answered is surely among them."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [Request(*line.split(" ")) for line in lines if line.startswith("HTTP/") and line.count(" ") == 2]


@contextlib.contextmanager
def start_server(kind: Kind, *, http2: bool = True, plain: bool = False, gzip: bool = False) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, ended at exit.

    `http2` offers HTTP/2 by ALPN and `gzip` compresses answers that are not streamed: both for "go" only, as
    "python" is always HTTP/1.1.  Raises RuntimeError if the server cannot be built, and ValueError for `gzip`
    with "python".
    """
    with tempfile.TemporaryDirectory(prefix="llm-server-") as name:
        folder = Path(name)
        ca_file, arguments = None, ["--plain"]
        if not plain:
            authority = Authority(folder)
            certificate, key = authority.issue(HOST)
            ca_file, arguments = authority.file, ["--cert", str(certificate), "--key", str(key)]
        match kind:
            case "go":
                command = [_server_program(), *arguments, f"--http2={'true' if http2 else 'false'}"]
                command += ["--gzip"] if gzip else []
            case "python":
                if gzip:
                    raise ValueError("gzip: the server in Python does not compress")
                command = [sys.executable, "-m", "tests.peers.llm.server", *arguments]
        log = folder / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            port = process.stdout.readline()
            if not port:
                raise RuntimeError(f"the server did not start: {log.read_text(encoding='utf-8')[-2000:]}")
            yield Server(HOST, int(port), ca_file, process.pid, log)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _server_program() -> str:
    match go_program("llm-server", "."):
        case Missing(reason):
            raise RuntimeError(f"the server in Go is not available: {reason}")
        case program:
            return str(program)
