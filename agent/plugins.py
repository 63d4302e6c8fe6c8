"""Plug-ins: entry points that name one `Spec` each.  No scanning of modules.

Our own are those of the distribution `reeve-agent`; a foreign one loads only if the configuration names it under
`foreign_plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import pydantic

from agent.config import Problem, Problems, suggestion

DISTRIBUTION = "reeve-agent"
Group: TypeAlias = Literal["sources", "detectors", "sinks"]

Made = TypeVar("Made", covariant=True)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a builder may know of the agent: its node, where it may keep state, where its rules are, and where it may
    keep what can be made again (None: nowhere)."""

    node: str
    state_dir: Path
    rules: Sequence[Path]
    cache_dir: Path | None = None


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
