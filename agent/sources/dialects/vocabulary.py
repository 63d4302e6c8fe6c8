"""Names in providers' JSON: whose words stand under them, which never hold words, and what looks like no words.

Tables, so that a provider's new name is one line.  How they are applied is `walk.py`'s.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from agent.model import Role

Whose: TypeAlias = Role | Literal["call"]
"""A role; `call` is the assistant's, with what it wants a tool to do."""

ROLES: dict[str, Role] = {
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
KEY_ROLES: dict[str, Whose] = {
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
    "arguments": "call",
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
TYPE_ROLES: dict[str, Whose] = {
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
    "mcp_call": "call",
    "custom_tool_call": "call",
    "input_json_delta": "call",
    "response.function_call_arguments.delta": "call",
    "reasoning": "assistant",
    "thinking": "assistant",
    "output_text": "assistant",
    "conversation.item.input_audio_transcription.delta": "user",
    "conversation.item.input_audio_transcription.completed": "user",
}
# Calls that are told together with what came of them.
RESULT_KEYS = frozenset({("mcp_call", "output")})
# What stands under these keys was written for a tool or by it: its names are not ours, and may be those of any value.
FREE_IN_CALLS = frozenset({"arguments", "args", "input"})
FREE_IN_RESULTS = frozenset({"response", "json", "structuredcontent"})
# Names, numbers of things and settings: made by programs, and the same in every call.
NO_TEXT = frozenset(
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
_PEOPLE = ("user", "session", "end_user", "customer")
_MEDIA = re.compile(r"data:(?:image|audio|video)/[\w.+-]+(?:;[\w=.+-]+)*,\S*", re.IGNORECASE)
_BASE64 = re.compile(r"(?:data:[\w./+-]+;base64,)?[A-Za-z0-9+/=_\-\r\n]{256,}")
# MIME's lines have 76 characters, PEM's 64; a list of numbers of people has shorter ones.
_LINE = 60


def is_identifier(key: str) -> bool:
    """Whether a key's values are identifiers: names that programs made, mostly."""
    return _IDENTIFIERS.fullmatch(key) is not None


def is_of_person(key: str) -> bool:
    """Whether a key's values tell who somebody is, even if they are identifiers."""
    return key.lower().startswith(_PEOPLE)


def is_media(text: str) -> bool:
    """Whether a text is an image, a sound or other bytes and not words."""
    if _MEDIA.fullmatch(text):
        return True
    if len(text) <= 256 or not _BASE64.fullmatch(text):
        return False
    is_mixed = text != text.lower() and text != text.upper()
    *lines, _ = text.split("\n")
    if not lines:  # 256 letters of both cases without a space
        return is_mixed
    has_digit = any("0" <= one <= "9" for one in text)
    return is_mixed and has_digit and "-" not in text and min(map(len, lines)) >= _LINE


def well_formed(text: str) -> str:
    """The text as Unicode that can be written.

    JSON may escape the halves of a letter (surrogates) apart: two that meet are joined, one alone is replaced.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
