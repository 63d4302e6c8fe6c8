"""Evaluations as lines for people: when, how bad, where, what."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from agent.model import Evaluation, Severity

_COLORS: dict[Severity, str] = {
    "critical": "\x1b[1;97;41m",
    "high": "\x1b[1;31m",
    "medium": "\x1b[33m",
    "low": "\x1b[36m",
    "info": "\x1b[2m",
}
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def _time(evaluation: Evaluation) -> str:
    nanoseconds = evaluation.event.time_unix_nano or evaluation.event.observed_time_unix_nano
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%H:%M:%S") if nanoseconds else "--:--:--"


def _plain(text: str) -> str:
    """One line, without control characters: a log must not steer the terminal of who reads it."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))


def rows(evaluation: Evaluation, *, color: bool) -> list[str]:
    """Lines for one evaluation: its results that are not pass or skip, or its findings if there is no such result."""

    def paint(style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if color else text

    place = _plain(evaluation.event.resource.place)
    when = paint(_DIM, _time(evaluation))
    lines = [
        f"{when} {paint(_COLORS[result.severity], f'{result.severity:<8}')} "
        f"{paint(_BOLD, f'{result.policy}/{result.rule}')} {result.status}: {_plain(result.message)}"
        for result in evaluation.results
        if result.status not in ("pass", "skip")
    ]
    if not lines and evaluation.findings:
        found = Counter(finding.entity for finding in evaluation.findings)
        names = ", ".join(f"{entity} x{count}" if count > 1 else entity for entity, count in found.items())
        lines.append(f"{when} {'finding':<8} {evaluation.event.event_class} of {place} holds {names}")
    if evaluation.unscanned:
        lines.append(f"{when} {'unseen':<8} a part of {place} was not scanned: {', '.join(evaluation.unscanned)}")
    return lines
