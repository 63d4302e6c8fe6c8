"""Presidio logs a pattern that ran into its time limit and skips it; here that becomes a fact one can ask for."""

from __future__ import annotations

import logging

from agent.detectors.presidio import lean

lean.load()

from presidio_analyzer import pattern_recognizer  # noqa: E402 - after the lean import


class TimeoutWatch(logging.Handler):
    """`happened` counts patterns that timed out since the start.  There is one for the process: `WATCH`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.happened = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "timed out" in record.msg:
            self.happened += 1


WATCH = TimeoutWatch()
logging.getLogger("presidio-analyzer").addHandler(WATCH)


def limit_patterns(seconds: float) -> None:
    """The time one pattern may take on one text; Presidio's own default is 60 s."""
    pattern_recognizer.REGEX_TIMEOUT_SECONDS = seconds
