"""The baseline: presidio-analyzer's own engine with its default English recognisers, spaCy's tokens and no model.

Lemmas are the tokens in lower case, so that context words work without a model.  Nothing of Reeve is in it.
"""

from typing import Any

import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine


class BlankEnglish(SpacyNlpEngine):  # type: ignore[misc]
    """A blank English pipeline; `load` downloads nothing."""

    def __init__(self) -> None:
        super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])

    def load(self) -> None:
        self.nlp = {"en": spacy.blank("en")}

    def get_supported_entities(self) -> list[str]:
        return []

    def _doc_to_nlp_artifact(self, doc: Any, language: str) -> NlpArtifacts:
        made = super()._doc_to_nlp_artifact(doc, language)
        return NlpArtifacts(
            entities=made.entities,
            tokens=doc,
            tokens_indices=made.tokens_indices,
            lemmas=[token.lower_ for token in doc],
            nlp_engine=self,
            language=language,
            scores=made.scores,
        )


def engine(extra: list[Any] | None = None) -> AnalyzerEngine:
    """Presidio's engine; `extra` recognisers are added to the default English ones."""
    nlp = BlankEnglish()
    nlp.load()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=nlp)
    registry.recognizers = [one for one in registry.recognizers if one.name != "SpacyRecognizer"] + list(extra or [])
    return AnalyzerEngine(nlp_engine=nlp, registry=registry)


def findings(analyzer: AnalyzerEngine, text: str, **options: Any) -> list[tuple[str, int, int, float]]:
    """Its findings, in order."""
    return sorted((one.entity_type, one.start, one.end, one.score) for one in analyzer.analyze(text, "en", **options))
