"""A body by its content type: JSON, lines of JSON, server-sent events, AWS event streams, multipart, protobuf, text.

What breaks off is read as far as it goes: a stream that was closed early holds words that were sent.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from agent.sources.dialects.fragment import completed, strings_of, value_of
from agent.sources.dialects.multipart import parts_of
from agent.sources.exchanges.encodings import decoded
from agent.sources.exchanges.grpc import messages_of, texts_of
from agent.sources.exchanges.sse import events_of

_LIMIT = 1024 * 1024
_EVENTS = 50_000
_FIELDS = 10_000
# The Model Context Protocol's first event until 2024-11-05: where to post to.
_ENDPOINT = "endpoint"


class Content(msgspec.Struct):
    """`values` are whole JSON values, `events` parts of a stream that belong together, `texts` everything else."""

    values: list[Any] = []
    events: list[Any] = []
    texts: list[str] = []

    @property
    def is_stream(self) -> bool:
        return bool(self.events)


def content_of(body: bytes, content_type: str, grpc_encoding: str = "") -> Content:
    """What a body holds; nothing for one without texts (images, sound)."""
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        return Content()
    if kind == "text/event-stream":
        return _events(body)
    if kind == "application/vnd.amazon.eventstream":
        return Content(events=aws_events(body))
    if kind.startswith("application/grpc"):
        return Content(texts=[text for one in messages_of(body, grpc_encoding, _LIMIT) for text in texts_of(one)])
    if kind in ("application/x-protobuf", "application/protobuf"):
        return Content(texts=texts_of(body))
    if kind.startswith("multipart/"):
        return _multipart(body, content_type)
    if kind == "application/x-www-form-urlencoded":
        fields = body.decode("utf-8", "replace").split("&", _FIELDS)[:_FIELDS]
        return Content(texts=[value for _, value in parse_qsl("&".join(fields)) if value])
    if kind.startswith(("image/", "audio/", "video/", "font/")) or kind == "application/octet-stream":
        return Content()
    return _json_or_text(body)


def _json_or_text(body: bytes) -> Content:
    text = body.decode("utf-8", "replace")
    stripped = text.lstrip()
    if (whole := value_of(text)) is not None or stripped.rstrip() == "null":
        return _valued(whole)
    if stripped.startswith(("data:", "event:", ": ")):
        return _events(body)
    if (begun := completed(stripped)) is not None:
        return _valued(begun)
    lines = [line for line in text.split("\n") if line.strip()]
    if (values := _lines(lines)) is not None:
        return values
    if stripped[:1] in ("{", "["):
        # Broken in its middle: whatever strings are whole or begun in it.
        return Content(values=[strings_of(stripped)])
    return Content(texts=[text] if text.strip() else [])


def _valued(value: Any) -> Content:
    # Gemini streams one array of answers when it is not asked for events; the last may hold usage alone.
    if isinstance(value, list) and any(isinstance(one, dict) and "candidates" in one for one in value):
        return Content(events=value)
    return Content(values=[value])


def _structure(text: str) -> dict[str, Any] | list[Any] | None:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    value = value_of(text)
    return value if isinstance(value, (dict, list)) else None


def _lines(lines: list[str]) -> Content | None:
    """Lines of JSON, of which one may be broken: cut at the end, or without its beginning.  None if more are."""
    whole = Content(events=[], texts=[])
    broken = 0
    for line in lines:
        value = _structure(line)
        if value is None:
            broken += 1
            value = completed(line)
        if broken > 1:
            return None
        if value is not None:
            whole.events.append(value)
        else:
            whole.texts += strings_of(line) or [line]
    return whole if len(lines) > broken else None


def _events(body: bytes) -> Content:
    events: list[Any] = []
    texts: list[str] = []
    for event in events_of(body.decode("utf-8", "replace"))[:_EVENTS]:
        if event.data == "[DONE]" or event.name == _ENDPOINT:
            continue
        value = _structure(event.data)
        if value is None:
            value = completed(event.data)
        if value is not None:
            if event.name and isinstance(value, dict) and "type" not in value and event.name != "message":
                value = {"type": event.name, **value}
            events.append(value)
        elif event.data.strip():
            texts.append(event.data)
    return Content(events=events, texts=["\n".join(texts)] if texts else [])


def aws_events(body: bytes) -> list[Any]:
    """The JSON of an AWS event stream's messages; `bytes` inside of them is the provider's own JSON in base64."""
    found: list[Any] = []
    at = 0
    while at + 16 <= len(body) and len(found) < _EVENTS:
        total, heads = int.from_bytes(body[at : at + 4], "big"), int.from_bytes(body[at + 4 : at + 8], "big")
        if total < 16 or heads > total - 16:
            break
        value = value_of(body[at + 12 + heads : at + total - 4].decode("utf-8", "replace"))
        if isinstance(value, dict) and isinstance(value.get("bytes"), str):
            try:
                value = value_of(base64.b64decode(value["bytes"], validate=False).decode("utf-8", "replace"))
            except (binascii.Error, ValueError):
                value = None
        if value is not None:
            found.append(value)
        at += total
    return found


def _multipart(body: bytes, content_type: str) -> Content:
    """What the parts hold; parts within parts are read as text, and all together grow to no more than the limit."""
    whole = Content(values=[], texts=[])
    parts, room = list(parts_of(body, content_type)), _LIMIT
    for part in parts:
        payload = decoded(part.content, part.headers.get("content-encoding", ""), room).body
        room -= len(payload)
        kind = part.headers.get("content-type", "text/plain")
        is_plain = kind.lower().lstrip().startswith(("multipart/", "message/"))
        inner = content_of(payload, "text/plain" if is_plain else kind)
        whole.values += [*inner.values, *inner.events]
        whole.texts += inner.texts
    return whole if parts else _json_or_text(body)
