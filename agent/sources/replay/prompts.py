"""JSON lines of prompts to GenAI operations.

Accepted, one object (or string) per line: `{"prompt": ...}` or `{"text": ...}`, with `completion`, `response` or
`output`; OpenAI's `{"messages": [...]}` with `choices`; `{"request": {...}, "response": {...}}`.  Content may be a
string or a list of parts.  Pure; a line that holds no text to scan is a decode error with a name.
"""

from __future__ import annotations

from typing import cast

import msgspec

from agent.model import DecodeError, Event, GenAiOperation, Message, Resource, Role, Sensitive, event_id
from agent.sources.dialects.vocabulary import ROLES
from agent.sources.protojson import Json, decoded, integer, mapping, mappings, text, time_unix_nano

_PROMPT_KEYS = ("prompt", "text", "input", "question", "instruction")
_ANSWER_KEYS = ("completion", "response", "output", "answer")
_ROLES: dict[str, Role] = {**ROLES, "document": "document"}


def event_from_line(
    line: bytes, observed_time_unix_nano: int = 0, resource: Resource | None = None
) -> Event | DecodeError:
    """One line to an event of class `genai`."""
    if not line.strip():
        return DecodeError(name="empty_line")
    try:
        value = decoded(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return DecodeError(name="not_json")
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        return DecodeError(name="not_an_object")
    record = cast(Json, value)
    try:
        messages = _messages(record)
    except RecursionError:
        return DecodeError(name="too_deep")
    if not messages:
        return DecodeError(name="no_text")
    request, response = mapping(record, "request") or record, mapping(record, "response") or record
    usage = mapping(response, "usage")
    user = text(record, "user") or text(request, "user")
    return Event(
        id=event_id(b"prompts", line.strip()),
        source="prompts",
        body=GenAiOperation(
            operation=text(record, "operation") or "chat",
            provider=text(record, "provider"),
            request_model=text(request, "model"),
            response_model=text(response, "model"),
            server_address=text(record, "server_address"),
            server_port=integer(record, "server_port"),
            conversation_id=_sensitive(text(record, "conversation_id")),
            user=_sensitive(user),
            messages=tuple(messages),
            input_tokens=integer(usage, "prompt_tokens") or integer(usage, "input_tokens"),
            output_tokens=integer(usage, "completion_tokens") or integer(usage, "output_tokens"),
        ),
        resource=resource or _resource(record),
        time_unix_nano=time_unix_nano(text(record, "time") or text(record, "timestamp")),
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _sensitive(value: str) -> Sensitive | str:
    return Sensitive(value) if value else ""


def _resource(record: Json) -> Resource:
    return Resource(namespace=text(record, "namespace"), pod=text(record, "pod"), container=text(record, "container"))


def _content(value: object) -> str:
    """A message's content as one text; parts joined by line breaks, anything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(filter(None, (_part(part) for part in value)))
    return msgspec.json.encode(value).decode("utf-8", "replace")


def _part(part: object) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    return _content(part)


def _messages(record: Json) -> list[Message]:
    messages: list[Message] = []

    def add(role: Role, value: object) -> None:
        content = _content(value)
        if content:
            messages.append(Message(role=role, text=Sensitive(content)))

    request = mapping(record, "request") or record
    add("system", request.get("system") or request.get("instructions"))
    for message in mappings(request, "messages"):
        role = _ROLES.get(text(message, "role").lower(), "other")
        add(role, message.get("content"))
        for call in mappings(message, "tool_calls"):
            add(role, mapping(call, "function").get("arguments"))
    for key in _PROMPT_KEYS:
        if not isinstance(request.get(key), dict):
            add("user", request.get(key))
    response = mapping(record, "response") or record
    for choice in mappings(response, "choices"):
        message = mapping(choice, "message")
        add("assistant", message.get("content") if message else choice.get("text"))
        for call in mappings(message, "tool_calls"):
            add("assistant", mapping(call, "function").get("arguments"))
    for key in _ANSWER_KEYS:
        if not isinstance(record.get(key), dict):
            add("assistant", record.get(key))
    return messages
