"""Settings of the `secrets` detector, as they stand under `detectors.secrets` in the configuration."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field


class SecretsConfig(pydantic.BaseModel):
    """`exclude_entities` takes kinds out; a value equal to one in `allow_list` is no finding.  `work_factor`
    stretches what a text may cost before the rest of it is told as unscanned."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    exclude_entities: tuple[str, ...] = ()
    allow_list: tuple[str, ...] = ()
    work_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0
