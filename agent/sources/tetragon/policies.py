"""Tracing policies as facts: what is loaded, what failed, what is missing.

A policy that did not load, or only in part, sees nothing and says nothing: that has to be told as a state.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent._pb import tetragon_pb2 as pb
from agent.model import Sensitive, StatusReport

COMPONENT = "tetragon-policy"
_STATES = {number: name.removeprefix("TP_STATE_").lower() for name, number in pb.TracingPolicyState.items()}


class PolicyWatch:
    """Tells a policy's state when it is first seen and when it changes."""

    def __init__(self, expected: Iterable[str]) -> None:
        """`expected`: names, as `name` or `namespace/name`, that have to be there."""
        self._expected = tuple(expected)
        self._told: dict[str, str] = {}

    def changes(self, answer: bytes) -> list[StatusReport]:
        """Reports for a ListTracingPoliciesResponse.  Raises google.protobuf.message.DecodeError."""
        response = pb.ListTracingPoliciesResponse.FromString(answer)
        now: dict[str, tuple[str, str]] = {}
        for policy in response.policies:
            name = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name
            state = _STATES.get(policy.state, str(policy.state))
            bad = [hook.hook_description or hook.section for hook in policy.hook_statuses if hook.state > 1]
            if state == "enabled" and bad:
                state = "partially_enabled"
            now[name] = state, policy.error or ", ".join(bad)
        for name in self._expected:
            now.setdefault(name, ("missing", ""))
        reports = [
            StatusReport(component=COMPONENT, state=state, subject=name, detail=Sensitive(detail) if detail else "")
            for name, (state, detail) in now.items()
            if self._told.get(name) != state
        ]
        reports += [
            StatusReport(component=COMPONENT, state="removed", subject=name) for name in self._told if name not in now
        ]
        self._told = {name: state for name, (state, _) in now.items()}
        return reports
