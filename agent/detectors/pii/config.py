"""Settings of the `pii` detector, as they stand under `detectors.pii` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import regex
from pydantic import Field

from agent.detectors.presidio.lean import LANGUAGE
from agent.model import Direction

ProfileName = Literal["logs", "prompts", "presidio"]
Score = Annotated[float, Field(ge=0, le=1)]


class ModelConfig(pydantic.BaseModel):
    """A model for names and places.  `nlp_configuration` and `recognizer_registry` are Presidio's own YAML files
    (spaCy, transformers, stanza; GLiNER as a recogniser); the model itself is installed by the user.  `directions`:
    whose texts it sees.  `limit_characters`: longer texts are not given to it and are told as unscanned.
    `memory_megabytes`: over this its process is started anew."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    nlp_configuration: Path
    recognizer_registry: Path | None = None
    language: str = LANGUAGE
    entities: tuple[str, ...] = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")
    directions: tuple[Direction, ...] = ("prompt", "completion")
    score: Score = 0.5
    batch: Annotated[int, Field(ge=1, le=1024)] = 16
    limit_characters: Annotated[int, Field(ge=1)] = 100_000
    memory_megabytes: Annotated[int, Field(ge=128)] = 2048
    timeout_seconds: Annotated[float, Field(gt=0)] = 20.0


class PiiConfig(pydantic.BaseModel):
    """`profiles` says which profile scans which direction.  An entity's threshold beats the profile's.

    `entities` limits every profile to those named; `exclude_entities` takes some out.  `countries` are ISO 3166 codes
    (or `all`) whose national identifiers are looked for; `languages` (ISO 639) add all recognisers whose words are in
    them.  A value equal to one in `allow_list`, or fully matched by one of `allow_patterns`, is no finding.  `model`
    adds one for names.  `work_factor` stretches what a text may cost before the rest of it is told as unscanned.
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
    model: ModelConfig | None = None
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
