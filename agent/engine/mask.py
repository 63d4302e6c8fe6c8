"""Found values out of a text, its form kept: valid JSON stays valid JSON.

A value becomes `[ENTITY]`.  Where values overlap, the longer one names the place.  In JSON a bare number is replaced by
a string, a span that crosses a quote is masked inside each string it touches, and JSON inside a string is masked as
JSON and put back.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

Span: TypeAlias = tuple[int, int, str]
"""Start and end in the text, and the name to put there."""

_JSON_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u....|.)", re.DOTALL)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[-+.\w]++', re.DOTALL)


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
    nested_starts: set[int] = set()
    plain_starts: set[int] = set()
    for start, end, name in spans:
        index = max(bisect_right(firsts, start) - 1, 0)
        while index < len(tokens) and tokens[index][0] < end:
            token_start, token_end = tokens[index]
            index += 1
            if text[token_start] == '"':
                if token_start in nested_starts:
                    continue
                if token_start not in plain_starts:
                    nested = _nested_edit(text, token_start + 1, token_end - 1, spans)
                    if nested is not None:
                        nested_starts.add(token_start)
                        edits.append(nested)
                        continue
                    plain_starts.add(token_start)
                inner_start, inner_end = max(start, token_start + 1), min(end, token_end - 1)
                if inner_start < inner_end:
                    edits.append((inner_start, inner_end, f"[{name}]"))
            elif token_end > start and (not edits or edits[-1][0] != token_start):
                edits.append((token_start, token_end, f'"[{name}]"'))
    return edits


def _unescaped(literal: str) -> tuple[str, list[int]]:
    """A JSON string literal's content, and for each of its characters, and its end, the offset in the literal."""
    parts: list[str] = []
    origins: list[int] = []
    done = 0
    for match in _JSON_ESCAPE.finditer(literal):
        parts.append(literal[done : match.start()])
        origins.extend(range(done, match.start()))
        escape = match.group()
        is_code = escape[1] == "u"
        character = json.loads(f'"{escape}"') if is_code else _SIMPLE.get(escape[1], escape[1])
        parts.append(character)
        origins.extend([match.start()] * len(character))
        done = match.end()
    parts.append(literal[done:])
    origins.extend(range(done, len(literal) + 1))
    return "".join(parts), origins


def _nested_edit(text: str, start: int, end: int, spans: Sequence[Span]) -> Span | None:
    """The edit of a whole string literal that holds JSON itself; None if it holds none."""
    literal = text[start:end]
    if literal.lstrip()[:1] not in ("{", "["):
        return None
    content, origins = _unescaped(literal)
    if not _is_json(content):
        return None
    inner = [
        (bisect_left(origins, first - start), bisect_left(origins, last - start), name)
        for first, last, name in ((max(one[0], start), min(one[1], end), one[2]) for one in spans)
        if first < last
    ]
    return start, end, json.dumps(masked(content, inner), ensure_ascii=literal.isascii())[1:-1]


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
