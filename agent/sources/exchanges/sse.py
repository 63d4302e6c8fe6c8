"""Server-sent events (WHATWG HTML, 9.2) and lines of JSON out of a whole body."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINES = re.compile(r"\r\n|\n|\r")


class ServerEvent(NamedTuple):
    """One event; an unnamed one has the name `message` in browsers and none here."""

    name: str
    data: str


def events_of(text: str) -> list[ServerEvent]:
    """The events of a stream in order; one that breaks off at the end is told too, since its text was sent."""
    events: list[ServerEvent] = []
    name = ""
    data: list[str] = []
    for line in _LINES.split(text.removeprefix("\ufeff")):
        if not line:
            if data:
                events.append(ServerEvent(name, "\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    if data:
        events.append(ServerEvent(name, "\n".join(data)))
    return events
