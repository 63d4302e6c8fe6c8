"""Recognisers as YAML documents: Presidio's own format, and under `reeve` what a pattern alone cannot say.

    recognizers:
      - name: fr_nir
        supported_entity: FR_NIR
        patterns: [{name: nir, regex: '...', score: 0.5}]
        context: [sécurité sociale]
        reeve: {keywords: [...], validator: french_nir, context_required: true, case_sensitive: true,
                entropy: 3.0, allow: [...]}

A pattern may name a group `value`: the finding is that part, and what is before it is its label.

pydantic at this cold edge reports every mistake at once; what comes out are Presidio recognisers.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
import regex
from pydantic import Field

from agent.detectors.presidio import lean
from agent.detectors.presidio.lean import LANGUAGE
from agent.detectors.presidio.validators import VALIDATORS, shannon_bits

lean.load()

from presidio_analyzer import Pattern, PatternRecognizer  # noqa: E402 - after the lean import


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class PatternDocument(_Strict):
    name: str
    regex: str
    score: Annotated[float, Field(ge=0, le=1)]

    @pydantic.field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            regex.compile(value)
        except regex.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return value


class Extras(_Strict):
    """`keywords`: one must be in the text (any case), else the patterns do not run.  `validator`: a name from
    validators.py; a value that fails is no finding.  `context_required`: a context word must stand near.
    `entropy`: least bits per character.  `allow`: documented example values that are no finding.  `profiles`: where
    the recogniser runs; everywhere if none is given."""

    keywords: tuple[str, ...] = ()
    validator: str = ""
    context_required: bool = False
    case_sensitive: bool = False
    entropy: Annotated[float, Field(ge=0, le=8)] = 0.0
    allow: tuple[str, ...] = ()
    profiles: tuple[Literal["logs", "prompts", "presidio"], ...] = ()

    @pydantic.field_validator("validator")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value and value not in VALIDATORS:
            raise ValueError(f"{value!r} is no validator; known: {', '.join(sorted(VALIDATORS))}")
        return value


class RecognizerDocument(_Strict):
    name: str
    supported_entity: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]+$")]
    supported_language: str = LANGUAGE
    type: Literal["custom"] = "custom"
    patterns: tuple[PatternDocument, ...] = ()
    deny_list: tuple[str, ...] = ()
    deny_list_score: float = 1.0
    context: tuple[str, ...] = ()
    country_code: str | None = None
    title: str = ""
    references: tuple[str, ...] = ()
    reeve: Extras = Extras()

    @pydantic.model_validator(mode="after")
    def _has_patterns(self) -> RecognizerDocument:
        if not self.patterns and not self.deny_list:
            raise ValueError("needs patterns or a deny_list")
        return self


class RecognizerFile(_Strict):
    recognizers: Annotated[tuple[RecognizerDocument, ...], Field(min_length=1)]


class DocumentRecognizer(PatternRecognizer):  # type: ignore[misc]
    """A Presidio pattern recogniser with the document's validator, entropy bound and allow list."""

    def __init__(self, document: RecognizerDocument) -> None:
        flags = regex.DOTALL | regex.MULTILINE
        if not document.reeve.case_sensitive:
            flags |= regex.IGNORECASE
        super().__init__(
            supported_entity=document.supported_entity,
            name=document.name,
            supported_language=LANGUAGE,
            patterns=[Pattern(pattern.name, pattern.regex, pattern.score) for pattern in document.patterns],
            deny_list=list(document.deny_list) or None,
            deny_list_score=document.deny_list_score,
            context=list(document.context),
            country_code=document.country_code,
            global_regex_flags=flags,
        )
        self.document = document
        self.keywords = document.reeve.keywords
        self.is_context_required = document.reeve.context_required
        self._validator = VALIDATORS.get(document.reeve.validator)
        self._allow = frozenset(document.reeve.allow)

    def invalidate_result(self, pattern_text: str) -> bool:
        """Whether the found text is none after all."""
        extras = self.document.reeve
        if pattern_text in self._allow:
            return True
        if extras.entropy and shannon_bits(pattern_text) < extras.entropy:
            return True
        return self._validator is not None and not self._validator(pattern_text)
