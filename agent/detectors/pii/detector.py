"""The `pii` detector: Presidio's recognisers over a text, by the profile of its direction.

The profile `presidio` is Presidio's result and nothing else.  The strict profiles add the named rejections.  What could
not be scanned within the text's budget is told as `unscanned`, never passed over in silence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import regex

from agent.detectors.analyzer import Analyzer, Options
from agent.detectors.analyzer.budget import CHECK
from agent.detectors.pii.config import PiiConfig, ProfileName
from agent.detectors.pii.model import ModelClient
from agent.detectors.pii.profiles import NEEDS_CONTEXT, PROFILES, Profile
from agent.detectors.pii.registry import default_english_recognizers, strict_recognizers
from agent.detectors.pii.rejections import Candidate, has_context, has_rules, rejection_of
from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument
from agent.engine import Scan
from agent.model import Direction, FindingKind, Match

_LOCAL_PART = re.compile(r"[\w.+-]+@")


class _Scanner:
    """One profile's analyzer, and what it rejects."""

    def __init__(self, profile: Profile, recognizers: Sequence[Any], config: PiiConfig, cache_dir: Path | None) -> None:
        self.profile = profile
        self._config = config
        kept = [recognizer for recognizer in recognizers if self._is_wanted(recognizer.supported_entities[0])]
        self._context: dict[str, tuple[str, ...]] = {}
        for recognizer in kept:
            entity = recognizer.supported_entities[0]
            words = tuple(word.lower().strip() for word in recognizer.context or ())
            self._context[entity] = tuple(dict.fromkeys((*self._context.get(entity, ()), *words)))
        self._needs_context: frozenset[str] = frozenset()
        if profile.is_strict:
            self._needs_context = NEEDS_CONTEXT | {
                recognizer.supported_entities[0]
                for recognizer in kept
                if isinstance(recognizer, DocumentRecognizer) and recognizer.is_context_required
            }
        thresholds = [profile.threshold, *config.thresholds.values()]
        self._analyzer = Analyzer(
            kept,
            Options(
                threshold=min(thresholds),
                is_exact=not profile.is_strict,
                needs_word={entity: self._context.get(entity, ()) for entity in sorted(self._needs_context)},
                budget_factor=config.work_factor,
                directory=cache_dir,
            ),
        )

    def _is_wanted(self, entity: str) -> bool:
        config = self._config
        if entity in config.exclude_entities:
            return False
        return entity in config.entities if config.entities else entity not in self.profile.hidden

    def scan(self, text: str, rejected: Counter[str]) -> Scan:
        analysis = self._analyzer.analyze(text)
        if not analysis.matches:
            return Scan((), analysis.unscanned)
        matches: list[Match] = []
        unscanned, left = analysis.unscanned, analysis.steps_left
        for match in analysis.matches:
            if self.profile.is_strict and has_rules(match.entity):
                left -= CHECK
                if left < 0:
                    unscanned = "work_limit"
                    break
            kept = self._checked(text, match, rejected)
            if kept is not None:
                matches.append(kept)
        return Scan(matches, unscanned)

    def _checked(self, text: str, match: Match, rejected: Counter[str]) -> Match | None:
        if match.score < self._config.thresholds.get(match.entity, self.profile.threshold):
            return None
        if self.profile.is_strict:
            match = _trimmed(text, match)
            candidate = Candidate(
                match.entity, text, match.start, match.end, self._context.get(match.entity, ()), match.score
            )
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

    def __init__(
        self, config: PiiConfig, documents: Iterable[RecognizerDocument] = (), cache_dir: Path | None = None
    ) -> None:
        self._config = config
        self._documents = tuple(documents)
        self._cache_dir = cache_dir
        self._scanners: dict[ProfileName, _Scanner] = {}
        self._allow = frozenset(config.allow_list)
        self._allow_patterns = [regex.compile(pattern) for pattern in config.allow_patterns]
        self.rejected: Counter[str] = Counter()
        self._model = ModelClient(config.model) if config.model else None
        self.prepare = self._prepared if self._model else None
        # Every agent reads logs; the other profiles are made when first asked for (0.3 s, 10 MB each).
        profiles: dict[Direction, ProfileName] = config.profiles
        self._scanner(profiles["log"] if "log" in profiles else next(iter(profiles.values()), "logs"))

    def _scanner(self, name: ProfileName) -> _Scanner:
        scanner = self._scanners.get(name)
        if scanner is None:
            documents = [one for one in self._documents if not one.reeve.profiles or name in one.reeve.profiles]
            recognizers = (
                [*default_english_recognizers(), *map(DocumentRecognizer, documents)]
                if name == "presidio"
                else strict_recognizers(self._config.countries, documents, self._config.languages)
            )
            scanner = self._scanners[name] = _Scanner(PROFILES[name], recognizers, self._config, self._cache_dir)
        return scanner

    def _prepared(self, texts: Sequence[tuple[str, Direction]]) -> None:
        """Texts whose scans follow: a model is asked for all of them at once."""
        if self._model is not None:
            self._model.prepare([text for text, direction in texts if self._is_for_model(text, direction)])

    def _is_for_model(self, text: str, direction: Direction) -> bool:
        model = self._config.model
        return model is not None and direction in model.directions and len(text) <= model.limit_characters

    def scan(self, text: str, direction: Direction) -> Scan:
        scan = self._scanner(self._config.profiles.get(direction, "prompts")).scan(text, self.rejected)
        model = self._config.model
        if self._model is not None and model is not None and direction in model.directions:
            more = self._model.scan(text)
            sure = [match for match in more.matches if match.score >= model.score]
            scan = Scan([*scan.matches, *sure], scan.unscanned or more.unscanned)
        if scan.matches and (self._allow or self._allow_patterns):
            kept = [match for match in scan.matches if not self._is_allowed(text[match.start : match.end])]
            return Scan(kept, scan.unscanned)
        return scan

    def close(self) -> None:
        """End the model's process."""
        if self._model is not None:
            self._model.close()

    def _is_allowed(self, value: str) -> bool:
        if value in self._allow:
            self.rejected["allow_list"] += 1
            return True
        if any(pattern.fullmatch(value) for pattern in self._allow_patterns):
            self.rejected["allow_pattern"] += 1
            return True
        return False
