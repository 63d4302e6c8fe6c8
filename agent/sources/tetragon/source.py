"""The live stream of a Tetragon daemon: events, what was lost of them, and the state of its tracing policies.

Nothing can be read again, so what does not fit is dropped and counted here, where it can be, and not silently there.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Awaitable, Callable
from http.client import HTTPException

import structlog
from google.protobuf.message import DecodeError as ProtobufError

from agent.model import DecodeError, Event, LossReport, StatusReport
from agent.pipeline import Output, WhenFull
from agent.plugins import Surroundings
from agent.sources.rpc import Backoff, RpcError, Transport, transport_for
from agent.sources.rpc.beside import again_and_again
from agent.sources.rpc.following import Following, Watch
from agent.sources.rpc.reporting import Reporter, gap, outage
from agent.sources.tetragon.config import TetragonConfig
from agent.sources.tetragon.folding import Folding
from agent.sources.tetragon.losses import LARGEST_PAGE, LossCounters
from agent.sources.tetragon.policies import PolicyWatch
from agent.sources.tetragon.processes import ProcessTree
from agent.sources.tetragon.wire import WireDecoder

log = structlog.get_logger("reeve.tetragon")

SERVICE = "/tetragon.FineGuidanceSensors/"
_UNARY_SECONDS = 10.0
# A parcel is evaluated as a whole: a larger one makes its first event wait for its last.
_PARCEL = 256


class TetragonSource:
    """A `Follower` of GetEvents, and the questions asked beside it."""

    when_full: WhenFull = "drop_newest"

    def __init__(self, config: TetragonConfig, name: str, node: str, transport: Transport | None = None) -> None:
        self.name = name
        self._config = config
        self._node = node
        self._transport = transport or transport_for(config)
        self._decoder = WireDecoder()
        self._tree = ProcessTree()
        self._folding = Folding(config.fold_seconds)
        self._policies = PolicyWatch(config.expected_policies)
        self._losses = LossCounters()
        self._are_policies_unknown = self._are_losses_unknown = False
        self._reporter = Reporter("tetragon", node)
        self._is_stopping = asyncio.Event()
        backoff = Backoff(config.retry_first_seconds, config.retry_longest_seconds)
        watch = Watch(name, f"{SERVICE}GetEvents", config.idle_seconds)
        self._following = Following(self._transport, self, watch, backoff)

    async def run(self, out: Output) -> None:
        self._reporter.attach(out)
        out.connected(False)
        watches = []
        if self._config.policy_seconds:
            watches.append(self._beside(self._config.policy_seconds, self._look_at_policies))
        if self._config.metrics_url:
            watches.append(self._beside(self._config.metrics_seconds, self._look_at_metrics))
        flushing = self._beside(max(0.05, self._config.fold_seconds / 4), self._flush_folds)
        try:
            await self._following.run()
        finally:
            self._is_stopping.set()
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, flushing, return_exceptions=True)
            await self._transport.close()
        await self._send(self._folding.due(float("inf")))

    def _beside(self, seconds: float, what: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(again_and_again(self.name, seconds, self._is_stopping, what))

    async def stop(self) -> None:
        self._is_stopping.set()
        await self._following.stop()

    # ------------------------------------------------------------- follower

    def request(self, reason: str) -> bytes:
        del reason
        return self._config.request()

    async def connected(self, gap_seconds: float, reason: str) -> None:
        self._reporter.out.connected(True)
        if reason:
            await self._reporter.report(gap("tetragon", gap_seconds))

    async def disconnected(self) -> None:
        self._reporter.out.connected(False)

    async def missing(self, seconds: float) -> None:
        await self._reporter.report(outage("tetragon", seconds))

    async def take(self, messages: list[bytes], oversized: int) -> None:
        out = self._reporter.out
        self._reporter.read(len(messages), oversized)
        events: list[Event] = []
        throttled = 0
        now, wall = time.monotonic(), time.time_ns()
        decode, complete, fold = self._decoder.event, self._tree.complete, self._folding.take
        for message in messages:
            one = decode(message, wall)
            if isinstance(one, DecodeError):
                out.decode_error(one.name)
                continue
            events += fold(complete(one), now)
            if isinstance(one.body, StatusReport) and one.body.state == "throttle_start":
                throttled += 1
            if len(events) >= _PARCEL:
                await self._send(events)
                events = []
        await self._send(events)
        for _ in range(throttled):
            # From now on execs of that control group are not posted, and nobody counts them.
            await self._reporter.report(LossReport(origin="tetragon", reason="cgroup_throttle", is_lower_bound=True))

    async def still_there(self) -> None:
        await self._transport.unary(f"{SERVICE}GetHealth", b"", _UNARY_SECONDS)

    # --------------------------------------------------------------- beside

    async def _send(self, events: list[Event]) -> None:
        if folded := self._folding.take_folded():
            self._reporter.out.set_aside("folded", folded)
        if events:
            await self._reporter.out.send(events)

    async def _flush_folds(self) -> None:
        """Close windows that have ended."""
        await self._send(self._folding.due(time.monotonic()))

    async def _look_at_policies(self) -> None:
        try:
            answer = await self._transport.unary(f"{SERVICE}ListTracingPolicies", b"", _UNARY_SECONDS)
            reports = self._policies.changes(answer)
        except (RpcError, ProtobufError) as error:
            if not self._are_policies_unknown:
                log.warning("Tracing policies cannot be listed.", source=self.name, error=str(error))
                await self._reporter.report(StatusReport(component="tetragon", state="policies_unknown"))
            self._are_policies_unknown = True
            return
        self._are_policies_unknown = False
        for report in reports:
            await self._reporter.report(report)

    async def _look_at_metrics(self) -> None:
        try:
            page = await asyncio.to_thread(_page, self._config.metrics_url)
        except (OSError, ValueError, HTTPException) as error:
            if not self._are_losses_unknown:
                what = f"{type(error).__name__}: {error}"[:200]
                log.warning("Tetragon's metrics cannot be read: losses go unseen.", source=self.name, error=what)
                await self._reporter.report(StatusReport(component="tetragon", state="losses_unknown"))
            self._are_losses_unknown = True
            return
        self._are_losses_unknown = False
        for reason, count in self._losses.grown(page).items():
            await self._reporter.report(LossReport(origin="tetragon", reason=reason, count=count))


def _page(url: str) -> str:
    """A metrics page.  Raises OSError, HTTPException, or ValueError for one that is too large to be read whole."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the configuration allows http and https only
        raw: bytes = answer.read(LARGEST_PAGE + 1)
        if len(raw) > LARGEST_PAGE:
            raise ValueError(f"the page has more than {LARGEST_PAGE} bytes; set metrics_url to one with fewer series")
        return raw.decode("utf-8", "replace")


def build(config: TetragonConfig, name: str, surroundings: Surroundings) -> TetragonSource:
    return TetragonSource(config, name, surroundings.node)
