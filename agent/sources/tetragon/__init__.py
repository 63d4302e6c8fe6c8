"""Tetragon's events.  Here: the decoder of its JSON form, which `replay` uses too."""

from agent.sources.tetragon.decode import event_from_json

__all__ = ["event_from_json"]
