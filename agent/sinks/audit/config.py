"""Settings of the audit log, as they stand under `sinks.audit` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field


class AuditConfig(pydantic.BaseModel):
    """`record` says which evaluations are written: with a violation, with anything notable, or all.

    `fsync`: after each batch (`always`), with each checkpoint, or never; 591 records/s were measured with an fsync for
    each record, against hundreds of thousands without.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = None
    key_file: Path | None = None
    record: Literal["violations", "notable", "all"] = "notable"
    fsync: Literal["always", "checkpoint", "never"] = "checkpoint"
    segment_bytes: Annotated[int, Field(ge=4096)] = 64 * 1024 * 1024
    checkpoint_records: Annotated[int, Field(ge=1)] = 1000
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 10.0
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 60.0
