"""Kyverno's `pattern` language over plain values: maps, lists, anchors, wildcards and operators.

The semantics are those of Kyverno 1.19: anchors first and by name, then the rest; a conditional anchor that does not
hold skips its map, a global one the whole rule.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from agent.policy.match import wildcard

_ANCHOR = re.compile(r"([+<=X^]?)\((.+)\)$")
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+)$")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": "1e-9", "us": "1e-6", "µs": "1e-6", "ms": "1e-3", "s": "1", "m": "60", "h": "3600"}
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?$")
_SCALE = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{unit + "i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?[A-Za-z]*)(!?-)(-?\d+(?:\.\d+)?[A-Za-z]*)$")


class Mismatch(Exception):
    """The value is not as the pattern says; the text names the path, never the value."""


class SkipMap(Exception):
    """A conditional anchor did not hold: the map it stands in does not apply."""


class SkipRule(Exception):
    """A global anchor did not hold: the whole rule does not apply."""


def verdict(pattern: Any, value: Any) -> tuple[Literal["pass", "fail", "skip"], str]:
    """How a value stands to a pattern, and where it fails (`process.binary`)."""
    try:
        _node(pattern, value, "")
    except (SkipMap, SkipRule):
        return "skip", ""
    except Mismatch as mismatch:
        return "fail", str(mismatch)
    return "pass", ""


def any_verdict(patterns: tuple[Any, ...], value: Any) -> tuple[Literal["pass", "fail", "skip"], str]:
    """The first pass wins; all skipped is a skip; otherwise the first failure."""
    answers = [verdict(pattern, value) for pattern in patterns]
    for answer in answers:
        if answer[0] == "pass":
            return answer
    return next((answer for answer in answers if answer[0] == "fail"), ("skip", ""))


def _node(pattern: Any, value: Any, path: str) -> None:
    match pattern:
        case dict():
            if not isinstance(value, Mapping):
                raise Mismatch(path)
            _map(pattern, value, path)
        case list():
            if not isinstance(value, list):
                raise Mismatch(path)
            _list(pattern, value, path)
        case _ if isinstance(value, list):
            for index, item in enumerate(value):
                if not scalar_matches(pattern, item):
                    raise Mismatch(f"{path}[{index}]")
        case _:
            if not scalar_matches(pattern, value):
                raise Mismatch(path)


def split_anchor(key: str) -> tuple[str, str]:
    """The anchor (`?` for a bare parenthesis, empty for none) and the key's name."""
    match = _ANCHOR.fullmatch(key)
    return (match[1] or "?", match[2]) if match else ("", key)


def _map(pattern: dict[str, Any], value: Mapping[str, Any], path: str) -> None:
    pattern = _expanded(pattern, value, path)
    anchored = sorted(key for key in pattern if split_anchor(str(key))[0] not in ("", "+"))
    plain = [key for key in pattern if key not in anchored]
    skips = 0
    for key in anchored:
        anchor, name = split_anchor(key)
        try:
            _anchored(anchor, name, pattern[key], value, f"{path}.{name}".lstrip("."))
        except SkipMap:
            skips += 1
        except Mismatch:
            if not skips:
                raise
    if skips:
        raise SkipMap
    for key in sorted(plain, key=lambda key: not _has_anchor(pattern[key])):
        where = f"{path}.{key}".lstrip(".")
        if pattern[key] == "*":
            if value.get(key) is None:
                raise Mismatch(where)
            continue
        _node(pattern[key], value.get(key), where)


def _anchored(anchor: str, name: str, pattern: Any, value: Mapping[str, Any], where: str) -> None:
    is_present = name in value and value[name] is not None
    match anchor:
        case "?":
            try:
                if not is_present:
                    raise Mismatch(where)
                _node(pattern, value[name], where)
            except Mismatch as mismatch:
                raise SkipMap from mismatch
        case "<":
            if is_present:
                try:
                    _node(pattern, value[name], where)
                except Mismatch as mismatch:
                    raise SkipRule from mismatch
        case "=":
            if is_present:
                _node(pattern, value[name], where)
        case "X":
            if is_present:
                raise Mismatch(where)
        case "^":
            if is_present:
                _exists(pattern, value[name], where)


def _exists(pattern: Any, value: Any, where: str) -> None:
    if not isinstance(value, list) or not isinstance(pattern, list):
        raise Mismatch(where)
    for wanted in pattern:
        if not any(verdict(wanted, item)[0] == "pass" for item in value):
            raise Mismatch(where)


