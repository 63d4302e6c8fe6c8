"""Which recognisers can find something in a text at all, by words that must occur in it.

A recogniser is woken by any of its words, in any case, or by a digit, or always.  Cheap and never wrong: a recogniser
that is not woken would have found nothing, or nothing that its profile keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

_DIGIT = re.compile(r"\d")

Recognizer = TypeVar("Recognizer")


class Gate(NamedTuple):
    """`words` of which one must occur (none: no such demand), and whether a digit must."""

    words: tuple[str, ...] = ()
    needs_digit: bool = False


class Gates(Generic[Recognizer]):
    """Recognisers with their gates, asked for a text at once."""

    def __init__(self, gated: Iterable[tuple[Recognizer, Gate]]) -> None:
        self._order: list[Recognizer] = []
        self._always: list[int] = []
        self._digit: list[int] = []
        by_word: dict[str, list[int]] = {}
        needs_digit: set[int] = set()
        for number, (recognizer, gate) in enumerate(gated):
            self._order.append(recognizer)
            if gate.needs_digit:
                needs_digit.add(number)
            for word in gate.words:
                by_word.setdefault(word.lower(), []).append(number)
            if not gate.words:
                (self._digit if gate.needs_digit else self._always).append(number)
        self._by_word: Sequence[tuple[str, list[int]]] = tuple(by_word.items())
        self._needs_digit = needs_digit

    def woken(self, text: str) -> list[Recognizer]:
        """Recognisers to run on a text, in their order."""
        has_digit = _DIGIT.search(text) is not None
        awake = set(self._always)
        if has_digit:
            awake.update(self._digit)
        lowered = text.lower()
        for word, numbers in self._by_word:
            if word in lowered:
                awake.update(numbers)
        if not has_digit:
            awake -= self._needs_digit
        return [self._order[number] for number in sorted(awake)]
