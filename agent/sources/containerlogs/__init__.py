"""Container logs of the node, CRI and Docker formats, tailed with acknowledged offsets."""

from agent.plugins import Spec
from agent.sources.containerlogs.config import ContainerLogsConfig
from agent.sources.containerlogs.source import build

SPEC = Spec(name="containerlogs", config=ContainerLogsConfig, build=build)

__all__ = ["SPEC"]
