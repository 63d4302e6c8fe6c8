"""A generic webhook: violations as CloudEvents or OCSF findings, signed after Standard Webhooks."""

from agent.plugins import Spec
from agent.sinks.webhook.config import WebhookConfig
from agent.sinks.webhook.sink import build

SPEC = Spec(name="webhook", config=WebhookConfig, build=build)

__all__ = ["SPEC"]
