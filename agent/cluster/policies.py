"""RuntimePolicy resources of the cluster, as files beside those from git.

Each good resource becomes one file in a directory of the agent's state, which is watched and reloaded like any other:
the last good policies survive a restart without an API server.  A broken one leaves its file as it was, and says so in
its status, which every node's agent would write the same; the first one does, the others see it and do not.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from agent.config import Problem
from agent.plugins import ClusterApi, ClusterError

log = structlog.get_logger("reeve.policies")

PATH = "/apis/reeve.dev/v1alpha1/runtimepolicies"
Check = Callable[[str, Mapping[str, Any]], tuple[int, Sequence[Problem]]]
"""(file, document) -> how many rules it has, and what is wrong with it."""

_MOST_ERRORS = 20
# Agents of other nodes get a chance to write the same status first; one that disagrees is not fought with.
_SPREAD_SECONDS = 3.0
_AGAIN_SECONDS = 300.0
_NOT_KEPT = (
    "kubectl.kubernetes.io/",
    "helm.sh/",
    "meta.helm.sh/",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
)


def document_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The resource as it would stand in git: without what the server and delivery tools added."""
    metadata = _object(item.get("metadata"))
    kept: dict[str, Any] = {"name": str(metadata.get("name") or "")}
    for part in ("labels", "annotations"):
        values = {
            key: value for key, value in _object(metadata.get(part)).items() if not str(key).startswith(_NOT_KEPT)
        }
        if values:
            kept[part] = values
    return {
        "apiVersion": item.get("apiVersion") or "reeve.dev/v1alpha1",
        "kind": item.get("kind") or "RuntimePolicy",
        "metadata": kept,
        "spec": item.get("spec"),
    }


