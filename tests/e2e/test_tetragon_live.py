"""agent.sources.tetragon.source against a real gRPC server of Tetragon's API: everything it says it sent is explained."""

import asyncio
import contextlib
import json

import pytest
from google.protobuf import json_format
from live import explained, losses, until

from agent._pb import tetragon_pb2 as pb
from agent.model import Outcome, StatusReport
from agent.sources.tetragon.config import TetragonConfig
from agent.sources.tetragon.source import TetragonSource
from agent.testing import MemoryOutput

BOTH = pytest.mark.parametrize("kind", ["http2", "grpcio"])


@contextlib.asynccontextmanager
async def running(address, **settings):
    config = TetragonConfig(
        address=address,
        **{"retry_first_seconds": 0.05, "retry_longest_seconds": 0.2, "policy_seconds": 0.0, **settings},
    )
    source, out = TetragonSource(config, "tetragon", "node-1"), MemoryOutput()
    task = asyncio.create_task(source.run(out))
    try:
        yield out
    finally:
        await source.stop()
        await asyncio.wait_for(task, 20)


def states(out):
    return [
        (event.body.component, event.body.subject, event.body.state)
        for event in out.events
        if isinstance(event.body, StatusReport)
    ]


@BOTH
async def test_all_that_was_sent_arrives(kind, tetragon_peer, events_file, tmp_path):
    peer = tetragon_peer("-events", str(events_file), "-listen", f"unix://{tmp_path}/t.sock")
    async with running(peer.address, transport=kind) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=5000&block=1")
        await until(lambda: out.lines_read == 5000)
    assert explained(out)
    assert out.decode_errors.total() == 0
    assert sum(getattr(event.body, "count", 1) for event in out.events) == 5000
    assert losses(out) == []
    assert out.connections == 1


async def test_the_request_carries_the_filters(tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file))
    async with running(peer.address, allow=({"event_set": ["PROCESS_EXIT"]},)) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=2000&block=1")
        stats = await peer.until(lambda stats: stats["queued"] == 0)
        await until(lambda: out.lines_read == stats["sent"])
    assert stats["last_request"]["allow_list"] == [{"event_set": ["PROCESS_EXIT"]}]
    assert stats["last_request"]["deny_list"] == [{"health_check": True}]
    assert {event.body.action for event in out.events} == {"exit"}
    assert 0 < len(out.events) < 2000


@BOTH
@pytest.mark.parametrize("how", ["INTERNAL", "UNAVAILABLE", "OK", "transport", "kill"])
async def test_each_break_is_a_reported_gap(kind, how, tetragon_peer, events_file, tmp_path):
    peer = tetragon_peer("-events", str(events_file), "-listen", f"unix://{tmp_path}/t.sock")
    async with running(peer.address, transport=kind) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=300&block=1")
        await until(lambda: out.lines_read == 300)
        if how == "kill":
            peer.kill()
            await asyncio.sleep(0.3)
            peer.start()  # the socket file is a new one
        else:
            await peer.tell(f"/disconnect?code={how}")
        await until(lambda: out.connections == 2)
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=200&block=1")
        await until(lambda: out.lines_read == 500)
    (gap,) = losses(out)
    assert (gap.reason, gap.is_lower_bound, gap.count) == ("reconnect_gap", True, 0)
    assert 0 < gap.gap_seconds < 15
    assert explained(out)


async def test_a_stalled_server_is_found_and_left(tetragon_peer, events_file):
    """The process stops: the connection stands, and nothing answers."""
    import signal

    peer = tetragon_peer("-events", str(events_file))
    async with running(peer.address, idle_seconds=0.5) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        peer.process.send_signal(signal.SIGSTOP)
        with contextlib.suppress(TimeoutError):
            await until(lambda: not out.is_connected, 25)
        assert not out.is_connected
        peer.process.send_signal(signal.SIGCONT)
        await until(lambda: out.connections >= 2)
    assert [loss.reason for loss in losses(out)][:1] == ["reconnect_gap"]


async def test_what_the_daemon_lost_is_read_off_its_counters(tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file), "-queue", "100")
    async with running(peer.address, metrics_url=peer.metrics_url, metrics_seconds=0.1) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await asyncio.sleep(0.4)
        await peer.tell("/counter?name=tetragon_observer_ringbuf_events_lost_total&value=17")
        await peer.tell("/stall?on=1")
        await peer.tell("/emit?n=5000")
        await peer.tell("/stall?on=0")
        stats = await peer.until(lambda stats: stats["queued"] == 0)
        await until(
            lambda: (
                sum(loss.count for loss in losses(out) if loss.reason == "tetragon_stream_queue") == stats["overflowed"]
            )
        )
        await until(lambda: out.lines_read == stats["sent"])
    assert stats["overflowed"] > 0
    assert stats["emitted"] == out.lines_read + stats["overflowed"]
    assert sum(loss.count for loss in losses(out) if loss.reason == "tetragon_ring_buffer") == 17
    assert explained(out)


async def test_metrics_that_cannot_be_read_are_told_once(tetragon_peer, events_file, free_port):
    peer = tetragon_peer("-events", str(events_file))
    async with running(peer.address, metrics_url=f"http://127.0.0.1:{free_port}/metrics", metrics_seconds=0.05) as out:
        await until(lambda: ("tetragon", "", "losses_unknown") in states(out))
        await asyncio.sleep(0.3)
    assert states(out).count(("tetragon", "", "losses_unknown")) == 1


