"""The C text for what is wanted on this kernel: settings and offsets first, then the programs."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.sources.ebpf.layout import assertions, defines
from agent.sources.ebpf.pathfilter import PathFilter
from agent.sources.ebpf.probes import READ_BY_OFFSET, TEXTS, Group
from agent.sources.ebpf.tracefs import offsets

PROGRAMS = Path(__file__).parent / "programs"


class Wanted(NamedTuple):
    """`ring_bytes` is a power of two; `is_scoped` leaves out processes that user space marked."""

    groups: Collection[Group]
    ring_bytes: int
    paths: PathFilter
    is_scoped: bool = False
    plaintext: bool = False
    message_bytes: int = 1024 * 1024
    plain_ports: Sequence[int] = ()


def text_of(wanted: Wanted) -> str:
    """The whole text, ready to be compiled."""
    head = [
        f"#define RING_PAGES {wanted.ring_bytes // os.sysconf('SC_PAGESIZE')}",
        f"#define SELF {os.getpid()}",
        "#define SCOPED" if wanted.is_scoped else "",
        "#define WAKES" if wanted.plaintext else "",
        f"#define CHUNKS {max(1, wanted.message_bytes // (16 * 1024))}",
        defines(),
        offsets(READ_BY_OFFSET),
        wanted.paths.defines(),
    ]
    names = ["shared.c", *(name for name, groups in TEXTS.items() if groups & set(wanted.groups))]
    if wanted.plaintext:
        names += ["tls.c"]
    if wanted.plaintext and wanted.plain_ports:
        ports = " || ".join(f"port == {port}" for port in wanted.plain_ports)
        head.append(f"#define PLAIN_PORTS ({ports})")
        names += ["plain.c"]
    return "\n".join([*head, *((PROGRAMS / name).read_text() for name in names), assertions()])
