"""Phone numbers that look like phone numbers.

Presidio's own recogniser tries every digit run in eight regions: two thirds of its time on logs, and 469 findings per
1 000 log lines (measured).  Here a number needs a plus, a grouping that people write, or a word beside it; what such a
shape finds is still checked by the phonenumbers library, as Presidio does.
"""

from __future__ import annotations

import re
from typing import Any

import phonenumbers

from agent.detectors.presidio import lean
from agent.detectors.presidio.lean import LANGUAGE

lean.load()

from presidio_analyzer import AnalysisExplanation, LocalRecognizer, RecognizerResult  # noqa: E402 - after the lean import

# Possessive and bounded, so that a run of digits and signs is walked once.
_INTERNATIONAL = re.compile(r"(?<![\w+.])(?:\+|00)[1-9](?:[ .\-/()]{0,2}+\d){6,16}+\)?(?!\w)")
_GROUPED = re.compile(
    r"(?<![\w.+-])(?:"
    r"\(\d{3}\)[ -]?\d{3}[-. ]\d{4}"  # (212) 555-0187
    r"|[2-9]\d{2}([-.])[2-9]\d{2}\1\d{4}"  # 212-555-0187
    r"|0[1-9](?:([ .])\d{2})(?:\2\d{2}){3}"  # 06 39 98 14 52
    r"|0\d{2,4}[ ]\d{3,4}[ ]\d{3,4}"  # 020 7946 0958
    r")(?!\w|[-.]\d)"
)
_WORD = re.compile(
    r"(?:\b|_)(?:tel(?:e(?:phone|fon|fone|fono))?|phone|mobile|mobil|m[oó]vil|cell(?:phone|ulare)?|fax|hotline|whatsapp|sms|"
    r"handy|rufnummer|t[eé]l[eé]phone|portable|call|ring|reach)"
    r"(?:[ _-]?(?:no|nr|number|num|nummer))?\b[^\d+(\n]{0,16}(\(?\d[\d ()./\-]{5,18}\d)(?!\w)",
    re.IGNORECASE,
)
# Where a national number may be from; asked in this order until one says it is valid.
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IE", "PL", "NL", "IN", "BR")


class PhoneShapeRecognizer(LocalRecognizer):  # type: ignore[misc]
    """PHONE_NUMBER by shape, then by validity."""

    SCORE_INTERNATIONAL = 0.75
    SCORE_GROUPED = 0.6
    SCORE_WORD = 0.6
    # For the prefilter: no number has fewer digits, or more signs between two of them.
    gate = r"[0-9](?:[^0-9A-Za-z_]{0,9}[0-9]){5}"

    def __init__(self) -> None:
        super().__init__(supported_entities=["PHONE_NUMBER"], name="PhoneShapeRecognizer", supported_language=LANGUAGE)
        self.context = ["phone", "telephone", "mobile", "cell", "call", "fax", "telefon", "téléphone", "móvil"]

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        del entities, nlp_artifacts
        found: dict[tuple[int, int], float] = {}
        for match in _INTERNATIONAL.finditer(text):
            if _is_valid("+" + re.sub(r"\D", "", match.group().removeprefix("00")), ()):
                found[match.span()] = self.SCORE_INTERNATIONAL
        for match in _GROUPED.finditer(text):
            if _is_valid(match.group(), REGIONS):
                found[match.span()] = self.SCORE_GROUPED
        for match in _WORD.finditer(text):
            if _is_valid(match.group(1), REGIONS):
                found.setdefault(match.span(1), self.SCORE_WORD)
        return [
            RecognizerResult(
                entity_type="PHONE_NUMBER",
                start=start,
                end=end,
                score=score,
                analysis_explanation=AnalysisExplanation(self.name, score, textual_explanation="by shape and validity"),
                recognition_metadata={
                    RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
                    RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
                },
            )
            for (start, end), score in found.items()
            if not any(other != (start, end) and other[0] <= start and end <= other[1] for other in found)
        ]


def _is_valid(number: str, regions: tuple[str, ...]) -> bool:
    """Whether the number is valid in one of the regions, or by its own country code if it begins with a plus."""
    for region in regions or (None,):
        try:
            parsed = phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed) or (region is None and phonenumbers.is_possible_number(parsed)):
            return True
    return False
