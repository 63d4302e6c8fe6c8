"""agent.sources.hubble.source against Cilium's own observer, parser and ring: flows, losses, resumes, TLS, relay."""

import asyncio
import contextlib
from collections import Counter

import pytest
from certificates import Authority
from live import explained, losses, until

from agent.model import DnsActivity, HttpActivity, NetworkActivity, StatusReport
from agent.plugins import Surroundings
from agent.sources.hubble import SPEC
from agent.sources.hubble.config import HubbleConfig
from agent.sources.hubble.source import HubbleSource
from agent.testing import MemoryOutput

BOTH = pytest.mark.parametrize("kind", ["http2", "grpcio"])
EVERYTHING = {"whitelist": (), "fields": ()}


@contextlib.asynccontextmanager
async def running(address, source=None, **settings):
    values = {"retry_first_seconds": 0.05, "retry_longest_seconds": 0.2, "agent_events": False, **settings}
    source = source or HubbleSource(HubbleConfig(address=address, **values), "hubble", "node-a")
    out = MemoryOutput()
    task = asyncio.create_task(source.run(out))
    try:
        yield out
    finally:
        await source.stop()
        await asyncio.wait_for(task, 20)


def bodies(out, kind):
    return [event.body for event in out.events if isinstance(event.body, kind)]


async def primed(peer):
    """Two events, so that a follower attached now is served (the newest entry is unreadable until the next comes)."""
    await peer.tell("/emit?kind=agent&n=3&direct=1")


async def pushed(peer):
    await peer.tell("/emit?kind=agent&n=1&direct=1")


@BOTH
async def test_every_kind_of_flow(kind, hubble_peer, tmp_path):
    peer = hubble_peer("-listen", f"unix://{tmp_path}/hubble.sock")
    await primed(peer)
    async with running(peer.address, transport=kind, agent_events=True) as out:
        await peer.until(lambda stats: stats["streams_open"] >= 1)
        for what in (
            "dns&name=api.openai.com.&address=203.0.113.7",
            "synworld&address=203.0.113.7",
            "denied",
            "verdict",
            "http&token=sk-none",
        ):
            await peer.tell(f"/emit?kind={what}&n=3&direct=1")
        await peer.tell("/emit?kind=trace&n=5&direct=1")
        await pushed(peer)
        await until(lambda: len(bodies(out, HttpActivity)) == 6)
        await until(lambda: any(body.component == "cilium" for body in bodies(out, StatusReport)))
    answers = [body for body in bodies(out, DnsActivity) if body.is_response]
    assert {(body.query.reveal(), body.addresses, body.source.pod) for body in answers} == {
        ("api.openai.com", ("203.0.113.7",), "notebook-0")
    }
    flows = bodies(out, NetworkActivity)
    refused = [body for body in flows if body.verdict == "dropped"]
    assert (len(refused), {body.drop_reason for body in refused}) == (3, {"policy_denied"})
    assert out.aside["same_packet"] == 3
    assert {body.observation for body in flows if body.destination.is_world and body.verdict == "forwarded"} == {
        "policy-verdict",
        "trace",
    }
    allowed = [body for body in flows if body.destination.pod == "vllm-0"]
    assert allowed
    assert all(body.source.namespace == "apps" for body in allowed)
    request = next(body for body in bodies(out, HttpActivity) if not body.is_response)
    assert (request.method, request.host, str(request.headers["authorization"])) == (
        "POST",
        "vllm.models",
        "Sensitive(14 characters)",
    )
    # The five traces between pods were not asked for, and the server did not send them.
    assert not [body for body in flows if body.observation == "trace" and not body.destination.is_world]
    assert explained(out)


@BOTH
async def test_a_break_is_closed_by_what_the_ring_still_holds(kind, hubble_peer):
    peer = hubble_peer()
    await primed(peer)
    async with running(peer.address, transport=kind, **EVERYTHING) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=200&direct=1")
        await pushed(peer)
        await until(lambda: len(out.events) >= 200)
        await peer.tell("/disconnect?code=UNAVAILABLE")
        await peer.tell("/emit?kind=trace&n=300&direct=1")  # while nobody may be listening
        await pushed(peer)
        await until(lambda: len(out.events) >= 500)
        await asyncio.sleep(0.2)
    assert len({event.id for event in out.events}) == len(out.events) == 500
    assert losses(out) == []
    assert out.aside["duplicate"] > 0
    assert explained(out)


@BOTH
async def test_a_new_observer_remembers_nothing_and_that_is_told(kind, hubble_peer, tmp_path):
    peer = hubble_peer("-listen", f"unix://{tmp_path}/hubble.sock")
    await primed(peer)
    async with running(peer.address, transport=kind, **EVERYTHING) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=50&direct=1")
        await pushed(peer)
        await until(lambda: len(out.events) >= 50)
        peer.kill()
        peer.start()
        await primed(peer)
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=50&direct=1")
        await pushed(peer)
        await until(lambda: len(bodies(out, NetworkActivity)) >= 100)
    assert [loss.reason for loss in losses(out)] == ["reconnect_gap"]
    assert losses(out)[0].gap_seconds > 0


async def test_an_ok_end_of_a_followed_stream_is_a_break_too(hubble_peer):
    peer = hubble_peer()
    await primed(peer)
    async with running(peer.address, **EVERYTHING) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/disconnect?code=OK")
        await until(lambda: out.connections == 2)


