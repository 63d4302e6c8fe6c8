"""Hubble's flows.  Here: the decoder of their JSON form, which `replay` uses too."""

from agent.sources.hubble.decode import event_from_json

__all__ = ["event_from_json"]
