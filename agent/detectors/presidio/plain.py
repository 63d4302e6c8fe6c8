"""An NLP engine for Presidio that splits words and knows nothing else: no model, no growing vocabulary.

Context words need tokens; Presidio's blank spaCy engine would give them, at 2.7 KB of memory for every token never
seen before.  Tokens here are plain strings, made only when a recogniser found something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from agent.detectors.presidio import lean

lean.load()

from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine  # noqa: E402 - after the lean import

LANGUAGE = "en"
"""The one language all recognisers are registered under; which countries and words they know is their own."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


class PlainArtifacts(NlpArtifacts):  # type: ignore[misc]
    """Tokens of a text, split on first use.  Replaces the base's constructor, which would split at once."""

    def __init__(self, text: str, engine: PlainNlpEngine) -> None:
        self._text = text
        self.nlp_engine = engine
        self.entities: list[Any] = []
        self.scores: list[float] = []

    @cached_property
    def _spans(self) -> list[tuple[int, str]]:
        return [(match.start(), match.group()) for match in _TOKEN.finditer(self._text)]

    @cached_property
    def tokens(self) -> list[str]:
        return [token for _, token in self._spans]

    @cached_property
    def tokens_indices(self) -> list[int]:
        return [start for start, _ in self._spans]

    @cached_property
    def lemmas(self) -> list[str]:
        return [token.lower() for _, token in self._spans]

    @cached_property
    def keywords(self) -> list[str]:
        return [token for token in self.lemmas if token[0].isalnum() or token[0] == "_"]


class PlainNlpEngine(NlpEngine):  # type: ignore[misc]
    """Words only."""

    engine_name = "plain"
    is_available = True

    def load(self) -> None:
        """Nothing to load."""

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> PlainArtifacts:
        del language
        return PlainArtifacts(text, self)

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: Any
    ) -> Iterator[tuple[str, PlainArtifacts]]:
        del batch_size, n_process
        for text in texts:
            yield text, self.process_text(text, language)

    def is_stopword(self, word: str, language: str) -> bool:
        del word, language
        return False

    def is_punct(self, word: str, language: str) -> bool:
        del language
        return not (word[:1].isalnum() or word[:1] == "_")

    def get_supported_entities(self) -> list[str]:
        return []

    def get_supported_languages(self) -> list[str]:
        return [LANGUAGE]
