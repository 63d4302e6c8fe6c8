"""The agent's ties to its cluster: who the pods are, policies kept as resources, and the API server for reports.

Without an API server at start the agent runs all the same: identity comes from paths and control groups, the last good
policies from files, and the watches go on trying.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from agent.app.loading import policy_files
from agent.cluster import Identity, KubernetesClient, PodTable, PolicyResources, Watching, configuration_of
from agent.cluster.policies import PATH as POLICIES_PATH
from agent.config import Document, Problem, Problems, Settings, read
from agent.model import Event
from agent.plugins import ClusterApi, ClusterError, Identify
from agent.policy import Compiler
from agent.resolve import Resolver
from agent.telemetry import ClusterCounts

log = structlog.get_logger("reeve.cluster")

_PODS_PATH = "/api/v1/pods"


class Unasked:
    """Stands for the API server where nothing may be asked of it: `reeve check`."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        del method, path, query, body, content_type
        raise ClusterError(0, "Unasked", "no API server is asked while a configuration is checked")


class PolicyCheck:
    """Whether a policy could be in force beside those in files.  For any number of threads."""

    def __init__(self, directories: Sequence[Path], kept: Path) -> None:
        self._directories = directories
        self._kept = kept
        self._compiler = Compiler()
        self._lock = threading.Lock()

    def __call__(self, file: str, document: Mapping[str, Any]) -> tuple[int, Sequence[Problem]]:
        name = str(document["metadata"]["name"])
        with self._lock:
            try:
                rules = self._compiler.compile([Document(file, dict(document))])
            except Problems as problems:
                return 0, problems.problems
            elsewhere = self._file_of(name)
        if elsewhere:
            what = f'"{name}" is also in {elsewhere}'
            return len(rules), [Problem(file, 0, "metadata.name", what, "rename the resource")]
        return len(rules), ()

    def _file_of(self, name: str) -> str:
        for path in policy_files([one for one in self._directories if one.exists()]):
            if self._kept in path.parents:
                continue
            try:
                named = [one.value["metadata"]["name"] for one in read(path)]
            except (Problems, KeyError, TypeError):
                continue
            if name in named:
                return str(path)
        return ""


class Clustered:
    """Everything that talks to the API server.  Made from settings (raises Problems), then `start`, `stop`."""

    def __init__(self, settings: Settings, document: Document) -> None:
        assert settings.cluster is not None, "made only where the configuration names a cluster"
        self._settings = settings.cluster
        try:
            self.client = KubernetesClient(configuration_of(settings.cluster.kubeconfig))
        except ValueError as error:
            raise Problems([document.problem(("cluster",), str(error).removeprefix("cluster: "))]) from error
        self.pods = PodTable(settings.cluster.forget_seconds)
        query = {"fieldSelector": f"spec.nodeName={settings.node}"}
        self._pods_watch = Watching(self.client, _PODS_PATH, self.pods, query=query)
        self.identity = Identity(self.pods, lambda: self._pods_watch.is_synced)
        self.policies: PolicyResources | None = None
        self._watches: list[Watching] = [self._pods_watch] if settings.cluster.identity else []
        if settings.cluster.policies:
            directory = settings.state_dir / "cluster-policies"
            self.policies = PolicyResources(self.client, directory, PolicyCheck(settings.policies, directory))
            self._watches.append(Watching(self.client, POLICIES_PATH, self.policies))

    def with_policies(self, settings: Settings) -> Settings:
        """The settings with the directory of the cluster's policies, and in it only what can be in force: what an
        older agent kept and this one refuses is left out, and comes again with its mistakes told.  Raises OSError."""
        if self.policies is None:
            return settings
        self.policies.open()
        return settings.model_copy(update={"policies": (*settings.policies, self.policies.directory)})

    @property
    def api(self) -> ClusterApi:
        return self.client

    @property
    def identify(self) -> Identify:
        return self.identity.resource

    async def start(self) -> None:
        if self.policies is not None:
            self.policies.start()
        for watch in self._watches:
            watch.start()
        if self._settings.identity and not await asyncio.to_thread(
            self._pods_watch.wait_synced, self._settings.sync_seconds
        ):
            log.warning(
                "The pods of this node are not known yet; the agent starts without.",
                api_server=self.client.host,
                problem=self._pods_watch.problem,
            )

    def stop(self) -> None:
        for watch in self._watches:
            watch.stop()
        if self.policies is not None:
            self.policies.stop()

    def counts(self) -> ClusterCounts:
        """For the metrics."""
        return ClusterCounts(
            is_up=self.client.is_up,
            requests=dict(self.client.requests),
            pods=len(self.pods),
            pods_gone=self.pods.gone,
            unknown=dict(self.identity.unknown),
            policies=self.policies.count if self.policies else 0,
            policies_broken=len(self.policies.broken) if self.policies else 0,
        )

    def detail(self) -> dict[str, Any]:
        """For the readiness answer."""
        return {
            "api_server_up": self.client.is_up,
            "pods": len(self.pods),
            "pods_synced": self._pods_watch.is_synced,
            "policies": self.policies.count if self.policies else 0,
            "broken_policies": dict(self.policies.broken) if self.policies else {},
            "problems": {watch.path: watch.problem for watch in self._watches if watch.problem},
        }


class Resolved:
    """First whose fact it is, then what earlier events tell about it."""

    def __init__(self, identity: Identity | None, resolver: Resolver) -> None:
        self._identity = identity
        self._resolver = resolver

    def __call__(self, event: Event) -> Event | None:
        return self._resolver(event if self._identity is None else self._identity(event))
