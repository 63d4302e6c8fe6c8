"""The pods of a node by uid, container, address and name; pods that are gone are remembered for a while.

Only what identity needs is kept of a pod, about 1 KB; everything is bounded, so that churn costs no memory.  Fed by
`watching.py`, asked by `identity.py` from other threads.  Facts of the API are from its documentation (core/v1 Pod).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from agent.cluster.workload import workload_of

# The kubelet runs 110 pods by default and 250 on large nodes.
MOST_PODS = 5000
MOST_GONE = 1000
_MOST_CONTAINERS = 32  # of one pod, with those it had before a restart
_MOST_LABELS = 64
# Tetragon cuts container ids to 31 characters; a shorter text names no container.
SHORTEST_ID = 12
_CUT = 31


class Container(Struct, frozen=True):
    """One container as the kubelet reports it.  `image_digest` is `sha256:...` or empty."""

    name: str
    image: str = ""
    image_digest: str = ""
    restart: int = 0


class Pod(Struct, frozen=True, kw_only=True):
    """What identity needs of a pod.  `gone_at` is monotonic seconds, 0 while the pod lives."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    service_account: str
    workload: str
    workload_kind: str
    addresses: tuple[str, ...]  # none of a pod in the node's network: the address is not its own
    containers: dict[str, Container]  # by container id, without the runtime's prefix
    gone_at: float = 0.0


