"""The agent's own telemetry: counts, metrics, health, log."""

from agent.telemetry.http import HttpServer
from agent.telemetry.logs import configure
from agent.telemetry.metrics import METRICS, AgentCollector, CanaryCounts, ClusterCounts, Gauges
from agent.telemetry.tally import Tally

__all__ = [
    "METRICS",
    "AgentCollector",
    "CanaryCounts",
    "ClusterCounts",
    "Gauges",
    "HttpServer",
    "Tally",
    "configure",
]
