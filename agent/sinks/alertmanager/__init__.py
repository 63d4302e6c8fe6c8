"""Alerts: violations as active alerts of an Alertmanager, one for each set of labels."""

from agent.plugins import Spec
from agent.sinks.alertmanager.config import AlertmanagerConfig
from agent.sinks.alertmanager.sink import build

SPEC = Spec(name="alertmanager", config=AlertmanagerConfig, build=build)

__all__ = ["SPEC"]
