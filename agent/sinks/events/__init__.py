"""Violations as Kubernetes Events on the pod, for `kubectl describe pod` and `kubectl events`."""

from agent.plugins import Spec
from agent.sinks.events.config import EventsConfig
from agent.sinks.events.sink import build

SPEC = Spec(name="events", config=EventsConfig, build=build)

__all__ = ["SPEC"]
