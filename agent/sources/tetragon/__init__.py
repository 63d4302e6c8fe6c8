"""Tetragon's events: a live stream (`source`), and the decoder of its JSON form, which `replay` uses too."""

from agent.plugins import Spec
from agent.sources.tetragon.config import TetragonConfig
from agent.sources.tetragon.decode import event_from_json
from agent.sources.tetragon.source import TetragonSource, build

SPEC: Spec[TetragonSource] = Spec("tetragon", TetragonConfig, build)

__all__ = ["SPEC", "event_from_json"]
