"""JSON that breaks off: completed as shortly as can be, or its strings one by one.

A body over the limit, a stream that was closed early and a connection that was lost all end within a value.
"""

from __future__ import annotations

import json
import re
from typing import Any

_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)("|\\?\Z)', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_BEGUN_LETTER = re.compile(r"u[0-9a-fA-F]{0,3}\Z")
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])')
_WORDS = "0123456789.+-eEtrufalsn"  # of which numbers, true, false and null are made
_CLOSING = {"{": "}", "[": "]"}
_STRINGS = 50_000


def value_of(text: str) -> Any:
    """The value of JSON text; None if it is none."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def completed(text: str) -> Any:
    """The object or array of JSON that breaks off, as far as it goes; None if it was no JSON before that."""
    if text.lstrip()[:1] not in _CLOSING:
        return None
    open_ones: list[str] = []
    is_in_string = False
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in _CLOSING:
            open_ones.append(_CLOSING[token])
        elif token in ("}", "]"):
            if not open_ones or open_ones.pop() != token:
                return None
        else:
            is_in_string = found.end() == len(text) and (len(token) == 1 or not _ends(token))
    if not open_ones:
        return None
    start = _without_begun_escape(text) + '"' if is_in_string else text.rstrip()
    word = start.rstrip(_WORDS).rstrip()
    closing = "".join(reversed(open_ones))
    for ending in (start, start.removesuffix(","), start + ":null", start + "null", word + "null"):
        if (value := value_of(ending + closing)) is not None:
            return value
    return None


def _ends(token: str) -> bool:
    """Whether a string token has its closing quote."""
    found = _STRING.fullmatch(token)
    return found is not None and found[2] == '"'


def strings_of(text: str) -> list[str]:
    """Strings of broken JSON, one by one, with the key before each dropped."""
    found: list[str] = []
    for one in _STRING.finditer(text):
        is_key = text[one.end() : one.end() + 12].lstrip().startswith(":")
        if not is_key and len(found) < _STRINGS:
            found.append(_unescaped(one[1]))
    return found


def _unescaped(raw: str) -> str:
    """A string's text; where it holds escapes that are none, all others are undone."""
    raw = _without_begun_escape(raw)
    value = value_of(f'"{raw}"')
    return value if isinstance(value, str) else _ESCAPE.sub(lambda escape: str(value_of(f'"{escape[0]}"')), raw)


def _without_begun_escape(text: str) -> str:
    """The text of a string without an escape that breaks off at its end."""
    begun = _BEGUN_LETTER.search(text[-4:])
    head = text[: -len(begun[0])] if begun else text
    backslashes = len(head) - len(head.rstrip("\\"))
    return head[:-1] if backslashes % 2 else text
