"""The agent's own log: structlog to standard error, JSON for machines or text for people, no line per event."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from agent.model import Sensitive

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def _no_sensitive(_: Any, __: str, event: Any) -> Any:
    """Shows the length of a `Sensitive` text that someone logs by mistake; its `repr` does, JSON would not."""
    for key, value in event.items():
        if isinstance(value, Sensitive):
            event[key] = repr(value)
    return event


def configure(level: str = "info", log_format: str = "json") -> None:
    """Set up logging for the process.  May be called again."""
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _no_sensitive,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
