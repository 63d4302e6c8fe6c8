"""What a log file's path says: whose it is, and where it stands in its container's sequence.

`/var/log/pods/<namespace>_<pod>_<uid>/<container>/<restart>.log`, rotated as `<restart>.log.<stamp>`, later with `.gz`;
symbolic links as `<pod>_<namespace>_<container>-<id>.log`; Docker as `<id>/<id>-json.log[.N][.gz]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import NamedTuple

from agent.model import Resource
from agent.sources.containerlogs.assembly import LogFormat

_POD_FILE = re.compile(r"(\d+)\.log(?:\.(\d{8}-\d{6}))?(\.gz)?$")
_LINK = re.compile(r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>.+)-(?P<id>[0-9a-f]{64})\.log$")
_DOCKER_FILE = re.compile(r"(?P<id>[0-9a-f]{64})-json\.log(?:\.(\d+))?(\.gz)?$")


class LogPath(NamedTuple):
    """A log file's place.  `order` sorts a container's files from oldest to newest; `rotated` names a rotated file
    whatever its compression, empty for the live one."""

    resource: Resource
    log_format: LogFormat
    restart: int
    order: tuple[int, int, str]
    rotated: str
    is_compressed: bool


def parse_path(path: str, node: str = "") -> LogPath | None:
    """The place of a file; None if it is no container log (temporary files of the kubelet's rotation among them)."""
    pure = PurePath(path)
    match = _POD_FILE.fullmatch(pure.name)
    if match:
        restart, stamp, compressed = int(match[1]), match[2] or "", bool(match[3])
        owner = pure.parent.parent.name.split("_")
        if len(owner) != 3:
            return None
        resource = Resource(
            node=node,
            namespace=owner[0],
            pod=owner[1],
            pod_uid=owner[2],
            container=pure.parent.name,
            restart=restart,
        )
        order = (restart, 0 if stamp else 1, stamp)
        return LogPath(resource, "cri", restart, order, pure.name.removesuffix(".gz") if stamp else "", compressed)
    match = _LINK.fullmatch(pure.name)
    if match:
        resource = Resource(
            node=node,
            namespace=match["namespace"],
            pod=match["pod"],
            container=match["container"],
            container_id=match["id"],
        )
        return LogPath(resource, "cri", 0, (0, 1, ""), "", is_compressed=False)
    match = _DOCKER_FILE.fullmatch(pure.name)
    if match:
        number, compressed = match[2], bool(match[3])
        order = (0, 0, f"{999_999 - int(number):06}") if number else (0, 1, "")
        resource = Resource(node=node, container_id=match["id"])
        return LogPath(resource, "docker", 0, order, pure.name.removesuffix(".gz") if number else "", compressed)
    return None


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a name is one of the patterns; `*` and `?` are wildcards."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
