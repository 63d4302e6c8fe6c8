"""A body by its content type: JSON, lines of JSON, server-sent events, AWS event streams, multipart, protobuf, text.

What breaks off is read as far as it goes: a stream that was closed early holds words that were sent.
"""

from __future__ import annotations

import base64
import binascii
import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from agent.sources.exchanges.encodings import decoded
from agent.sources.exchanges.grpc import messages_of, texts_of
from agent.sources.exchanges.sse import events_of

_LIMIT = 1024 * 1024
_EVENTS = 50_000
_PARTS = 512


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
        pairs = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=1000)
        return Content(texts=[value for _, value in pairs if value])
    if kind.startswith(("image/", "audio/", "video/", "font/")) or kind == "application/octet-stream":
        return Content()
    return _json_or_text(body)


def _json_or_text(body: bytes) -> Content:
    text = body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        # Gemini streams one array of answers when it is not asked for events.
        if isinstance(value, list) and value and all(isinstance(one, dict) and "candidates" in one for one in value):
            return Content(events=value)
        return Content(values=[value])
    stripped = text.lstrip()
    if stripped.startswith(("data:", "event:", ": ")):
        return _events(body)
    lines = [line for line in text.split("\n") if line.strip()]
    values = [value for line in lines if (value := _value(line)) is not None]
    if values and len(values) >= len(lines) - 1:
        return Content(events=values)
    if stripped[:1] in ("{", "["):
        # Cut off: whatever strings are whole or begun in it.
        return Content(values=[_strings_of(stripped)])
    return Content(texts=[text] if text.strip() else [])


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _strings_of(text: str) -> list[str]:
    """Strings of broken JSON, one by one, with the key before each dropped."""
    found: list[str] = []
    at = 0
    while (start := text.find('"', at)) >= 0 and len(found) < _EVENTS:
        end = start + 1
        while end < len(text) and text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        raw = text[start + 1 : end]
        is_key = text[end + 1 : end + 12].lstrip().startswith(":")
        if not is_key:
            value = _value(f'"{raw}"')
            found.append(value if isinstance(value, str) else raw)
        at = end + 1
    return found


def _events(body: bytes) -> Content:
    events: list[Any] = []
    texts: list[str] = []
    for event in events_of(body.decode("utf-8", "replace"))[:_EVENTS]:
        if event.data == "[DONE]":
            continue
        value = _value(event.data)
        if isinstance(value, (dict, list)):
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
        value = _value(body[at + 12 + heads : at + total - 4].decode("utf-8", "replace"))
        if isinstance(value, dict) and isinstance(value.get("bytes"), str):
            try:
                value = _value(base64.b64decode(value["bytes"], validate=False).decode("utf-8", "replace"))
            except (binascii.Error, ValueError):
                value = None
        if value is not None:
            found.append(value)
        at += total
    return found


def _multipart(body: bytes, content_type: str) -> Content:
    head = b"content-type: " + content_type.encode("latin-1", "replace") + b"\r\nmime-version: 1.0\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    whole = Content()
    for part in list(message.walk())[:_PARTS]:
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes) or not payload:
            continue
        encoding = part.get("content-encoding", "")
        payload = decoded(payload, str(encoding), _LIMIT).body
        inner = content_of(payload, part.get_content_type())
        whole = Content(whole.values + inner.values + inner.events, whole.events, whole.texts + inner.texts)
    return whole
