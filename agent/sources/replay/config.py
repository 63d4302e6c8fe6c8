"""Settings of the replay source: recorded input instead of a live stream."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from agent.model import Resource


class ReplayConfig(pydantic.BaseModel):
    """`path` is a file, compressed or not (.gz, .xz, .bz2), or `-` for standard input.

    `speed: recorded` waits between events as long as they were apart, at most `longest_wait_seconds`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    kind: Literal["tetragon", "hubble", "cri", "docker", "prompts"]
    path: str
    speed: Literal["full", "recorded"] = "full"
    longest_wait_seconds: Annotated[float, Field(ge=0)] = 5.0
    batch_lines: Annotated[int, Field(ge=1, le=10_000)] = 64
    resource: dict[str, str] = {}

    @property
    def owner(self) -> Resource:
        """The resource given for input that names none (prompts, container logs outside of their path)."""
        return Resource(**{key: value for key, value in self.resource.items() if key in Resource.__struct_fields__})  # type: ignore[arg-type]
