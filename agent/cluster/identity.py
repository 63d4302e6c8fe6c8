"""Whose fact an event is, completed from the pods of the node.

What a source has seen itself stays; what it could not know (labels, owner, service account, image digest, often the
names) comes from the table.  A pod that is not in the table stays as it is and is counted: its next event may find it,
and reports are completed when they are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from agent.cluster.pods import Container, Pod, PodTable
from agent.model import DnsActivity, Endpoint, Event, Generations, HttpActivity, NetworkActivity, Resource

_REMEMBERED = 4096


class Identity:
    """`identity(event)` gives the event with all names that are known by now.  Not for several threads at once;
    `resource` is."""

    def __init__(self, table: PodTable, is_synced: Callable[[], bool]) -> None:
        self._table = table
        self._is_synced = is_synced
        self._known: Generations[int, tuple[Resource, Pod, Resource]] = Generations(_REMEMBERED)
        self.unknown: Counter[str] = Counter()  # reason -> events

    def __call__(self, event: Event) -> Event:
        resource = self._of(event.resource)
        if resource is not event.resource:
            event = msgspec.structs.replace(event, resource=resource)
        match event.body:
            case (
                NetworkActivity(source=source, destination=destination)
                | DnsActivity(source=source, destination=destination)
                | HttpActivity(source=source, destination=destination)
            ):
                ends = {"source": self._end(source), "destination": self._end(destination)}
                if ends["source"] is not source or ends["destination"] is not destination:
                    event = msgspec.structs.replace(event, body=msgspec.structs.replace(event.body, **ends))
        return event

    def resource(self, resource: Resource) -> Resource:
        """The resource with what is known by now; the same object if that is nothing new."""
        found = self._find(resource)
        return resource if found is None else _completed(resource, *found)

    def _of(self, resource: Resource) -> Resource:
        """As `resource`, counting, and the same object for the same object: policies bind each resource once."""
        if not (resource.pod or resource.pod_uid or resource.container_id):
            return resource
        known = self._known.get(id(resource))
        found = self._find(resource)
        if found is None:
            self.unknown["not_in_cluster" if self._is_synced() else "not_synced"] += 1
            return resource
        if known is not None and known[0] is resource and known[1] is found[0]:
            return known[2]
        completed = _completed(resource, *found)
        self._known.put(id(resource), (resource, found[0], completed))
        return completed

    def _find(self, resource: Resource) -> tuple[Pod, Container | None] | None:
        """By the surest sign first.  A name with another uid is another pod, of the same name."""
        by_container = self._table.by_container(resource.container_id) if resource.container_id else None
        if by_container is not None:
            return by_container
        if resource.pod_uid:
            pod = self._table.by_uid(resource.pod_uid)
        elif resource.pod:
            pod = self._table.by_name(resource.namespace, resource.pod)
        else:
            pod = None
        return None if pod is None else (pod, None)

    def _end(self, end: Endpoint) -> Endpoint:
        if not end.address or end.pod:
            return end
        pod = self._table.by_address(end.address)
        if pod is None:
            return end
        return msgspec.structs.replace(
            end,
            namespace=pod.namespace,
            pod=pod.name,
            workload=end.workload or pod.workload,
            labels=end.labels or pod.labels,
        )


def _completed(resource: Resource, pod: Pod, container: Container | None) -> Resource:
    if container is None and resource.container:
        running = [one for one in pod.containers.values() if one.name == resource.container]
        container = max(running, key=lambda one: one.restart, default=None)
    completed = msgspec.structs.replace(
        resource,
        namespace=resource.namespace or pod.namespace,
        pod=resource.pod or pod.name,
        pod_uid=resource.pod_uid or pod.uid,
        labels=pod.labels or resource.labels,
        workload=resource.workload or pod.workload,
        workload_kind=resource.workload_kind or pod.workload_kind,
        service_account=resource.service_account or pod.service_account,
    )
    if container is not None:
        completed = msgspec.structs.replace(
            completed,
            container=completed.container or container.name,
            image=completed.image or container.image,
            image_digest=completed.image_digest or container.image_digest,
        )
    return resource if completed == resource else completed
