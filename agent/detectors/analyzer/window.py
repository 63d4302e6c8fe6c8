"""The words round a match that Presidio looks at for context: the token it begins in, five keywords before it, and
one after.

Presidio builds the tokens of the whole text and walks all of them for every match.  Here the text is cut into chunks
at blanks, and only chunks near a match are split into tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from agent.detectors.analyzer.budget import WINDOW, Budget
from agent.detectors.analyzer.merging import Found
from agent.detectors.analyzer.tokens import Split, Tokens

_CHUNK = re.compile(r"\S+")
# Chunks with a colon that more than ends a word.
_PAIR = re.compile(r"(?<!\S)[^\s:]*+:(?:(?<![^\W_]:)|(?=\S))\S*")
_BACKWARD = 6  # five words, and the match's own token


class Windows:
    """The context of places in one text.  Costly chunks spend the text's budget: every method raises Exhausted."""

    def __init__(self, text: str, split: Split, budget: Budget) -> None:
        self._text = text
        self._split = split
        self._budget = budget
        self._spans = [match.span() for match in _CHUNK.finditer(text)]
        self._starts = [start for start, _ in self._spans]
        self._has_pairs = ":" in text
        self._pairs: list[tuple[int, str]] | None = None  # chunks with a pair, by number, lower case
        self._pieces: dict[str, bool] = {}
        self._known: dict[tuple[int, int], str] = {}
        self._chunks: dict[int, tuple[int, Tokens]] = {}

    def words(self, at: int) -> str:
        """The context words of a match that begins at a place, lower case, joined by line ends."""
        if not self._spans:
            return self._text.lower()
        number = max(bisect_right(self._starts, at) - 1, 0)
        if at >= self._spans[number][1] and number + 1 < len(self._spans):
            number += 1  # a match that begins with a blank: spaCy counts the blank to the next token
        start, tokens = self._chunk(number)
        index = 0
        while index < len(tokens) - 1 and start + tokens[index].end <= at:
            index += 1
        key = (number, index)
        known = self._known.get(key)
        if known is None:
            self._budget.spend(WINDOW)
            known = self._known[key] = self._around(number, index)
        return known

    def _chunk(self, number: int) -> tuple[int, Tokens]:
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = self._parted(number)
        return chunk

    def _parted(self, number: int) -> tuple[int, Tokens]:
        """Where a chunk begins and its tokens, with the token of odd blanks before it if there is one."""
        start, end = self._spans[number]
        before = self._spans[number - 1][1] if number else 0
        tokens = self._split(self._text[start:end], self._budget)
        if start > before + (1 if number else 0) or (start > before and self._text[before] != " "):
            gap = before + 1 if number and self._text[before] == " " else before
            if gap < start:
                width = start - gap
                blank = self._split(self._text[gap:start], self._budget)
                moved = tuple(token._replace(end=token.end + width) for token in tokens)
                return gap, (*blank, *moved)
        return start, tokens

    def _around(self, number: int, index: int) -> str:
        words: list[str] = []
        chunk, at = number, index
        start, tokens = self._chunk(chunk)
        while True:
            while at >= 0:
                word = self._keyword(start, tokens, at)
                if word:
                    words.append(word)
                    if len(words) == _BACKWARD:
                        break
                at -= 1
            if len(words) == _BACKWARD or chunk == 0:
                break
            chunk -= 1
            start, tokens = self._chunk(chunk)
            at = len(tokens) - 1
        chunk, at = number, index
        start, tokens = self._chunk(chunk)
        while True:
            word = ""
            while at < len(tokens) and not word:
                word = self._keyword(start, tokens, at)
                at += 1
            if word:
                words.append(word)
                break
            chunk += 1
            if chunk == len(self._spans):
                break
            start, tokens = self._chunk(chunk)
            at = 0
        return "\n".join(words)

    def _keyword(self, start: int, tokens: Tokens, index: int) -> str:
        """The token in lower case if it is a keyword, else nothing."""
        token = tokens[index]
        begin = start + (tokens[index - 1].end if index else 0)
        if token.is_keyword:
            return self._text[begin : start + token.end].lower()
        if not self._has_pairs:
            return ""
        word = self._text[begin : start + token.end].lower()
        return word if self._is_piece(word) else ""

    def _is_piece(self, word: str) -> bool:
        """Whether a word counts as a keyword in this text only because it is a part of a pair such as `a:b`."""
        known = self._pieces.get(word)
        if known is None:
            if self._pairs is None:
                self._pairs = [
                    (bisect_left(self._starts, match.start()), match.group().lower())
                    for match in _PAIR.finditer(self._text)
                ]
            known = self._pieces[word] = any(
                word in token.pieces
                for number, lower in self._pairs
                if f"{word}:" in lower or f":{word}" in lower
                for token in self._chunk(number)[1]
            )
        return known


# Presidio's LemmaContextAwareEnhancer: what a context word adds, and the least score with one.
CONTEXT_BONUS, CONTEXT_FLOOR = 0.35, 0.4


def boosted(windows: Windows, found: Found, context: Sequence[str]) -> Found:
    """The result with the bonus for a context word near it, if there is one."""
    words = windows.words(found[0])
    for word in context:
        if word in words:
            return found[0], found[1], with_bonus(found[2])
    return found


def with_bonus(score: float) -> float:
    """A score as a context word makes it."""
    return min(max(score + CONTEXT_BONUS, CONTEXT_FLOOR), 1.0)
