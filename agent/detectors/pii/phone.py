"""Phone numbers that look like phone numbers, or stand beside a word that says so.

Presidio's own recogniser tries every digit run in eight regions: two thirds of its time on logs, and 469 findings per
1 000 log lines (measured).  Here a number needs a plus, a grouping that people write, or a word before or behind it.
Without a word it must also be valid to the phonenumbers library; with one, invalid numbers count too, because people
write them and mean a phone.
"""

from __future__ import annotations

import re
from typing import Any

import phonenumbers

from agent.detectors.presidio import lean
from agent.detectors.presidio.lean import LANGUAGE

lean.load()

from presidio_analyzer import AnalysisExplanation, LocalRecognizer, RecognizerResult  # noqa: E402 - after the lean import

# A run of digits with single signs between, as numbers are written; possessive, so that it is walked once.
_CANDIDATE = re.compile(
    r"(?<![\w+./-])(?<!\d[,:])(?:\+[ ]?)?(?:\(\+?\d{1,4}\)|\d)(?:[ ]?[-./()]?[ ]?\d){5,18}+"
    r"(?P<extension>[ ]?(?:x|ext\.?)[ ]?\d{1,6})?(?!\w)",
    re.IGNORECASE,
)
_GROUPED = re.compile(
    r"(?:"
    r"(?P<sure>\(\d{3}\)[ -]?\d{3}[-. ]\d{4})"  # (212) 555-0187
    r"|[2-9]\d{2}([-.])[2-9]\d{2}\2\d{4}"  # 212-555-0187
    r"|0[1-9](?:([ .])\d{2})(?:\3\d{2}){3}"  # 06 39 98 14 52
    r"|0\d{2,4}[ ]\d{3,4}[ ]\d{3,4}"  # 020 7946 0958
    r")(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?",
    re.IGNORECASE,
)
# How far a word may stand before the number, with what may stand between.
_BEFORE_CHARACTERS, _BEHIND_CHARACTERS = 56, 12
_NAMED = re.compile(
    r"(?:(?<![^\W_])|_)(?:(?P<loose>mobile|mobil|cell|desk|handy|portable|fax|sms)"
    r"|t[eé]l(?:[eé](?:phone|fon|fone|fono|foon))?|phone|m[oó]vil|cell(?:phone|ulare)"
    r"|hotline|whatsapp|rufnummer|msisdn|telnr)"
    r"(?:[ _-]?(?:no|nr|number|num|nummer|numéro|#))?"
    r"(?:\W{1,4}(?:is|at|on|under|est|ist|es|to|le|the|my|number)\b){0,3}"
    r"\W{0,5}$",
    re.IGNORECASE,
)
_CUED = re.compile(
    r"(?<!\w)(?:call(?:ed|ing)?|ring|reach(?:ed)?|dial(?:ed)?|text(?:ed)?|answering|messages?|registered|contact|office"
    r"|my number)"
    r"(?:\W{1,3}(?:me|us|him|her|them|at|on|to|is|my|the|back|under|now|please|registered)\b){1,4}\W{1,4}$"
    r"|(?<!\w)(?:my number|registered|answering at)\W{1,4}$",
    re.IGNORECASE,
)
_NAMED_BEHIND = re.compile(r"[ ,-]{1,2}(?:\(?)(?:office|fax|mobile|cell|home|work|desk|tel|phone)\b", re.IGNORECASE)
_DATE = re.compile(
    r"\d{4}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])(?![-/.\d]).*"
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:\d{2}|\d{4})(?![-/.\d]).*"
    r"|\d{1,3}(?:\.\d{1,3}){3}"
)
_NON_DIGIT = re.compile(r"\D")
# Two long runs beside each other are two numbers.
_COLUMNS = re.compile(r"\d{6,}[ ]\d{6,}|\d{4}[ ]\d{4}[ ]\d{4}$")
# Where a national number may be from; asked in this order until one says it is valid.
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IE", "PL", "NL", "IN", "BR")


class PhoneShapeRecognizer(LocalRecognizer):  # type: ignore[misc]
    """PHONE_NUMBER by shape, then by validity."""

    SCORE_INTERNATIONAL = 0.75
    SCORE_NAMED = 0.7
    SCORE_GROUPED = 0.6
    # For the prefilter: no number has fewer digits, or more signs between two of them.
    gate = r"[0-9](?:[^0-9A-Za-z_]{0,4}[0-9]){5}"

    def __init__(self) -> None:
        super().__init__(supported_entities=["PHONE_NUMBER"], name="PhoneShapeRecognizer", supported_language=LANGUAGE)
        self.context: list[str] = []  # the words are in the shapes; a bonus for them would hide how a number was found

    def load(self) -> None:
        """Nothing to load."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        del entities, nlp_artifacts
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
            for candidate in _CANDIDATE.finditer(text)
            for start, end, score in self._of(text, candidate)
        ]

    def _of(self, text: str, candidate: re.Match[str]) -> list[tuple[int, int, float]]:
        start, end = candidate.span()
        value = candidate.group()
        extension = candidate.group("extension") or ""
        number = value[: len(value) - len(extension)]
        digits = len(_NON_DIGIT.sub("", number))
        if digits > 15:
            return []
        if "+" in number:
            return [(start, end, self.SCORE_INTERNATIONAL)] if _is_valid(number, ()) else []
        before = text[max(0, start - _BEFORE_CHARACTERS) : start]
        if digits >= 7 and not _DATE.fullmatch(number):
            if self._is_named(before, number) or _NAMED_BEHIND.match(text, end, end + _BEHIND_CHARACTERS):
                return [(start, end, self.SCORE_NAMED)]
            if _CUED.search(before) and ((digits >= 8 and not number.isdigit()) or _is_valid(number, REGIONS)):
                return [(start, end, self.SCORE_NAMED)]
        if number.startswith("00") and number[2] != "0" and _is_valid("+" + _NON_DIGIT.sub("", number)[2:], ()):
            return [(start, end, self.SCORE_GROUPED)]
        return [
            (start + part.start(), start + part.end(), self.SCORE_GROUPED)
            for part in _GROUPED.finditer(value)
            if _is_whole(value, part) and (part.group("sure") or extension or _is_valid(part.group(), REGIONS))
        ]

    def _is_named(self, before: str, number: str) -> bool:
        """Whether the word before names a phone; words with other meanings want a sign, or a number that is valid."""
        named = _NAMED.search(before)
        if named is None or _COLUMNS.search(number):
            return False
        if not named.group("loose") or named.group().rstrip(" ")[-1:] in ":=#\n\"'":
            return True
        return not number.isdigit() and _is_valid(number, REGIONS)


def _is_whole(value: str, part: re.Match[str]) -> bool:
    """Whether a grouping does not go on at either side."""
    before, behind = value[: part.start()], value[part.end() :]
    return not re.search(r"[\d][-.]?$", before) and not re.match(r"[-.]?\d", behind)


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
