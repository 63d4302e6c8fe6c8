"""Settings of the policy reports, as they stand under `sinks.policyreport` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pydantic
from pydantic import Field

ReportApi: TypeAlias = Literal["wgpolicyk8s", "openreports"]


class PolicyReportConfig(pydantic.BaseModel):
    """`target`: the API server where a cluster is configured, else files in `directory`; or one of them by name.

    `report_bytes` bounds one report: etcd refuses objects over 1.5 MiB, and a cap by count does not bound bytes.
    `writes_per_second` bounds requests of one node's agent.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    target: Literal["auto", "cluster", "files"] = "auto"
    api: ReportApi = "wgpolicyk8s"
    directory: Path | None = None
    flush_seconds: Annotated[float, Field(gt=0)] = 30.0
    report_bytes: Annotated[int, Field(ge=4096, le=1_000_000)] = 256 * 1024
    subjects: Annotated[int, Field(ge=1)] = 5000
    writes_per_second: Annotated[float, Field(gt=0)] = 20.0
