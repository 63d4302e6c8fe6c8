"""Which events a rule concerns: `match` and `exclude` compiled to plain predicates, and an index over all rules.

CEL costs microseconds for each rule; a dictionary look-up by event class and namespace leaves only the rules that can
concern an event, so that cost grows with those and not with the whole set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

from agent.model import EVENT_CLASSES, Event
from agent.policy.document import KINDS, Filter, Match, ResourceFilter, Selector

Predicate: TypeAlias = Callable[[Event], bool]


@lru_cache(maxsize=4096)
def wildcard(pattern: str) -> re.Pattern[str]:
    """Kyverno's wildcards as a regular expression over the whole text: `*` any run, `?` one character."""
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in re.split(r"([*?])", pattern))
    return re.compile("".join(parts), re.DOTALL)


def matches_any(patterns: Sequence[str], value: str) -> bool:
    return any(pattern == value or wildcard(pattern).fullmatch(value) is not None for pattern in patterns)


def _selects(selector: Selector, labels: dict[str, str]) -> bool:
    for key, wanted in selector.match_labels.items():
        if not any(matches_any((key,), name) and matches_any((wanted,), value) for name, value in labels.items()):
            return False
    for requirement in selector.match_expressions:
        has_key = requirement.key in labels
        is_in = has_key and labels[requirement.key] in requirement.values
        match requirement.operator:
            case "In" if not is_in:
                return False
            case "NotIn" if is_in:
                return False
            case "Exists" if not has_key:
                return False
            case "DoesNotExist" if has_key:
                return False
    return True


def _compiled(filters: ResourceFilter) -> Predicate:
    """A filter as the checks that it has; one without any concerns every event."""
    checks: list[Predicate] = []
    if filters.kinds and "*" not in filters.kinds:
        classes = frozenset(KINDS[kind] for kind in filters.kinds)
        checks.append(lambda event: event.event_class in classes)
    of_resource = (
        (filters.namespaces, "namespace"),
        (filters.names, "pod"),
        (filters.containers, "container"),
        (filters.images, "image"),
        (filters.nodes, "node"),
        (filters.workloads, "workload"),
        (filters.service_accounts, "service_account"),
    )
    checks += [_resource_check(patterns, field) for patterns, field in of_resource if patterns]
    if filters.sources:
        sources = filters.sources
        checks.append(lambda event: matches_any(sources, event.source))
    if filters.selector is not None:
        selector = filters.selector
        checks.append(lambda event: _selects(selector, event.resource.labels))
    match checks:
        case []:
            return lambda _: True
        case [check]:
            return check
    return lambda event: all(check(event) for check in checks)


def _resource_check(patterns: Sequence[str], field: str) -> Predicate:
    return lambda event: matches_any(patterns, getattr(event.resource, field))


def _filters(block: Match) -> tuple[Filter, ...]:
    return block.any or block.all


def predicate(match: Match, exclude: Match | None) -> Predicate:
    """Whether a rule concerns an event.  Exclude is asked only if match says yes."""
    concerned = _block(match)
    if exclude is None:
        return concerned
    excluded = _block(exclude)
    return lambda event: concerned(event) and not excluded(event)


def _block(block: Match) -> Predicate:
    checks = [_compiled(one.resources) for one in _filters(block)]
    if len(checks) == 1:
        return checks[0]
    if block.any:
        return lambda event: any(check(event) for check in checks)
    return lambda event: all(check(event) for check in checks)


def classes_of(match: Match) -> frozenset[str]:
    """Event classes a match block can concern."""
    every = frozenset(EVENT_CLASSES)
    sets = [
        every
        if not one.resources.kinds or "*" in one.resources.kinds
        else frozenset(KINDS[kind] for kind in one.resources.kinds)
        for one in _filters(match)
    ]
    return frozenset.union(*sets) if match.any else frozenset.intersection(*sets)


def namespaces_of(match: Match) -> frozenset[str] | None:
    """Namespaces a match block can concern, when all are named without wildcards; else None."""
    sets: list[frozenset[str] | None] = []
    for one in _filters(match):
        names = one.resources.namespaces
        is_exact = bool(names) and not any("*" in name or "?" in name for name in names)
        sets.append(frozenset(names) if is_exact else None)
    if match.any:
        return None if None in sets else frozenset().union(*(names for names in sets if names is not None))
    known = [names for names in sets if names is not None]
    return frozenset.intersection(*known) if known else None


Rule = TypeVar("Rule")


class Index(Generic[Rule]):
    """Rules by event class, then by namespace; order of the rules is kept."""

    def __init__(self, rules: Iterable[tuple[Match, Rule]]) -> None:
        self._named: dict[tuple[str, str], list[tuple[int, Rule]]] = {}
        self._anywhere: dict[str, list[tuple[int, Rule]]] = {}
        for position, (match, rule) in enumerate(rules):
            namespaces = namespaces_of(match)
            for event_class in classes_of(match):
                if namespaces is None:
                    self._anywhere.setdefault(event_class, []).append((position, rule))
                    continue
                for namespace in namespaces:
                    self._named.setdefault((event_class, namespace), []).append((position, rule))

    def candidates(self, event: Event) -> list[Rule]:
        event_class = event.event_class
        anywhere = self._anywhere.get(event_class, [])
        named = self._named.get((event_class, event.resource.namespace))
        if named is None:
            return [rule for _, rule in anywhere]
        return [rule for _, rule in sorted((*anywhere, *named), key=lambda entry: entry[0])]
