"""Plug-ins: entry points that name one `Spec` each.  No scanning of modules.

Our own are those of the distribution `reeve-agent`; a foreign one loads only if the configuration names it under
`foreign_plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import pydantic

from agent.config import Problem, Problems, suggestion
from agent.model import Resource

DISTRIBUTION = "reeve-agent"
Group: TypeAlias = Literal["sources", "detectors", "sinks"]

Made = TypeVar("Made", covariant=True)


class ClusterError(Exception):
    """The API server said no, or nothing.  `status` is HTTP's (0: no answer), `reason` the API's word for it, such as
    `Forbidden`; `retry_after_seconds` is what the server asked for (0: nothing)."""

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{reason} ({status}): {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class ClusterApi(Protocol):
    """The API server as plug-ins see it.  Blocks: call it in a thread."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request, its answer as JSON.  Raises ClusterError."""
        ...


Identify: TypeAlias = Callable[[Resource], Resource]
"""What is known by now of whose fact it was: the resource with names filled in, or the same."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a builder may know of the agent: its node, where it may keep state, where its rules are, where it may keep
    what can be made again (None: nowhere), and the cluster (None: the agent runs without)."""

    node: str
    state_dir: Path
    rules: Sequence[Path]
    cache_dir: Path | None = None
    cluster: ClusterApi | None = None
    identify: Identify | None = None


@dataclass(frozen=True, slots=True)
class Spec(Generic[Made]):
    """A plug-in's name, the type of its settings, and how it is made: `build(settings, name, surroundings)`."""

    name: str
    config: type[pydantic.BaseModel]
    build: Callable[[Any, str, Surroundings], Made]


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == DISTRIBUTION


def available(group: Group, foreign: Sequence[str] = ()) -> dict[str, EntryPoint]:
    """Entry points of a group that may be loaded, by name."""
    return {
        entry.name: entry for entry in entry_points(group=f"reeve.{group}") if _is_ours(entry) or entry.name in foreign
    }


def spec_of(group: Group, name: str, foreign: Sequence[str] = (), file: str = "") -> Spec[Any]:
    """The spec a name stands for.  Raises Problems with a suggestion if there is none."""
    known = available(group, foreign)
    if name not in known:
        raise Problems([Problem(file, 0, f"{group}.{name}", f'"{name}" is no plug-in', suggestion(name, known))])
    spec = known[name].load()
    if not isinstance(spec, Spec):
        raise Problems([Problem(file, 0, f"{group}.{name}", "the entry point names no Spec", "mend the plug-in")])
    return spec