class PolicyResources:
    """A `Keeper` of policies.  Called by one watch's thread; statuses are written by a thread of its own."""

    def __init__(self, api: ClusterApi, directory: Path, check: Check) -> None:
        self._api = api
        self.directory = directory
        self._check = check
        self._lock = threading.Lock()
        self._items: dict[str, Mapping[str, Any]] = {}
        self._told: dict[str, tuple[str, float]] = {}  # name -> what was written last, and when
        self._changed = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tell_all, name="reeve-policy-status", daemon=True)
        self.broken: dict[str, str] = {}  # policy -> what is wrong, while it is

    def open(self) -> None:
        """Get the directory ready; files that cannot be in force any more are removed.  Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self.directory.glob("*.yaml"):
            try:
                problems = self._check(str(path), json.loads(path.read_bytes()))[1]
            except (ValueError, KeyError, TypeError):
                problems = [Problem(str(path), 0, "", "is no policy as the agent keeps them")]
            if problems:
                log.error("A kept policy of the cluster is left out.", problem=str(problems[0]))
                path.unlink()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._changed.set()

    @property
    def count(self) -> int:
        return len(self._items)

    def replace(self, items: Iterable[Mapping[str, Any]]) -> None:
        """These policies are all there are: files of others go."""
        found = {name: item for item in items if (name := _name(item))}
        for path in self.directory.glob("*.yaml"):
            if path.stem not in found:
                self._remove(path.stem)
        for item in found.values():
            self.put(item)

    def put(self, item: Mapping[str, Any]) -> None:
        name = _name(item)
        if not name:
            return
        with self._lock:
            before = self._items.get(name)
            self._items[name] = item
        self._changed.set()
        if before is not None and _version(before) == _version(item) and name not in self.broken:
            return  # only its status or its labels moved
        document = document_of(item)
        _, problems = self._check(f"runtimepolicy/{name}", document)
        if problems:
            if self.broken.get(name) != str(problems[0]):
                log.error(
                    "A RuntimePolicy of the cluster is broken; its last good version stays in force.",
                    policy=name,
                    problems=[str(problem) for problem in problems[:_MOST_ERRORS]],
                )
            self.broken[name] = str(problems[0])
            return
        self.broken.pop(name, None)
        self._write(name, json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    def remove(self, item: Mapping[str, Any]) -> None:
        if name := _name(item):
            self._remove(name)

    def _write(self, name: str, text: str) -> None:
        """JSON is YAML; whole or not at all, and only if it is another text."""
        path = self.directory / f"{name}.yaml"
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8") == text:
                return
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            self.broken[name] = f"{path}: cannot be written: {error.strerror}"
            log.error("A policy of the cluster cannot be kept.", policy=name, path=str(path), error=error.strerror)
            return
        log.info("A policy of the cluster is taken over.", policy=name)

    def _remove(self, name: str) -> None:
        with self._lock:
            self._items.pop(name, None)
            self._told.pop(name, None)
        self.broken.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            (self.directory / f"{name}.yaml").unlink()
            log.info("A policy of the cluster is gone.", policy=name)

    def _tell_all(self) -> None:
        while not self._stopped.is_set():
            self._changed.wait()
            self._stopped.wait(random.uniform(0.1, _SPREAD_SECONDS))  # noqa: S311 - spread, not a secret
            self._changed.clear()
            with self._lock:
                items = list(self._items.items())
            for name, item in items:
                if self._stopped.is_set():
                    return
                try:
                    self._tell(name, item)
                except Exception as error:  # noqa: BLE001 - a thread's boundary: other statuses must still be written
                    log.warning(
                        "The status of a RuntimePolicy cannot be made.", policy=name, error=type(error).__name__
                    )

    def _tell(self, name: str, item: Mapping[str, Any]) -> None:
        status = self.status_of(name, item)
        current = _object(item.get("status"))
        if _without_times(status) == _without_times(current):
            return
        text = json.dumps(_without_times(status), sort_keys=True)
        told, when = self._told.get(name, ("", 0.0))
        if told == text and time.monotonic() - when < _AGAIN_SECONDS:
            return
        self._told[name] = (text, time.monotonic())
        try:
            self._api.call(
                "PATCH",
                f"{PATH}/{name}/status",
                body={"apiVersion": "reeve.dev/v1alpha1", "kind": "RuntimePolicy", "status": status},
                content_type="application/merge-patch+json",
            )
        except ClusterError as error:
            if error.status != 404:  # deleted meanwhile
                log.warning("The status of a RuntimePolicy cannot be written.", policy=name, error=str(error))

    def status_of(self, name: str, item: Mapping[str, Any]) -> dict[str, Any]:
        """Load errors, observed generation and counts, as the resource's status shows them."""
        rules, problems = self._check(f"runtimepolicy/{name}", document_of(item))
        generation = _version(item)[1]
        is_good = not problems and name not in self.broken
        if is_good:
            message = f"{rules} rules in force"
        else:
            rules = self._rules_kept(name)
            kept = f"the last good version stays in force ({rules} rules)" if rules else "no version of it is in force"
            message = f"{kept}: {problems[0] if problems else self.broken[name]}"
        ready = {
            "type": "Loaded",
            "status": "True" if is_good else "False",
            "reason": "Loaded" if is_good else "Broken",
            "message": message[:1024],
            "observedGeneration": generation,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        before = next((one for one in _objects(item) if one.get("type") == "Loaded"), {})
        if before.get("status") == ready["status"] and before.get("lastTransitionTime"):
            ready["lastTransitionTime"] = before["lastTransitionTime"]
        errors = [
            {"where": problem.where, "what": problem.what, "remedy": problem.remedy}
            for problem in problems[:_MOST_ERRORS]
        ]
        return {
            "observedGeneration": generation,
            "rules": rules,
            "loadErrors": len(problems),
            "conditions": [ready],
            "errors": errors,
        }

    def _rules_kept(self, name: str) -> int:
        """How many rules the last good version has, which is on disk."""
        try:
            return self._check(f"runtimepolicy/{name}", json.loads((self.directory / f"{name}.yaml").read_bytes()))[0]
        except (OSError, ValueError):
            return 0


def _name(item: Mapping[str, Any]) -> str:
    """The API server allows only DNS names; a name that would leave the directory is none."""
    name = str(_object(item.get("metadata")).get("name") or "")
    return "" if "/" in name or name.startswith(".") else name


def _version(item: Mapping[str, Any]) -> tuple[str, int]:
    metadata = _object(item.get("metadata"))
    generation = metadata.get("generation")
    return str(metadata.get("uid") or ""), generation if isinstance(generation, int) else 0


def _without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [
        {key: value for key, value in _object(one).items() if key != "lastTransitionTime"}
        for one in status.get("conditions") or ()
    ]
    return {**status, "conditions": conditions, "errors": list(status.get("errors") or ())}


def _objects(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    conditions = _object(item.get("status")).get("conditions")
    return [one for one in conditions if isinstance(one, Mapping)] if isinstance(conditions, list) else []


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