async def test_tracing_policies_are_watched(tetragon_peer, events_file):
    peer = tetragon_peer("-events", str(events_file))
    async with running(peer.address, policy_seconds=0.1, expected_policies=("egress",)) as out:
        await until(lambda: ("tetragon-policy", "egress", "missing") in states(out))
        loaded = [
            {"name": "egress", "state": "TP_STATE_ENABLED"},
            {"name": "files", "state": "TP_STATE_LOAD_ERROR", "error": "no hook"},
        ]
        await peer.tell("/policies", body=json.dumps(loaded).encode())
        await until(lambda: ("tetragon-policy", "files", "load_error") in states(out))
        assert ("tetragon-policy", "egress", "enabled") in states(out)
        await peer.tell("/policies", method="DELETE")
        await until(lambda: ("tetragon-policy", "files", "removed") in states(out))
    assert explained(out)


async def test_repeated_reads_are_folded_and_still_counted(tetragon_peer, tmp_path):
    line = {
        "process_kprobe": {
            "process": {"exec_id": "e1", "binary": "/usr/bin/cat"},
            "function_name": "security_file_permission",
            "args": [{"file_arg": {"path": "/models/llama.safetensors"}}, {"int_arg": 4}],
        },
        "time": "2026-11-24T10:00:00Z",
    }
    raw = json_format.ParseDict(line, pb.GetEventsResponse()).SerializeToString()
    file = tmp_path / "reads.bin"
    file.write_bytes(len(raw).to_bytes(4, "big") + raw)
    peer = tetragon_peer("-events", str(file))
    async with running(peer.address, fold_seconds=0.5) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=1000&block=1")
        await until(lambda: out.lines_read == 1000)
    assert sum(event.body.count for event in out.events) == 1000
    assert len(out.events) < 10
    assert out.aside["folded"] == 1000 - len(out.events)
    assert explained(out)


async def test_throttling_is_a_state_and_a_loss(tetragon_peer, tmp_path):
    """Execs of a control group over its rate are not posted, and nobody counts how many."""
    file = tmp_path / "throttle.bin"
    with file.open("wb") as events:
        for kind in ("THROTTLE_START", "THROTTLE_STOP"):
            message = json_format.ParseDict(
                {"process_throttle": {"type": kind, "cgroup": "kubepods/x"}}, pb.GetEventsResponse()
            )
            raw = message.SerializeToString()
            events.write(len(raw).to_bytes(4, "big") + raw)
    peer = tetragon_peer("-events", str(file))
    async with running(peer.address) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=2&block=1")
        await until(lambda: losses(out))
    assert [state for _, _, state in states(out)] == ["throttle_start", "throttle_stop"]
    assert [(loss.reason, loss.is_lower_bound) for loss in losses(out)] == [("cgroup_throttle", True)]
    assert explained(out)


async def test_messages_that_are_no_events_are_counted(tetragon_peer, tmp_path):
    good = json_format.ParseDict(
        {"process_exec": {"process": {"exec_id": "a"}}, "time": "2026-11-24T10:00:00Z"}, pb.GetEventsResponse()
    )
    unknown = pb.GetEventsResponse(node_name="n").SerializeToString() + b"\xba\x01\x02\x08\x01"
    large = pb.GetEventsResponse(node_name="n" * 50_000).SerializeToString()
    file = tmp_path / "odd.bin"
    file.write_bytes(b"".join(len(one).to_bytes(4, "big") + one for one in (good.SerializeToString(), unknown, large)))
    peer = tetragon_peer("-events", str(file))
    async with running(peer.address, max_message_bytes=20_000) as out:
        await peer.until(lambda stats: stats["streams"] == 1)
        await peer.tell("/emit?n=30&block=1")
        await until(lambda: out.lines_read == 30)
    assert out.decode_errors == {"unknown_member": 10, "message_too_large": 10}
    assert explained(out)


async def test_the_contract_of_sources(tetragon_peer, events_file):
    """Every batch outcome, a slow outside and a cancellation; a stream cannot be read again."""
    peer = tetragon_peer("-events", str(events_file))
    feeding = asyncio.create_task(_feed(peer))
    try:
        await check_source_live(peer)
    finally:
        feeding.cancel()


async def _feed(peer):
    while True:
        if peer.stats()["streams"]:
            await peer.tell("/emit?n=20")
        await asyncio.sleep(0.05)


async def check_source_live(peer):
    for decide in (lambda _: Outcome.DELIVERED, lambda _: Outcome.REJECTED, lambda _: Outcome.ERRORED):
        config = TetragonConfig(address=peer.address, policy_seconds=0.0)
        source, out = TetragonSource(config, "tetragon", "n"), MemoryOutput(decide, pause_seconds=0.01)
        task = asyncio.create_task(source.run(out))
        await until(lambda out=out: len(out.events) >= 20)
        await source.stop()
        await asyncio.wait_for(task, 10)
    source = TetragonSource(TetragonConfig(address=peer.address), "tetragon", "n")
    task = asyncio.create_task(source.run(MemoryOutput(pause_seconds=5.0)))
    await asyncio.sleep(0.3)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done
