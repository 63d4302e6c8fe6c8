"""The client stacks: which there are, what they are made of, how one is run."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tests.peers.llm.answers import DEFAULT_TOKENS
from tests.peers.llm.building import CLIENTS, Missing, client_python, go_program, openai_python, version_of

Protocol = Literal["HTTP/1.1", "HTTP/2.0"]
# Exchanges go to loopback only; a proxy of the environment would see them first.
LOCAL = "localhost,127.0.0.1"


class Exchange(NamedTuple):
    """One prompt, by its place in the list, and what came back; the hash is of the answer's text in UTF-8."""

    prompt_index: int
    answer_sha256: str
    status: int


@dataclass(frozen=True)
class Job:
    """What a client is asked to do; `prompts_file` holds a JSON list of strings."""

    url: str
    prompts_file: Path
    concurrency: int
    stream: bool
    ca_file: Path | None
    max_tokens: int


@dataclass(frozen=True)
class Stack:
    """A client that can be run here.

    `tls` names the library that does its TLS, and where it lives; `versions` what it is made of; `protocol`
    what it speaks to a server that offers HTTP/2.
    """

    name: str
    program: tuple[str, ...]
    tls: str
    versions: str
    protocol: Protocol

    def command(self, job: Job) -> list[str]:
        """The command line for a job."""
        command = [*self.program, "--url", job.url, "--prompts", str(job.prompts_file)]
        command += ["--concurrency", str(job.concurrency), f"--max-tokens={job.max_tokens}"]
        command += ["--ca", str(job.ca_file)] if job.ca_file else []
        command += ["--stream"] if job.stream else []
        # node's fetch takes a CA from nowhere else.  `env` becomes node, so the process is the same.
        is_by_environment = self.name == "node-fetch" and job.ca_file is not None
        return ["env", f"NODE_EXTRA_CA_CERTS={job.ca_file}", *command] if is_by_environment else command


@functools.cache
def build() -> dict[str, Stack | Missing]:
    """Every stack by its name, built if need be (the first time half a minute), in the order of the table."""
    stacks: dict[str, Stack | Missing] = {}
    for group in (_python, _node, _commands, _go):
        stacks.update(group())
    return stacks


def _python() -> dict[str, Stack | Missing]:
    own, libraries, openai = Path(sys.executable), client_python(), openai_python()

    def stack(name: str, python: Path | Missing, script: str, packages: str = "", *flags: str) -> Stack | Missing:
        if isinstance(python, Missing):
            return python
        imports = ["import ssl, sys, importlib.metadata as of", f"names = {packages.split()!r}"]
        shown = "*(f'{name} {of.version(name)}' for name in names)"
        told = f"print(', '.join(['Python ' + sys.version.split()[0], {shown}, ssl.OPENSSL_VERSION]))"
        versions = version_of([str(python), "-c", "\n".join([*imports, told])])
        protocol: Protocol = "HTTP/2.0" if flags else "HTTP/1.1"
        return Stack(name, (str(python), str(CLIENTS / script), *flags), "OpenSSL of Python's ssl", versions, protocol)

    return {
        "urllib": stack("urllib", own, "python_urllib.py"),
        "http.client": stack("http.client", own, "python_http_client.py"),
        "requests": stack("requests", libraries, "python_requests.py", "requests urllib3"),
        "httpx": stack("httpx", libraries, "python_httpx.py", "httpx httpcore h11"),
        "httpx-async": stack("httpx-async", libraries, "python_httpx_async.py", "httpx httpcore anyio h11"),
        "httpx-http2": stack("httpx-http2", libraries, "python_httpx_async.py", "httpx httpcore anyio h2", "--http2"),
        "openai": stack("openai", openai, "python_openai.py", "openai httpx2 httpcore2"),
        "openai-async": stack("openai-async", openai, "python_openai_async.py", "openai httpx2 httpcore2 anyio"),
    }


def _node() -> dict[str, Stack | Missing]:
    node = shutil.which("node")
    if node is None:
        return dict.fromkeys(("node-fetch", "node-https"), Missing("node is not installed"))
    shown = "const v = process.versions; console.log(`node ${v.node}, undici ${v.undici}, OpenSSL ${v.openssl}`)"
    versions = version_of([node, "--eval", shown])

    def stack(name: str, script: str) -> Stack:
        return Stack(name, (node, str(CLIENTS / script)), "OpenSSL of node", versions, "HTTP/1.1")

    return {"node-fetch": stack("node-fetch", "node_fetch.mjs"), "node-https": stack("node-https", "node_https.mjs")}


