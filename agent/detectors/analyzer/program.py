"""Presidio's recognisers as a table that the analyzer runs: patterns, scores, context words and validators.

Everything is read from the recognisers' own attributes, so an upgrade of Presidio, or a recogniser that a user adds,
changes nothing here.  A recogniser whose `analyze` is its own is run as it is (`Foreign`); Presidio's IBAN recogniser
is the one exception, since it only tries each match at several lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import regex

from agent.detectors.analyzer.budget import CHARACTERS, CHARACTERS_OF_LARGE, Budget
from agent.detectors.analyzer.fold import Folded, folded
from agent.detectors.analyzer.fold import Kind as FoldKind
from agent.detectors.analyzer.linear import Spans, linear
from agent.detectors.analyzer.syntax import forms_of
from agent.detectors.presidio import lean

lean.load()

from presidio_analyzer import EntityRecognizer, PatternRecognizer, predefined_recognizers  # noqa: E402 - lean first

Kind: TypeAlias = Literal["pattern", "iban", "phone", "foreign"]
VALUE = "value"
Check: TypeAlias = Callable[[str], bool | None]
# Values come again: one address in a thousand lines.  Each cache holds at most this many values.
_CACHED_VALUES, _CACHED_CHARACTERS = 4096, 128


class Unbounded(Exception):
    """A pattern ran out of the time it was given."""


class PatternRow:
    """One pattern of a recogniser."""

    __slots__ = (
        "_compiled",
        "_flags",
        "_linear",
        "_regex",
        "_relaxed",
        "_value",
        "blind",
        "guards",
        "number",
        "owner",
        "prefilter",
        "score",
        "unsafe",
    )

    def __init__(self, number: int, owner: int, pattern: Any, flags: int) -> None:
        self.number = number
        self.owner = owner
        self.score: float = pattern.score
        forms = forms_of(
            pattern.regex,
            ignore_case=bool(flags & regex.IGNORECASE),
            multiline=bool(flags & regex.MULTILINE),
            dot_all=bool(flags & regex.DOTALL),
        )
        is_plain = not flags & ~(regex.IGNORECASE | regex.MULTILINE | regex.DOTALL | regex.UNICODE | regex.V0)
        self.prefilter = forms.prefilter if is_plain else None
        self.unsafe: frozenset[FoldKind] = forms.unsafe
        self.blind: frozenset[FoldKind] = forms.blind
        self._linear: Spans | None = linear(forms.linear) if is_plain and forms.linear else None
        self._relaxed: Spans | None = linear(forms.relaxed) if self._linear and forms.relaxed else None
        self.guards = forms.guards if self._relaxed else ()
        self._regex: str = pattern.regex
        # A pattern of ours may name the part that is the value; Presidio's have no such group.
        self._value = VALUE if f"(?P<{VALUE}>" in pattern.regex else 0
        self._flags = flags
        self._compiled: Any = None  # made when first needed: half a second for the URL patterns

    @property
    def is_linear(self) -> bool:
        """Whether it runs in linear time on ASCII text."""
        return self._linear is not None

    def spans(self, text: str, fold: Folded, budget: Budget, *, is_guarded: bool) -> Iterator[tuple[int, int]]:
        """All matches, as Presidio's own search gives them.  `is_guarded`: no guard of the pattern was hit.  Raises
        Unbounded and Exhausted."""
        if self._linear is None or self._value or (fold.kinds and self.unsafe & fold.kinds):
            return (match.span(self._value) for match in self.matches(text, budget))
        if self._relaxed is not None and is_guarded:
            return self._relaxed(fold.octets)
        return self._linear(fold.octets)

    def matches(self, text: str, budget: Budget) -> Iterator[Any]:
        """The same as match objects, by the engine that Presidio uses.  Raises Unbounded and Exhausted."""
        if self._compiled is None:
            self._compiled = regex.compile(self._regex, self._flags)
        budget.spend(len(text) // (CHARACTERS if self._linear is None else CHARACTERS_OF_LARGE))
        try:
            yield from self._compiled.finditer(text, timeout=budget.seconds)
        except TimeoutError as error:
            raise Unbounded from error


class Row:
    """One recogniser: its entity, context words, checks and threshold, and what must be in a text for it to run."""

    __slots__ = (
        "context",
        "entity",
        "gate",
        "invalidate",
        "kind",
        "number",
        "recognizer",
        "threshold",
        "validate",
        "words",
    )

    def __init__(self, number: int, recognizer: Any) -> None:
        self.number = number
        self.recognizer = recognizer
        self.kind = _kind_of(recognizer)
        self.entity: str = recognizer.supported_entities[0]
        self.context: tuple[str, ...] = tuple(dict.fromkeys(word.lower() for word in recognizer.context or ()))
        thresholds: dict[str, float] = getattr(recognizer, "score_thresholds", None) or {}
        self.threshold: float = thresholds.get(self.entity, thresholds.get("default", 0.0))
        self.validate = _own(recognizer, "validate_result")
        self.invalidate = _own(recognizer, "invalidate_result")
        # A recogniser of ours with code of its own says what its findings always hold (`gate`, for the prefilter),
        # and which words it wants to see (`keywords`).
        self.gate: str = getattr(recognizer, "gate", "")
        self.words: tuple[str, ...] = tuple(getattr(recognizer, "keywords", ()))


class Program(NamedTuple):
    """`rows` by their number, and the patterns of those that are patterns."""

    rows: tuple[Row, ...]
    patterns: tuple[PatternRow, ...]


def _own(recognizer: Any, name: str) -> Check | None:
    """A recogniser's own check, with a memory; None if it has only the base's, which says nothing."""
    bound = getattr(recognizer, name, None)
    if bound is None or getattr(bound, "__func__", None) is getattr(PatternRecognizer, name):
        return None
    check: Check = bound
    cached: Check = lru_cache(_CACHED_VALUES)(bound)
    return lambda value: cached(value) if len(value) <= _CACHED_CHARACTERS else check(value)


def _kind_of(recognizer: Any) -> Kind:
    """How a recogniser is run.  One that changes how results are made or boosted is run by its own code."""
    own = type(recognizer)
    if own.enhance_using_context is not EntityRecognizer.enhance_using_context or "analyze" in vars(recognizer):
        return "foreign"
    if isinstance(recognizer, PatternRecognizer):
        if own.analyze is PatternRecognizer.analyze:
            return "pattern"
        if own is predefined_recognizers.IbanRecognizer:
            return "iban"
    if own is predefined_recognizers.PhoneRecognizer:
        return "phone"
    return "foreign"


def program_of(recognizers: Iterable[Any]) -> Program:
    """The table of a list of recognisers, in their order."""
    rows: list[Row] = []
    patterns: list[PatternRow] = []
    for number, recognizer in enumerate(recognizers):
        row = Row(number, recognizer)
        rows.append(row)
        if row.kind in ("pattern", "iban"):
            for pattern in recognizer.patterns:
                patterns.append(PatternRow(len(patterns), number, pattern, int(recognizer.global_regex_flags)))
    return Program(tuple(rows), tuple(patterns))


def words_pattern(words: Sequence[str]) -> str:
    """A prefilter pattern that is there wherever one of the words is, in any case; empty for no words."""
    octets = (folded(word).octets for word in words if word)
    quoted = "|".join("".join(f"\\x{octet:02x}" for octet in one) for one in octets)
    return f"(?i)(?:{quoted})" if quoted else ""
