"""The workload that a pod belongs to, from the pod alone: no request is made.

A pod names its controller.  The controller of a ReplicaSet is told by the hash that the Deployment's controller puts
into the set's name and the pod's labels, that of a Job by the minutes that the CronJob's controller appends; where that
mark is missing, the controller named by the pod itself is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HASH_LABEL = "pod-template-hash"
# Minutes since 1970, as controller-manager names the jobs of a CronJob since 1.21: eight digits until 2160.
_CRON_SUFFIX = re.compile(r"-\d{8}$")


def workload_of(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, str]:
    """`(kind, name)`; a pod without a controller is its own, a static pod its node's."""
    owners = metadata.get("ownerReferences")
    controllers = [one for one in owners if isinstance(one, Mapping)] if isinstance(owners, list) else []
    owner = next((one for one in controllers if one.get("controller")), controllers[0] if controllers else None)
    if owner is None:
        return "Pod", str(metadata.get("name") or "")
    kind, name = str(owner.get("kind") or ""), str(owner.get("name") or "")
    suffix = f"-{labels.get(_HASH_LABEL, '')}"
    if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
        return "Deployment", name.removesuffix(suffix)
    if kind == "Job" and _CRON_SUFFIX.search(name):
        return "CronJob", _CRON_SUFFIX.sub("", name)
    if kind == "Node":
        return "Pod", str(metadata.get("name") or "")
    return kind, name
