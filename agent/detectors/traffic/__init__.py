"""What connections and requests say about models: who calls which provider, in plain text, from where, how often."""

from agent.detectors.traffic.config import TrafficConfig
from agent.detectors.traffic.detector import TrafficDetector, build
from agent.plugins import Spec

SPEC: Spec[TrafficDetector] = Spec("traffic", TrafficConfig, build)

__all__ = ["SPEC", "TrafficConfig", "TrafficDetector"]
