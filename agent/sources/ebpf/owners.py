"""Whose a process is: from its control group to pod and container, and to their names from what the node keeps on disk.

Names come from the kubelet's log folders (`/var/log/pods/<namespace>_<pod>_<uid>/<container>`) and the runtime's own
notes of a container; labels from the runtime's list of pods (`runtime.py`).  Nothing is asked over the network.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from agent.model import Generations, Resource
from agent.sources.ebpf.cgroups import Place, place_of
from agent.sources.ebpf.runtime import Pod

_REMEMBERED = 4096
_LARGEST_NOTE = 1024 * 1024
# A pod that has no folder yet is looked for again, but not at each of its events.
_AGAIN_SECONDS = 1.0
_LABELS = 64


class Owners:
    """Resources by place, remembered."""

    def __init__(self, node: str, root: Path = Path("/")) -> None:
        self._node = node
        self._root = root
        self._known: Generations[Place, tuple[Resource, float]] = Generations(_REMEMBERED)
        self._pods: dict[str, Pod] = {}
        self.want: Callable[[str], None] = lambda _: None  # told the UIDs of pods that are not known
        self.host = Resource(node=node)

    def learn(self, pods: list[Pod]) -> None:
        """What the container runtime tells of pods: names and labels."""
        if len(self._pods) > _REMEMBERED:
            self._pods.clear()
        self._pods |= {pod.uid: pod for pod in pods}
        self._known = Generations(_REMEMBERED)

    def of_pid(self, pid: int) -> Resource | None:
        """Whose a process is; None if it is gone."""
        try:
            text = (self._root / "proc" / str(pid) / "cgroup").read_text()
        except OSError:
            return None
        return self.of_place(place_of(text))

    def of_place(self, place: Place) -> Resource:
        """The resource of a place, with names as far as the node knows them."""
        if not place.is_somewhere:
            return self.host
        known = self._known.get(place)
        now = time.monotonic()
        if known is not None and (_is_named(known[0]) or now < known[1]):
            return known[0]
        resource = self._named(place)
        self._known.put(place, (resource, now + _AGAIN_SECONDS))
        return resource

    def _named(self, place: Place) -> Resource:
        note = self._note_of(place.container_id)
        uid = place.pod_uid or note.get("uid", "")
        listed = self._pods.get(uid)
        if listed is None:
            self.want(uid)
        namespace, pod = self._folder_of(uid)
        return Resource(
            node=self._node,
            namespace=note.get("namespace") or (listed.namespace if listed else "") or namespace,
            pod=note.get("pod") or (listed.name if listed else "") or pod,
            pod_uid=uid,
            container=note.get("container", ""),
            container_id=place.container_id,
            image=note.get("image", ""),
            labels=listed.labels if listed is not None else _labels(note.get("labels", "")),
        )

    def _folder_of(self, uid: str) -> tuple[str, str]:
        if not uid:
            return "", ""
        try:
            names = os.listdir(self._root / "var" / "log" / "pods")
        except OSError:
            return "", ""
        for name in names:
            parts = name.split("_")
            if len(parts) == 3 and parts[2] == uid:
                return parts[0], parts[1]
        return "", ""

    def _note_of(self, container: str) -> dict[str, str]:
        """What the runtime wrote down of a container (OCI annotations of containerd and CRI-O)."""
        if not container:
            return {}
        for path in self._notes(container):
            try:
                with path.open("rb") as file:
                    note = json.loads(file.read(_LARGEST_NOTE))
                annotations = note.get("annotations") or {}
            except (OSError, ValueError, AttributeError):
                continue
            if isinstance(annotations, dict):
                return _told(annotations)
        return {}

    def _notes(self, container: str) -> list[Path]:
        run = self._root / "run"
        return [
            run / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io" / container / "config.json",
            run / "k3s" / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io" / container / "config.json",
            run / "containers" / "storage" / "overlay-containers" / container / "userdata" / "config.json",
        ]


def _is_named(resource: Resource) -> bool:
    return bool(resource.pod) and (bool(resource.container) or not resource.container_id)


_ANNOTATIONS = {
    "namespace": ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"),
    "pod": ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"),
    "uid": ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
    "container": ("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
    "image": ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"),
    "labels": ("io.kubernetes.cri-o.Labels",),
}


def _told(annotations: dict[str, object]) -> dict[str, str]:
    return {
        name: next((value for key in keys if isinstance(value := annotations.get(key), str)), "")
        for name, keys in _ANNOTATIONS.items()
    }


def _labels(text: str) -> dict[str, str]:
    """CRI-O notes a pod's labels as JSON."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    pairs = ((str(key), value) for key, value in found.items() if not str(key).startswith("io.kubernetes."))
    return {key: value for key, value in list(pairs)[:_LABELS] if isinstance(value, str)}
