"""Listeners that a process has already: started before the probes, or inherited from the process that forked it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LISTENING = "0A"
_MOST_LINES = 200_000


def listeners_of(pid: int, ports: Collection[int]) -> list[int]:
    """Descriptors of a process that listen on one of the ports; none if it is gone."""
    inodes = _listening(pid, ports)
    if not inodes:
        return []
    found: list[int] = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    for name in names:
        try:
            match = _SOCKET.fullmatch(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
        if match and match[1] in inodes:
            found.append(int(name))
    return found


def _listening(pid: int, ports: Collection[int]) -> set[str]:
    """Inodes of the sockets that listen on the ports, in the process's network namespace (proc(5), /proc/net/tcp)."""
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
                for _, line in zip(range(_MOST_LINES), file, strict=False):
                    parts = line.split()
                    if len(parts) > 9 and parts[3] == _LISTENING and int(parts[1].rpartition(":")[2], 16) in ports:
                        inodes.add(parts[9])
        except (OSError, ValueError):
            continue
    return inodes