class PodTable:
    """A `Keeper` of pods.  For any number of threads."""

    def __init__(self, forget_seconds: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._forget_seconds = forget_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._pods: dict[str, Pod] = {}
        self._gone: OrderedDict[str, Pod] = OrderedDict()
        self._by_container: dict[str, str] = {}  # also by the first 31 characters
        self._by_address: dict[str, str] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self.left_out = 0  # pods over the limit, not kept

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def gone(self) -> int:
        """How many pods are remembered that are gone."""
        return len(self._gone)

    def replace(self, items: Iterable[Mapping[str, Any]]) -> None:
        """These pods are all there are; the others are gone."""
        found = [pod for item in items if (pod := pod_from(item)) is not None]
        with self._lock:
            left = set(self._pods) - {pod.uid for pod in found}
            for uid in left:
                self._bury(uid)
            for pod in found:
                self._keep(pod)

    def put(self, item: Mapping[str, Any]) -> None:
        pod = pod_from(item)
        if pod is not None:
            with self._lock:
                self._keep(pod)

    def remove(self, item: Mapping[str, Any]) -> None:
        pod = pod_from(item)
        if pod is not None:
            with self._lock:
                self._keep(pod)  # the last state names containers that were never seen running
                self._bury(pod.uid)

    def by_uid(self, uid: str) -> Pod | None:
        """The pod of a uid; in a static pod's cgroup and log folder it is the hash that the mirror pod names."""
        with self._lock:
            return self._of(uid)

    def by_container(self, container_id: str) -> tuple[Pod, Container] | None:
        """The pod and container of an id, whole or cut to 31 characters."""
        if len(container_id) < SHORTEST_ID:
            return None
        with self._lock:
            pod = self._of(self._by_container.get(container_id, self._by_container.get(container_id[:_CUT], "")))
        if pod is None:
            return None
        for known, container in pod.containers.items():
            if known.startswith(container_id):
                return pod, container
        return None

    def by_address(self, address: str) -> Pod | None:
        with self._lock:
            return self._of(self._by_address.get(address, ""))

    def by_name(self, namespace: str, name: str) -> Pod | None:
        with self._lock:
            return self._of(self._by_name.get((namespace, name), ""))

    def _of(self, uid: str) -> Pod | None:
        pod = self._pods.get(uid)
        if pod is not None:
            return pod
        pod = self._gone.get(uid)
        if pod is not None and self._clock() - pod.gone_at <= self._forget_seconds:
            return pod
        return None

    def _keep(self, pod: Pod) -> None:
        before = self._pods.get(pod.uid) or self._gone.pop(pod.uid, None)
        if before is None and len(self._pods) >= MOST_PODS:
            self.left_out += 1
            return
        if before is not None:
            older = {key: value for key, value in before.containers.items() if key not in pod.containers}
            kept = dict(list(older.items())[-max(0, _MOST_CONTAINERS - len(pod.containers)) :]) if older else {}
            pod = _with(pod, containers={**kept, **pod.containers})
            self._unlink(before)
        self._pods[pod.uid] = pod
        for container in pod.containers:
            self._by_container[container] = pod.uid
            self._by_container[container[:_CUT]] = pod.uid
        for address in pod.addresses:
            self._by_address[address] = pod.uid
        self._by_name[pod.namespace, pod.name] = pod.uid

    def _bury(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        now = self._clock()
        if pod is not None:
            self._gone[uid] = _with(pod, gone_at=now)
        while self._gone:
            oldest = next(iter(self._gone.values()))
            if len(self._gone) <= MOST_GONE and now - oldest.gone_at <= self._forget_seconds:
                return
            del self._gone[oldest.uid]
            self._unlink(oldest)

    def _unlink(self, pod: Pod) -> None:
        """Forget the ways to a pod, but not those that lead to another by now."""
        for container in pod.containers:
            for key in (container, container[:_CUT]):
                if self._by_container.get(key) == pod.uid:
                    del self._by_container[key]
        for address in pod.addresses:
            if self._by_address.get(address) == pod.uid:
                del self._by_address[address]
        if self._by_name.get((pod.namespace, pod.name)) == pod.uid:
            del self._by_name[pod.namespace, pod.name]


def _with(pod: Pod, **changes: Any) -> Pod:
    return Pod(**{**{name: getattr(pod, name) for name in Pod.__struct_fields__}, **changes})


def pod_from(item: Mapping[str, Any]) -> Pod | None:
    """A pod as the API gives it; None if it has no uid, namespace and name."""
    metadata, spec, status = (_object(item.get(part)) for part in ("metadata", "spec", "status"))
    annotations = _object(metadata.get("annotations"))
    # The kubelet knows a static pod by a hash; the API's uid is that of its mirror.
    uid = str(annotations.get("kubernetes.io/config.mirror") or metadata.get("uid") or "")
    namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
    if not (uid and namespace and name):
        return None
    labels = {str(key): str(value) for key, value in list(_object(metadata.get("labels")).items())[:_MOST_LABELS]}
    kind, workload = workload_of(metadata, labels)
    # A pod that has ended keeps its address in its status while another one has it already.
    has_address = not spec.get("hostNetwork") and status.get("phase") not in ("Succeeded", "Failed")
    addresses = [entry.get("ip") for entry in _objects(status.get("podIPs"))] if has_address else []
    return Pod(
        uid=uid,
        namespace=namespace,
        name=name,
        labels=labels,
        service_account=str(spec.get("serviceAccountName") or ""),
        workload=workload,
        workload_kind=kind,
        addresses=tuple(str(address) for address in addresses if address),
        containers=_containers(status),
    )


def _containers(status: Mapping[str, Any]) -> dict[str, Container]:
    found: dict[str, Container] = {}
    for part in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in _objects(status.get(part)):
            digest = str(entry.get("imageID") or "").rpartition("@")[2].rpartition("://")[2]
            restart = entry.get("restartCount")
            container = Container(
                name=str(entry.get("name") or ""),
                image=str(entry.get("image") or ""),
                image_digest=digest if digest.startswith("sha256:") else "",
                restart=restart if isinstance(restart, int) else 0,
            )
            last = _object(_object(entry.get("lastState")).get("terminated"))
            for whole in (last.get("containerID"), entry.get("containerID")):
                identifier = str(whole or "").rpartition("://")[2]
                if len(identifier) >= SHORTEST_ID and len(found) < _MOST_CONTAINERS:
                    found[identifier] = container
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
