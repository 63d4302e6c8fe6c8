"""Results folded into a state per subject: one entry for each policy, rule, status and container, with a count.  Pure.

Bounded: at most `limit` subjects, the one not seen for longest goes first and is counted; entries of a subject are as
many as there are rules, containers and statuses.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from agent.model import Evaluation, PolicyResult, Resource


@dataclass(slots=True)
class ResultState:
    """What one rule said about one container of a subject, again and again."""

    result: PolicyResult
    container: str
    first_unix_nano: int
    last_unix_nano: int
    count: int = 0
    entities: set[str] = field(default_factory=set)
    is_window_complete: bool = True


@dataclass(slots=True)
class SubjectState:
    """A pod (or the node, when `pod` is empty) and the states of its results."""

    resource: Resource
    policy_digest: str = ""
    results: dict[tuple[str, str, str, str], ResultState] = field(default_factory=dict)
    is_changed: bool = True


SubjectKey = tuple[str, str, str]


class Aggregate:
    """All subjects of a node."""

    def __init__(self, limit: int = 5000) -> None:
        self._limit = limit
        self.subjects: OrderedDict[SubjectKey, SubjectState] = OrderedDict()
        self.evicted = 0

    def add(self, evaluation: Evaluation, now_unix_nano: int) -> None:
        """Fold the results of one evaluation in; skips are not kept."""
        if not any(result.status != "skip" for result in evaluation.results):
            return
        resource = evaluation.event.resource
        key = (resource.namespace, resource.pod, resource.pod_uid) if resource.is_pod else ("", "", resource.node)
        subject = self.subjects.get(key)
        if subject is None:
            subject = self.subjects[key] = SubjectState(resource)
            while len(self.subjects) > self._limit:
                self.subjects.popitem(last=False)
                self.evicted += 1
        else:
            self.subjects.move_to_end(key)
        subject.policy_digest = evaluation.policy_digest
        subject.is_changed = True
        time = evaluation.event.time_unix_nano or evaluation.event.observed_time_unix_nano or now_unix_nano
        for result in evaluation.results:
            if result.status != "skip":
                self._fold(subject, evaluation, result, time)

    @staticmethod
    def _fold(subject: SubjectState, evaluation: Evaluation, result: PolicyResult, time: int) -> None:
        container = evaluation.event.resource.container
        key = (result.policy, result.rule, result.status, container)
        state = subject.results.get(key)
        if state is None:
            state = subject.results[key] = ResultState(result, container, time, time)
        state.result = result
        state.count += 1
        state.first_unix_nano = min(state.first_unix_nano, time)
        state.last_unix_nano = max(state.last_unix_nano, time)
        state.is_window_complete = state.is_window_complete and evaluation.is_window_complete
        if result.status == "fail":
            state.entities.update(finding.entity for finding in evaluation.findings)
