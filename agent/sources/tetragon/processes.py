"""The process tree by exec id, for what an event leaves out.

Tetragon sends an event without its parent or pod when its own cache does not know them in time, in any order and up to
30 s late.  Whatever an event says of a process is kept for those that say less.
"""

from __future__ import annotations

import msgspec

from agent.model import Body, Event, Generations, Process, ProcessActivity, Resource

# About 1 KB for each process, in two generations.
_REMEMBERED = 8192
_LARGEST = 2048  # characters of texts
_ANCESTORS = 8


class ProcessTree:
    """Bounded: what nobody asked for while `remembered` others came is forgotten."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._known: Generations[str, tuple[Process, Resource | None]] = Generations(remembered)

    def __len__(self) -> int:
        return len(self._known)

    def complete(self, event: Event) -> Event:
        """The event with parent, ancestors, binary and pod filled in where another event told them."""
        body = event.body
        process: Process | None = getattr(body, "process", None)
        if process is None or not process.exec_id:
            return event
        resource = event.resource
        known = self._known.get(process.exec_id)
        if known is not None and not process.binary and known[0].binary:
            process = known[0]
            body = msgspec.structs.replace(body, process=process)
        if known is not None and not resource.pod and known[1] is not None:
            resource = _with_node(known[1], resource.node)
        self._learn(process, resource if resource.pod else None, known)
        body = self._with_family(body, process)
        if body is event.body and resource is event.resource:
            return event
        return msgspec.structs.replace(event, body=body, resource=resource)

    def _with_family(self, body: Body, process: Process) -> Body:
        parent: Process | None = getattr(body, "parent", None)
        if parent is not None and parent.exec_id:
            self._learn(parent, None, self._known.get(parent.exec_id))
        elif process.parent_exec_id and hasattr(body, "parent"):
            found = self._known.get(process.parent_exec_id)
            if found is not None:
                parent = found[0]
                body = msgspec.structs.replace(body, parent=parent)
        if isinstance(body, ProcessActivity) and body.action == "exec" and parent is not None and not body.ancestors:
            ancestors = self._above(parent)
            if ancestors:
                body = msgspec.structs.replace(body, ancestors=ancestors)
        return body

    def _above(self, process: Process) -> tuple[Process, ...]:
        """The ancestors of a process, nearest first; a loop in the ids ends it."""
        found: list[Process] = []
        seen = {process.exec_id}
        while process.parent_exec_id and len(found) < _ANCESTORS and process.parent_exec_id not in seen:
            above = self._known.get(process.parent_exec_id)
            if above is None:
                break
            process = above[0]
            seen.add(process.exec_id)
            found.append(process)
        return tuple(found)

    def _learn(
        self, process: Process, resource: Resource | None, known: tuple[Process, Resource | None] | None
    ) -> None:
        """Keep what says more: a process with a binary, a resource with a pod."""
        if known is not None:
            if known[0] is process and (resource is None or known[1] is not None):
                return
            process = process if process.binary else known[0]
            resource = resource or known[1]
        self._put(process.exec_id, (process, resource))

    def _put(self, exec_id: str, known: tuple[Process, Resource | None]) -> None:
        if known[0].size > _LARGEST:
            # What a pod can make long must not fill our memory: parent and ancestors do without.
            known = msgspec.structs.replace(known[0], arguments="", environment={}, cwd=""), known[1]
        self._known.put(exec_id, known)


def _with_node(resource: Resource, node: str) -> Resource:
    return resource if resource.node == node else msgspec.structs.replace(resource, node=node)
