"""Which recognisers there are: Presidio's own by country, the phone recogniser, and the documents in `rules/pii`.

Patterns, scores, context words and validators are read from Presidio's recognisers at start; an upgrade changes nothing
here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from agent.detectors.pii.phone import PhoneShapeRecognizer
from agent.detectors.presidio import lean
from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument
from agent.detectors.presidio.lean import LANGUAGE

lean.load()

from presidio_analyzer import (  # noqa: E402 - after the lean import
    EntityRecognizer,
    LocalRecognizer,
    PatternRecognizer,
    predefined_recognizers,
)

# "uk" is what Presidio 2.2 calls the United Kingdom; ISO 3166 says "gb".
_COUNTRY_ALIASES = {"gb": "uk"}


def _presidio_classes() -> Iterable[type[Any]]:
    for name, candidate in vars(predefined_recognizers).items():
        if not inspect.isclass(candidate) or inspect.isabstract(candidate):
            continue
        if issubclass(candidate, PatternRecognizer) or name == "PhoneRecognizer":
            yield candidate


def _own_language(candidate: type[Any]) -> str:
    """The language a recogniser's context words are in, as Presidio declares it."""
    parameter = inspect.signature(candidate.__init__).parameters.get("supported_language")
    return str(parameter.default) if parameter is not None else LANGUAGE


def presidio_recognizers(
    countries: Sequence[str], languages: Sequence[str] = (), *, with_presidio_phone: bool = False
) -> list[LocalRecognizer]:
    """Instances of Presidio's own recognisers: those of no country, of the countries, and of the languages given."""
    wanted = {_COUNTRY_ALIASES.get(country.lower(), country.lower()) for country in countries}
    recognizers: list[LocalRecognizer] = []
    for candidate in _presidio_classes():
        if candidate.__name__ == "PhoneRecognizer" and not with_presidio_phone:
            continue
        country = getattr(candidate, "COUNTRY_CODE", None)
        is_spoken = _own_language(candidate) != LANGUAGE and _own_language(candidate) in languages
        if country is None or country in wanted or "all" in wanted or is_spoken:
            recognizers.append(candidate(supported_language=LANGUAGE))
    return recognizers


def default_english_recognizers() -> list[LocalRecognizer]:
    """What Presidio itself switches on for English, less the recogniser that needs a model."""
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

    registry = RecognizerRegistryProvider().create_recognizer_registry()
    return [
        recognizer
        for recognizer in registry.recognizers
        if recognizer.supported_language == LANGUAGE and not recognizer.name.startswith("Spacy")
    ]


def document_recognizers(documents: Iterable[RecognizerDocument]) -> list[EntityRecognizer]:
    return [DocumentRecognizer(document) for document in documents]


def strict_recognizers(
    countries: Sequence[str], documents: Iterable[RecognizerDocument], languages: Sequence[str] = ()
) -> list[EntityRecognizer]:
    """The recognisers of the profiles `logs` and `prompts`."""
    return [
        *presidio_recognizers(countries, languages),
        PhoneShapeRecognizer(),
        *document_recognizers(documents),
    ]
