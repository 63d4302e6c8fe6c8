"""Recognisers with code of their own: models, and whatever a user wrote.  They run as Presidio runs them.

Their results are boosted by context words and deduplicated with everybody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.detectors.analyzer.merging import Found
from agent.detectors.analyzer.program import Row
from agent.detectors.analyzer.window import Windows, boosted
from agent.detectors.presidio import lean

lean.load()

from presidio_analyzer import EntityRecognizer, RecognizerResult  # noqa: E402 - after the lean import


class Foreign:
    """One such recogniser."""

    def __init__(self, row: Row, artifacts: Callable[[str], Any] | None) -> None:
        self._row = row
        self._artifacts = artifacts
        self._boosts = type(row.recognizer).enhance_using_context is not EntityRecognizer.enhance_using_context

    def run(
        self, text: str, of_entity: dict[str, list[Found]], threshold: float, windows: Callable[[], Windows]
    ) -> None:
        """Add the recogniser's results to those of the others.  Raises what the recogniser raises."""
        recognizer = self._row.recognizer
        if not recognizer.is_loaded:
            recognizer.load()
            recognizer.is_loaded = True
        artifacts = self._artifacts(text) if self._artifacts else None
        results = recognizer.analyze(text=text, entities=recognizer.supported_entities, nlp_artifacts=artifacts) or []
        if self._boosts and results:
            others = [
                RecognizerResult(entity_type=entity, start=start, end=end, score=score)
                for entity, found in of_entity.items()
                for start, end, score in found
            ]
            results = recognizer.enhance_using_context(
                text=text,
                raw_recognizer_results=results,
                other_raw_recognizer_results=others,
                nlp_artifacts=artifacts,
                context=None,
            )
        around: Windows | None = None
        thresholds: dict[str, float] = getattr(recognizer, "score_thresholds", None) or {}
        for one in results:
            found: Found = (one.start, one.end, one.score)
            is_done = (one.recognition_metadata or {}).get(RecognizerResult.IS_SCORE_ENHANCED_BY_CONTEXT_KEY)
            if self._row.context and not is_done:
                around = around or windows()
                found = boosted(around, found, self._row.context)
            least = thresholds.get(one.entity_type, thresholds.get("default", 0.0)) or threshold
            if found[2] >= least:
                of_entity.setdefault(one.entity_type, []).append(found)
