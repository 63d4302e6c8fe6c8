"""agent.sources.rpc.following, .backoff, .connection, .opening, .transport, .grpcio, .http2.transport: what keeps a stream alive."""

import asyncio
import random

import pytest

from agent.sources.rpc import Backoff, Code, Connection, ConnectionConfig, RpcError, transport_for
from agent.sources.rpc.beside import again_and_again
from agent.sources.rpc.following import Following, Watch
from agent.sources.rpc.grpcio import GrpcioTransport
from agent.sources.rpc.http2.transport import Http2Transport
from agent.sources.rpc.opening import transport_for as opened
from agent.sources.rpc.transport import Renewal


class Script:
    """A transport whose streams do what they are told: a list of batches, then an end."""

    def __init__(self, *streams):
        self.streams = list(streams)
        self.requests = []
        self.closed = 0
        self.pings = []

    async def stream(self, method, request):
        self.requests.append(request)
        if not self.streams:
            await asyncio.sleep(3600)
        one = self.streams.pop(0)
        if isinstance(one, RpcError):
            raise one
        return ScriptStream(self, list(one))


class ScriptStream:
    def __init__(self, script, steps):
        self.script, self.steps = script, steps
        self.is_closed = asyncio.Event()

    async def batch(self):
        if not self.steps:
            await self.is_closed.wait()
            raise RpcError(Code.CANCELLED, "closed")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def take_oversized(self):
        return 0

    async def ping(self, timeout_seconds):
        self.script.pings.append(timeout_seconds)
        return self.script.answers.pop(0) if getattr(self.script, "answers", None) else True

    async def close(self):
        self.script.closed += 1
        self.is_closed.set()


class Taker:
    def __init__(self, asked=()):
        self.taken, self.stands, self.asked = [], [], list(asked)
        self.questions = 0
        self.gaps, self.outages = [], []

    def request(self, reason):
        return str(len(self.stands)).encode()

    async def connected(self, gap_seconds, reason):
        self.stands.append((gap_seconds > 0, reason))
        self.gaps.append(gap_seconds)

    async def disconnected(self):
        self.stands.append("end")

    async def missing(self, seconds):
        self.outages.append(seconds)

    async def take(self, messages, oversized):
        self.taken += messages
        self.oversized = getattr(self, "oversized", 0) + oversized

    async def still_there(self):
        self.questions += 1
        if self.asked:
            raise self.asked.pop(0)


async def follow(script, taker, seconds=0.3, idle=60.0, **more):
    following = Following(script, taker, Watch("s", "/m", idle, **more), Backoff(0.001, 0.005, random.Random(1)))
    running = asyncio.create_task(following.run())
    await asyncio.sleep(seconds)
    await following.stop()
    await asyncio.wait_for(running, 5)


@pytest.mark.parametrize(
    "end", [RpcError(Code.INTERNAL, "size mismatch"), RpcError(Code.UNAVAILABLE, ""), RpcError(Code.UNKNOWN, ""), None]
)
async def test_every_end_leads_to_a_new_connection(end):
    script = Script([[b"a"], end], [[b"b"]])
    taker = Taker()
    await follow(script, taker)
    assert taker.taken == [b"a", b"b"]
    assert taker.stands[0][1] == ""
    assert taker.stands[2] == (True, "ok" if end is None else end.code.name.lower())
    assert script.requests[:2] == [b"0", b"2"]  # the request is made anew: it may say where to go on


async def test_a_server_that_is_not_there_is_tried_again():
    script = Script(RpcError(Code.UNAVAILABLE, "no connection"), RpcError(Code.UNAVAILABLE, "no connection"), [[b"a"]])
    taker = Taker()
    await follow(script, taker)
    assert taker.taken == [b"a"]


async def test_silence_is_asked_about_and_a_dead_stream_is_left():
    script = Script([], [[b"b"]])
    taker = Taker([RpcError(Code.UNAVAILABLE, "nobody")])
    await follow(script, taker, idle=0.05)
    assert taker.taken == [b"b"]
    assert taker.questions >= 1


async def test_a_connection_that_does_not_answer_a_ping_is_left():
    script = Script([], [[b"b"]])
    script.answers = [False]
    taker = Taker()
    await follow(script, taker, idle=0.05)
    assert taker.taken == [b"b"]
    # Servers take few pings: one each five minutes, whatever the silence.
    assert len(script.pings) <= 2


