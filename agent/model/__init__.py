"""The nouns: standard library and msgspec only.  Read `event.py` first, then `body.py`."""

from agent.model.body import (
    EVENT_CLASSES,
    Body,
    DnsActivity,
    Endpoint,
    FileAction,
    FileActivity,
    GenAiOperation,
    HttpActivity,
    KernelActivity,
    LogRecord,
    LossReport,
    Message,
    MessagePart,
    NetworkAction,
    NetworkActivity,
    Process,
    ProcessAction,
    ProcessActivity,
    Role,
    StatusReport,
    class_of,
)
from agent.model.evaluation import Evaluation, evaluation_json
from agent.model.event import DecodeError, Event, event_id
from agent.model.finding import Direction, Finding, FindingKind, Match
from agent.model.generations import Generations
from agent.model.outcome import DROP_REASONS, DropReason, Outcome, worst
from agent.model.resource import Resource
from agent.model.result import SEVERITIES, STATUSES, PolicyResult, Severity, Status
from agent.model.sensitive import Sensitive, Text

__all__ = [
    "DROP_REASONS",
    "EVENT_CLASSES",
    "SEVERITIES",
    "STATUSES",
    "Body",
    "DecodeError",
    "Direction",
    "DnsActivity",
    "DropReason",
    "Endpoint",
    "Evaluation",
    "Event",
    "FileAction",
    "FileActivity",
    "Finding",
    "FindingKind",
    "GenAiOperation",
    "Generations",
    "HttpActivity",
    "KernelActivity",
    "LogRecord",
    "LossReport",
    "Match",
    "Message",
    "MessagePart",
    "NetworkAction",
    "NetworkActivity",
    "Outcome",
    "PolicyResult",
    "Process",
    "ProcessAction",
    "ProcessActivity",
    "Resource",
    "Role",
    "Sensitive",
    "Severity",
    "Status",
    "StatusReport",
    "Text",
    "class_of",
    "evaluation_json",
    "event_id",
    "worst",
]