async def test_lost_events_by_the_thousand_are_summed(hubble_peer):
    peer = hubble_peer("-ring", "255")
    await primed(peer)
    async with running(peer.address, **EVERYTHING) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=10&direct=1")
        await peer.tell("/stall?on=1")
        await peer.tell("/emit?kind=trace&n=20000&direct=1")
        await peer.tell("/stall?on=0")
        await pushed(peer)
        await until(lambda: out.lines_read > 5000)
        stats = await peer.until(lambda stats: stats["sent"] == out.lines_read)
        await until(lambda: sum(loss.count for loss in losses(out)) == stats["sent_lost_sum"])
    assert stats["sent_lost"] > 5000
    assert out.aside["summed_loss"] == stats["sent_lost"]
    assert len(losses(out)) < 10
    assert {loss.reason for loss in losses(out)} == {"hubble_ring_buffer"}
    assert stats["sent"] == out.lines_read
    assert explained(out)


async def test_kernel_losses_keep_their_source(hubble_peer):
    peer = hubble_peer()
    await primed(peer)
    async with running(peer.address) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=lost&n=3&count=42&direct=1")
        await pushed(peer)
        await until(lambda: sum(loss.count for loss in losses(out)) == 126)
    assert {loss.reason for loss in losses(out)} == {"perf_event_ring_buffer"}


async def test_through_relay_with_the_state_of_its_nodes(hubble_peer, free_port):
    peer = hubble_peer("-relay", "127.0.0.1:0")
    await primed(peer)
    async with running(peer.told["relay"], agent_events=True, **EVERYTHING) as out:
        await until(lambda: any(body.state == "node_connected" for body in bodies(out, StatusReport)))
        await peer.tell("/emit?kind=trace&n=50&direct=1")
        await pushed(peer)
        await until(lambda: len(bodies(out, NetworkActivity)) >= 49)
        await peer.tell("/disconnect?code=transport")
        await until(lambda: out.connections >= 2 or any(loss.reason == "node_error" for loss in losses(out)))
    assert explained(out)


@BOTH
async def test_mutual_tls_by_the_node_s_name_and_rotation(kind, hubble_peer, tmp_path):
    ca = Authority(tmp_path / "tls")
    server = ca.issue("node-a.default.hubble-grpc.cilium.io", file="server")
    client = ca.issue("reeve", file="client")
    peer = hubble_peer("-tls-cert", str(server[0]), "-tls-key", str(server[1]), "-tls-ca", str(ca.file))
    await primed(peer)
    tls = {"ca_file": ca.file, "certificate_file": client[0], "key_file": client[1], "server_name": "auto"}
    config = HubbleConfig(
        address=peer.address,
        tls=tls,
        transport=kind,
        agent_events=False,
        retry_first_seconds=0.05,
        retry_longest_seconds=0.2,
        **EVERYTHING,
    )
    source = SPEC.build(config, "hubble", Surroundings(node="node-a", state_dir=tmp_path, rules=()))
    async with running(peer.address, source) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=20&direct=1")
        await pushed(peer)
        await until(lambda: len(out.events) >= 20)
        # A new CA, and new certificates on both sides, while connected.
        ca.__init__(ca.folder)
        ca.issue("node-a.default.hubble-grpc.cilium.io", file="server")
        ca.issue("reeve", file="client")
        await peer.tell("/reload")
        await peer.tell("/emit?kind=trace&n=20&direct=1")
        await pushed(peer)
        await until(lambda: len(out.events) >= 40)
        assert out.connections == 1
        await peer.tell("/disconnect?code=transport")
        await peer.tell("/emit?kind=trace&n=20&direct=1")
        await pushed(peer)
        await until(lambda: len(out.events) >= 60)
        assert out.connections == 2
    assert losses(out) == []


async def test_a_server_that_cannot_be_trusted_gives_nothing(hubble_peer, tmp_path):
    ca, other = Authority(tmp_path / "tls"), Authority(tmp_path / "other", "other")
    server = other.issue("node-a.default.hubble-grpc.cilium.io", file="server")
    peer = hubble_peer("-tls-cert", str(server[0]), "-tls-key", str(server[1]))
    await primed(peer)
    tls = {"ca_file": ca.file, "server_name": "node-a.default.hubble-grpc.cilium.io"}
    async with running(peer.address, tls=tls, **EVERYTHING) as out:
        await peer.tell("/emit?kind=trace&n=20&direct=1")
        await asyncio.sleep(1.0)
    assert (out.connections, out.events) == (0, [])


async def test_silence_is_compared_with_what_the_server_sees(hubble_peer):
    """The stream is held while flows go on: an unfiltered one that says nothing is left, and nothing is lost by it."""
    peer = hubble_peer()
    await primed(peer)
    async with running(peer.address, idle_seconds=0.5, **EVERYTHING) as out:
        await peer.until(lambda stats: stats["streams_open"] == 1)
        await peer.tell("/emit?kind=trace&n=10&direct=1")
        await peer.tell("/stall?on=1")
        for _ in range(8):
            await peer.tell("/emit?kind=trace&n=10&direct=1")
            await asyncio.sleep(0.3)
        await until(lambda: out.connections >= 2)
        await peer.tell("/stall?on=0")
        await pushed(peer)
        await until(lambda: len(out.events) >= 90)
    assert Counter(event.id for event in out.events).most_common(1)[0][1] == 1
    assert explained(out)