async def test_an_outage_is_told_while_it_lasts_and_counts_from_the_beginning(monkeypatch):
    from agent.sources.rpc import following as module

    monkeypatch.setattr(module, "_MISSING_SECONDS", 0.05)
    script = Script(*[RpcError(Code.UNAVAILABLE, "nobody")] * 60, [[b"a"]])
    taker = Taker()
    await follow(script, taker, seconds=0.6)
    assert taker.taken == [b"a"]
    assert len(taker.outages) >= 2
    assert taker.outages == sorted(taker.outages)
    assert taker.gaps[0] > 0.1  # never there so far: the first connection closes a gap too


async def test_a_renewal_is_made_at_once_and_says_so():
    script = Script([], [[b"b"]])
    taker = Taker([Renewal("to be sure")])
    await follow(script, taker, idle=0.05)
    assert taker.taken == [b"b"]
    assert taker.stands[2][1] == "renewal"


async def test_stop_in_the_moment_of_connecting_ends_the_stream_too():
    class Instant(Script):
        async def stream(self, method, request):
            await following.stop()
            self.made = ScriptStream(self, [])
            return self.made

    script = Instant()
    following = Following(script, Taker(), Watch("s", "/m"), Backoff(0.01, 0.02))
    await asyncio.wait_for(following.run(), 2)
    assert script.made.is_closed.is_set()


async def test_what_was_skipped_before_the_end_is_counted():
    class Skipping(ScriptStream):
        def take_oversized(self):
            new, self.script.skipped = self.script.skipped, 0
            return new

    class Large(Script):
        skipped = 3

        async def stream(self, method, request):
            self.requests.append(request)
            if len(self.requests) > 1:
                await asyncio.sleep(3600)
            return Skipping(self, [RpcError(Code.INTERNAL, "end")])

    taker = Taker()
    await follow(Large(), taker)
    assert taker.oversized == 3


async def test_a_watch_that_fails_goes_on():
    stop, turns = asyncio.Event(), []

    async def look():
        turns.append(1)
        if len(turns) == 3:
            stop.set()
        raise KeyError("unforeseen")

    await asyncio.wait_for(again_and_again("s", 0.01, stop, look), 2)
    assert len(turns) == 3


async def test_an_optional_stream_that_is_not_offered_is_let_be():
    script = Script(RpcError(Code.UNIMPLEMENTED, "no"), [[b"never"]])
    taker = Taker()
    await follow(script, taker, is_optional=True)
    assert taker.taken == []
    assert len(script.requests) == 1


async def test_stopping_ends_a_wait_between_attempts():
    script = Script(RpcError(Code.UNAVAILABLE, ""))
    following = Following(script, Taker(), Watch("s", "/m"), Backoff(30, 60))
    running = asyncio.create_task(following.run())
    await asyncio.sleep(0.05)
    await following.stop()
    await asyncio.wait_for(running, 1)


def test_waits_grow_with_jitter_and_start_again():
    backoff = Backoff(0.5, 8.0, random.Random(3))
    waits = [backoff.next_seconds() for _ in range(12)]
    assert all(0.5 <= wait <= 8.0 for wait in waits)
    assert max(waits) > 4.0
    backoff.reset()
    assert backoff.next_seconds() == 0.5


def test_addresses_are_taken_apart():
    assert Connection(ConnectionConfig(address="unix:///run/x.sock")).path == "/run/x.sock"
    place = Connection(ConnectionConfig(address="[::1]:443"))
    assert (place.host, place.port, place.authority) == ("::1", 443, "[::1]:443")
    assert place.ssl_context() is None
    assert place.tls_bytes() is None


def test_the_configuration_chooses_the_transport():
    assert isinstance(transport_for(ConnectionConfig(address="unix:///x")), Http2Transport)
    assert isinstance(opened(ConnectionConfig(address="unix:///x", transport="grpcio")), GrpcioTransport)


def test_an_error_shows_code_and_a_short_text():
    error = RpcError(Code.UNAVAILABLE, "x" * 1000)
    assert str(error) == "UNAVAILABLE: " + "x" * 200
