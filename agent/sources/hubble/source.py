"""The live stream of Hubble's flows, from a node's agent or through relay, and what was lost of them.

Hubble can be asked again for what its ring still holds: after a break the stream goes on from the last flow, and what
comes twice is set aside.  If nothing comes twice, continuity is not proven, and that is a loss.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import structlog
from google.protobuf.message import DecodeError as ProtobufError

from agent._pb import observer_pb2
from agent.model import DecodeError, Event, LossReport, StatusReport
from agent.pipeline import Output, WhenFull
from agent.plugins import Surroundings
from agent.sources.hubble.config import HubbleConfig, server_name
from agent.sources.hubble.filters import wanted
from agent.sources.hubble.resume import Resume
from agent.sources.hubble.seen import Seen
from agent.sources.hubble.wire import WireDecoder, agent_event
from agent.sources.rpc import Backoff, Code, RpcError, Transport, transport_for
from agent.sources.rpc.beside import again_and_again
from agent.sources.rpc.following import RENEWAL, Following, Watch
from agent.sources.rpc.reporting import Reporter, gap, outage
from agent.sources.rpc.transport import Renewal

log = structlog.get_logger("reeve.hubble")

SERVICE = "/observer.Observer/"
_UNARY_SECONDS = 10.0
_PARCEL = 256
# Lost events come one by one and by the thousand: one report for each reason in this time.
_LOSS_SECONDS = 1.0
# A filtered stream may be silent although the server sees flows; a new connection, which loses nothing, makes sure.
_SURE_SECONDS = 300.0
_GONE = frozenset({"node_unavailable", "node_gone", "node_error"})


class HubbleSource:
    """A `Follower` of GetFlows, and of GetAgentEvents beside it."""

    when_full: WhenFull = "block"  # the ring waits, and says what it could not hold

    def __init__(self, config: HubbleConfig, name: str, node: str, transport: Transport | None = None) -> None:
        self.name = name
        self._config = config
        self._node = node
        self._transport = transport or transport_for(config)
        request = config.request()
        self._decoder = WireDecoder(wanted(request.whitelist, request.blacklist))
        self._seen = Seen()
        self._reporter = Reporter("hubble", node)
        self._resume = Resume()
        self._is_stopping = asyncio.Event()
        self._lost: Counter[tuple[str, str]] = Counter()  # (reason, node)
        self._flows_seen = -1
        self._sure_at = 0.0
        self._is_masked = True
        backoff = Backoff(config.retry_first_seconds, config.retry_longest_seconds)
        self._following = Following(
            self._transport, self, Watch(name, f"{SERVICE}GetFlows", config.idle_seconds), backoff
        )
        self._agent: Following | None = None
        if config.agent_events:
            watch = Watch(f"{name}/agent-events", f"{SERVICE}GetAgentEvents", 3600.0, is_optional=True)
            again = Backoff(config.retry_first_seconds, config.retry_longest_seconds)
            self._agent = Following(self._transport, _AgentEvents(self), watch, again)

    async def run(self, out: Output) -> None:
        self._reporter.attach(out)
        out.connected(False)
        telling = again_and_again(self.name, _LOSS_SECONDS, self._is_stopping, self._flush_losses)
        beside = [asyncio.create_task(telling)]
        if self._agent is not None:
            beside.append(asyncio.create_task(self._agent.run()))
        try:
            await self._following.run()
        finally:
            self._is_stopping.set()
            if self._agent is not None:
                await self._agent.stop()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._transport.close()
        await self._flush_losses()

    async def stop(self) -> None:
        self._is_stopping.set()
        await self._following.stop()
        if self._agent is not None:
            await self._agent.stop()

    # ------------------------------------------------------------- follower

    def request(self, reason: str) -> bytes:
        if reason in ("invalid_argument", "unknown") and self._is_masked and not self._resume.has_flows:
            # A server that does not know a path of the mask refuses the call; it sends whole flows then.
            self._is_masked = False
            log.warning("Hubble refuses the request; whole flows are asked for, without a mask.", source=self.name)
        since = self._resume.since(time.time_ns())
        if since:
            since -= int(self._config.overlap_seconds * 1e9)
        elif self._config.since_seconds:
            since = time.time_ns() - int(self._config.since_seconds * 1e9)
        return self._config.request(since, is_masked=self._is_masked).SerializeToString()

    async def connected(self, gap_seconds: float, reason: str) -> None:
        self._reporter.out.connected(True)
        self._sure_at = time.monotonic()
        self._flows_seen = -1
        self._resume.stood(time.time_ns())
        if reason and reason != RENEWAL:
            self._resume.broke(max(gap_seconds, 0.001))

    async def disconnected(self) -> None:
        self._reporter.out.connected(False)

    async def missing(self, seconds: float) -> None:
        await self._reporter.report(outage("hubble", seconds))

    async def take(self, messages: list[bytes], oversized: int) -> None:
        out = self._reporter.out
        self._reporter.read(len(messages), oversized)
        events: list[Event] = []
        aside: Counter[str] = Counter()
        gaps: list[tuple[float, str]] = []
        wall = time.time_ns()
        self._flows_seen = -1
        for message in messages:
            one = self._decoder.event(message, wall)
            if one is None:
                aside["not_asked_for"] += 1
            elif isinstance(one, DecodeError):
                out.decode_error(one.name)
            elif isinstance(one.body, LossReport):
                aside["summed_loss"] += 1
                self._lost[one.body.reason, one.resource.node] += one.body.count
            elif isinstance(one.body, StatusReport):
                events.append(one)
                if one.body.state in _GONE:
                    self._lost[one.body.state, one.resource.node] += 0
            else:
                verdict = self._seen.look(one)
                node = one.resource.node
                missed = self._resume.saw(node, one.time_unix_nano, wall, is_duplicate=verdict == "duplicate")
                if missed is not None:
                    gaps.append((missed, node))
                if verdict == "new":
                    events.append(one)
                else:
                    aside[verdict] += 1
        for reason, count in aside.items():
            out.set_aside(reason, count)
        for seconds, node in gaps:
            await self._reporter.report(gap("hubble", seconds), node)
        for start in range(0, len(events), _PARCEL):
            await out.send(events[start : start + _PARCEL])

    async def status(self) -> observer_pb2.ServerStatusResponse:
        """What the server says of itself.  Raises RpcError."""
        answer = await self._transport.unary(f"{SERVICE}ServerStatus", b"", _UNARY_SECONDS)
        try:
            return observer_pb2.ServerStatusResponse.FromString(answer)
        except ProtobufError as error:
            raise RpcError(Code.INTERNAL, "ServerStatus does not decode") from error

    async def still_there(self) -> None:
        seen = (await self.status()).seen_flows
        has_grown = 0 <= self._flows_seen < seen
        self._flows_seen = seen
        is_filtered = bool(self._config.whitelist or self._config.blacklist)
        if has_grown and (not is_filtered or time.monotonic() - self._sure_at > _SURE_SECONDS):
            raise Renewal("silent although the server sees flows")

    # --------------------------------------------------------------- beside

    async def tell_agent_gap(self, seconds: float) -> None:
        """Agent events cannot be asked for again."""
        loss = LossReport(
            origin="hubble", reason="agent_events_gap", is_lower_bound=True, gap_seconds=max(0.001, round(seconds, 3))
        )
        await self._reporter.report(loss)

    async def pass_on(self, messages: list[bytes], oversized: int) -> None:
        """Agent events: policies that changed, endpoints that came and went."""
        out = self._reporter.out
        self._reporter.read(len(messages), oversized)
        wall = time.time_ns()
        events = []
        for message in messages:
            one = agent_event(message, wall)
            if isinstance(one, DecodeError):
                out.decode_error(one.name)
            elif self._seen.look(one) == "new":
                events.append(one)
            else:
                out.set_aside("duplicate")
        await out.send(events)

    async def _flush_losses(self) -> None:
        """One report for each reason and node; a loss is forgotten only when it was told."""
        for key, count in list(self._lost.items()):
            reason, node = key
            report = LossReport(origin="hubble", reason=reason, count=count, is_lower_bound=True)
            await self._reporter.report(report, node)
            if self._lost[key] > count:
                self._lost[key] -= count
            else:
                del self._lost[key]


class _AgentEvents:
    """A `Follower` that hands everything to its source."""

    def __init__(self, source: HubbleSource) -> None:
        self._source = source

    def request(self, reason: str) -> bytes:
        del reason
        return observer_pb2.GetAgentEventsRequest(follow=True).SerializeToString()

    async def connected(self, gap_seconds: float, reason: str) -> None:
        if reason:
            await self._source.tell_agent_gap(gap_seconds)

    async def disconnected(self) -> None:
        """The flows' stream tells whether the server is there."""

    async def missing(self, seconds: float) -> None:
        """The flows' stream tells whether the server is there."""

    async def take(self, messages: list[bytes], oversized: int) -> None:
        await self._source.pass_on(messages, oversized)

    async def still_there(self) -> None:
        await self._source.status()


def build(config: HubbleConfig, name: str, surroundings: Surroundings) -> HubbleSource:
    if config.tls is not None and config.tls.server_name == "auto":
        tls = config.tls.model_copy(update={"server_name": server_name(surroundings.node, config.cluster)})
        config = config.model_copy(update={"tls": tls})
    return HubbleSource(config, name, surroundings.node)
