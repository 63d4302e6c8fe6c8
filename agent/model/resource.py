"""Whose fact an event is: node, pod, container.  Names follow OpenTelemetry's `k8s.*` and `container.*`."""

from __future__ import annotations

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Identity as far as it is known; an empty string means unknown, never guessed."""

    node: str = ""
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    container_id: str = ""  # without the runtime's prefix; may be cut (Tetragon gives 31 characters)
    image: str = ""
    image_digest: str = ""  # sha256:..., of what really runs; a tag may have moved
    labels: dict[str, str] = {}
    workload: str = ""
    workload_kind: str = ""
    service_account: str = ""
    restart: int = 0

    @property
    def is_pod(self) -> bool:
        return bool(self.pod)

    @property
    def place(self) -> str:
        """`namespace/pod/container` as far as known, else the node, else `unknown`."""
        known = [part for part in (self.namespace, self.pod, self.container) if part]
        return "/".join(known) or self.node or "unknown"
