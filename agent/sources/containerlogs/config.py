"""Settings of the container log source, as they stand under `sources.containerlogs` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field


class ContainerLogsConfig(pydantic.BaseModel):
    """`paths` are directories watched with everything below.  Namespace patterns know `*` and `?`.

    At most about `open_files` files are held open: quiet containers are closed and found again by what was read.
    `start_at: beginning` reads what was written before the agent came, rotated and compressed files too.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    paths: Annotated[tuple[Path, ...], Field(min_length=1)] = (Path("/var/log/pods"),)
    include_namespaces: tuple[str, ...] = ("*",)
    exclude_namespaces: tuple[str, ...] = ()
    exclude_pods: tuple[str, ...] = ()
    start_at: Literal["beginning", "end"] = "beginning"
    checkpoint_file: Path | None = None
    open_files: Annotated[int, Field(ge=8)] = 512
    workers: Annotated[int, Field(ge=1, le=64)] = 4
    read_bytes: Annotated[int, Field(ge=4096)] = 128 * 1024
    group_seconds: Annotated[float, Field(gt=0)] = 0.5
    partial_seconds: Annotated[float, Field(gt=0)] = 5.0

    @pydantic.field_validator("paths")
    @classmethod
    def _are_no_links(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            if path.name == "containers" and path.parent.name == "log":
                raise ValueError(f"{path} holds links of all containers in one directory; watch /var/log/pods instead")
        return paths
