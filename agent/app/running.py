"""The agent as a long-running process: line, metrics, health, reload, signals."""

from __future__ import annotations

import asyncio
import gc
import platform
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from agent import VERSION
from agent.app.absence import Absence
from agent.app.canary import Canary, CountedWithoutCanaries, WithoutCanaries, with_canary
from agent.app.clustered import Clustered, Resolved, Unasked
from agent.app.liveness import Pulse
from agent.app.loading import plugin_name, plugin_settings
from agent.app.occupancy import Occupancy
from agent.app.places import cache_directory, default_directory, load_key
from agent.app.reload import Ruleset, watch
from agent.app.workers import Recipe, WorkerPool, processors_given
from agent.config import Document, Problem, Problems, Settings, read, typed
from agent.engine import Engine
from agent.pipeline import Ledger, Line, LineSettings, RetryPolicy, Sink, Source
from agent.plugins import Group, Surroundings, spec_of
from agent.reports.sink import PolicyReportSink
from agent.resolve import Resolver
from agent.sinks.audit.sink import AuditSink
from agent.telemetry import AgentCollector, Gauges, HttpServer, Tally

log = structlog.get_logger("reeve.agent")

# As long as a pod that was told to end may take.
_PREDECESSOR_SECONDS = 45.0

API_VERSION = "reeve.dev/v1alpha1"


def load_settings(*paths: Path, node: str = "") -> tuple[Settings, Document]:
    """The settings of a file, or of several, a later one over the former; of a directory, its `*.yaml` in the order of
    their names.  Default directories and, where none is named, the node are filled in.  Raises Problems."""
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    if not files:
        raise Problems([Problem(str(paths[0]), 0, "", "holds no *.yaml", "put an AgentConfig there")])
    whole: Document | None = None
    for file in files:
        documents = read(file)
        if len(documents) != 1:
            what = f"holds {len(documents)} documents"
            raise Problems([Problem(str(file), 0, "", what, "keep exactly one AgentConfig")])
        whole = documents[0] if whole is None else whole.merged(documents[0])
    assert whole is not None, "there is a file"
    settings = typed(Settings, whole)
    if node and not settings.node:
        settings = settings.model_copy(update={"node": node})
    return with_defaults(settings), whole


def settings_from(**values: Any) -> Settings:
    """Settings made in code instead of from a file, with default directories filled in."""
    return with_defaults(Settings.model_validate({"apiVersion": API_VERSION, "kind": "AgentConfig", **values}))


def with_defaults(settings: Settings) -> Settings:
    """The settings with the shipped rules and policies where none are named."""
    changes: dict[str, Any] = {}
    for name in ("rules", "policies"):
        if not getattr(settings, name):
            changes[name] = default_directory(name)
    if not settings.node:
        changes["node"] = platform.node()
    return settings.model_copy(update=changes) if changes else settings


def surroundings_of(settings: Settings) -> Surroundings:
    """What plug-ins may know; a configured cluster answers nothing here, the agent puts the real one in."""
    return Surroundings(
        node=settings.node,
        state_dir=settings.state_dir,
        rules=settings.rules,
        cache_dir=cache_directory(settings.state_dir),
        cluster=Unasked() if settings.cluster is not None else None,
    )


def build_plugins(
    group: Group, settings: Settings, document: Document, surroundings: Surroundings | None = None
) -> list[Any]:
    """All configured plug-ins of a group.  Raises Problems with the mistakes of all, at their lines."""
    made: list[Any] = []
    problems: list[Problem] = []
    surroundings = surroundings or surroundings_of(settings)
    configured: Mapping[str, dict[str, Any] | None] = getattr(settings, group)
    for name, config in configured.items():
        try:
            spec = spec_of(group, plugin_name(name, config), settings.foreign_plugins, document.file)
            inner = document.part((group, name), plugin_settings(config))
            made.append(spec.build(typed(spec.config, inner), name, surroundings))
        except Problems as error:
            for problem in error.problems:
                where = f"{group}.{name}" + (
                    f".{problem.where}" if problem.where and problem.where != f"{group}.{name}" else ""
                )
                line = problem.line or document.line_of((group, name))
                problems.append(Problem(problem.file, line, where, problem.what, problem.remedy))
    if problems:
        raise Problems(problems)
    return made


def resolver_of(settings: Settings) -> Resolver:
    return Resolver(settings.resolve.cluster_domain, settings.resolve.search_domains)


def line_settings(settings: Settings) -> LineSettings:
    pipeline = settings.pipeline
    retry = pipeline.retry
    return LineSettings(
        queue_events=pipeline.queue_events,
        when_full=pipeline.when_full,
        sink_queue_batches=pipeline.sink_queue_batches,
        sink_when_full=pipeline.sink_when_full,
        drain_seconds=pipeline.drain_seconds,
        retry=RetryPolicy(retry.first_seconds, retry.longest_seconds, retry.give_up_seconds),
        incomplete_seconds=pipeline.incomplete_seconds,
    )


