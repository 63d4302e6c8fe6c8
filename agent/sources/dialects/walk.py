"""Whose words stand where in a request's or an answer's JSON.

All APIs nest turns that name a role, and parts in them; the walk keeps the nearest role above a text.  Everything that
is not known to be no text is told: user ids, tags and metadata leak as well as messages do.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, TypeAlias

import msgspec

from agent.model import Role

Whose: TypeAlias = Role | Literal["call"]
"""A role; `call` is the assistant's, with what it wants a tool to do."""

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
}
# What stands under these keys is somebody's, whatever the turn around it says.
_KEY_ROLES: dict[str, Whose] = {
    "system": "system",
    "system_prompt": "system",
    "systemprompt": "system",
    "systeminstruction": "system",
    "system_instruction": "system",
    "instructions": "system",
    "preamble": "system",
    "prompt": "user",
    "suffix": "user",
    "question": "user",
    "query": "user",
    "text_input": "user",
    "inputtext": "user",
    "tool_calls": "call",
    "tooluse": "call",
    "functioncall": "call",
    "function_call": "call",
    "functionresponse": "tool",
    "function_response": "tool",
    "toolresult": "tool",
    "tool_result": "tool",
    "tool_results": "tool",
    "tool_outputs": "tool",
    "documents": "document",
    "document": "document",
    "context": "document",
    "searchresult": "document",
    "generated_text": "assistant",
    "completion": "assistant",
    "tools": "other",
    "toolconfig": "other",
    "metadata": "other",
    "requestmetadata": "other",
    "error": "other",
    "headers": "other",
}
_TYPE_ROLES: dict[str, Whose] = {
    "function_call_output": "tool",
    "custom_tool_call_output": "tool",
    "tool_result": "tool",
    "mcp_tool_result": "tool",
    "web_search_tool_result": "document",
    "search_result": "document",
    "document": "document",
    "function_call": "call",
    "tool_use": "call",
    "server_tool_use": "call",
    "mcp_tool_use": "call",
    "input_json_delta": "call",
    "response.function_call_arguments.delta": "call",
    "reasoning": "assistant",
    "thinking": "assistant",
    "output_text": "assistant",
}
# Names, numbers of things and settings: made by programs, and the same in every call.
_NO_TEXT = frozenset(
    {
        "role",
        "type",
        "object",
        "model",
        "modelid",
        "modelversion",
        "finish_reason",
        "finishreason",
        "stop_reason",
        "stopreason",
        "done_reason",
        "created",
        "created_at",
        "encoding_format",
        "response_format_type",
        "obfuscation",
        "p",
        "system_fingerprint",
        "service_tier",
        "signature",
        "thoughtsignature",
        "encrypted_content",
        "embedding",
        "logprobs",
        "top_logprobs",
        "jsonrpc",
        "anthropic_version",
        "media_type",
        "mimetype",
        "mime_type",
        "format",
        "object_type",
        "event_type",
        "is_finished",
        "status",
        "tool_choice",
        "cache_control",
        "context_ids",
    }
)
_IDENTIFIERS = re.compile(r"(?:.*_)?id|.*Id|call_id|responseId|fingerprint")
_BASE64 = re.compile(r"(?:data:[\w./+-]+;base64,)?[A-Za-z0-9+/=_\-\r\n]{256,}")
_DEPTH = 40
_NESTED_BYTES = 1024 * 1024
_DISCRIMINATORS = ("type", "event_type", "index", "output_index", "content_index", "contentBlockIndex", "item_id")
# A streamed part that is told again as a whole at its end.
_REPEATED = re.compile(r"response\.(?:.*\.done|completed|incomplete|created|in_progress|queued|output_item\.added)")


class Said(msgspec.Struct):
    """A text, its path (a key for joining streamed parts), and whose it is."""

    role: Whose
    path: str
    text: str


def walk(value: Any, role: Whose) -> list[Said]:
    """Every text of a JSON value in order; `role` is whose words they are where nothing says more."""
    found: list[Said] = []
    _walk(value, role, "", found, _DEPTH)
    return found


def _is_text(key: str, text: str) -> bool:
    if not text or not text.strip() or key.lower() in _NO_TEXT:
        return False
    if _IDENTIFIERS.fullmatch(key) and not key.lower().startswith(("user", "session", "end_user", "customer")):
        # An identifier is a text only if it says more than a random name does.
        return "@" in text or " " in text
    return not (len(text) > 256 and _BASE64.fullmatch(text))


