"""Recorded input: Tetragon and Hubble JSON, container logs, JSON lines of prompts."""

from agent.plugins import Spec
from agent.sources.replay.config import ReplayConfig
from agent.sources.replay.source import build

SPEC = Spec(name="replay", config=ReplayConfig, build=build)

__all__ = ["SPEC"]
