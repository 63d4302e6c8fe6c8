"""Policy reports: current state, one per pod and one per node, aggregated in memory and flushed on a timer."""

from agent.plugins import Spec
from agent.reports.config import PolicyReportConfig
from agent.reports.sink import build

SPEC = Spec(name="policyreport", config=PolicyReportConfig, build=build)

__all__ = ["SPEC"]
