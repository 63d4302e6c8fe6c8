"""Kyverno's condition operators over two plain values, for `deny.conditions`.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.policy.document import Operator
from agent.policy.pattern import compared, scalar_matches


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, (list, dict)) or isinstance(right, (list, dict)):
        return bool(left == right)
    return scalar_matches(right, left)


def _is_in(item: Any, values: Any) -> bool:
    return any(scalar_matches(wanted, item) for wanted in _items(values))


def _order(left: Any, right: Any) -> int | None:
    if isinstance(left, bool) or isinstance(right, bool):
        return None
    return compared(str(left), str(right))


def _ordered(holds: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def check(left: Any, right: Any) -> bool:
        order = _order(left, right)
        return order is not None and holds(order)

    return check


OPERATORS: dict[Operator, Callable[[Any, Any], bool]] = {
    "Equals": _equal,
    "NotEquals": lambda left, right: not _equal(left, right),
    "AnyIn": lambda left, right: any(_is_in(item, right) for item in _items(left)),
    "AllIn": lambda left, right: all(_is_in(item, right) for item in _items(left)),
    "AnyNotIn": lambda left, right: any(not _is_in(item, right) for item in _items(left)),
    "AllNotIn": lambda left, right: all(not _is_in(item, right) for item in _items(left)),
    "GreaterThan": _ordered(lambda order: order > 0),
    "GreaterThanOrEquals": _ordered(lambda order: order >= 0),
    "LessThan": _ordered(lambda order: order < 0),
    "LessThanOrEquals": _ordered(lambda order: order <= 0),
}


def holds(operator: Operator, left: Any, right: Any) -> bool:
    """Whether `left operator right`; a comparison of things that have no order is false."""
    return OPERATORS[operator](left, right)
