"""Which results a sink tells, and how they read: for sinks that tell people.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import pydantic
from pydantic import Field

from agent.model import SEVERITIES, Evaluation, Finding, PolicyResult, Severity, Status


class ChoiceConfig(pydantic.BaseModel):
    """Results of one of the `statuses`, at least as bad as `minimum_severity`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    statuses: Annotated[tuple[Status, ...], Field(min_length=1)] = ("fail",)
    minimum_severity: Severity = "medium"

    def chosen(self, evaluation: Evaluation) -> Sequence[PolicyResult]:
        """The results of an evaluation to tell, in order."""
        worst_first = SEVERITIES.index(self.minimum_severity)
        return [
            result
            for result in evaluation.results
            if result.status in self.statuses and SEVERITIES.index(result.severity) <= worst_first
        ]


def one_line(text: str, limit: int) -> str:
    """A text in one printable line of at most `limit` characters: nothing in it steers a terminal or a template."""
    plain = "".join(character if character.isprintable() else " " for character in text[: 4 * limit])
    line = " ".join(plain.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def entities_of(findings: Iterable[Finding]) -> Counter[str]:
    """How often each entity was found."""
    return Counter(finding.entity for finding in findings if finding.kind != "unscanned")


def listed(entities: Counter[str], limit: int = 16) -> str:
    """`EMAIL_ADDRESS x2, US_SSN`: by how often, then by name."""
    ordered = sorted(entities.items(), key=lambda entry: (-entry[1], entry[0]))
    parts = [f"{entity} x{count}" if count > 1 else entity for entity, count in ordered[:limit]]
    return ", ".join(parts) + (", ..." if len(ordered) > limit else "")
