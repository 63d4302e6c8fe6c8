"""Where the texts of an event are, and the same event with other texts.

The walk is planned once per struct type from its annotations, so that an event without texts costs a few lookups.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from agent.model import Body, Direction, GenAiOperation, Process, Resource, Sensitive, class_of

_Shape: TypeAlias = Literal["text", "texts", "text_map", "plain", "plains", "plain_map", "struct", "structs"]
Rewrite: TypeAlias = Callable[["Place", Sensitive], str]
"""(where, text) -> the text to put in its place."""


# Names as programs give them to headers and variables; anything else may hold anything.
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,40}\d{0,3}")


# Made by kernels, runtimes and observers from closed lists or as long random names: nobody's text.
_IDENTIFIERS = frozenset(
    {
        "id",
        "source",
        "exec_id",
        "parent_exec_id",
        "exchange_id",
        "container_id",
        "pod_uid",
        "address",
        "addresses",
        "verdict",
        "drop_reason",
        "identity",
        "permission",
        "signal",
        "stream",
    }
)
# Shorter names without an `@` and with few digits hold no value that a rule knows.
_PLAIN_ROLE = "\0name"  # marks a plain name on its way to `visit`
_PLAIN_CHARACTERS, _PLAIN_DIGITS = 16, 6


def _may_hold(value: str) -> bool:
    """Whether a name that someone gave (a label, a model, a host) is long or odd enough to be scanned."""
    return len(value) >= _PLAIN_CHARACTERS or "@" in value or sum(one.isdigit() for one in value) >= _PLAIN_DIGITS


# The one field that is a credential by its place, whatever it looks like.
CREDENTIAL = "genai.credential"


class Place(NamedTuple):
    """Where a text stands: the field's path, which way it went, whose words it is, and its key if it is in a map."""

    field: str
    direction: Direction
    role: str = ""
    label: str = ""


Remembered: TypeAlias = Callable[[Any, str, Direction, Rewrite], Any]
"""(struct, its field's path, direction, what to do with its texts) -> the struct with other texts."""


class _Visit(NamedTuple):
    """What to do with a text (field, text, role, key in a map), and with a struct that comes again and again."""

    text: Callable[[str, Sensitive, str, str], str]
    struct: Callable[[Any, str], Any] | None = None


# Kept by identity by whoever remembers: a process comes with every event of it, a resource with every event of a pod.
RECURRING = (Process, Resource)
_DIRECTIONS: dict[str, Direction] = {
    "log": "log",
    "process": "process",
    "kernel": "process",
    "file": "file",
    "network": "network",
    "dns": "network",
    "http": "network",
}


def _shape_of(annotation: Any) -> _Shape | None:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if Sensitive in arguments:
            return "text"
        shapes = {_shape_of(argument) for argument in arguments} - {None}
        return shapes.pop() if len(shapes) == 1 else None
    if annotation is str:
        return "plain"
    if origin is tuple:
        inner = _shape_of(arguments[0])
        return {"text": "texts", "plain": "plains", "struct": "structs"}.get(inner or "")  # type: ignore[return-value]
    if origin is dict:
        return {"text": "text_map", "plain": "plain_map"}.get(_shape_of(arguments[1]) or "")  # type: ignore[return-value]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) and _plan_of(annotation):
        return "struct"
    return None


_plans: dict[type, tuple[tuple[str, _Shape], ...]] = {}


def _plan_of(struct: type) -> tuple[tuple[str, _Shape], ...]:
    """The fields of a struct type that can hold text, with the shape in which they hold it."""
    plan = _plans.get(struct)
    if plan is None:
        hints = typing.get_type_hints(struct)
        names: tuple[str, ...] = struct.__struct_fields__  # type: ignore[attr-defined]
        shapes = [(name, shape) for name in names if (shape := _shape_of(hints[name]))]
        # Only names are identifiers: `source` of an event is one, `source` of a flow is an endpoint full of texts.
        plan = tuple((name, shape) for name, shape in shapes if name not in _IDENTIFIERS or "plain" not in shape)
        _plans[struct] = plan
    return plan


