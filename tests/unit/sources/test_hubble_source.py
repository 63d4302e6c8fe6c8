"""agent.sources.hubble.source, agent.sources.hubble.resume and .rpc.reporting (agent.sources.rpc.reporting) with its transport played: resumes, gaps, refusals of the request, states of nodes."""

import asyncio

import pytest
from google.protobuf import json_format

from agent._pb import observer_pb2
from agent.model import LossReport, StatusReport
from agent.sources.hubble.config import HubbleConfig
from agent.sources.hubble.resume import Resume
from agent.sources.hubble.source import HubbleSource
from agent.sources.rpc import Code, RpcError
from agent.testing import MemoryOutput


class Played:
    """A transport whose unary calls answer from a list."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def unary(self, method, request, timeout_seconds):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self):
        """Nothing is open."""


def source(*answers, **settings):
    one = HubbleSource(HubbleConfig(**{"whitelist": (), **settings}), "hubble", "node-a", Played(*answers))
    out = MemoryOutput()
    one._reporter.attach(out)
    return one, out


def flow(uuid, seconds=1_700_000_000, **fields):
    content = {"flow": {"uuid": uuid, **fields}, "node_name": fields.get("node_name", "node-a")}
    message = json_format.ParseDict(content, observer_pb2.GetFlowsResponse())
    message.time.seconds = seconds
    return message.SerializeToString()


def response(**content):
    return json_format.ParseDict(content, observer_pb2.GetFlowsResponse()).SerializeToString()


def status(seen):
    return observer_pb2.ServerStatusResponse(seen_flows=seen).SerializeToString()


def asked(one, reason=""):
    return observer_pb2.GetFlowsRequest.FromString(one.request(reason))


def losses(out):
    return [event.body for event in out.events if isinstance(event.body, LossReport)]


async def test_a_resume_begins_before_the_newest_flow_of_the_node_that_is_furthest_behind():
    """Through relay each node has its own clock: one that is ahead must not hide what another has yet to send."""
    one, _ = source(overlap_seconds=5.0)
    assert not asked(one).HasField("since")
    await one.take([flow("a", 1_700_000_100, node_name="fast"), flow("b", 1_700_000_040, node_name="slow")], 0)
    await one.take([flow("c", 1_700_000_050, node_name="slow"), flow("d", 1_700_000_045, node_name="slow")], 0)
    assert asked(one, "unavailable").since.seconds == 1_700_000_045


async def test_a_node_s_continuity_is_not_proven_by_another_s():
    one, out = source()
    await one.take([flow("a", 1_700_000_100, node_name="fast"), flow("b", 1_700_000_040, node_name="slow")], 0)
    await one.connected(2.0, "unavailable")
    await one.take([flow("a", 1_700_000_100, node_name="fast"), flow("x", 1_700_000_060, node_name="slow")], 0)
    assert [(event.resource.node, event.body.reason) for event in out.events if isinstance(event.body, LossReport)] == [
        ("slow", "reconnect_gap")
    ]


async def test_states_and_losses_decide_nothing_about_a_gap():
    one, out = source()
    await one.take([flow("a")], 0)
    await one.connected(2.0, "unavailable")
    await one.take(
        [response(node_status={"state_change": "NODE_CONNECTED", "node_names": ["n"]}, node_name="relay")], 0
    )
    await one.take([response(lost_events={"source": 3, "num_events_lost": "1"})], 0)
    await one.take([flow("late", 1_699_999_999)], 0)  # older than what we had: it may have been late anyway
    assert losses(out) == []
    await one.take([flow("a")], 0)
    await one.take([flow("b", 1_700_000_001)], 0)
    assert losses(out) == []


async def test_a_renewal_of_our_own_is_no_gap():
    one, out = source()
    await one.take([flow("a")], 0)
    await one.connected(0.1, "renewal")
    await one.take([flow("b", 1_700_000_001)], 0)
    assert losses(out) == []


async def test_what_came_since_makes_silence_anew():
    one, _ = source(status(100), status(5000))
    await one.still_there()
    await one.take([flow(str(number)) for number in range(4900)], 0)
    await one.still_there()  # the server saw what we have got


async def test_an_outage_is_told_while_it_lasts():
    one, out = source()
    await one.missing(35.0)
    assert [(loss.reason, loss.gap_seconds) for loss in losses(out)] == [("not_connected", 35.0)]


async def test_agent_events_cannot_be_asked_for_again():
    one, out = source()
    await one.tell_agent_gap(2.0)
    await one.pass_on([], 2)
    assert [loss.reason for loss in losses(out)] == ["agent_events_gap"]
    assert out.decode_errors == {"message_too_large": 2}


async def test_history_at_the_start_is_asked_for_when_wanted():
    one, _ = source(since_seconds=3600.0)
    assert asked(one).since.seconds > 1_700_000_000


async def test_what_comes_twice_proves_that_nothing_was_missed():
    one, out = source()
    await one.take([flow("a"), flow("b")], 0)
    await one.connected(2.0, "unavailable")
    await one.take([flow("b"), flow("c")], 0)
    assert losses(out) == []
    assert out.aside == {"duplicate": 1}


async def test_nothing_twice_is_a_gap_told_once():
    one, out = source()
    await one.take([flow("a")], 0)
    await one.connected(2.0, "unavailable")
    await one.connected(1.5, "ok")  # it broke again before anything came
    await one.take([flow("x", 1_700_000_001)], 0)
    await one.take([flow("y", 1_700_000_002)], 0)
    (gap,) = losses(out)
    assert (gap.reason, gap.gap_seconds, gap.is_lower_bound) == ("reconnect_gap", 3.5, True)


async def test_lost_events_are_summed_by_reason_and_node():
    one, out = source()
    lost = response(lost_events={"source": "HUBBLE_RING_BUFFER", "num_events_lost": "1"}, node_name="node-b")
    await one.take([lost] * 10_000, 0)
    kernel = response(
        lost_events={"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "42", "cpu": 1}, node_name="node-b"
    )
    await one.take([kernel], 0)
    assert losses(out) == []
    await one._flush_losses()
    assert {(loss.reason, loss.count) for loss in losses(out)} == {
        ("hubble_ring_buffer", 10_000),
        ("perf_event_ring_buffer", 42),
    }
    assert {event.resource.node for event in out.events} == {"node-b"}
    assert out.lines_read + out.events_reported == len(out.events) + out.aside.total()


async def test_a_node_that_relay_cannot_reach_is_a_state_and_a_loss():
    one, out = source()
    await one.take(
        [response(node_status={"state_change": "NODE_UNAVAILABLE", "node_names": ["node-b"]}, node_name="relay")], 0
    )
    await one._flush_losses()
    assert [event.body.state for event in out.events if isinstance(event.body, StatusReport)] == ["node_unavailable"]
    assert [(loss.reason, loss.count) for loss in losses(out)] == [("node_unavailable", 0)]


async def test_a_request_that_is_refused_is_made_again_without_its_mask():
    one, _ = source()
    assert asked(one).HasField("field_mask")
    assert not asked(one, "invalid_argument").HasField("field_mask")
    other, _ = source()
    await other.take([flow("a")], 0)
    assert asked(other, "unknown").HasField("field_mask")  # it worked before: that was not the mask


async def test_silence_is_compared_with_the_server_s_count():
    one, _ = source(status(100), status(100), status(101))
    await one.still_there()
    await one.still_there()
    with pytest.raises(RpcError, match="silent although"):
        await one.still_there()
    filtered, _ = source(status(100), status(200), whitelist=({"verdict": ["DROPPED"]},))
    await filtered.connected(0.0, "")
    await filtered.still_there()
    await filtered.still_there()  # what it sees may be what we did not ask for
    gone, _ = source(RpcError(Code.UNAVAILABLE, ""), b"\xff\xff")
    for _ in range(2):
        with pytest.raises(RpcError):
            await gone.still_there()


async def test_what_is_too_large_is_counted():
    one, out = source()
    await one.take([], 3)
    assert out.decode_errors == {"message_too_large": 3}
    assert out.lines_read == 3


async def test_stopping_tells_the_losses_that_waited():
    class Quiet(Played):
        async def stream(self, method, request):
            await asyncio.sleep(3600)

    one = HubbleSource(HubbleConfig(agent_events=False), "hubble", "n", Quiet())
    out = MemoryOutput()
    running = asyncio.create_task(one.run(out))
    await asyncio.sleep(0.05)
    one._lost["hubble_ring_buffer", "n"] += 5
    await one.stop()  # while it is still connecting
    await asyncio.wait_for(running, 2)
    assert [(loss.reason, loss.count) for loss in losses(out)] == [("hubble_ring_buffer", 5)]


def test_resume_is_bounded_and_quiet_nodes_hold_nobody_back():
    resume, minute = Resume(), 60 * 1_000_000_000
    resume.saw("quiet", 5, 0, is_duplicate=False)
    resume.saw("busy", 30 * minute, 30 * minute, is_duplicate=False)
    assert resume.since(30 * minute) == 30 * minute  # the quiet node said nothing for half an hour
    assert resume.since(29 * minute) == 29 * minute  # never in the future
    for number in range(5000):
        resume.saw(str(number), 1, 1, is_duplicate=False)
    resume.broke(1.0)
    assert len(resume._latest) == len(resume._open) == 1024


def test_a_break_before_any_flow_is_closed_by_the_first():
    resume = Resume()
    resume.broke(3.0)
    assert resume.saw("n", 10, 10, is_duplicate=False) == 3.0
    assert resume.saw("n", 11, 11, is_duplicate=False) is None


def test_a_stream_that_never_gave_a_flow_goes_on_from_where_it_first_stood():
    resume = Resume()
    assert resume.since(100) == 0
    resume.stood(100)
    resume.stood(900)  # a later connection does not move the beginning
    assert resume.since(1000) == 100


def test_after_a_long_quiet_the_newest_flow_is_where_to_go_on():
    resume, hour = Resume(), 3600 * 1_000_000_000
    resume.stood(1)
    resume.saw("n", 2 * hour, 2 * hour, is_duplicate=False)
    assert resume.since(9 * hour) == 2 * hour
