"""Found values out of a text, its form kept: valid JSON stays valid JSON.

A value becomes `[ENTITY]`.  Where values overlap, the longer one names the place.  In JSON a bare number is replaced by
a string, and a span that crosses a quote is masked inside each string it touches.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Span: TypeAlias = tuple[int, int, str]
"""Start and end in the text, and the name to put there."""

_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+', re.DOTALL)


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, overlapping ones joined under the name of the longest."""
    joined: list[Span] = []
    longest = 0
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if joined and start < joined[-1][1]:
            last_start, last_end, last_name = joined[-1]
            if end - start > longest:
                last_name, longest = name, end - start
            joined[-1] = (last_start, max(last_end, end), last_name)
        else:
            joined.append((start, end, name))
            longest = end - start
    return joined


def _is_json(text: str) -> bool:
    stripped = text.lstrip()
    if not stripped or stripped[0] not in "{[":
        return False
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _json_edits(text: str, spans: Sequence[Span]) -> list[Span]:
    """Edits (start, end, replacement) that keep JSON valid."""
    tokens = [match.span() for match in _JSON_TOKEN.finditer(text)]
    firsts = [start for start, _ in tokens]
    edits: list[Span] = []
    for start, end, name in spans:
        index = max(bisect_right(firsts, start) - 1, 0)
        while index < len(tokens) and tokens[index][0] < end:
            token_start, token_end = tokens[index]
            index += 1
            if text[token_start] == '"':
                inner_start, inner_end = max(start, token_start + 1), min(end, token_end - 1)
                if inner_start < inner_end:
                    edits.append((inner_start, inner_end, f"[{name}]"))
            elif token_end > start and (not edits or edits[-1][0] != token_start):
                edits.append((token_start, token_end, f'"[{name}]"'))
    return edits


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with each span replaced by its name in brackets."""
    if not spans:
        return text
    joined = merged(spans)
    edits = _json_edits(text, joined) if _is_json(text) else [(start, end, f"[{name}]") for start, end, name in joined]
    parts: list[str] = []
    done = 0
    for start, end, replacement in edits:
        parts += (text[done:start], replacement)
        done = end
    parts.append(text[done:])
    return "".join(parts)
