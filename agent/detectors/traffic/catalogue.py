"""The catalogue: providers and servers as documents in `rules/providers`, compiled to look-ups.

A host pattern is a name, or `*.` and a name for anything below it, or has `*` for a part of one label.  Several
documents may add to one catalogue; ids are unique over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from agent.config import Document, Problem, Problems, read, typed

FOLDER = "providers"
_CASES = ".test.yaml"

Kind = Literal["llm-provider", "model-hub", "observability", "vector-database", "model-server"]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """A provider outside (`hosts`), or a server in the cluster (`workloads`: names of workloads, pods or apps, with
    `*`; `ports`: those that nothing else uses; `paths`: of its API and nobody else's, with `*`; `own_paths`: words that
    others use too, which count only where the server is known by name or port)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    kind: Kind
    hosts: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    own_paths: tuple[str, ...] = ()

    @pydantic.field_validator("hosts")
    @classmethod
    def _are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(r"(\*\.)?[a-z0-9*][a-z0-9*-]*(\.[a-z0-9*-]+)+", host):
                raise ValueError(f"{host!r} is no host pattern; write api.example.com or *.example.com, in lower case")
        return hosts


class CatalogueDocument(_Strict):
    api_version: Literal["reeve.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["ProviderCatalogue"]
    providers: Annotated[tuple[Entry, ...], Field(min_length=1)]


def catalogue_files(rules: Sequence[Path]) -> list[Path]:
    """The catalogue's documents below the rules' directories, less their cases."""
    found = [path for directory in rules for path in sorted((directory / FOLDER).glob("*.yaml"))]
    return [path for path in found if not path.name.endswith(_CASES)]


def entries_of(files: Sequence[Path]) -> list[Entry]:
    """Entries of all documents.  Raises Problems with every mistake of every file."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for file in files:
        try:
            for document in read(file):
                for number, entry in enumerate(typed(CatalogueDocument, document).providers):
                    if entry.id in seen:
                        problems.append(_twice(document, number, entry.id, seen[entry.id]))
                    seen[entry.id] = document.file
                    entries.append(entry)
        except Problems as error:
            problems += error.problems
    if problems:
        raise Problems(problems)
    return entries


def _twice(document: Document, number: int, name: str, other: str) -> Problem:
    return document.problem(("providers", number, "id"), f'"{name}" is also in {other}', "rename one of them")


def _pattern(text: str, part: str) -> str:
    return "".join(part if piece == "*" else re.escape(piece) for piece in re.split(r"(\*)", text))


@dataclass(frozen=True, slots=True)
class _Wildcard:
    pattern: re.Pattern[str]
    entry: Entry


class Catalogue:
    """Look-ups by host, workload, port and path."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._exact: dict[str, Entry] = {}
        self._below: dict[str, Entry] = {}
        self._wild: list[_Wildcard] = []
        self._workloads: list[_Wildcard] = []
        self._ports: dict[int, Entry] = {}
        paths: list[str] = []
        for entry in entries:
            for host in entry.hosts:
                if "*" not in host:
                    self._exact[host] = entry
                elif host.startswith("*.") and "*" not in host[2:]:
                    self._below[host[2:]] = entry
                else:
                    self._wild.append(_Wildcard(re.compile(_pattern(host, "[^.]+")), entry))
            for workload in entry.workloads:
                self._workloads.append(_Wildcard(re.compile(_pattern(workload, ".*")), entry))
            for port in entry.ports:
                self._ports[port] = entry
            paths += entry.paths
        # A gateway puts its own path before the API's.
        joined = "|".join(_pattern(path, "[^/]+") for path in dict.fromkeys(paths))
        self._paths = re.compile(f"(?:/[A-Za-z0-9_.-]+){{0,4}}(?:{joined})/?") if paths else None

    def of_host(self, host: str) -> Entry | None:
        """The provider whose name a host is."""
        host = host.rstrip(".").lower()
        found = self._exact.get(host)
        if found is not None:
            return found
        rest = host
        while "." in rest:
            rest = rest.partition(".")[2]
            if rest in self._below:
                return self._below[rest]
        return next((one.entry for one in self._wild if one.pattern.fullmatch(host)), None)

    def of_server(self, names: Sequence[str], port: int) -> Entry | None:
        """The server that goes by one of the names, else the one whose own port it is."""
        for name in names:
            for one in self._workloads:
                if one.pattern.fullmatch(name):
                    return one.entry
        return self._ports.get(port)

    def is_model_path(self, path: str) -> bool:
        """Whether a request's path is that of a model's API."""
        return self._paths is not None and len(path) < 2048 and self._paths.fullmatch(path) is not None
