"""Settings of the `pii` detector, as they stand under `detectors.pii` in the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
import regex
from pydantic import Field

from agent.model import Direction

ProfileName = Literal["logs", "prompts", "presidio"]
Score = Annotated[float, Field(ge=0, le=1)]


class PiiConfig(pydantic.BaseModel):
    """`profiles` says which profile scans which direction.  An entity's threshold beats the profile's.

    `entities` limits every profile to those named; `exclude_entities` takes some out.  `countries` are ISO 3166 codes
    whose national identifiers are looked for; `languages` (ISO 639) add all recognisers whose words are in them.  A
    value equal to one in `allow_list`, or fully matched by one of `allow_patterns`, is no finding.  `work_factor`
    stretches what a text may cost before the rest of it is told as unscanned.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    profiles: dict[Direction, ProfileName] = {
        "log": "logs",
        "process": "logs",
        "file": "logs",
        "network": "logs",
        "prompt": "prompts",
        "completion": "prompts",
        "other": "prompts",
    }
    entities: tuple[str, ...] = ()
    exclude_entities: tuple[str, ...] = ()
    thresholds: dict[str, Score] = {}
    countries: tuple[str, ...] = ("us", "uk", "de", "fr", "es", "it", "pl", "ie", "nl", "be", "fi", "se")
    languages: tuple[str, ...] = ("en",)
    allow_list: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] = ()
    work_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @pydantic.field_validator("allow_patterns")
    @classmethod
    def _compile(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return value
