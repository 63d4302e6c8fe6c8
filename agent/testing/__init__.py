"""For tests: an output that plays a pipeline, small sources and sinks, and the contracts every plug-in must keep."""

from agent.testing.contract import check_detector, check_sink, check_source
from agent.testing.parts import ListSource, MemoryOutput, MemorySink, evaluation_of, log_event

__all__ = [
    "ListSource",
    "MemoryOutput",
    "MemorySink",
    "check_detector",
    "check_sink",
    "check_source",
    "evaluation_of",
    "log_event",
]
