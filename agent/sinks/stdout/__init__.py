"""Standard output: a table for people, OCSF or plain JSON lines for machines."""

from agent.plugins import Spec
from agent.sinks.stdout.config import StdoutConfig
from agent.sinks.stdout.sink import build

SPEC = Spec(name="stdout", config=StdoutConfig, build=build)

__all__ = ["SPEC"]
