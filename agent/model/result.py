"""What a policy said about an event.  Statuses and severities are those of the Policy Report API."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Status: TypeAlias = Literal["pass", "fail", "warn", "error", "skip"]
Severity: TypeAlias = Literal["critical", "high", "medium", "low", "info"]

STATUSES: tuple[Status, ...] = ("pass", "fail", "warn", "error", "skip")
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One policy rule against one event.  A `fail` is a violation."""

    policy: str
    rule: str
    status: Status
    message: str = ""
    severity: Severity = "medium"
    category: str = ""
    controls: tuple[str, ...] = ()
    is_scored: bool = True

    @property
    def is_violation(self) -> bool:
        return self.status == "fail"
