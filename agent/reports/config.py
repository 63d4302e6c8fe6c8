"""Settings of the policy report files, as they stand under `sinks.policyreport` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field


class PolicyReportConfig(pydantic.BaseModel):
    """`report_bytes` bounds one report: etcd refuses objects over 1.5 MiB, and a cap by count does not bound bytes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = None
    flush_seconds: Annotated[float, Field(gt=0)] = 30.0
    report_bytes: Annotated[int, Field(ge=4096)] = 256 * 1024
    subjects: Annotated[int, Field(ge=1)] = 5000