def _list(pattern: list[Any], value: list[Any], path: str) -> None:
    if not pattern:
        raise Mismatch(path)
    first = pattern[0]
    if isinstance(first, list):
        if len(value) < len(pattern):
            raise Mismatch(path)
        for index, wanted in enumerate(pattern):
            _node(wanted, value[index], f"{path}[{index}]")
        return
    applied = skipped = 0
    for index, item in enumerate(value):
        try:
            _node(first, item, f"{path}[{index}]")
            applied += 1
        except SkipMap:
            skipped += 1
    if skipped and not applied:
        raise SkipMap


def _has_anchor(pattern: Any) -> bool:
    if isinstance(pattern, dict):
        return any(split_anchor(str(key))[0] for key in pattern) or any(
            _has_anchor(inner) for inner in pattern.values()
        )
    if isinstance(pattern, list):
        return any(_has_anchor(inner) for inner in pattern)
    return False


def _expanded(pattern: dict[str, Any], value: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Wildcards in keys, under labels and annotations only, replaced by the value's own keys."""
    if path.rpartition(".")[2] not in ("labels", "annotations"):
        return pattern
    expanded: dict[str, Any] = {}
    for key, wanted in pattern.items():
        anchor, name = split_anchor(key)
        if "*" in name or "?" in name:
            hit = next((own for own in value if wildcard(name).fullmatch(own)), name)
            key = key.replace(name, hit) if anchor else hit
        expanded[key] = wanted
    return expanded


def scalar_matches(pattern: Any, value: Any) -> bool:
    """A scalar pattern against a scalar value."""
    match pattern:
        case None:
            return value is None or (not isinstance(value, (dict, list)) and value in (0, "", False))
        case bool():
            return isinstance(value, bool) and value is pattern
        case int() | float():
            return _number_matches(pattern, value)
        case str():
            return not isinstance(value, (dict, list)) and _text_matches(pattern, value)
    return False


def _number_matches(pattern: float, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, (int, float)):
        return float(value) == float(pattern)
    if isinstance(value, str):
        try:
            return Decimal(value) == Decimal(str(pattern))
        except InvalidOperation:
            return False
    return False


def _text_of(value: Any) -> str:
    if value is None:
        return "0"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _text_matches(pattern: str, value: Any) -> bool:
    text = _text_of(value)
    if value is not None and pattern == text:
        return True
    return any(
        all(_atom_matches(atom.strip(), value, text) for atom in choice.split("&")) for choice in pattern.split("|")
    )


def _atom_matches(atom: str, value: Any, text: str) -> bool:
    span = _RANGE.fullmatch(atom)
    if span:
        low, high = compared(text, span[1]), compared(text, span[3])
        if low is None or high is None:
            return False
        is_inside = low >= 0 and high <= 0
        return is_inside if span[2] == "-" else not is_inside
    if len(atom) >= 2:
        for operator in (">=", "<=", ">", "<"):
            if atom.startswith(operator):
                order = compared(text, atom[len(operator) :].strip())
                return order is not None and _ordered(operator, order)
        if atom.startswith("!"):
            return isinstance(value, (str, int, float)) and not _equals(atom[1:].strip(), value, text)
    return _equals(atom, value, text)


def _ordered(operator: str, order: int) -> bool:
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[operator]


def _equals(wanted: str, value: Any, text: str) -> bool:
    if value is None:
        return False
    order = compared(text, wanted)
    if order is not None:
        return order == 0
    return wildcard(wanted).fullmatch(text) is not None


def compared(left: str, right: str) -> int | None:
    """-1, 0 or 1 as durations, else as quantities; None if they are neither."""
    for reader in (_duration, _quantity):
        a, b = reader(left), reader(right)
        if a is not None and b is not None:
            return (a > b) - (a < b)
    return None


def _duration(text: str) -> Decimal | None:
    if text == "0":
        return Decimal(0)
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    total = sum(
        (Decimal(number) * Decimal(_SECONDS[unit]) for number, unit in _DURATION_PART.findall(match[2])), Decimal(0)
    )
    return -total if match[1] == "-" else total


def _quantity(text: str) -> Decimal | None:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    unit = match[2] or ""
    if len(unit) > 4 or len(text) > 64:
        return None  # no quantity that Kubernetes knows, and costly or impossible to compare
    scale = Decimal("1" + unit) if unit[:1] in ("e", "E") and unit[1:] not in ("", "i") else _SCALE.get(unit)
    return None if scale is None else Decimal(match[1]) * scale
