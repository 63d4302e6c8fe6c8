"""Writes Events: one for each series of equal violations, patched as it goes on, and never more than the limits allow.

What the limits hold back stands in the count of the series' next write, which comes with the next violation or when
there is a token again.  An event is counted once, however often the line tries it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import structlog

from agent.config import Problem, Problems
from agent.model import Evaluation, Generations, Outcome, Resource, worst
from agent.pipeline import SinkUnavailable
from agent.plugins import ClusterApi, ClusterError, Surroundings
from agent.sinks.events.config import EventsConfig
from agent.sinks.events.event import Involved, Key, Series, add, involved_of, series_key
from agent.sinks.events.limits import Limits
from agent.sinks.http import LONGEST_WAIT_SECONDS, OUTCOMES, Reply

log = structlog.get_logger("reeve.events")

_MERGE_PATCH = "application/merge-patch+json"
_TICK_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
# A namespace that is gone, or where nothing may be written, is asked about again after so long.
_HOLD_SECONDS = 60.0
_NAMESPACES = 1024
_COUNTED = 20_000
_LOOKED_AT = 64


class EventsSink:
    """Series by what they tell of whom."""

    def __init__(self, config: EventsConfig, name: str, surroundings: Surroundings, cluster: ClusterApi) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self._identify = surroundings.identify or _same
        self._cluster = cluster
        self.series: OrderedDict[Key, Series] = OrderedDict()
        self.forgotten = 0  # violations of series that had to go before they were written
        self._limits = Limits(
            each=(config.pod_burst, config.pod_refill_seconds),
            together=(config.node_burst, config.node_refill_seconds),
            most=config.series,
        )
        self._counted: Generations[tuple[str, Key], bool] = Generations(_COUNTED)
        self._held: OrderedDict[str, float] = OrderedDict()  # namespace -> until when nothing is written there
        self._told: set[str] = set()
        self._wait_until = 0.0
        self._lock = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._ticking = asyncio.create_task(self._tick())

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        async with self._lock:
            touched: dict[Key, Outcome] = {}
            wanted = [self._count(evaluation, touched) for evaluation in evaluations]
            why = await self._write(touched)
        outcomes = [worst(touched[key] for key in keys) for keys in wanted]
        if why and all(outcome is Outcome.ERRORED for outcome, keys in zip(outcomes, wanted, strict=True) if keys):
            raise SinkUnavailable(why)
        return outcomes

    def _count(self, evaluation: Evaluation, touched: dict[Key, Outcome]) -> list[Key]:
        """Count an evaluation's violations in their series; their keys."""
        results = self._config.chosen(evaluation)
        if not results:
            return []
        resource = self._identify(evaluation.event.resource)
        involved = involved_of(resource, self._node)
        if involved is None:
            self._tell_once("An Event needs a pod or a node; set `node` in the configuration.")
            touched[()] = Outcome.REJECTED
            return [()]
        keys = [series_key(resource, involved, result) for result in results]
        for key, result in zip(keys, results, strict=True):
            if time.monotonic() < self._held.get(involved.namespace, 0.0):
                touched[key] = Outcome.REJECTED
                continue
            touched.setdefault(key, Outcome.DELIVERED)
            mark = (evaluation.event.id, key)
            if self._counted.get(mark) is None:
                self._counted.put(mark, True)
                made = Series(involved, resource.container, result.policy, result.rule, result.status)
                add(self.series.setdefault(key, made), evaluation, result, time.time())
            if key in self.series:
                self.series.move_to_end(key)
        self._forget_the_oldest(keep=touched)
        return keys

    def _forget_the_oldest(self, keep: dict[Key, Outcome]) -> None:
        while len(self.series) > self._config.series:
            oldest = list(itertools.islice(self.series.items(), _LOOKED_AT))
            written = (key for key, series in oldest if not series.pending and key not in keep)
            gone = self.series.pop(next(written, oldest[0][0]))
            if gone.pending:
                self.forgotten += gone.pending
                self._tell_once("More series of Events than the limit; some end uncounted.", limit=self._config.series)

    async def _write(self, touched: dict[Key, Outcome]) -> str:
        """Write what is pending of the series, and how each ended; why it cannot be written now, if so."""
        why = ""
        for key, outcome in touched.items():
            series = self.series.get(key)
            if series is None or not series.pending or outcome is not Outcome.DELIVERED:
                continue
            who = _who(series.involved)
            if not self._limits.take(who, time.monotonic()):
                continue
            reply = Reply("later", 0, why) if why else await self._put(key, series)
            if reply.kind == "later":
                self._limits.give_back(who)
                why = reply.why
            touched[key] = OUTCOMES[reply.kind]
        return why

    async def _put(self, key: Key, series: Series) -> Reply:
        now = time.monotonic()
        namespace = series.involved.namespace
        if now < self._wait_until:
            return Reply("later", 429, f"the API server asked to be left alone for {self._wait_until - now:.0f} s more")
        if now < self._held.get(namespace, 0.0):
            self.series.pop(key, None)
            return Reply("refused", 0)
        try:
            await asyncio.to_thread(self._call, series)
        except ClusterError as error:
            reply = self._reply(error, namespace)
            if reply.kind == "refused":
                self.series.pop(key, None)
            return reply
        if self._held.pop(namespace, None) is not None:
            log.info("Events are written again.", sink=self.name, namespace=namespace)
        return Reply("taken", 200)

    def _call(self, series: Series) -> None:
        """Make or change one Event.  Blocks.  Raises ClusterError."""
        call, path = self._cluster.call, f"{series.path}/{series.name}"
        if series.is_created:
            try:
                call("PATCH", path, body=series.change(), content_type=_MERGE_PATCH)
            except ClusterError as error:
                if error.status != 404:
                    raise
                series.is_created = False  # the API server keeps events for an hour
            else:
                series.written()
                return
        try:
            call("POST", series.path, body=series.document(self._node))
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
            # Made by an agent before this one.  Its count comes with the answer, so that no right to read is needed.
            change = series.change()
            del change["count"]
            try:
                series.adopt(call("PATCH", path, body=change, content_type=_MERGE_PATCH))
                call("PATCH", path, body=series.change(), content_type=_MERGE_PATCH)
            except ClusterError as gone:
                if gone.status != 404:
                    raise
                series.is_created = False  # its hour was over between the two; not the namespace is gone
                raise ClusterError(409, "Conflict", "the Event expired while it was changed") from gone
        series.written()

    def _reply(self, error: ClusterError, namespace: str) -> Reply:
        """What an error of the API server means for the event."""
        match error.status:
            case 403 if "being terminated" in error.message.lower():
                return self._gone(error, namespace)
            case 403:
                self._hold(
                    namespace,
                    log.error,
                    "Events may not be written; they are counted as rejected.",
                    why=str(error),
                    remedy=_remedy(error),
                )
                return Reply("refused", 403, str(error))
            case 404:
                return self._gone(error, namespace)
            case 429:
                self._wait_until = time.monotonic() + min(LONGEST_WAIT_SECONDS, error.retry_after_seconds)
                return Reply("later", 429, str(error))
            case 401 | 408 | 409:  # the token is read again every minute
                return Reply("later", error.status, str(error))
            case status if 400 <= status < 500:
                self._tell_once(
                    "The API server refuses an Event; such are counted as rejected.",
                    status=status,
                    reason=error.reason[:64],
                )
                return Reply("refused", status, str(error))
        self._wait_until = time.monotonic() + min(LONGEST_WAIT_SECONDS, error.retry_after_seconds)
        return Reply("later", error.status, str(error))

    def _gone(self, error: ClusterError, namespace: str) -> Reply:
        """The namespace is removed, and its events with it: nobody can be told there, which is no delivery."""
        self._hold(namespace, log.info, "A namespace is gone; Events for it are counted as rejected.")
        return Reply("refused", error.status, str(error))

    def _hold(self, namespace: str, tell: Callable[..., object], text: str, **facts: str) -> None:
        if namespace not in self._held:
            tell(text, sink=self.name, namespace=namespace, **facts)
        self._held[namespace] = time.monotonic() + _HOLD_SECONDS
        self._held.move_to_end(namespace)
        if len(self._held) > _NAMESPACES:
            self._held.popitem(last=False)

    def _tell_once(self, text: str, **facts: object) -> None:
        mark = f"{text} {facts}"
        if mark not in self._told and len(self._told) < _LOOKED_AT:
            self._told.add(mark)
            log.error(text, sink=self.name, **facts)

    async def _tick(self) -> None:
        pause = min(_TICK_SECONDS, self._config.node_refill_seconds, self._config.pod_refill_seconds)
        while True:
            await asyncio.sleep(max(0.05, pause))
            try:
                async with self._lock:
                    await self._write(dict.fromkeys(self._pending(), Outcome.DELIVERED))
            except Exception as error:  # noqa: BLE001 - a task's boundary: the next round must still come
                log.error("Events were not written.", sink=self.name, error=type(error).__name__)

    def _pending(self) -> Iterable[Key]:
        return [key for key, series in self.series.items() if series.pending]

    async def close(self) -> None:
        """Write what the limits held back, at most `node_burst` series; that happens once in the life of an agent."""
        if self._ticking is None:
            return
        self._ticking.cancel()
        await asyncio.gather(self._ticking, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS), self._lock:
                for key in list(self._pending())[: self._config.node_burst]:
                    if (await self._put(key, self.series[key])).kind == "later":
                        break
        except TimeoutError:
            pass
        if left := sum(series.pending for series in self.series.values()):
            log.warning("Some violations are in no Event; the audit log has them all.", sink=self.name, violations=left)


def _remedy(error: ClusterError) -> str:
    """RBAC says what one cannot; quotas and admission say other things."""
    if "exceeded quota" in error.message:
        return "raise count/events in the ResourceQuota of the namespace, or leave the sink out"
    if "cannot" in error.message:
        return "give the service account create and patch on events of the core API group"
    return "let admission pass Events whose reportingComponent is reeve"


def _who(involved: Involved) -> tuple[str, str, str]:
    return (involved.namespace, involved.name, involved.uid)


def _same(resource: Resource) -> Resource:
    return resource


def build(config: EventsConfig, name: str, surroundings: Surroundings) -> EventsSink:
    """Raises Problems if there is no cluster to write to."""
    if surroundings.cluster is None:
        remedy = "add `cluster: {}` to the configuration"
        raise Problems([Problem("", 0, "", "Kubernetes Events need a cluster, and none is configured", remedy)])
    return EventsSink(config, name, surroundings, surroundings.cluster)
