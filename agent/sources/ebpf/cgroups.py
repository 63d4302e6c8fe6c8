"""A process's control group to its pod and container: containerd, CRI-O and Docker, cgroup v1, v2 and hybrid.

Formats: kubelet's cgroup drivers (systemd and cgroupfs) and the runtimes' own names; nested ones (kind, systemd in a
pod) are found by their innermost container.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_POD = re.compile(
    r"(?:^|[/-])pod(?P<uid>[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
)
_CONTAINER = re.compile(
    r"(?:^|[/:])(?:(?P<runtime>cri-containerd|crio|docker|libpod|containerd)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=$|/)"
)
_V1_CONTAINERD = re.compile(r"\.slice:cri-containerd:(?P<id>[0-9a-f]{64})$")
# conmon and the pause process of CRI-O stand beside the container and are not in it.
_BESIDE = re.compile(r"crio-conmon-[0-9a-f]{64}")


class Place(NamedTuple):
    """A pod's UID in its usual form and a container's 64 digits; empty where the path names none."""

    pod_uid: str = ""
    container_id: str = ""

    @property
    def is_somewhere(self) -> bool:
        return bool(self.pod_uid or self.container_id)


def place_of_path(path: str) -> Place:
    """The pod and container that one control group path names."""
    if _BESIDE.search(path):
        path = _BESIDE.sub("", path)
    pods = list(_POD.finditer(path))
    containers = list(_CONTAINER.finditer(path)) or list(_V1_CONTAINERD.finditer(path))
    uid = _uid(pods[-1]["uid"]) if pods else ""
    return Place(uid, containers[-1]["id"] if containers else "")


def _uid(raw: str) -> str:
    """Static pods have UIDs without dashes, and are known by those."""
    return raw.replace("_", "-")


def place_of(text: str) -> Place:
    """The place of a process by its `/proc/PID/cgroup`: whichever hierarchy says most."""
    best = Place()
    for line in text.splitlines():
        _, _, path = line.partition(":")
        _, _, path = path.partition(":")
        place = place_of_path(path)
        if bool(place.pod_uid) + bool(place.container_id) > bool(best.pod_uid) + bool(best.container_id):
            best = place
    return best
