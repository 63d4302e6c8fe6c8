"""`agent.sources.ebpf.runtime`: pods as containerd and CRI-O list them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Resource
from agent.sources.ebpf.config import Selector
from agent.sources.ebpf.runtime import METHOD, Pod, PodList, pods_of, runtime_socket

UID = "0b4ef4c5-7c5b-4a34-9f0e-0d6a2e6f8a11"


def field(number: int, value: bytes) -> bytes:
    size = len(value)
    assert size < 128
    return bytes([number << 3 | 2, size]) + value


def sandbox(name: str, uid: str, namespace: str, labels: dict[str, str]) -> bytes:
    metadata = field(1, name.encode()) + field(2, uid.encode()) + field(3, namespace.encode()) + b"\x20\x01"
    pairs = b"".join(field(5, field(1, key.encode()) + field(2, value.encode())) for key, value in labels.items())
    item = field(1, b"sandbox-id") + field(2, metadata) + b"\x18\x00" + b"\x20\x05" + pairs
    size = len(item)
    return bytes([1 << 3 | 2, size & 0x7F | 0x80, size >> 7]) + item


ANSWER = sandbox("agent-0", UID, "llm-prod", {"reeve.dev/plaintext": "yes", "io.kubernetes.pod.name": "agent-0"})


def test_a_pod_has_its_names_and_its_own_labels() -> None:
    assert pods_of(ANSWER) == [Pod(UID, "llm-prod", "agent-0", {"reeve.dev/plaintext": "yes"})]


def test_a_sandbox_without_uid_is_no_pod() -> None:
    assert pods_of(sandbox("x", "", "y", {})) == []


@given(st.binary(max_size=300))
def test_no_answer_raises(answer: bytes) -> None:
    pods_of(answer)


def test_a_selector_fits_by_label() -> None:
    selector = Selector(labels={"reeve.dev/plaintext": "yes"})

    assert selector.fits(Resource(pod="a", labels={"reeve.dev/plaintext": "yes"}), ("/app",))
    assert not selector.fits(Resource(pod="a", labels={}), ("/app",))


def test_a_configured_socket_is_asked_whether_it_is_there_or_not() -> None:
    assert runtime_socket("/run/other.sock") == "/run/other.sock"
    assert runtime_socket("") == ""


@pytest.fixture
async def runtime(tmp_path: Path) -> object:
    """A gRPC server that answers as a runtime does; grpc's own."""
    asked: list[bytes] = []

    async def answer(request: bytes, _: object) -> bytes:
        asked.append(request)
        return ANSWER

    service, _, method = METHOD[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"unix://{tmp_path}/cri.sock")
    await server.start()
    yield f"{tmp_path}/cri.sock", asked
    await server.stop(None)


async def test_a_real_server_is_asked_and_what_is_new_is_told_once(runtime: tuple[str, list[bytes]]) -> None:
    socket, asked = runtime
    told: list[list[Pod]] = []
    pods = PodList(socket, told.append)

    await pods.ask()
    await pods.ask()

    assert len(asked) == 2
    assert told == [[Pod(UID, "llm-prod", "agent-0", {"reeve.dev/plaintext": "yes"})]]


async def test_a_pod_that_turns_up_is_asked_for_soon(runtime: tuple[str, list[bytes]]) -> None:
    socket, asked = runtime
    pods, stop = PodList(socket, lambda _: None), asyncio.Event()
    running = asyncio.create_task(pods.run(stop))
    while not asked:
        await asyncio.sleep(0.01)

    pods.want("11111111-2222-3333-4444-555555555555")
    async with asyncio.timeout(5):
        while len(asked) < 2:
            await asyncio.sleep(0.01)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_pod_that_its_runtime_lists_late_is_asked_for_again(runtime: tuple[str, list[bytes]]) -> None:
    """A pod's first process runs before its runtime lists the pod."""
    socket, asked = runtime
    told: list[list[Pod]] = []
    pods, stop = PodList(socket, told.append), asyncio.Event()
    answers = [b"", b"", b""]
    real = pods._transport.unary

    async def late(method: str, request: bytes, seconds: float) -> bytes:
        return answers.pop() if answers else await real(method, request, seconds)

    pods._transport.unary = late  # type: ignore[method-assign]
    running = asyncio.create_task(pods.run(stop))
    while len(answers) == 3:
        await asyncio.sleep(0.01)
    pods.want(UID)
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.01)
    assert not answers
    count = len(asked)
    await asyncio.sleep(0.3)
    assert len(asked) == count  # it is known now, and nobody asks on

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_runtime_that_does_not_answer_is_said_once(tmp_path: Path) -> None:
    told: list[list[Pod]] = []
    pods = PodList(f"{tmp_path}/nobody.sock", told.append)

    await pods.ask()
    await pods.ask()

    assert told == []
