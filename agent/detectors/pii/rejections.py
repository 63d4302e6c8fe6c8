"""Why something that matches is not reported: named rules over a match and what stands around it.

Each rule is a pure function; the detector counts rejections by name, so that an operator can see what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """`text[start:end]` looks like an `entity`; `context` are the recogniser's words, lower case."""

    entity: str
    text: str
    start: int
    end: int
    context: Sequence[str]

    @property
    def value(self) -> str:
        return self.text[self.start : self.end]

    @property
    def digits(self) -> str:
        return re.sub(r"[^0-9]", "", self.value)


# Context may stand before the value ("NHS number: ...") or shortly after ("... is my NHS number").
_BEFORE_CHARACTERS = 72
_AFTER_CHARACTERS = 24

# ISO/IEC 7812 ranges in use: length by leading digits.
_CARD_RANGES: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = (
    (re.compile(r"4"), frozenset({13, 16, 19})),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), frozenset({16})),
    (re.compile(r"3[47]"), frozenset({15})),
    (re.compile(r"3(?:0[0-5]|[689])"), frozenset({14, 16})),
    (re.compile(r"6(?:011|4[4-9]|5)"), frozenset({16, 19})),
    (re.compile(r"35(?:2[89]|[3-8])"), frozenset({16})),
    (re.compile(r"62"), frozenset({16, 17, 18, 19})),
    (re.compile(r"50|5[6-9]|6"), frozenset({16, 18, 19})),
)
_CARD_SHAPE = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{13,19}")
_GLUE = frozenset("-./_:#+")


def has_context(candidate: Candidate) -> bool:
    """Whether one of the recogniser's words stands near the value, as a word of its own or a part of a key."""
    text = candidate.text
    before = text[max(0, candidate.start - _BEFORE_CHARACTERS) : candidate.start]
    around = f"{before} {text[candidate.end : candidate.end + _AFTER_CHARACTERS]}".lower()
    for word in candidate.context:
        at = around.find(word)
        while at >= 0:
            end = at + len(word)
            starts_word = at == 0 or not around[at - 1].isalpha()
            ends_word = end == len(around) or not around[end].isalpha() or len(word) > 4
            if starts_word and ends_word:
                return True
            at = around.find(word, at + 1)
    return False


def is_part_of_longer(candidate: Candidate) -> bool:
    """A number glued to more (`4111-2203-8812-0001-7`, `1.2.3.4.5`, decimals) is another number."""
    text, start, end = candidate.text, candidate.start, candidate.end
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return True
    if end + 1 < len(text) and text[end] in _GLUE and text[end + 1].isalnum() and text[end] not in ":":
        return True
    if start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return True
    return start > 1 and text[start - 1] in "-./_#" and text[start - 2].isalnum()


def is_epoch(candidate: Candidate) -> bool:
    """Ten or thirteen digits that are a Unix time between 2001 and 2065."""
    value = candidate.value
    return value.isdigit() and len(value) in (10, 13) and 1_000_000_000 <= int(value[:10]) < 3_000_000_000


def is_no_card_shape(candidate: Candidate) -> bool:
    """Not grouped as cards are, or not of a range and length that a scheme uses."""
    digits = candidate.digits
    if not _CARD_SHAPE.fullmatch(candidate.value):
        return True
    return not any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_RANGES)


def is_repeated(candidate: Candidate) -> bool:
    """One digit over and over is filling, not a number of a person."""
    return len(set(candidate.digits)) == 1


def is_no_address(candidate: Candidate) -> bool:
    """Loopback, unspecified and documentation-free checks are Presidio's; here: versions such as `v10.12.34.56`."""
    text, start, end = candidate.text, candidate.start, candidate.end
    before = text[max(0, start - 10) : start].lower()
    if re.search(r"(?:\bv|version[ =:]*|release[ =:]*)$", before):
        return True
    return text[end : end + 1] == "-" and text[end + 1 : end + 2].isalpha()


_NUMBERS = frozenset({"CREDIT_CARD", "US_SSN", "US_ITIN", "UK_NHS", "PHONE_NUMBER", "IBAN_CODE"})

RULES: tuple[tuple[str, Callable[[Candidate], bool], Callable[[str], bool]], ...] = (
    ("card_shape", is_no_card_shape, lambda entity: entity == "CREDIT_CARD"),
    (
        "part_of_longer",
        is_part_of_longer,
        lambda entity: entity in _NUMBERS or entity.endswith(("_ID", "_NUMBER", "_LICENSE", "PASSPORT")),
    ),
    ("epoch", is_epoch, lambda entity: entity in ("UK_NHS", "PHONE_NUMBER", "US_NPI")),
    ("repeated", is_repeated, lambda entity: entity in _NUMBERS),
    ("version", is_no_address, lambda entity: entity == "IP_ADDRESS"),
)
"""(name, rule, which entities it concerns), in the order they are tried."""


def rejection_of(candidate: Candidate) -> str:
    """The name of the first rule that rejects the candidate; empty if none does."""
    for name, rule, concerns in RULES:
        if concerns(candidate.entity) and rule(candidate):
            return name
    return ""
