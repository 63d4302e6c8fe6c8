"""Where reports go to: files of a directory, or objects of the API server.  Blocks; a failure says what it means."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import yaml

from agent.plugins import ClusterApi, ClusterError
from agent.reports.config import ReportApi
from agent.reports.document import APIS, MANAGED_BY, NODE_LABEL, node_label

_DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FailureKind: TypeAlias = Literal[
    "gone", "too_large", "refused", "conflict", "throttled", "forbidden", "missing", "down"
]


class WriteFailed(Exception):
    """`kind` says what to do about it; the text has place, fact and remedy."""

    def __init__(self, kind: FailureKind, text: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind
        self.retry_after_seconds = retry_after_seconds


class Writer(Protocol):
    """Takes whole reports, each in place of the one of the same name."""

    def existing(self) -> list[Mapping[str, Any]]:
        """The reports of this node that are there.  Raises WriteFailed."""
        ...

    def node_uid(self) -> str:
        """The uid of the node as an object, or empty.  Raises WriteFailed."""
        ...

    def write(self, document: Mapping[str, Any]) -> None:
        """Raises WriteFailed."""
        ...


class FileWriter:
    """One YAML file per report."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def existing(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for path in sorted(self._directory.glob("*.yaml")):
            try:
                document = yaml.load(path.read_bytes(), Loader=_LOADER)  # noqa: S506 - a SafeLoader
            except (OSError, yaml.YAMLError):
                continue  # it is written anew when there is something to say
            if isinstance(document, dict):
                found.append(document)
        return found

    def node_uid(self) -> str:
        return ""

    def write(self, document: Mapping[str, Any]) -> None:
        """Whole or not at all: a reader never sees half a report."""
        metadata = document["metadata"]
        path = self._directory / f"{metadata.get('namespace', '_cluster')}_{metadata['name']}.yaml"
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(
                yaml.dump(document, Dumper=_DUMPER, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
            os.replace(temporary, path)
        except OSError as error:
            raise WriteFailed("down", f"{path}: cannot be written: {error.strerror}") from error


class ClusterWriter:
    """Reports as objects, by server-side apply: what other managers added to them stays."""

    def __init__(self, cluster: ClusterApi, api: ReportApi, node: str) -> None:
        self._cluster = cluster
        self._version, _, self._node_kind, self._pods, self._nodes = APIS[api]
        self._root = f"/apis/{self._version}"
        self._node = node

    def existing(self) -> list[Mapping[str, Any]]:
        selector = f"app.kubernetes.io/managed-by={MANAGED_BY},{NODE_LABEL}={node_label(self._node)}"
        found: list[Mapping[str, Any]] = []
        for collection in (self._pods, self._nodes):
            query = {"labelSelector": selector, "limit": "100"}
            while True:
                page = self._asked("GET", f"{self._root}/{collection}", collection, query=query)
                found += [item for item in page.get("items") or () if isinstance(item, dict)]
                following = (page.get("metadata") or {}).get("continue")
                if not following:
                    break
                query = {**query, "continue": str(following)}
        return found

    def node_uid(self) -> str:
        node = self._asked("GET", f"/api/v1/nodes/{self._node}", "nodes")
        return str((node.get("metadata") or {}).get("uid") or "")

    def write(self, document: Mapping[str, Any]) -> None:
        metadata = document["metadata"]
        collection, path = self._nodes, f"{self._root}/{self._nodes}/{metadata['name']}"
        if document["kind"] != self._node_kind:
            collection = self._pods
            path = f"{self._root}/namespaces/{metadata['namespace']}/{self._pods}/{metadata['name']}"
        query = {"fieldManager": MANAGED_BY, "force": "true"}
        self._asked("PATCH", path, collection, query=query, body=document, content_type="application/apply-patch+yaml")

    def _asked(self, method: str, path: str, collection: str, **more: Any) -> dict[str, Any]:
        try:
            return self._cluster.call(method, path, **more)
        except ClusterError as error:
            raise self._failure(error, path, collection) from error

    def _failure(self, error: ClusterError, path: str, collection: str) -> WriteFailed:
        text = f"{path}: {error}"
        message = error.message.lower()
        match error.status:
            case 403 if "being terminated" in message:
                return WriteFailed("gone", text)
            case 401 | 403:
                group = self._version.partition("/")[0]
                remedy = f"; give the service account get, list, create, patch on {collection} of {group}"
                return WriteFailed("forbidden", text + (remedy if collection != "nodes" else ""))
            case 404 if "namespaces" in message or collection == "nodes":
                return WriteFailed("gone", text)
            case 404:
                remedy = f"; install the CustomResourceDefinition {collection}.{self._version.partition('/')[0]}"
                return WriteFailed("missing", text + remedy)
            case 409:
                return WriteFailed("conflict", text)
            case 413:
                return WriteFailed("too_large", text)
            case 429:
                return WriteFailed("throttled", text, error.retry_after_seconds)
            case 400 | 422 if "too long" in message or "too large" in message:
                return WriteFailed("too_large", text)
            case 400 | 422:
                return WriteFailed("refused", text)
            case 500 if "too large" in message:
                return WriteFailed("too_large", text)
            case _ if "database space exceeded" in message:
                return WriteFailed("down", f"{text}; etcd is full: compact and defragment it, or raise its quota")
        return WriteFailed("down", text, error.retry_after_seconds)


def size_of(document: Mapping[str, Any]) -> int:
    """Bytes of a report as the API server gets it."""
    return len(json.dumps(document, separators=(",", ":")).encode())
