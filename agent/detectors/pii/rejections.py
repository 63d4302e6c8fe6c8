"""Why something that matches is not reported: named rules over a match and what stands around it.

Each rule is a pure function; the detector counts rejections by name, so that an operator can see what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

_NON_DIGIT = re.compile(r"[^0-9]")


class Candidate(NamedTuple):
    """`text[start:end]` looks like an `entity`; `context` are the recogniser's words, lower case.  `score` is what the
    pattern, its check and its context words gave."""

    entity: str
    text: str
    start: int
    end: int
    context: Sequence[str]
    score: float = 0.0

    @property
    def value(self) -> str:
        return self.text[self.start : self.end]

    @property
    def digits(self) -> str:
        return _NON_DIGIT.sub("", self.value)


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
_TECHNICAL_KEY = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:(?:trace|span|request|req|correlation|parent|session|block|blk|build|commit"
    r"|sha\d*|md5|hash|digest|checksum|crc|offset|size|bytes|length|len|count|total|duration|latency|elapsed|took|time"
    r"|timestamp|ts|epoch|nonce|seq|sequence|rev|revision|version|port|pid|tid|thread|uid|gid|inode|addr|ptr|seed|zxid)"
    r"(?:[ _-]?(?:id|ms|ns|us|sec|secs|seconds|nanos|millis|bytes|unix|nano|no|nr|number|index))*"
    r"[\"']?\s{0,2}[:=]\s{0,2}[\"']?)$"
)
_KEYED = re.compile(r"[:=]\s{0,2}[\"']?\Z")
_LETTER = re.compile(r"[A-Za-z]")
_ID_KEY = re.compile(r"(?:[a-z][_-]|[a-z](?=I)|(?<![A-Za-z]))(?i:id)[\"']?\s{0,2}[:=]\s{0,2}[\"']?$")
# What a phone number scores for its grouping alone (pii/phone.py).
_SHAPE_SCORE = 0.6
_CARD_WORD = re.compile(
    r"(?:(?<![A-Za-z])|(?<=[a-z])(?=C))(?i:(?:credit|debit|bank|payment)[ _-]?card|card(?:[ _-]?(?:no|nr|num|number))?"
    r"|visa|master[ _-]?card|maestro|amex|jcb|diners|credit|debit|kreditkarte|karten?(?:[ _-]?nummer)?|tarjeta"
    r"|carte (?:bancaire|bleue|de cr[eé]dit)|carta di credito)(?![A-Za-z])|(?<![A-Za-z])cc(?=[ ]?[:=#]|[ ]\d|[ ]?$)"
)
_OTHER_NUMBER = re.compile(
    r"(?:imei|imsi|iccid|serial|msisdn|isbn|ean|gtin|upc|sku|tracking"
    r"|(?:network|graphics|sim|sound|video|sd|memory|gpu|nic)[ _-]?card)"
    r"(?:[ _-]?(?:no|nr|number|num|id|is))*\W{0,4}(?:\w+\W{1,2}){0,2}$",
    re.IGNORECASE,
)
_NAMED_CARD_SHAPE = re.compile(r"\d{12,19}|\d{4}(?:[ -]?\d{2,7}){2,4}")
_NUMBER_BEFORE = re.compile(r"(?<![^\s(\[=])(?:0x)?(?=[0-9a-f]*\d)[0-9a-f.:]+[ ,;|]{1,3}$")
_NUMBER_BEHIND = re.compile(r"[ ,;|]{1,3}(?:0x)?(?=[0-9a-f]*\d)[0-9a-f.:]+(?![^\s)\],;])")
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
    is_bare = candidate.value.isdigit()  # a number with its own separators is not glued by others so easily
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return True
    if end + 1 < len(text) and text[end] in _GLUE and text[end] != ":":
        after = text[end + 1]
        if after.isdigit() or (
            after.isalnum() and candidate.entity != "PHONE_NUMBER" and (is_bare or text[end] != "/")
        ):
            return True
    if start and (text[start - 1].isalnum() or (text[start - 1] == "_" and is_bare)):
        return True
    return (
        start > 1
        and text[start - 1] in "-./_#"
        and (text[start - 2].isdigit() or (is_bare and (text[start - 2].isalnum() or text[start - 2] == "_")))
    )


def is_signed(candidate: Candidate) -> bool:
    """A number with a minus before it is a quantity or a hash, not an identifier."""
    text, start = candidate.text, candidate.start
    return start > 0 and text[start - 1] == "-" and (start == 1 or text[start - 2] in " =:(,[_\t")


def is_among_numbers(candidate: Candidate) -> bool:
    """A number in a row of numbers (`081110 001250 4631`, `0x7f 212 555`) is a column, unless a plus or a word names
    it."""
    if candidate.score > _SHAPE_SCORE:
        return False
    return bool(_NUMBER_BEFORE.search(candidate.text, max(0, candidate.start - 24), candidate.start)) or bool(
        _NUMBER_BEHIND.match(candidate.text, candidate.end)
    )


def is_named_technically(candidate: Candidate) -> bool:
    """Bare digits whose key says what they are: `trace_id=`, `"size": `, `duration_ns: `."""
    if not candidate.value.isdigit() or not _KEYED.search(candidate.text, max(0, candidate.start - 5), candidate.start):
        return False
    before = candidate.text[max(0, candidate.start - 40) : candidate.start]
    if candidate.entity in ("CREDIT_CARD", "PHONE_NUMBER") and _ID_KEY.search(before):
        return True
    return _TECHNICAL_KEY.search(before) is not None


def is_epoch(candidate: Candidate) -> bool:
    """Ten or thirteen digits that are a Unix time between 2001 and 2065."""
    value = candidate.value
    return value.isdigit() and len(value) in (10, 13) and 1_000_000_000 <= int(value[:10]) < 3_000_000_000


def is_no_card_shape(candidate: Candidate) -> bool:
    """Not grouped as cards are, or not of a range and length that a scheme uses."""
    digits = candidate.digits
    if _CARD_SHAPE.fullmatch(candidate.value) and any(
        prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_RANGES
    ):
        return False
    # Schemes have more ranges than are listed here: a word for it beside the number will do.
    is_shaped = 12 <= len(digits) <= 19 and _NAMED_CARD_SHAPE.fullmatch(candidate.value) is not None
    return not (is_shaped and digits[0] != "0" and _CARD_WORD.search(_around(candidate)))


def is_another_number(candidate: Candidate) -> bool:
    """A number whose word says that it is no card: an IMEI passes the same check."""
    before = candidate.text[max(0, candidate.start - 40) : candidate.start]
    return _LETTER.search(before) is not None and _OTHER_NUMBER.search(before) is not None


def _around(candidate: Candidate) -> str:
    """What stands near the number, without it."""
    text = candidate.text
    before = text[max(0, candidate.start - _BEFORE_CHARACTERS) : candidate.start]
    return f"{before} {text[candidate.end : candidate.end + _AFTER_CHARACTERS]}"


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
    ("other_number", is_another_number, lambda entity: entity == "CREDIT_CARD"),
    ("card_shape", is_no_card_shape, lambda entity: entity == "CREDIT_CARD"),
    (
        "part_of_longer",
        is_part_of_longer,
        lambda entity: entity in _NUMBERS or entity.endswith(("_ID", "_NUMBER", "_LICENSE", "PASSPORT")),
    ),
    ("technical_key", is_named_technically, lambda entity: entity in _NUMBERS or entity.endswith(("_ID", "_NUMBER"))),
    ("signed", is_signed, lambda entity: entity in _NUMBERS or entity.endswith(("_ID", "_NUMBER", "PASSPORT"))),
    ("among_numbers", is_among_numbers, lambda entity: entity in ("PHONE_NUMBER", "UK_NHS")),
    ("epoch", is_epoch, lambda entity: entity in ("UK_NHS", "PHONE_NUMBER", "US_NPI")),
    ("repeated", is_repeated, lambda entity: entity in _NUMBERS),
    ("version", is_no_address, lambda entity: entity == "IP_ADDRESS"),
)
"""(name, rule, which entities it concerns), in the order they are tried."""


def rejection_of(candidate: Candidate) -> str:
    """The name of the first rule that rejects the candidate; empty if none does."""
    for name, rule in _rules_of(candidate.entity):
        if rule(candidate):
            return name
    return ""


def has_rules(entity: str) -> bool:
    """Whether any rule concerns the entity."""
    return bool(_rules_of(entity))


@lru_cache(1024)
def _rules_of(entity: str) -> tuple[tuple[str, Callable[[Candidate], bool]], ...]:
    return tuple((name, rule) for name, rule, concerns in RULES if concerns(entity))
