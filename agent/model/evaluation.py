"""An event with its findings and results, masked: what sinks receive."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.model.event import Event
from agent.model.finding import Finding
from agent.model.result import PolicyResult


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`event` holds no `Sensitive` text any more.  `unscanned` says why a part of it was not scanned."""

    event: Event
    findings: tuple[Finding, ...] = ()
    results: tuple[PolicyResult, ...] = ()
    unscanned: tuple[str, ...] = ()
    policy_digest: str = ""
    is_window_complete: bool = True

    @property
    def violations(self) -> tuple[PolicyResult, ...]:
        return tuple(result for result in self.results if result.is_violation)

    @property
    def is_notable(self) -> bool:
        """Whether there is anything to tell: a finding, a result other than pass or skip, or an unscanned part."""
        return bool(self.findings or self.unscanned) or any(r.status not in ("pass", "skip") for r in self.results)


def _refuse(value: Any) -> Any:
    kind = type(value).__name__
    raise TypeError(f"{kind} is not written: only masked evaluations leave the process")


_ENCODER = msgspec.json.Encoder(enc_hook=_refuse, order="deterministic")


def evaluation_json(evaluation: Evaluation | Event) -> bytes:
    """Deterministic JSON of one evaluation or masked event.  Raises TypeError if `Sensitive` text is left in it."""
    return _ENCODER.encode(evaluation)


__all__ = ["Evaluation", "evaluation_json"]
