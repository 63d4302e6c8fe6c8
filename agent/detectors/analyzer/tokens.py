r"""spaCy's tokens, for context words exactly as Presidio sees them, at a bounded cost.  The one door to spaCy.

spaCy splits a text at blanks and then each chunk by itself, so a chunk's tokens can be remembered.  A tokeniser is
slow on a chunk never seen (32 microseconds) and remembers every token for ever (2.7 KB each).  Here chunks are kept in
a bounded memory, long digit runs are made alike first (no rule of spaCy's tells one from another), and the tokeniser
is thrown away when it has seen too much.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from agent.detectors.analyzer.budget import Budget

_CACHED_CHUNKS = 8192
# spaCy's string store grows by 2.7 KB for every new token: 54 MB at most, then a new tokeniser is made.
_CHUNKS_PER_TOKENIZER = 20_000
# What tells a chunk from another to spaCy's rules, where digits are concerned: a clock time or a heart (`10am` and
# `<33` are rules of their own), and an address (its rule for URLs reads the octets) in which something may part.
_CLOCK = re.compile(r"[0-9][ap]|<3", re.IGNORECASE)
_ADDRESS = re.compile(r"[0-9]\.[0-9]+\.[0-9]")
_MAY_SPLIT = re.compile(r"[a-zA-Z+\-*^]")
_DIGITS = re.compile(r"[0-9]{2,}")
_UNKNOWN_NUMBER = re.compile(r"(?<!<)(?<![0-9])[0-9]{2,}(?![0-9])(?!a|p)")
_HEXADECIMAL = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8,}(?![0-9A-Za-z])")
# Words that spaCy's rules leave whole, with one sign that they part from them; looked up in its exceptions first.
_PLAIN_WORD = re.compile(r"[A-Za-z]+[,;:!?]?|[a-z]{2,}\.")
_LAST_LETTERS = re.compile(r"[A-Fa-f]*$")
# Longer chunks are not remembered.
_SHORT_CHUNK = 256
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIGNS_BEFORE = re.compile(r"[\W_]*")
_SIGNS_BEHIND = re.compile(r"(?<![\W_])[\W_]*\Z")
_GENITIVE = re.compile(r"['\u2019][sS]")


class Token(NamedTuple):
    """`end` is the offset behind it in its chunk.  `is_keyword`: neither a stop word nor punctuation nor a pair
    (`a:b`); what it would count as pairs' parts are in `pieces`."""

    end: int
    is_keyword: bool
    pieces: tuple[str, ...]


Tokens: TypeAlias = tuple[Token, ...]


def _alike(run: re.Match[str]) -> str:
    """A hexadecimal run with what the rules look at kept: whether it begins with a letter, and the letters at its end
    (`...7b` is seven bytes to spaCy)."""
    value = run.group()
    tail = _LAST_LETTERS.search(value)
    letters = tail.group() if tail else ""
    if len(letters) > len(value) - 2:
        return value
    first = "7" if value[0].isdigit() else value[0]
    return first + "f" * (len(value) - len(letters) - 2) + "7" + letters


def _shape(chunk: str) -> str:
    """The chunk, long numbers made alike where that changes no token's place."""
    if not chunk.isascii() or (_ADDRESS.search(chunk) and _MAY_SPLIT.search(chunk)):
        return chunk
    if len(chunk) >= 8:
        chunk = _HEXADECIMAL.sub(_alike, chunk)
    if _CLOCK.search(chunk):
        return chunk
    return _DIGITS.sub(lambda run: "7" * len(run.group()), chunk)


def _steps(chunk: str) -> int:
    """What spaCy may need for a long chunk: it takes signs off the ends one by one and looks at the rest each time
    (2 048 exclamation marks: 0.38 s)."""
    before, behind = _SIGNS_BEFORE.match(chunk), _SIGNS_BEHIND.search(chunk)
    peeled = (before.end() if before else 0) + (len(behind.group()) if behind else 0)
    peeled += sum(1 for _ in _GENITIVE.finditer(chunk))
    return int(len(chunk) * (2 + peeled * 0.25))


