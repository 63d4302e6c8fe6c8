"""Real clients over real TLS: prompt and answer are seen on every stack, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.watching import Eyes, raw, skip_unless_bpf_works, watching
from tests.peers.llm import matrix

STACKS = [
    *("urllib", "http.client", "requests", "httpx", "httpx-async", "httpx-http2", "openai", "openai-async"),
    *("node-fetch", "node-https", "curl", "curl-http2", "wget", "go", "go-http2", "go-stripped", "go-stripped-http2"),
]
BINARIES = ["*python*", "*/curl", "*/node", "*/wget", "*gochat*"]


@pytest.fixture(scope="module")
def stacks() -> dict[str, matrix.Stack | matrix.Missing]:
    return matrix.build()


@pytest.fixture(scope="module")
def server(stacks: object) -> Iterator[matrix.Server]:
    with matrix.start_server("go") as running:
        yield running


@pytest.fixture(scope="module")
def eyes(request: pytest.FixtureRequest) -> Iterator[Eyes]:
    skip_unless_bpf_works(request)
    with watching(groups=["process", "sockets"], plaintext={"select": [{"binaries": BINARIES}]}) as running:
        yield running


def stack_of(
    name: str, stacks: dict[str, matrix.Stack | matrix.Missing], request: pytest.FixtureRequest
) -> matrix.Stack:
    stack = stacks[name]
    if isinstance(stack, matrix.Missing):
        (pytest.fail if request.config.getoption("--require-peers") else pytest.skip)(f"PEER SKIPPED: {stack.reason}")
    return stack


def missed(eyes: Eyes, since: int, sent: list[str], max_tokens: int) -> list[str]:
    """What was not seen of prompts and answers, exactly once each."""
    expected = [("user", prompt) for prompt in sent]
    expected += [("assistant", matrix.expected_answer(prompt, max_tokens)) for prompt in sent]
    eyes.wait(lambda: len(eyes.texts(since)) >= len(expected) + len(sent), 20)  # a system message each, too
    seen = eyes.texts(since)
    return [
        f"{role} {text[:24]!r}: {seen.count((role, text))} times"
        for role, text in expected
        if seen.count((role, text)) != 1
    ]


@pytest.mark.parametrize("is_streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", STACKS)
def test_every_prompt_and_answer_is_seen_byte_for_byte(
    name: str,
    is_streaming: bool,
    eyes: Eyes,
    server: matrix.Server,
    stacks: dict[str, matrix.Stack | matrix.Missing],
    request: pytest.FixtureRequest,
) -> None:
    stack = stack_of(name, stacks, request)
    # The first process that brings a new file may speak before its probes stand; that is told, and not tested here.
    matrix.run(stack, server.url, matrix.prompts(1, 100, 1), 1, False, ca_file=server.ca_file)
    time.sleep(0.5)
    for size in (100, 4096, 262144) if not is_streaming else (4096,):
        since = len(eyes.events)
        sent = matrix.prompts(10, size, size + len(name) + is_streaming)

        matrix.run(stack, server.url, sent, 10, is_streaming, ca_file=server.ca_file)

        assert not missed(eyes, since, sent, matrix.DEFAULT_TOKENS)


@pytest.mark.parametrize("name", ["httpx-async", "node-fetch", "go-http2", "requests"])
def test_two_hundred_exchanges_at_a_time(
    name: str,
    eyes: Eyes,
    server: matrix.Server,
    stacks: dict[str, matrix.Stack | matrix.Missing],
    request: pytest.FixtureRequest,
) -> None:
    stack = stack_of(name, stacks, request)
    since, lost = len(eyes.events), sum(one.count for one in eyes.losses())
    sent = matrix.prompts(200, 16_384, len(name))

    matrix.run(stack, server.url, sent, 200, False, ca_file=server.ca_file)

    left = missed(eyes, since, sent, matrix.DEFAULT_TOKENS)
    assert not left or sum(one.count for one in eyes.losses()) > lost, left[:5]
    assert not left, left[:5]


def test_both_ends_of_a_local_connection_are_one_exchange(
    eyes: Eyes, stacks: dict[str, matrix.Stack | matrix.Missing], request: pytest.FixtureRequest
) -> None:
    stack = stack_of("http.client", stacks, request)
    sent = matrix.prompts(5, 500, 77)
    with matrix.start_server("python") as server:  # Python, too: its own end of each connection is watched as well
        time.sleep(0.5)
        since = len(eyes.events)
        matrix.run(stack, server.url, sent, 2, False, ca_file=server.ca_file)

        assert not missed(eyes, since, sent, matrix.DEFAULT_TOKENS)
        assert eyes.source.meaning.plaintext.other_ends >= 5


def test_a_process_in_another_mount_namespace_with_libraries_of_its_own_is_seen(
    eyes: Eyes, server: matrix.Server, tmp_path: Path
) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    root = tmp_path / "root"
    for line in subprocess.run(["ldd", curl], capture_output=True, text=True, check=True).stdout.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), "")
        if path:
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path[1:])
    (root / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(curl, root / "usr/bin/curl")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    assert server.ca_file is not None
    shutil.copy(server.ca_file, root / "ca.crt")
    since = len(eyes.events)

    # The first call brings the files, the second one is covered from its beginning.
    for text in ("first words", "my own libraries say 536-22-8714"):
        body = f'{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}'
        command = ["unshare", "--mount", "chroot", str(root), "/usr/bin/curl", "-sS", "--cacert", "/ca.crt"]
        command += ["-H", "content-type: application/json", "-d", body, f"{server.url}/v1/chat/completions"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        time.sleep(0.7)

    assert ("user", "my own libraries say 536-22-8714") in eyes.texts(since)


def test_nothing_is_read_of_a_process_that_is_not_switched_on(
    request: pytest.FixtureRequest, server: matrix.Server, stacks: dict[str, matrix.Stack | matrix.Missing]
) -> None:
    skip_unless_bpf_works(request)
    stack = stack_of("http.client", stacks, request)
    with watching(groups=["process"], plaintext={"select": [{"binaries": ["*/curl"]}]}) as other:
        matrix.run(stack, server.url, matrix.prompts(2, 100, 5), 1, False, ca_file=server.ca_file)
        time.sleep(0.5)

        assert other.operations() == []
        assert len(other.source.meaning.plaintext) == 0


def test_a_stack_without_probes_is_told_as_blind(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    skip_unless_bpf_works(request)
    source = tmp_path / "speaks.c"
    # A program with rustls's name in it, as a static Rust client has; it needs no more to be found.
    source.write_text(
        '#include <unistd.h>\nconst char *mark = "rustls::client";\nint main() { return sleep(20) + !mark; }\n'
    )
    program = tmp_path / "rusty"
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler to make a program with")
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    with watching(groups=["process"], plaintext={"select": [{"binaries": ["*/rusty"]}]}) as eyes:
        running = subprocess.Popen([str(program)])
        try:
            assert eyes.wait(lambda: any(one.state == "tls_blind" for one in eyes.states()), 10)
        finally:
            running.kill()
            running.wait()
    told = next(one for one in eyes.states() if one.state == "tls_blind")
    assert raw(told.detail) == f"{os.path.realpath(program)}: rustls"
