"""Reads the manifests as they lie in the repository, without kustomize: documents, patches, components of overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DAEMONSET = Path(__file__).resolve().parents[3] / "daemonset"
ROOMS = ("base", "components", "crds", "overlays", "tracing-policies")
OVERLAYS = sorted(path.name for path in (DAEMONSET / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (DAEMONSET / "components").iterdir())


def files() -> list[Path]:
    """Every YAML file that kustomize reads, configuration of the agent left out."""
    found = [path for room in ROOMS for path in (DAEMONSET / room).rglob("*.yaml")]
    return sorted(path for path in found if "config" not in path.parts)


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def objects() -> Iterator[dict[str, Any]]:
    """Whole objects and strategic patches, without kustomizations and components."""
    for path in files():
        if path.name != "kustomization.yaml":
            yield from documents(path)


def the(kind: str, name: str, room: str = "base") -> dict[str, Any]:
    """The object of a room."""
    found = [
        one
        for path in sorted((DAEMONSET / room).glob("*.yaml"))
        for one in documents(path)
        if one.get("kind") == kind and one.get("metadata", {}).get("name") == name
    ]
    assert len(found) == 1, f"{kind}/{name} in {room}: {len(found)}"
    return found[0]


def operations() -> Iterator[dict[str, Any]]:
    """What JSON patches of kustomizations add, each as the object that it would be part of."""
    for path in files():
        if path.name != "kustomization.yaml":
            continue
        for document in documents(path):
            for patch in document.get("patches", ()):
                for operation in yaml.safe_load(patch.get("patch", "[]")):
                    if operation["op"] in ("add", "replace"):
                        yield _nested(operation["path"], operation["value"])


def _nested(path: str, value: Any) -> dict[str, Any]:
    whole: Any = value
    for part in reversed(path.strip("/").split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        whole = [whole] if name == "-" or name.isdecimal() else {name: whole}
    return dict(whole)


def walk(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every map in a document."""
    if isinstance(value, Mapping):
        yield value
        for one in value.values():
            yield from walk(one)
    elif isinstance(value, list):
        for one in value:
            yield from walk(one)


def fragments(overlay: str) -> list[Path]:
    """The configuration of an overlay's agent, in the order in which the agent reads it."""
    kustomization = documents(DAEMONSET / "overlays" / overlay / "kustomization.yaml")[0]
    places = [*kustomization["resources"], *kustomization["components"]]
    found: list[Path] = []
    for place in places:
        folder = (DAEMONSET / "overlays" / overlay / place).resolve()
        for generator in documents(folder / "kustomization.yaml")[0].get("configMapGenerator", ()):
            found += [folder / file for file in generator["files"]]
    return sorted(found, key=lambda path: path.name)
