"""The agent's configuration file.  A changed setting needs a restart; rules and policies reload on their own."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class HttpSettings(_Strict):
    """Where `/metrics`, `/healthz` and `/readyz` are served.  Another address than loopback must be meant."""

    listen: str = "127.0.0.1:9464"
    allow_remote: bool = False

    @pydantic.model_validator(mode="after")
    def _is_safe(self) -> HttpSettings:
        host, port = self.address
        is_loopback = host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
        if not is_loopback and not self.allow_remote:
            raise ValueError(
                f"{self.listen} is not loopback; set http.allow_remote: true if others may read the metrics"
            )
        if not 0 <= port <= 65535:
            raise ValueError(f"{port} is no port")
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        try:
            return host.strip("[]") or "127.0.0.1", int(port)
        except ValueError as error:
            raise ValueError(f"{self.listen!r} is no host:port") from error


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class RetrySettings(_Strict):
    first_seconds: Annotated[float, Field(gt=0)] = 0.1
    longest_seconds: Annotated[float, Field(gt=0)] = 30.0
    give_up_seconds: Annotated[float, Field(gt=0)] = 300.0


class PipelineSettings(_Strict):
    """Sizes are in events, times in seconds.  `workers`: processes that scan; `auto` is the processors that the control
    group's quota allows (1 without a quota), and with 1 the agent scans in its own process."""

    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    queue_events: Annotated[int, Field(ge=1)] = 10_000
    when_full: dict[str, Literal["block", "drop_newest"]] = {}
    sink_queue_batches: Annotated[int, Field(ge=1)] = 16
    sink_when_full: dict[str, Literal["block", "drop_newest"]] = {}
    drain_seconds: Annotated[float, Field(ge=0)] = 25.0
    retry: RetrySettings = RetrySettings()
    text_limit_characters: Annotated[int, Field(ge=1024)] = 1024 * 1024
    scan_cache_bytes: Annotated[int, Field(ge=0)] = 16 * 1024 * 1024
    incomplete_seconds: Annotated[float, Field(ge=0)] = 60.0


class ResolveSettings(_Strict):
    """`cluster_domain` and `search_domains` are what a pod's resolver appends to a name: lookups are judged without."""

    cluster_domain: str = "cluster.local"
    search_domains: tuple[str, ...] = ()


class ClusterSettings(_Strict):
    """The cluster's API server.  `identity`: names, labels and owners of the node's pods; `policies`: RuntimePolicy
    resources beside those in files.  The agent starts after the first list of pods, or after `sync_seconds` without."""

    kubeconfig: Path | None = None
    identity: bool = True
    policies: bool = True
    forget_seconds: Annotated[float, Field(ge=0)] = 600.0
    sync_seconds: Annotated[float, Field(ge=0)] = 10.0


class CanarySettings(_Strict):
    """A synthetic leak in each enabled path every `every_seconds`; its violation must come out `within_seconds`."""

    every_seconds: Annotated[float, Field(gt=0)] = 300.0
    within_seconds: Annotated[float, Field(gt=0)] = 60.0
    paths: tuple[Literal["logs", "runtime", "plaintext"], ...] | None = None

    @pydantic.model_validator(mode="after")
    def _has_time(self) -> CanarySettings:
        if self.within_seconds > self.every_seconds:
            raise ValueError("within_seconds is longer than every_seconds: a run would overtake the one before")
        return self


class LogSettings(_Strict):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Settings(_Strict):
    """`sources`, `detectors` and `sinks` map a name of one's own to its settings; `type` names the plug-in if it is
    another.  `foreign_plugins` allows plug-ins that do not come with the agent, by name."""

    api_version: Literal["reeve.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["AgentConfig"]
    node: str = ""
    state_dir: Path = Path("/var/lib/reeve")
    rules: tuple[Path, ...] = ()
    policies: tuple[Path, ...] = ()
    fingerprint_key_file: Path | None = None
    http: HttpSettings | None = HttpSettings()
    pipeline: PipelineSettings = PipelineSettings()
    resolve: ResolveSettings = ResolveSettings()
    cluster: ClusterSettings | None = None
    canary: CanarySettings | None = None
    log: LogSettings = LogSettings()
    sources: dict[str, dict[str, Any] | None] = {}
    detectors: dict[str, dict[str, Any] | None] = {"pii": {}, "secrets": {}, "traffic": {}}
    sinks: dict[str, dict[str, Any] | None] = {}
    foreign_plugins: tuple[str, ...] = ()