def _rewritten(value: Any, shape: _Shape, path: str, visit: _Visit, role: str) -> Any:
    match shape:
        case "text":
            return visit.text(path, value, role, "") if isinstance(value, Sensitive) else value
        case "texts":
            return tuple(
                visit.text(f"{path}[{index}]", item, role, "") if isinstance(item, Sensitive) else item
                for index, item in enumerate(value)
            )
        case "plain":
            return visit.text(path, Sensitive(value), _PLAIN_ROLE, "") if _may_hold(value) else value
        case "plains":
            return tuple(
                visit.text(f"{path}[{index}]", Sensitive(item), _PLAIN_ROLE, "") if _may_hold(item) else item
                for index, item in enumerate(value)
            )
        case "plain_map":
            return {
                key: visit.text(f"{path}[*]", Sensitive(item), _PLAIN_ROLE, "") if _may_hold(item) else item
                for key, item in value.items()
            }
        case "text_map":
            return dict(_rewritten_entry(key, item, path, visit, role) for key, item in value.items())
        case "struct":
            return None if value is None else _rewritten_inner(value, path, visit, role)
        case "structs":
            return tuple(_rewritten_inner(item, f"{path}[{index}]", visit, role) for index, item in enumerate(value))


def _rewritten_entry(key: str, item: Any, path: str, visit: _Visit, role: str) -> tuple[str, Any]:
    """An entry of a map; a key that is no plain name is a workload's text like any other, and not shown in a field."""
    is_plain = _PLAIN_KEY.fullmatch(key) is not None
    shown = key if is_plain else visit.text(f"{path}[key]", Sensitive(key), role, "")
    if not isinstance(item, Sensitive):
        return shown, item
    return shown, visit.text(f"{path}[{key if is_plain else '*'}]", item, role, key)


def _rewritten_inner(value: Any, path: str, visit: _Visit, role: str) -> Any:
    if visit.struct is not None and type(value) in RECURRING:
        return visit.struct(value, path)
    return _rewritten_struct(value, path, visit, role)


def _rewritten_struct(value: Any, path: str, visit: _Visit, role: str) -> Any:
    changes: dict[str, Any] = {}
    role = getattr(value, "role", role)
    for name, shape in _plan_of(type(value)):
        before = getattr(value, name)
        if before:
            after = _rewritten(before, shape, f"{path}.{name}" if path else name, visit, role)
            if after is not before and after != before:
                changes[name] = after
    return msgspec.structs.replace(value, **changes) if changes else value


def with_texts(body: Body, rewrite: Rewrite, remembered: Remembered | None = None) -> Body:
    """The body with every text, and every name that may hold something, replaced by what `rewrite` gives for it.

    `remembered` is asked instead for structs of `RECURRING` types; it may call `struct_with_texts`.
    """
    name = class_of(body)
    is_genai = isinstance(body, GenAiOperation)
    direction: Direction = _DIRECTIONS.get(name, "other")

    def visit(field: str, text: Sensitive, role: str, label: str) -> str:
        if role == _PLAIN_ROLE:
            return rewrite(Place(field, "network", "", label), text)
        where: Direction = direction
        if field == CREDENTIAL:
            return rewrite(Place(field, "network", "", label), text)
        if is_genai:
            where = "completion" if role == "assistant" else "prompt"
        return rewrite(Place(field, where, role, label), text)

    inner = None
    if remembered is not None:
        ask = remembered

        def inner(struct: Any, path: str) -> Any:
            return ask(struct, path, direction, rewrite)

    changed: Body = _rewritten_struct(body, name, _Visit(visit, inner), "")
    return changed


def struct_with_texts(struct: Any, direction: Direction, rewrite: Rewrite) -> Any:
    """A part of a body, or a resource, with other texts; the fields told to `rewrite` begin with the part's own."""

    def visit(field: str, text: Sensitive, role: str, label: str) -> str:
        is_plain = role == _PLAIN_ROLE
        return rewrite(Place(field, "network" if is_plain else direction, "" if is_plain else role, label), text)

    return _rewritten_struct(struct, "", _Visit(visit), "")


def texts_of(body: Body) -> list[tuple[Place, Sensitive]]:
    """Every `Sensitive` text of a body, with its place."""
    found: list[tuple[Place, Sensitive]] = []

    def note(place: Place, text: Sensitive) -> str:
        found.append((place, text))
        return ""

    with_texts(body, note)
    return found