def _commands() -> dict[str, Stack | Missing]:
    """curl and wget; the process that is started runs one of theirs per prompt."""
    python = sys.executable
    stacks: dict[str, Stack | Missing] = dict.fromkeys(("curl", "curl-http2"), Missing("curl is not installed"))
    if shutil.which("curl"):
        versions = version_of(["curl", "--version"])
        script = str(CLIENTS / "curl.py")
        stacks["curl"] = Stack("curl", (python, script), "libssl.so of libcurl", versions, "HTTP/1.1")
        if "nghttp2" in versions:
            http2 = (python, script, "--http2")
            stacks["curl-http2"] = Stack("curl-http2", http2, "libssl.so of libcurl", versions, "HTTP/2.0")
        else:
            stacks["curl-http2"] = Missing("this curl has no HTTP/2")
    stacks["wget"] = Missing("wget is not installed")
    if shutil.which("wget"):
        features = subprocess.run(["wget", "--version"], capture_output=True, text=True, check=False).stdout
        tls = "libgnutls.so" if "+ssl/gnutls" in features else "another library than GnuTLS"
        versions = version_of(["wget", "--version"])
        stacks["wget"] = Stack("wget", (python, str(CLIENTS / "wget.py")), tls, versions, "HTTP/1.1")
    return stacks


def _go() -> dict[str, Stack | Missing]:
    def stack(name: str, program: Path | Missing, protocol: Protocol) -> Stack | Missing:
        if isinstance(program, Missing):
            return program
        versions = version_of(["go", "version", str(program)]).rpartition(" ")[2] if shutil.which("go") else "unknown"
        flags = ("--http2",) if protocol == "HTTP/2.0" else ()
        return Stack(name, (str(program), *flags), "Go's crypto/tls", versions, protocol)

    plain = go_program("llm-gochat", "./clients/gochat")
    stripped = go_program("llm-gochat-stripped", "./clients/gochat", stripped=True)
    return {
        "go": stack("go", plain, "HTTP/1.1"),
        "go-http2": stack("go-http2", plain, "HTTP/2.0"),
        "go-stripped": stack("go-stripped", stripped, "HTTP/1.1"),
        "go-stripped-http2": stack("go-stripped-http2", stripped, "HTTP/2.0"),
    }


def run(
    stack: Stack,
    url: str,
    prompts: Sequence[str],
    concurrency: int,
    stream: bool,
    *,
    ca_file: Path | None,
    max_tokens: int = DEFAULT_TOKENS,
    started: Callable[[int], object] = lambda pid: None,
    timeout_seconds: float = 300.0,
) -> list[Exchange]:
    """Send all prompts and give what came back, by index.

    `started` is told the id of the process as soon as there is one.  Raises RuntimeError with the client's own
    words if any exchange failed or is not told of, and subprocess.TimeoutExpired (the client is killed).
    """
    with tempfile.TemporaryDirectory(prefix="llm-client-") as folder:
        file = Path(folder, "prompts.json")
        file.write_text(json.dumps(list(prompts)), encoding="utf-8")
        command = stack.command(Job(url, file, concurrency, stream, ca_file, max_tokens))
        environment = os.environ | {"NO_PROXY": LOCAL, "no_proxy": LOCAL}
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        ) as client:
            started(client.pid)
            try:
                told, errors = client.communicate(timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(client.pid, signal.SIGKILL)  # with the curls and wgets that it started
                raise
    if client.returncode:
        raise RuntimeError(f"{stack.name} ended with {client.returncode}: {errors[-2000:].strip()}")
    lines = [line.split() for line in told.splitlines()]
    exchanges = sorted(Exchange(int(index), answer, int(status)) for index, answer, status in lines)
    if [one.prompt_index for one in exchanges] != list(range(len(prompts))):
        raise RuntimeError(f"{stack.name} told of {len(exchanges)} exchanges, not of {len(prompts)}")
    return exchanges
