r"""Encoded text to the text a person meant, with the way back to every character.

JSON in JSON, `\u` escapes, Python reprs and percent-encoded queries all hide values from a pattern.  `flatten` undoes
such escapes where they stand, again until none is left, and keeps for each character where it came from.  Structure
(quotes, braces, keys) stays, so that a key is context for its value, and broken or cut JSON is no special case.
Masking is `mask.py`'s.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

# The deepest met in recordings: tool-call arguments in a message in a log line in a JSON log.
MAX_DEPTH = 5

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[nrtbf\"'/\\])"
    r"|(?:%[0-9A-Fa-f]{2})+"
)
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
# A query after `?`, or a form (`a=b&c=d`).  Bounded and possessive: linear on any text.
_QUERY = re.compile(
    r"(?:\?|(?<![\w%+.=&\[\]-])(?=[\w.-]{1,64}+=[^\s\"'<>&]{0,2048}+&))"
    r"[\w.\[\]%-]{1,64}+=[^\s\"'<>]{0,16384}+"
)


@dataclass(frozen=True, slots=True)
class Flat:
    """`text` and, if it differs from the original, each character's origin (start and end offsets there)."""

    text: str
    starts: array[int] | None = None
    ends: array[int] | None = None

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original text of `text[start:end]`; whole escapes are included.  Wants start < end."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def _decoded(escape: str) -> list[tuple[str, int]]:
    """The characters an escape stands for, each with the length of its share."""
    if escape[0] == "%":
        octets = bytes.fromhex(escape.replace("%", ""))
        # Octets that are no UTF-8 stand for themselves (surrogateescape keeps one character for each).
        characters = octets.decode("utf-8", "surrogateescape")
        return [
            ("\ufffd", 3) if "\udc80" <= character <= "\udcff" else (character, 3 * len(character.encode()))
            for character in characters
        ]
    kind = escape[1]
    if kind == "u" and len(escape) == 12:
        high, low = int(escape[2:6], 16), int(escape[8:12], 16)
        return [(chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12)]
    if kind in "uUx":
        point = int(escape[2:], 16)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            return [("\ufffd", len(escape))]
        return [(chr(point), len(escape))]
    return [(_SIMPLE.get(kind, kind), 2)]


def _once(flat: Flat) -> Flat | None:
    """One level of escapes undone; None if there was none."""
    text = flat.text
    matches = list(_ESCAPE.finditer(text))
    if not matches:
        return None
    parts: list[str] = []
    starts = array("I")
    ends = array("I")
    old_starts = flat.starts if flat.starts is not None else array("I", range(len(text)))
    old_ends = flat.ends if flat.ends is not None else array("I", range(1, len(text) + 1))
    done = 0
    for match in matches:
        decoded = _decoded(match.group())
        at = match.start()
        parts.append(text[done:at])
        starts.extend(old_starts[done:at])
        ends.extend(old_ends[done:at])
        for character, share in decoded:
            parts.append(character)
            starts.append(old_starts[at])
            ends.append(old_ends[at + share - 1])
            at += share
        done = match.end()
    parts.append(text[done:])
    starts.extend(old_starts[done:])
    ends.extend(old_ends[done:])
    return Flat("".join(parts), starts, ends)


def _spaces_for_plus(text: str) -> str:
    """`+` is a space in a query string; the length stays."""
    if "+" not in text or "=" not in text:
        return text
    return _QUERY.sub(lambda match: match.group().replace("+", " "), text)


def flatten(text: str) -> Flat:
    """The text with its escapes undone, up to `MAX_DEPTH` levels.  Linear in the length for each level."""
    flat = Flat(_spaces_for_plus(text))
    for _ in range(MAX_DEPTH):
        if "\\" not in flat.text and "%" not in flat.text:
            break
        deeper = _once(flat)
        if deeper is None:
            break
        flat = deeper
    return flat