@lru_cache(_CACHED_CHUNKS)
def _remembered_steps(chunk: str) -> int:
    return 0 if _PLAIN_WORD.fullmatch(chunk) else _steps(chunk)


class SpacyTokens:
    """Tokens of chunks, as a blank English pipeline of spaCy splits them."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._seen = 0
        self._nlp: Any = None
        self._of_shape = lru_cache(_CACHED_CHUNKS)(self._split)
        self._of_chunk = lru_cache(_CACHED_CHUNKS)(lambda chunk: self._of_shape(_shape(chunk)))
        self._renew()

    def _renew(self) -> None:
        import spacy  # 60 MB and 0.6 s: only for the profile that promises Presidio's own context

        self._nlp = spacy.blank(self._language)
        self._seen = 0
        if any(_UNKNOWN_NUMBER.search(rule) for rule in self._nlp.tokenizer.rules):
            self._of_chunk = lru_cache(_CACHED_CHUNKS)(self._split)  # a rule that `_shape` does not know
        self._rules = self._nlp.tokenizer.rules
        self._stop_words: frozenset[str] = frozenset(self._nlp.Defaults.stop_words)

    def tokens(self, chunk: str, budget: Budget) -> Tokens:
        """The tokens of a chunk: a run of blanks, or a run without any."""
        if len(chunk) > _SHORT_CHUNK:
            budget.spend(_steps(chunk))
            return self._split(chunk)
        budget.spend(_remembered_steps(chunk))  # the same whether its tokens are remembered or not
        return self._of_chunk(chunk)

    def _split(self, chunk: str) -> Tokens:
        if _PLAIN_WORD.fullmatch(chunk) and chunk not in self._rules:
            word = chunk if chunk[-1].isalpha() else chunk[:-1]
            if word not in self._rules:
                lower = word.lower()
                first = Token(len(word), lower not in self._stop_words and lower != "be", ())
                return (first,) if word is chunk else (first, Token(len(chunk), False, ()))
        self._seen += 1
        if self._seen > _CHUNKS_PER_TOKENIZER:
            self._renew()
        doc = self._nlp.tokenizer(_SURROGATE.sub("\ufffd", chunk))  # spaCy wants text that can be written as UTF-8
        return tuple(_token(token.idx + len(token), token.text.lower(), self._nlp.vocab) for token in doc)


def _token(end: int, lemma: str, vocabulary: Any) -> Token:
    lexeme = vocabulary[lemma]
    is_plain = not (lexeme.is_stop or lexeme.is_punct or lemma == "be")
    if ":" not in lemma:
        return Token(end, is_plain, ())
    pieces = lemma.split(":") if is_plain else ()
    odd = tuple(piece for piece in pieces if piece and _is_no_keyword(piece, vocabulary))
    return Token(end, False, odd)


def _is_no_keyword(word: str, vocabulary: Any) -> bool:
    lexeme = vocabulary[word]
    return bool(lexeme.is_stop or lexeme.is_punct or word == "be")


_WORD = re.compile(r"\w+|[^\w\s]|\s+")


def _plain(chunk: str) -> Tokens:
    return tuple(
        Token(match.end(), match.group()[0].isalnum() or match.group()[0] == "_", ()) for match in _WORD.finditer(chunk)
    )


_plain_of_chunk = lru_cache(_CACHED_CHUNKS)(_plain)


def plain_tokens(chunk: str, budget: Budget) -> Tokens:
    """Tokens without spaCy: words, and single signs that are no keyword.  For our own profiles."""
    if len(chunk) <= _SHORT_CHUNK:
        return _plain_of_chunk(chunk)
    budget.spend(len(chunk) // 8)
    return _plain(chunk)


Split: TypeAlias = Callable[[str, Budget], Tokens]
