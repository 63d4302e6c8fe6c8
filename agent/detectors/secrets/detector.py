"""The `secrets` detector: keys, tokens, private keys and connection strings, from the documents in `rules/secrets`.

A recogniser runs only if one of its keywords is in the text; a checksum, an entropy bound and the allow list of
documented example values decide what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from agent.detectors.presidio.document import DocumentRecognizer, RecognizerDocument
from agent.detectors.presidio.gates import Gate, Gates
from agent.detectors.presidio.timeouts import WATCH, limit_patterns
from agent.detectors.secrets.config import SecretsConfig
from agent.engine import Scan
from agent.model import Direction, FindingKind, Match


class SecretsDetector:
    """Secrets in a text; the same rules for every direction."""

    name = "secrets"
    kind: FindingKind = "secret"

    def __init__(self, config: SecretsConfig, documents: Iterable[RecognizerDocument] = ()) -> None:
        kept = [one for one in documents if one.supported_entity not in config.exclude_entities]
        self._gates = Gates((DocumentRecognizer(one), Gate(one.reeve.keywords)) for one in kept)
        self._allow = frozenset(config.allow_list)
        limit_patterns(config.regex_timeout_seconds)
        self.rejected: Counter[str] = Counter()

    def scan(self, text: str, direction: Direction) -> Scan:
        del direction
        before = WATCH.happened
        matches: list[Match] = []
        for recognizer in self._gates.woken(text):
            entity = recognizer.supported_entities[0]
            for result in recognizer.analyze(text, [entity]):
                if text[result.start : result.end] in self._allow:
                    self.rejected["allow_list"] += 1
                    continue
                matches.append(Match(entity, result.start, result.end, result.score))
        return Scan(_most_specific(matches), "regex_timeout" if WATCH.happened > before else "")


def _most_specific(matches: list[Match]) -> list[Match]:
    """One match for a place: the surer one, then the longer; a named kind beats a value beside a word."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda match: (-match.score, match.start - match.end)):
        if not any(match.start < other.end and other.start < match.end for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda match: match.start)
