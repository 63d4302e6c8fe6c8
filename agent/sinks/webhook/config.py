"""Settings of the webhook sink, as they stand under `sinks.webhook` in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from agent.sinks.choice import ChoiceConfig
from agent.sinks.receiver import HttpConfig, checked_url


class WebhookConfig(HttpConfig, ChoiceConfig):
    """`cloudevents` are sent one by one (`structured`) or many in a request (`batched`); `ocsf` is a list of findings.

    `hmac_key_file` has one key on each line, the newest first: `whsec_` and base64, or the bytes as they stand.
    """

    url: str
    format: Literal["cloudevents", "ocsf"] = "cloudevents"
    mode: Literal["structured", "batched"] = "batched"
    hmac_key_file: Path | None = None
    batch_events: Annotated[int, Field(ge=1, le=1000)] = 100
    batch_bytes: Annotated[int, Field(ge=8192, le=16 * 1024 * 1024)] = 256 * 1024

    @pydantic.model_validator(mode="after")
    def _has_a_good_url(self) -> WebhookConfig:
        checked_url(self.url, allow_plaintext=self.allow_plaintext)
        if self.format == "ocsf" and set(self.statuses) != {"fail"}:
            raise ValueError("OCSF findings are violations: leave statuses out, or set format: cloudevents")
        return self
