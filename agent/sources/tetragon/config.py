"""Settings of the Tetragon source."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from google.protobuf import json_format
from pydantic import Field

from agent._pb import tetragon_pb2 as pb
from agent.sources.rpc import ConnectionConfig

DEFAULT_ADDRESS = "unix:///var/run/tetragon/tetragon.sock"
# Kubernetes' own liveness and readiness commands, which Tetragon tells apart itself.
_HEALTH_CHECKS: dict[str, Any] = {"health_check": True}


class TetragonConfig(ConnectionConfig):
    """`allow`, `deny` and `fields` are Tetragon's own filters with its own field names, and run in the daemon: an event
    is sent if an allow filter matches (or there is none) and no deny filter does.  A field filter makes the daemon copy
    each event, so there is none by default."""

    address: str = DEFAULT_ADDRESS
    allow: tuple[dict[str, Any], ...] = ()
    deny: tuple[dict[str, Any], ...] = (_HEALTH_CHECKS,)
    fields: tuple[dict[str, Any], ...] = ()
    idle_seconds: Annotated[float, Field(gt=0)] = 60.0
    fold_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    policy_seconds: Annotated[float, Field(ge=0)] = 30.0
    expected_policies: tuple[str, ...] = ()
    metrics_url: str = ""
    metrics_seconds: Annotated[float, Field(gt=0)] = 15.0

    @pydantic.field_validator("metrics_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no http URL, such as http://127.0.0.1:2112/metrics")
        return value

    @pydantic.model_validator(mode="after")
    def _has_good_filters(self) -> TetragonConfig:
        self.request()
        return self

    def request(self) -> bytes:
        """The GetEventsRequest of these settings.  Raises ValueError with Tetragon's name of a field that is wrong."""
        request = pb.GetEventsRequest()
        for name, target, filters in (
            ("allow", request.allow_list, self.allow),
            ("deny", request.deny_list, self.deny),
            ("fields", request.field_filters, self.fields),
        ):
            for number, one in enumerate(filters):
                try:
                    json_format.ParseDict(one, target.add())
                except json_format.ParseError as error:
                    raise ValueError(f"{name}[{number}]: {error}") from error
        return request.SerializeToString()
