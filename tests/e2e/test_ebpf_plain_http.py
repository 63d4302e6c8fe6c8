"""HTTP without TLS on configured ports: real clients, a server that was there before and one that came later."""

from __future__ import annotations

import pytest

from tests.e2e.test_ebpf_plaintext import missed, stack_of
from tests.e2e.watching import skip_unless_bpf_works, watching
from tests.peers.llm import matrix

STACKS = ("http.client", "httpx", "httpx-async", "requests", "node-fetch", "curl", "wget", "go")


@pytest.fixture(scope="module")
def stacks() -> dict[str, matrix.Stack | matrix.Missing]:
    return matrix.build()


def test_prompts_and_answers_are_seen_byte_for_byte_on_a_configured_port_and_on_no_other(
    request: pytest.FixtureRequest, stacks: dict[str, matrix.Stack | matrix.Missing]
) -> None:
    skip_unless_bpf_works(request)
    with matrix.start_server("go", plain=True) as server, matrix.start_server("go", plain=True) as other:
        port = int(server.url.rpartition(":")[2].strip("/"))
        select = [{"binaries": ["*python*", "*/curl", "*/node", "*/wget", "*gochat*"]}]
        with watching(groups=["process"], plaintext={"select": select, "http_ports": [port]}) as eyes:
            for name in STACKS:
                since = len(eyes.events)
                sent = matrix.prompts(10, 4096, len(name))
                stack = stack_of(name, stacks, request)
                matrix.run(stack, server.url, sent, 5, False, ca_file=None)
                matrix.run(stack, other.url, matrix.prompts(2, 300, 1), 1, False, ca_file=None)

                assert not missed(eyes, since, sent, matrix.DEFAULT_TOKENS), name
                assert len(eyes.operations(since)) == 10, name


def test_a_server_that_listened_before_is_seen_as_well_as_its_clients(
    request: pytest.FixtureRequest, stacks: dict[str, matrix.Stack | matrix.Missing]
) -> None:
    skip_unless_bpf_works(request)
    with matrix.start_server("go", plain=True) as server:
        port = int(server.url.rpartition(":")[2].strip("/"))
        # Only the server is switched on.
        with watching(
            groups=["process"], plaintext={"select": [{"binaries": ["*llm-server*"]}], "http_ports": [port]}
        ) as eyes:
            eyes.wait(
                lambda: (
                    server.pid in eyes.source.meaning.content
                    and eyes.source.meaning.coverage.of(server.pid) is not None
                )
            )
            since = len(eyes.events)
            sent = matrix.prompts(5, 1000, 9)

            matrix.run(stack_of("http.client", stacks, request), server.url, sent, 2, False, ca_file=None)

            assert not missed(eyes, since, sent, matrix.DEFAULT_TOKENS)
