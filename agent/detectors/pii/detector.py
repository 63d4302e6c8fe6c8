"""The `pii` detector: Presidio's recognisers over a text, by the profile of its direction.

Context words, validation, thresholds and deduplication are Presidio's own; the strict profiles add the named
rejections.  A pattern that runs into its time limit is told as `unscanned`, never passed over in silence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import regex

from agent.detectors.pii.config import PiiConfig, ProfileName
from agent.detectors.pii.profiles import NEEDS_CONTEXT, PROFILES, Profile
from agent.detectors.pii.registry import default_english_recognizers, strict_recognizers
from agent.detectors.pii.rejections import Candidate, has_context, rejection_of
from agent.detectors.presidio import lean
from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument
from agent.detectors.presidio.gates import Gate, Gates
from agent.detectors.presidio.plain import LANGUAGE, PlainNlpEngine
from agent.detectors.presidio.timeouts import WATCH, limit_patterns
from agent.engine import Scan
from agent.model import Direction, FindingKind, Match

lean.load()

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # noqa: E402 - after the lean import

# Values of these may do without a digit (`dead:beef::`, `example.com`); all of Presidio's other patterns want one.
_WITHOUT_DIGITS = frozenset({"URL", "MAC_ADDRESS", "UUID", "IP_ADDRESS"})
_LOCAL_PART = re.compile(r"[\w.+-]+@")


class _Scanner:
    """One profile's engine."""

    def __init__(self, profile: Profile, recognizers: Sequence[Any], config: PiiConfig) -> None:
        self.profile = profile
        self._config = config
        kept = [recognizer for recognizer in recognizers if self._is_wanted(recognizer.supported_entities[0])]
        self._context: dict[str, tuple[str, ...]] = {}
        for recognizer in kept:
            entity = recognizer.supported_entities[0]
            words = tuple(word.lower().strip() for word in recognizer.context or ())
            self._context[entity] = (*self._context.get(entity, ()), *words)
        self._needs_context = NEEDS_CONTEXT | {
            recognizer.supported_entities[0]
            for recognizer in kept
            if isinstance(recognizer, DocumentRecognizer) and recognizer.is_context_required
        }
        self._gates = Gates((recognizer, self._gate_of(recognizer)) for recognizer in kept)
        self._engine = AnalyzerEngine(
            registry=RecognizerRegistry(recognizers=kept, supported_languages=[LANGUAGE]),
            nlp_engine=PlainNlpEngine(),
            supported_languages=[LANGUAGE],
        )

    def _is_wanted(self, entity: str) -> bool:
        config = self._config
        if entity in config.exclude_entities:
            return False
        return entity in config.entities if config.entities else entity not in self.profile.hidden

    def _gate_of(self, recognizer: Any) -> Gate:
        """What must be in a text for a recogniser to find something that this profile keeps."""
        entity = recognizer.supported_entities[0]
        if isinstance(recognizer, DocumentRecognizer) and recognizer.document.reeve.keywords:
            return Gate(recognizer.document.reeve.keywords)
        if self.profile.is_strict and entity in self._needs_context and self._context[entity]:
            return Gate(self._context[entity], needs_digit=not isinstance(recognizer, DocumentRecognizer))
        if entity == "EMAIL_ADDRESS":
            return Gate(("@",))
        if isinstance(recognizer, DocumentRecognizer) or entity in _WITHOUT_DIGITS:
            return Gate()
        return Gate(needs_digit=True)

    def scan(self, text: str, rejected: Counter[str]) -> list[Match]:
        entities = [recognizer.supported_entities[0] for recognizer in self._gates.woken(text)]
        if not entities:
            return []
        matches: list[Match] = []
        for result in self._engine.analyze(text, LANGUAGE, entities=entities):
            match = self._checked(text, Match(result.entity_type, result.start, result.end, result.score), rejected)
            if match is not None:
                matches.append(match)
        return matches

    def _checked(self, text: str, match: Match, rejected: Counter[str]) -> Match | None:
        if match.score < self._config.thresholds.get(match.entity, self.profile.threshold):
            return None
        if self.profile.is_strict:
            match = _trimmed(text, match)
            candidate = Candidate(match.entity, text, match.start, match.end, self._context.get(match.entity, ()))
            reason = rejection_of(candidate)
            if not reason and match.entity in self._needs_context and not has_context(candidate):
                reason = "no_context"
            if reason:
                rejected[reason] += 1
                return None
        return match


def _trimmed(text: str, match: Match) -> Match:
    """An address without what an `=` or `/` glued to it (`email=jane@...`): Presidio's pattern takes it along."""
    if match.entity != "EMAIL_ADDRESS":
        return match
    local = _LOCAL_PART.search(text, match.start, match.end)
    return Match(match.entity, local.start(), match.end, match.score) if local else match


class PiiDetector:
    """Personal data in a text.  `rejected` counts, by rule, what matched and was not reported."""

    name = "pii"
    kind: FindingKind = "pii"

    def __init__(self, config: PiiConfig, documents: Iterable[RecognizerDocument] = ()) -> None:
        self._config = config
        self._documents = tuple(documents)
        self._scanners: dict[ProfileName, _Scanner] = {}
        limit_patterns(config.regex_timeout_seconds)
        self._allow = frozenset(config.allow_list)
        self._allow_patterns = [regex.compile(pattern) for pattern in config.allow_patterns]
        self.rejected: Counter[str] = Counter()
        for profile in sorted(set(config.profiles.values())):
            self._scanner(profile)

    def _scanner(self, name: ProfileName) -> _Scanner:
        scanner = self._scanners.get(name)
        if scanner is None:
            recognizers = (
                [*default_english_recognizers(), *map(DocumentRecognizer, self._documents)]
                if name == "presidio"
                else strict_recognizers(self._config.countries, self._documents, self._config.languages)
            )
            scanner = self._scanners[name] = _Scanner(PROFILES[name], recognizers, self._config)
        return scanner

    def scan(self, text: str, direction: Direction) -> Scan:
        before = WATCH.happened
        matches = self._scanner(self._config.profiles.get(direction, "prompts")).scan(text, self.rejected)
        if self._allow or self._allow_patterns:
            matches = [match for match in matches if not self._is_allowed(text[match.start : match.end])]
        return Scan(matches, "regex_timeout" if WATCH.happened > before else "")

    def _is_allowed(self, value: str) -> bool:
        if value in self._allow:
            self.rejected["allow_list"] += 1
            return True
        if any(pattern.fullmatch(value) for pattern in self._allow_patterns):
            self.rejected["allow_pattern"] += 1
            return True
        return False
