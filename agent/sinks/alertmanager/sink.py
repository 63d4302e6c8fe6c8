"""Posts alerts: new ones at once, active ones again and again, ended ones once more.

A write waits for the post of new alerts, so that its outcome is true.  A repetition of an active alert needs no post.
Alertmanager forgets alerts when it is restarted, and ends those that are not posted again: so does this sink's death.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import structlog

from agent.model import Evaluation, Generations, Outcome, Resource, worst
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.alertmanager.alert import Alert, Key, Sighting, folded_labels_of, labels_of, sighting
from agent.sinks.alertmanager.config import AlertmanagerConfig
from agent.sinks.http import OUTCOMES, Endpoint, Reply

log = structlog.get_logger("reeve.alerts")

# An alert is about 1 KB of JSON, at most 6; Alertmanager has no limit of its own, proxies before it have 1 MB.
_BATCH_ALERTS = 100
_CLOSE_SECONDS = 5.0
_HEADERS = {"Content-Type": "application/json"}
# Alertmanager answers 400 if one alert of many is bad, a proxy 413 if they are too many together.
_SPLIT = (400, 413, 422)
_FOLDED = ("folded", "true")
# Of evaluations that were told in part and are tried again; each is tried again at once or never.
_COUNTED = 10_000


class AlertmanagerSink:
    """Active alerts by their labels, and the addresses they go to."""

    def __init__(self, config: AlertmanagerConfig, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self._identify = surroundings.identify or _same
        self._endpoints = [Endpoint(f"{url.rstrip('/')}/api/v2/alerts", config, name) for url in config.urls]
        self.alerts: dict[Key, Alert] = {}
        self.folded: dict[Key, Alert] = {}
        self.sightings_folded = 0
        self._counted: Generations[tuple[str, Key], bool] = Generations(_COUNTED)
        self._has_told_of_folding = False
        self._lock = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        for endpoint in self._endpoints:
            await asyncio.to_thread(endpoint.check)
        self._ticking = asyncio.create_task(self._tick())

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        async with self._lock:
            return await self._write(evaluations)

    async def _write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        now, now_unix = time.monotonic(), time.time()
        fresh: dict[Key, Alert] = {}
        added: Counter[bool] = Counter()  # new alerts, by whether they are folded ones
        seen: list[list[tuple[Key, Sighting]]] = []
        ends: dict[Key, Outcome] = {}
        for evaluation in evaluations:
            entries: list[tuple[Key, Sighting]] = []
            results = self._config.chosen(evaluation)
            resource = self._identify(evaluation.event.resource) if results else evaluation.event.resource
            for result in results:
                one = sighting(evaluation, result, resource, int(now_unix * 1e9))
                key = self._key_of(one, fresh, added)
                entries.append((key, one))
                known = self._known(key)
                if known is not None and now < known.refused_until:
                    ends[key] = Outcome.REJECTED
                elif known is None or known.is_over(now, self._config.quiet_seconds) or known.refused_until:
                    if key not in fresh:
                        fresh[key] = Alert(key, now_unix, now, is_folded=_FOLDED in key)
                        added[fresh[key].is_folded] += known is None
                    fresh[key].add(one, now)
                else:
                    ends[key] = Outcome.DELIVERED
            seen.append(entries)
        why = await self._begin(fresh, ends, now)
        outcomes = [worst(ends[key] for key, _ in entries) for entries in seen]
        if why and all(outcome is Outcome.ERRORED for outcome, entries in zip(outcomes, seen, strict=True) if entries):
            raise SinkUnavailable(why)
        for evaluation, outcome, entries in zip(evaluations, outcomes, seen, strict=True):
            if outcome is Outcome.ERRORED:
                for key, _ in entries:
                    if key in fresh and ends[key] is Outcome.DELIVERED:
                        self._counted.put((evaluation.event.id, key), True)
            else:
                self._count(evaluation.event.id, entries, fresh, now)
        return outcomes

    def _known(self, key: Key) -> Alert | None:
        return self.alerts.get(key) or self.folded.get(key)

    def _key_of(self, one: Sighting, fresh: dict[Key, Alert], added: Counter[bool]) -> Key:
        """The labels of the alert that tells it: its own, or while there are too many, one for its rule."""
        config = self._config
        key = labels_of(one, config.alertname, self._node, config.extra_labels)
        if key in self.alerts or key in fresh or len(self.alerts) + added[False] < config.limit:
            return key
        for by_rule in (True, False):
            key = folded_labels_of(one, config.alertname, self._node, config.extra_labels, by_rule=by_rule)
            if key in self.folded or key in fresh or len(self.folded) + added[True] < config.limit:
                break
        return key

    async def _begin(self, fresh: dict[Key, Alert], ends: dict[Key, Outcome], now: float) -> str:
        """Post new alerts and keep those that came to an end; why others did not, if any."""
        why = ""
        for alerts in _batches(fresh.values()):
            if why:
                ends.update((alert.key, Outcome.ERRORED) for alert in alerts)
                continue
            for alert, reply in await self._post(alerts, is_urgent=True):
                ends[alert.key] = OUTCOMES[reply.kind]
                match reply.kind:
                    case "taken":
                        alert.posted(now, self._config.quiet_seconds)
                    case "refused":
                        alert.refused_until = now + self._config.repeat_seconds
                    case "later":
                        why = reply.why
                        continue
                (self.folded if alert.is_folded else self.alerts)[alert.key] = alert
        return why

    def _count(self, event: str, entries: list[tuple[Key, Sighting]], fresh: dict[Key, Alert], now: float) -> None:
        for key, one in entries:
            alert = self._known(key)
            if alert is None or self._counted.get((event, key)):
                continue
            if key not in fresh:
                alert.add(one, now)
            if alert.is_folded:
                self.sightings_folded += 1
                self._tell_of_folding()

    def _tell_of_folding(self) -> None:
        if not self._has_told_of_folding:
            self._has_told_of_folding = True
            log.warning(
                "More alerts are active than the limit; new ones fold into one for each rule.",
                sink=self.name,
                limit=self._config.limit,
            )

    def _ready(self, *, is_urgent: bool) -> list[Endpoint]:
        """Where to post to now.  One that failed a moment ago is left alone if there are others, or if it can wait."""
        awake = [endpoint for endpoint in self._endpoints if not endpoint.is_resting()]
        if awake or not is_urgent:
            return awake
        return [endpoint for endpoint in self._endpoints if not endpoint.is_waiting()] or self._endpoints

    async def _post(
        self, alerts: Sequence[Alert], *, is_urgent: bool, is_end: bool = False
    ) -> list[tuple[Alert, Reply]]:
        """Post alerts to all addresses; the best answer counts.  What is refused together is tried in halves."""
        endpoints = self._ready(is_urgent=is_urgent)
        if not endpoints:
            return [(alert, Reply("later", 0, "no Alertmanager answers")) for alert in alerts]
        now, now_unix = time.monotonic(), time.time()
        quiet = self._config.quiet_seconds
        documents = [
            alert.document(
                now_unix if is_end else now_unix + alert.seen_at + quiet - now,
                self._config.extra_annotations,
                self._config.generator_url,
            )
            for alert in alerts
        ]
        body = json.dumps(documents, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        replies = await asyncio.gather(*(endpoint.send(body, _HEADERS) for endpoint in endpoints))
        best = min(replies, key=lambda reply: ("taken", "later", "refused").index(reply.kind))
        if best.kind == "refused" and best.status in _SPLIT and len(alerts) > 1:
            middle = len(alerts) // 2
            first = await self._post(alerts[:middle], is_urgent=is_urgent, is_end=is_end)
            return first + await self._post(alerts[middle:], is_urgent=is_urgent, is_end=is_end)
        return [(alert, best) for alert in alerts]

    async def _tick(self) -> None:
        config = self._config
        pause = min(1.0, max(0.02, min(config.repeat_seconds, config.quiet_seconds) / 4))
        while True:
            await asyncio.sleep(pause)
            try:
                async with self._lock:
                    await self._end_those_over()
                    await self._repeat(
                        lambda alert: alert.is_due(time.monotonic(), config.repeat_seconds, config.quiet_seconds)
                    )
            except Exception as error:  # noqa: BLE001 - a task's boundary: the next repetition must still come
                log.error("Alerts were not posted again.", sink=self.name, error=type(error).__name__)

    async def _repeat(self, is_wanted: Callable[[Alert], bool]) -> None:
        due = [alert for alert in self._all() if not alert.refused_until and is_wanted(alert)]
        for alerts in _batches(due):
            for alert, reply in await self._post(alerts, is_urgent=False):
                if reply.kind == "later":
                    return
                alert.posted(time.monotonic(), self._config.quiet_seconds)

    async def _end_those_over(self) -> None:
        """Tell the end, and forget.  Alertmanager has ended them by then, so if it cannot be told nothing is lost."""
        now, quiet = time.monotonic(), self._config.quiet_seconds
        over = [alert for alert in self._all() if alert.is_over(now, quiet)]
        for alert in over:
            if alert.refused_until:
                self._forget(alert)
        for alerts in _batches(alert for alert in over if not alert.refused_until):
            for alert, reply in await self._post(alerts, is_urgent=False, is_end=True):
                if reply.kind != "later" or alert.is_over(now, 2 * quiet):
                    self._forget(alert)
        if self._has_told_of_folding and not self.folded and len(self.alerts) < self._config.limit:
            self._has_told_of_folding = False
            log.info("Alerts have room again.", sink=self.name, folded=self.sightings_folded)

    def _all(self) -> Iterator[Alert]:
        return itertools.chain(self.alerts.values(), self.folded.values())

    def _forget(self, alert: Alert) -> None:
        (self.folded if alert.is_folded else self.alerts).pop(alert.key, None)

    async def close(self) -> None:
        """Say the last counts; active alerts end by themselves, for their violations may go on."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            try:
                async with asyncio.timeout(_CLOSE_SECONDS), self._lock:
                    await self._end_those_over()
                    await self._repeat(lambda alert: alert.count != alert.posted_count)
            except TimeoutError:
                log.warning("The last counts of alerts were not posted.", sink=self.name, active=len(self.alerts))
        for endpoint in self._endpoints:
            await asyncio.to_thread(endpoint.close)


def _batches(alerts: Iterable[Alert]) -> Iterator[list[Alert]]:
    rest = iter(alerts)
    while batch := list(itertools.islice(rest, _BATCH_ALERTS)):
        yield batch


def _same(resource: Resource) -> Resource:
    return resource


def build(config: AlertmanagerConfig, name: str, surroundings: Surroundings) -> AlertmanagerSink:
    return AlertmanagerSink(config, name, surroundings)
