"""Hubble's flows: a live stream (`source`), and the decoder of their JSON form, which `replay` uses too."""

from agent.plugins import Spec
from agent.sources.hubble.config import HubbleConfig
from agent.sources.hubble.decode import event_from_json
from agent.sources.hubble.source import HubbleSource, build

SPEC: Spec[HubbleSource] = Spec("hubble", HubbleConfig, build)

__all__ = ["SPEC", "event_from_json"]
