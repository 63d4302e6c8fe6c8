r"""Text folded to ASCII of the same length, for engines that know ASCII best.

A letter beyond ASCII becomes `_`, a digit `0`, a blank a form feed, anything else a DEL: characters that behave alike
under `\w`, `\d`, `\s` and `\b`, and that patterns do not name.  `syntax.py` finds out which patterns name them after
all; those run on the original.  What is a letter or a digit is asked of the `regex` module, because Presidio's patterns
are compiled with it.  The few characters that equal an ASCII letter without regard to case (the long s, the Kelvin
sign) become that letter.
"""

from __future__ import annotations

import re
import string
from typing import Literal, NamedTuple, TypeAlias

import regex

Kind: TypeAlias = Literal["letter", "digit", "blank", "other", "turkish"]
# The dotted capital and the dotless small I equal an `i` in some classes of the `regex` module and not in others: a
# what the prefilter lets through is left to that module.
TURKISH: Kind = "turkish"
EXAMPLES: dict[Kind, tuple[str, str]] = {
    "letter": ("\u00e9", "_"),
    "digit": ("\u0663", "0"),
    "blank": ("\u00a0", "\x0c"),
    "other": ("\u2020", "\x7f"),
}
"""Of each kind an example and its stand-in."""

# Blanks to Python that other engines do not count as such, and the stand-in itself.
_ODD_ASCII = "\x0b\x1c\x1d\x1e\x1f"
_WORD, _DIGIT, _BLANK = regex.compile(r"\w"), regex.compile(r"\d"), regex.compile(r"\s")
_EQUALS_ASCII = regex.compile("[a-z]", regex.IGNORECASE)
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_FOREIGN_DIGIT = regex.compile(r"[^\P{Nd}0-9]")
_FOREIGN_BLANK = regex.compile(r"[^\S \t\n\r\f]")


class _Table(dict[int, str]):
    """Code point to its stand-in, found when first met.  At most one entry for each code point there is."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _stand_in(chr(code))
        return found


def _stand_in(character: str) -> str:
    if character < "\x80" and character not in _ODD_ASCII:
        return character
    if character in "\u0130\u0131":
        return "i"
    if _EQUALS_ASCII.match(character):
        return next(one for one in string.ascii_lowercase if regex.match(one, character, regex.IGNORECASE))
    if _DIGIT.match(character):
        return EXAMPLES["digit"][1]
    if _WORD.match(character):
        return EXAMPLES["letter"][1]
    if _BLANK.match(character):
        return EXAMPLES["blank"][1]
    return EXAMPLES["other"][1]


_TABLE = _Table()
_ASCII_KINDS: frozenset[Kind] = frozenset()
_BLANK_KIND: frozenset[Kind] = frozenset({"blank"})
_ALWAYS: frozenset[Kind] = frozenset({"letter", "other"})


class Folded(NamedTuple):
    """`octets` has one octet for each character of the text; `kinds` are the kinds that were folded."""

    octets: bytes
    kinds: frozenset[Kind]


def folded(text: str) -> Folded:
    """The text in ASCII."""
    if text.isascii():
        octets = text.encode()
        if not any(odd in text for odd in _ODD_ASCII):
            return Folded(octets, _ASCII_KINDS)
        return Folded(text.translate(_TABLE).encode(), _BLANK_KIND)
    kinds = _ALWAYS
    if "\u0130" in text or "\u0131" in text:
        kinds |= {TURKISH}
    if _FOREIGN_DIGIT.search(text):
        kinds |= {"digit"}
    if _FOREIGN_BLANK.search(text):
        kinds |= {"blank"}
    if any(odd in text for odd in _ODD_ASCII):
        return Folded(text.translate(_TABLE).encode(), kinds | _BLANK_KIND)
    return Folded(_FOREIGN.sub(lambda run: run.group().translate(_TABLE), text).encode(), kinds)
