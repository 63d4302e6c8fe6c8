"""Settings of the Kubernetes Events sink, as they stand under `sinks.events` in the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.sinks.choice import ChoiceConfig


class EventsConfig(ChoiceConfig):
    """Writes for one pod: `pod_burst`, then one each `pod_refill_seconds`, as client-go's spam filter allows them; for
    the whole node `node_burst`, then one each `node_refill_seconds`.  `series` bounds what is remembered.
    """

    pod_burst: Annotated[int, Field(ge=1)] = 25
    pod_refill_seconds: Annotated[float, Field(gt=0)] = 300.0
    # 0.2 a second: were every pod of 1000 nodes to violate at once, the API server gets 200 writes a second.
    node_burst: Annotated[int, Field(ge=1)] = 100
    node_refill_seconds: Annotated[float, Field(gt=0)] = 5.0
    series: Annotated[int, Field(ge=1, le=100_000)] = 4096
