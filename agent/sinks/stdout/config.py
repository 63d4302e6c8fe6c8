"""Settings of the standard output sink, as they stand under `sinks.stdout` in the configuration."""

from __future__ import annotations

from typing import Literal

import pydantic


class StdoutConfig(pydantic.BaseModel):
    """`table` shows what is notable; `ocsf` writes a finding for each violation; `json` each evaluation (`all`) or
    each notable one."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format: Literal["table", "ocsf", "json"] = "table"
    all: bool = False
    color: Literal["auto", "always", "never"] = "auto"