def _walk(value: Any, role: Whose, path: str, found: list[Said], depth: int, key: str = "") -> None:
    if not depth:
        return
    if isinstance(value, str):
        _take(value, role, path, found, depth, key)
    elif isinstance(value, dict):
        role = _role_of(value, role)
        mark = "".join(f"<{name}={value[name]}>" for name in _DISCRIMINATORS if isinstance(value.get(name), (str, int)))
        for name, inner in value.items():
            lower = name.lower()
            own: Whose | None = _KEY_ROLES.get(lower)
            if own == "user" and not isinstance(inner, (str, list)):
                own = None
            _walk(inner, own or role, f"{path}{mark}.{name}", found, depth - 1, name)
    elif isinstance(value, list):
        if len(value) > 16 and all(isinstance(one, (int, float)) for one in value[:16]):
            return  # tokens or a vector
        for position, inner in enumerate(value):
            has_index = isinstance(inner, dict) and isinstance(inner.get("index"), int)
            _walk(inner, role, f"{path}[{'' if has_index else position}]", found, depth - 1, key)


def _role_of(value: dict[str, Any], role: Whose) -> Whose:
    named = value.get("role")
    if isinstance(named, str) and (own := _ROLES.get(named.lower())):
        role = own
    kind = value.get("type")
    return _TYPE_ROLES.get(kind, role) if isinstance(kind, str) else role


def _take(text: str, role: Whose, path: str, found: list[Said], depth: int, key: str) -> None:
    if not _is_text(key, text):
        return
    nested = nested_json(text)
    if nested is None:
        found.append(Said(role, path, text))
        return
    # Its texts, decoded, are what people would call the text; its own names add nothing.
    inner: list[Said] = []
    _walk(nested, role, path, inner, depth - 1, key)
    found += inner or [Said(role, path, text)]


def nested_json(text: str) -> Any:
    """The value of a text that is a JSON object or array; None if it is none."""
    start = text[:64].lstrip()[:1]
    if start not in ("{", "[") or len(text) > _NESTED_BYTES:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if value and isinstance(value, (dict, list)) else None


def joined(events: list[Any], role: Whose) -> list[Said]:
    """The texts of streamed JSON events: parts with the same place in their events are one text."""
    together: dict[tuple[Whose, str], list[str]] = {}
    told_again = any(_kind(event).endswith(".delta") for event in events)
    for event in events:
        if told_again and _REPEATED.fullmatch(_kind(event)):
            continue
        parts: list[Said] = []
        _walk_parts(event, role, "", parts, _DEPTH)
        for part in parts:
            together.setdefault((part.role, part.path), []).append(part.text)
    said: list[Said] = []
    for (whose, path), pieces in together.items():
        _take("".join(pieces), whose, path, said, _DEPTH, "")
    return said


def _kind(event: Any) -> str:
    kind = event.get("type", "") if isinstance(event, dict) else ""
    return kind if isinstance(kind, str) else ""


def _walk_parts(value: Any, role: Whose, path: str, found: list[Said], depth: int, key: str = "") -> None:
    """As `_walk`, but a blank part counts, and a part that looks like JSON is no JSON yet."""
    if isinstance(value, str):
        if value and key.lower() not in _NO_TEXT and not _IDENTIFIERS.fullmatch(key):
            found.append(Said(role, path, value))
    elif isinstance(value, dict) and depth:
        role = _role_of(value, role)
        mark = "".join(f"<{name}={value[name]}>" for name in _DISCRIMINATORS if isinstance(value.get(name), (str, int)))
        for name, inner in value.items():
            _walk_parts(inner, _KEY_ROLES.get(name.lower()) or role, f"{path}{mark}.{name}", found, depth - 1, name)
    elif isinstance(value, list) and depth:
        if len(value) > 16 and all(isinstance(one, (int, float)) for one in value[:16]):
            return
        for position, inner in enumerate(value):
            has_index = isinstance(inner, dict) and isinstance(inner.get("index"), int)
            _walk_parts(inner, role, f"{path}[{'' if has_index else position}]", found, depth - 1, key)
