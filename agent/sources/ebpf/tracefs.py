"""Which tracepoints this kernel has, and where their fields are: read from tracefs, never from headers."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_FIELD = re.compile(r"field:[^;]*?(\w+)(?:\[\w*\])?;\s*offset:(\d+);\s*size:(\d+);")


def tracing_directory() -> Path | None:
    """Where tracefs is mounted; None if nowhere."""
    return next((place for place in _PLACES if (place / "events").is_dir()), None)


def mount_tracefs() -> bool:
    """Mount tracefs at its usual place, as root may; whether it is there now."""
    if tracing_directory() is None:
        with contextlib.suppress(OSError):  # an image without mount
            subprocess.run(  # noqa: S603 - a fixed command
                ["/bin/mount", "-t", "tracefs", "nodev", str(_PLACES[0])],
                check=False,
                stderr=subprocess.DEVNULL,
            )
    return tracing_directory() is not None


def has(tracepoint: str) -> bool:
    """Whether there is a tracepoint `category:name`."""
    directory = tracing_directory()
    return directory is not None and (directory / "events" / tracepoint.replace(":", "/") / "format").exists()


def fields_of(text: str) -> dict[str, int]:
    """Field names of a tracepoint's `format` to their offsets in bytes."""
    return {name: int(offset) for name, offset, _ in _FIELD.findall(text)}


def offsets(tracepoints: list[str]) -> str:
    """C defines `OFF_<tracepoint>_<field>` of the tracepoints that are there."""
    directory = tracing_directory()
    lines: list[str] = []
    for tracepoint in tracepoints:
        if directory is None or not has(tracepoint):
            continue
        text = (directory / "events" / tracepoint.replace(":", "/") / "format").read_text()
        name = tracepoint.partition(":")[2]
        lines += [f"#define OFF_{name}_{field} {offset}" for field, offset in fields_of(text).items()]
    return "\n".join(lines) + "\n"
