"""Settings of the traffic detector."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field


class TrafficConfig(pydantic.BaseModel):
    """`denied_count` refusals of one workload, or refusals by `denied_destinations` different ones, in two minutes are
    a burst."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    denied_count: Annotated[int, Field(ge=2)] = 20
    denied_destinations: Annotated[int, Field(ge=2)] = 10
