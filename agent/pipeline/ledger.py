"""Double entry: `admitted == delivered + dropped + rejected + errored + in_flight`, for each source, always.

Upstream loss and undecodable input stand outside: those never were events.  Counts only; Prometheus reads a snapshot at
scrape time, and the hot path knows no Prometheus.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agent.model import DropReason, LossReport, Outcome


@dataclass(slots=True)
class Account:
    """One source's counts since the start."""

    read: int = 0
    admitted: int = 0
    delivered: int = 0
    rejected: int = 0
    errored: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter)
    decode_errors: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    reported: int = 0  # events the source made itself
    connections: int = 0
    is_connected: bool | None = None  # None for a source without a peer
    in_flight: int = 0

    @property
    def is_balanced(self) -> bool:
        ended = self.delivered + self.dropped.total() + self.rejected + self.errored
        return self.admitted == ended + self.in_flight and self.in_flight >= 0


@dataclass(slots=True)
class SinkAccount:
    """One sink's counts since the start, in evaluations; `dead_lettered` were given up after the last retry."""

    delivered: int = 0
    dropped: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    retries: int = 0
    queued: int = 0


class Ledger:
    """All accounts of one run."""

    def __init__(self) -> None:
        self.sources: dict[str, Account] = {}
        self.sinks: dict[str, SinkAccount] = {}

    def source(self, name: str) -> Account:
        return self.sources.setdefault(name, Account())

    def sink(self, name: str) -> SinkAccount:
        return self.sinks.setdefault(name, SinkAccount())

    def admit(self, source: str, count: int) -> None:
        account = self.source(source)
        account.admitted += count
        account.in_flight += count

    def settle(self, source: str, outcome: Outcome, count: int = 1, reason: DropReason | None = None) -> None:
        """Book the end of `count` events.  A drop needs its reason; ValueError without one."""
        account = self.source(source)
        match outcome:
            case Outcome.DELIVERED:
                account.delivered += count
            case Outcome.REJECTED:
                account.rejected += count
            case Outcome.ERRORED:
                account.errored += count
            case Outcome.DROPPED:
                if reason is None:
                    raise ValueError("a drop has a reason")
                account.dropped[reason] += count
        account.in_flight -= count

    def lose(self, source: str, report: LossReport) -> None:
        self.source(source).lost[report.reason] += report.count

    @property
    def is_balanced(self) -> bool:
        return all(account.is_balanced for account in self.sources.values())