def freeze_what_stays() -> None:
    """Take rules, recognisers and automata out of the garbage collector's sight, and let it look more rarely.

    They live as long as the process, and a full collection that walks over them stops it for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class Agent:
    """One agent.  Made from settings (raises Problems), then `run`."""

    def __init__(self, settings: Settings, document: Document, *, sinks: Sequence[Sink] = ()) -> None:
        self.cluster = Clustered(settings, document) if settings.cluster is not None else None
        if self.cluster is not None:
            settings = self.cluster.with_policies(settings)
        self.canary = Canary(settings) if settings.canary is not None else None
        if self.canary is not None:
            settings = with_canary(settings)
        self.settings = settings
        self.ledger = Ledger()
        self.tally = Tally()
        key_file = settings.fingerprint_key_file or settings.state_dir / "keys" / "fingerprint.key"
        self.ruleset = Ruleset(settings, surroundings_of(settings), load_key(key_file), self.tally, document.file)
        surroundings = surroundings_of(settings)
        if self.cluster is not None:
            surroundings = replace(surroundings, cluster=self.cluster.api, identify=self.cluster.identify)
        sources: list[Source] = build_plugins("sources", settings, document, surroundings)
        if not sources:
            problem = document.problem(("sources",), "names no source", "add one, for example containerlogs: {}")
            raise Problems([problem])
        absence = Absence(settings, self.ledger)
        if absence.streams:
            sources.append(absence)
        count = settings.pipeline.workers
        count = processors_given() if count == "auto" else count
        recipe = Recipe(settings, surroundings_of(settings), load_key(key_file), document.file)
        self.pool = WorkerPool(count, recipe, lambda: self.ruleset.engine) if count > 1 else None
        every_sink: list[Sink] = [*build_plugins("sinks", settings, document, surroundings), *sinks]
        self._reports = [sink for sink in every_sink if isinstance(sink, PolicyReportSink)]
        self.line = Line(
            sources=sources,
            sinks=self._without_canaries(every_sink),
            evaluator=self.pool or self.ruleset.engine,
            ledger=self.ledger,
            observer=CountedWithoutCanaries(self.tally, self.canary) if self.canary else self.tally,
            resolve=Resolved(self.cluster.identity if self.cluster else None, resolver_of(settings)),
            settings=line_settings(settings),
        )
        self.http: HttpServer | None = None
        self.pulse = Pulse(self.ledger)
        self._occupancy = Occupancy(settings.state_dir)

    def _without_canaries(self, sinks: list[Sink]) -> list[Sink]:
        """All sinks; the canary's evaluations go to the audit log and to itself alone."""
        canary = self.canary
        if canary is None:
            return sinks
        return [*(sink if isinstance(sink, AuditSink) else WithoutCanaries(sink, canary) for sink in sinks), canary]

    def _swap(self, engine: Engine) -> None:
        if self.pool is not None:
            self.pool.reload()
        else:
            self.line.evaluator = engine

    def _gauges(self) -> Gauges:
        ruleset = self.ruleset

        pool = self.pool

        def cache() -> tuple[int, int, int]:
            if pool is not None:
                return pool.cache
            held = ruleset.engine.cache
            return (held.hits, held.misses, held.size_bytes) if held else (0, 0, 0)

        return Gauges(
            node=self.settings.node,
            queue_events=lambda: self.line.depth,
            sinks_down=lambda: self.line.sinks_down,
            rejected=lambda: (
                pool.rejected if pool else {one.name: getattr(one, "rejected", {}) for one in ruleset.detectors}
            ),
            worker_deaths=lambda: pool.deaths if pool else 0,
            policy_digest=lambda: ruleset.judge.digest,
            policy_rules=lambda: len(ruleset.judge.rules),
            broken=lambda: {what: what in ruleset.broken for what in ("rules", "policies")},
            cache=cache,
            cluster=self.cluster.counts if self.cluster else None,
            canary=self.canary.counts if self.canary else None,
            report_writes=lambda: {sink.name: dict(sink.writes) for sink in self._reports},
        )

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        down = self.line.sinks_down
        is_ready = self.line.is_running and self.ledger.is_balanced
        detail: dict[str, Any] = {
            "ready": is_ready,
            "ledger_balanced": self.ledger.is_balanced,
            "version": VERSION,
            "policy_digest": self.ruleset.judge.digest,
            "policy_rules": len(self.ruleset.judge.rules),
            "queue_events": self.line.depth,
            "sinks_down": list(down),
            "broken": dict(self.ruleset.broken),
        }
        if self.cluster is not None:
            detail["cluster"] = self.cluster.detail()
        return is_ready, detail

    def _alive(self) -> tuple[bool, dict[str, Any]]:
        return self.pulse.beats()

    def registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(AgentCollector(self.ledger, self.tally, self._gauges()))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        return registry

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Run until every source has ended, `stop` is set, or SIGTERM or SIGINT comes; then drain."""
        stop = stop or asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if self.settings.http is not None:
            self.http = HttpServer(
                self.settings.http.address, self.registry(), alive=self._alive, ready=self._ready, canary=self.canary
            )
        beating = asyncio.create_task(self.pulse.run())
        watching = asyncio.create_task(
            watch(self.ruleset, (*self.settings.rules, *self.settings.policies), self._swap, stop)
        )
        log.info(
            "Reeve runs.",
            version=VERSION,
            node=self.settings.node,
            policy_rules=len(self.ruleset.judge.rules),
            policy_digest=self.ruleset.judge.digest[:12],
            port=self.http.port if self.http else None,
        )
        try:
            if await self._occupancy.take(_PREDECESSOR_SECONDS, stop):
                await self._run_alone(stop)
        finally:
            stop.set()
            if self.pool is not None:
                await self.pool.close()
            if self.cluster is not None:
                self.cluster.stop()
            watching.cancel()
            beating.cancel()
            await asyncio.gather(watching, beating, return_exceptions=True)
            if self.http is not None:
                self.http.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            self._occupancy.release()
            log.info("Reeve has ended.", ledger_balanced=self.ledger.is_balanced)

    async def _run_alone(self, stop: asyncio.Event) -> None:
        if self.pool is not None:
            await self.pool.start()
        else:
            await asyncio.to_thread(self.ruleset.engine.warm)
        if self.cluster is not None:
            await self.cluster.start()
        freeze_what_stays()
        await self.line.run(stop)
