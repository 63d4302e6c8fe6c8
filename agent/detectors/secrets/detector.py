"""The `secrets` detector: keys, tokens, private keys and connection strings, from the documents in `rules/secrets`.

A recogniser runs only if one of its keywords is in the text; a checksum, an entropy bound and the allow list of
documented example values decide what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from agent.detectors.analyzer import Analyzer, Options
from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument
from agent.detectors.secrets.config import SecretsConfig
from agent.engine import Scan
from agent.model import Direction, FindingKind, Match


class SecretsDetector:
    """Secrets in a text; the same rules for every direction."""

    name = "secrets"
    kind: FindingKind = "secret"

    def __init__(
        self, config: SecretsConfig, documents: Iterable[RecognizerDocument] = (), cache_dir: Path | None = None
    ) -> None:
        kept = [one for one in documents if one.supported_entity not in config.exclude_entities]
        options = Options(is_exact=False, budget_factor=config.work_factor, directory=cache_dir)
        self._analyzer = Analyzer(map(DocumentRecognizer, kept), options)
        self._allow = frozenset(config.allow_list)
        self.rejected: Counter[str] = Counter()

    def scan(self, text: str, direction: Direction) -> Scan:
        del direction
        analysis = self._analyzer.analyze(text)
        matches: list[Match] = []
        for match in analysis.matches:
            if text[match.start : match.end] in self._allow:
                self.rejected["allow_list"] += 1
                continue
            matches.append(match)
        return Scan(_most_specific(matches) if matches else (), analysis.unscanned)


def _most_specific(matches: list[Match]) -> list[Match]:
    """One match for a place: the surer one, then the longer; a named kind beats a value beside a word."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda match: (-match.score, match.start - match.end)):
        if not any(match.start < other.end and other.start < match.end for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda match: match.start)
