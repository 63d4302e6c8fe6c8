"""Results folded into a state per subject: one entry for each policy, rule, status and container, with a count.  Pure.

Bounded: at most `limit` subjects, the one not seen for longest goes first and is counted; entries of a subject are as
many as there are rules, containers and statuses.  A pod whose name is not known yet waits under its uid or container
until `identify` knows it; after a while it is told as the node's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from agent.model import Evaluation, PolicyResult, Resource

SubjectKey: TypeAlias = tuple[str, str, str]
ResultKey: TypeAlias = tuple[str, str, str, str]
# Longer than the API server takes to tell of a pod, shorter than anybody waits for a report.
_UNNAMED_NANOSECONDS = 60 * 1_000_000_000
_UNNAMED = "?"


class ResultState(Struct, kw_only=True):
    """What one rule said about one container of a subject, again and again.

    `count` is `told` by an earlier report, plus `carried` of a run that could not read that report before it ended,
    plus what this run saw."""

    result: PolicyResult
    container: str
    first_unix_nano: int
    last_unix_nano: int
    count: int = 0
    told: int = 0
    carried: int = 0
    entities: set[str] = set()
    is_window_complete: bool = True

    @property
    def key(self) -> ResultKey:
        return (self.result.policy, self.result.rule, self.result.status, self.container)

    def take(self, other: ResultState, told: int) -> None:
        """What another state of the same result knows, of which `told` is a total of an earlier report: totals of
        one report are not added twice."""
        newer = other if other.last_unix_nano > self.last_unix_nano else self
        self.result = newer.result
        self.count += max(0, told - self.told)
        self.told = max(self.told, told)
        self.first_unix_nano = min(self.first_unix_nano, other.first_unix_nano)
        self.last_unix_nano = newer.last_unix_nano
        self.entities |= other.entities
        self.is_window_complete = self.is_window_complete and other.is_window_complete


@dataclass(slots=True)
class SubjectState:
    """A pod (or the node, when `pod` is empty) and the states of its results.  `folded`: of an earlier report, by
    status, how many results and sightings had no room in it."""

    resource: Resource
    policy_digest: str = ""
    results: dict[ResultKey, ResultState] = field(default_factory=dict)
    folded: dict[str, tuple[int, int]] = field(default_factory=dict)
    is_changed: bool = True
    since_unix_nano: int = 0

    @property
    def is_unnamed(self) -> bool:
        """A pod, by its uid or container, whose name is not known."""
        return not self.resource.is_pod and bool(self.resource.pod_uid or self.resource.container_id)


def key_of(resource: Resource) -> SubjectKey:
    if resource.is_pod:
        return (resource.namespace, resource.pod, resource.pod_uid)
    if resource.pod_uid or resource.container_id:
        return (_UNNAMED, resource.pod_uid, "" if resource.pod_uid else resource.container_id)
    return ("", "", resource.node)


class Aggregate:
    """All subjects of a node."""

    def __init__(self, limit: int = 5000) -> None:
        self._limit = limit
        self.subjects: OrderedDict[SubjectKey, SubjectState] = OrderedDict()
        self.evicted = 0

    def add(self, evaluation: Evaluation, now_unix_nano: int) -> list[tuple[SubjectState, ResultState]]:
        """Fold the results of one evaluation in, and give the states that are worth telling anew.

        Skips are not kept.  A pass that was there before is counted, but is no reason to write a report again.
        """
        if not any(result.status != "skip" for result in evaluation.results):
            return []
        subject = self._subject(evaluation.event.resource, now_unix_nano)
        subject.policy_digest = evaluation.policy_digest
        time = evaluation.event.time_unix_nano or evaluation.event.observed_time_unix_nano or now_unix_nano
        told: list[tuple[SubjectState, ResultState]] = []
        for result in evaluation.results:
            if result.status == "skip":
                continue
            state = self._fold(subject, evaluation, result, time)
            if result.status != "pass" or state.count == 1:
                subject.is_changed = True
                told.append((subject, state))
        return told

    def restore(
        self, resource: Resource, state: ResultState, policy_digest: str = "", *, carried: int = 0
    ) -> SubjectState:
        """Take over a state that an earlier run told, with the `carried` sightings it told nobody."""
        subject = self._subject(resource, state.last_unix_nano)
        subject.policy_digest = subject.policy_digest or policy_digest
        known = subject.results.get(state.key)
        if known is None:
            known = subject.results[state.key] = replace(state, count=0, told=0, carried=0)
        known.take(state, state.count)
        known.count += carried
        known.carried += carried
        return subject

    def name(self, identify: Callable[[Resource], Resource], now_unix_nano: int) -> None:
        """Give the unnamed their names, as far as known by now; those that waited too long are the node's."""
        for key in [key for key, subject in self.subjects.items() if subject.is_unnamed]:
            waiting = self.subjects[key]
            resource = identify(waiting.resource)
            if not resource.is_pod:
                if now_unix_nano - waiting.since_unix_nano < _UNNAMED_NANOSECONDS:
                    continue
                resource = Resource(node=resource.node)
            del self.subjects[key]
            subject = self._subject(resource, now_unix_nano)
            subject.is_changed = True
            subject.policy_digest = waiting.policy_digest
            for state in waiting.results.values():
                state.container = state.container or resource.container
                known = subject.results.setdefault(state.key, state)
                if known is not state:
                    known.take(state, known.told)
                    known.count += state.count

    def _subject(self, resource: Resource, now_unix_nano: int) -> SubjectState:
        key = key_of(resource)
        subject = self.subjects.get(key)
        if subject is not None:
            self.subjects.move_to_end(key)
            return subject
        subject = self.subjects[key] = SubjectState(resource, since_unix_nano=now_unix_nano)
        while len(self.subjects) > self._limit:
            self.subjects.popitem(last=False)
            self.evicted += 1
        return subject

    @staticmethod
    def _fold(subject: SubjectState, evaluation: Evaluation, result: PolicyResult, time: int) -> ResultState:
        container = evaluation.event.resource.container
        key = (result.policy, result.rule, result.status, container)
        state = subject.results.get(key)
        if state is None:
            state = ResultState(result=result, container=container, first_unix_nano=time, last_unix_nano=time)
            subject.results[key] = state
        state.result = result
        state.count += 1
        state.first_unix_nano = min(state.first_unix_nano, time)
        state.last_unix_nano = max(state.last_unix_nano, time)
        state.is_window_complete = state.is_window_complete and evaluation.is_window_complete
        if result.status == "fail":
            state.entities.update(finding.entity for finding in evaluation.findings)
        return state
