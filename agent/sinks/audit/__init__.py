"""The audit log: a directory of JSON-line segments, hash-chained, with signed checkpoints."""

from agent.plugins import Spec
from agent.sinks.audit.config import AuditConfig
from agent.sinks.audit.sink import build

SPEC = Spec(name="audit", config=AuditConfig, build=build)

__all__ = ["SPEC"]
