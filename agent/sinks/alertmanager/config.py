"""Settings of the Alertmanager sink, as they stand under `sinks.alertmanager` in the configuration."""

from __future__ import annotations

import re
from typing import Annotated

import pydantic
from pydantic import Field

from agent.sinks.choice import ChoiceConfig
from agent.sinks.receiver import HttpConfig, checked_url

# The labels that say what happened where; `extra_labels` stand beside them, never in their place.
OWN_LABELS = (
    "alertname", "policy", "rule", "severity", "category", "namespace", "pod", "container", "workload", "node", "folded"
)  # fmt: skip
OWN_ANNOTATIONS = ("summary", "description", "entities", "controls", "count", "first_seen", "last_seen")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_VALUE_CHARACTERS = 1024


class AlertmanagerConfig(HttpConfig, ChoiceConfig):
    """`urls` are all instances of one Alertmanager cluster: each alert goes to all of them, as Prometheus does it.

    An alert is active until `quiet_seconds` after its last repetition; every `repeat_seconds` it is posted again, so
    that an Alertmanager that was restarted knows it.  `limit` bounds active alerts; beyond it they fold by rule.
    `generator_url` is where people get to from an alert, such as a dashboard.
    """

    urls: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    alertname: Annotated[str, Field(min_length=1, max_length=256)] = "ReevePolicyViolation"
    extra_labels: dict[str, str] = Field(default_factory=dict, max_length=32)
    extra_annotations: dict[str, str] = Field(default_factory=dict, max_length=32)
    generator_url: str = ""
    repeat_seconds: Annotated[float, Field(gt=0)] = 60.0
    quiet_seconds: Annotated[float, Field(gt=0)] = 300.0
    limit: Annotated[int, Field(ge=1, le=100_000)] = 2000

    @pydantic.model_validator(mode="after")
    def _has_good_urls_and_names(self) -> AlertmanagerConfig:
        whole = [checked_url(url, allow_plaintext=self.allow_plaintext) for url in self.urls]
        if len(set(whole)) != len(whole):
            raise ValueError("an address stands twice in urls; keep one")
        if any("?" in url or url.endswith("/api/v2/alerts") for url in whole):
            raise ValueError("urls are addresses without /api/v2/alerts and without a query")
        if self.generator_url:
            checked_url(self.generator_url.partition("#")[0], allow_plaintext=True)  # a link that the agent never asks
        for what, given, own in (
            ("label", self.extra_labels, OWN_LABELS),
            ("annotation", self.extra_annotations, OWN_ANNOTATIONS),
        ):
            for name, value in given.items():
                if not _LABEL_NAME.fullmatch(name):
                    raise ValueError(f"{name!r} is no name of a {what}; use letters, digits and _")
                if name in own:
                    raise ValueError(f"the {what} {name} is the agent's own; choose another name")
                if not value or len(value) > _VALUE_CHARACTERS or not value.isprintable():
                    raise ValueError(f"the {what} {name} is empty, longer than {_VALUE_CHARACTERS} or not printable")
        return self
