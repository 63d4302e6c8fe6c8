"""What a policy can say about an event: the model's own types as declared CEL types, and an event bound to them.

The declarations are made from the model's annotations, so a new field is sayable at once and a misspelt one is an error
when the policy loads.  Variables:

    event        id, source, class, timeUnixNano        resource   namespace, pod, labels ...
    process      the acting process, of whatever body   parent     its parent
    activity     a process activity (action, function)  findings   list: kind, entity, score, direction, role ...
    file network dns http log genai kernel loss status  the body of that class
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message as ProtoMessage

from agent.model import EVENT_CLASSES, Event, Finding, Generations, Process, Resource, Sensitive

_PACKAGE = "reeve"
_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[type, int] = {
    str: _Proto.TYPE_STRING,
    int: _Proto.TYPE_INT64,
    bool: _Proto.TYPE_BOOL,
    float: _Proto.TYPE_DOUBLE,
}

PlainPath: TypeAlias = tuple[str, tuple[str, ...], Any]
"""A variable, the attributes below it, and what stands for nothing there."""

_NOTHING = {"str": "", "int": 0, "bool": False, "float": 0.0, "list": ()}
_Shape: TypeAlias = Literal["plain", "integer", "struct", "structs"]
# Kept by identity while the object lives here; 4096 messages of about 1 KB, twice.
_REMEMBERED = (Process, Resource)
_MOST_REMEMBERED = 4096
_LARGEST_REMEMBERED = 4096  # characters of a struct's texts

# A process activity is called `activity`, because `process` is the process itself.
_VARIABLE_OF_CLASS = {name: "activity" if name == "process" else name for name in EVENT_CLASSES}


class EventHead(msgspec.Struct, frozen=True, rename="camel"):
    """The envelope as policies see it."""

    id: str = ""
    source: str = ""
    event_class: str = msgspec.field(name="class", default="")
    time_unix_nano: int = 0


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _name_in_policy(struct: type, field: str) -> str:
    return "class" if (struct, field) == (EventHead, "event_class") else _camel(field)


def _plain(annotation: Any) -> Any:
    """An annotation without `None` and with `Text` as `str`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
        if Sensitive in rest:
            return str
        return rest[0] if len(rest) == 1 else annotation
    if typing.get_origin(annotation) is typing.Literal:
        return str
    return annotation


class Vocabulary:
    """Declared types, and messages of them made from structs."""

    def __init__(self) -> None:
        self._file = descriptor_pb2.FileDescriptorProto(name="reeve/policy.proto", package=_PACKAGE, syntax="proto3")
        self._declared: set[type] = set()
        self.fields: dict[str, dict[str, str]] = {}  # message name -> field name -> what it is, for people and checks
        self._attributes: dict[tuple[str, str], str] = {}  # (message name, name in a policy) -> attribute
        self.variables: dict[str, str] = {"event": "EventHead", "resource": "Resource", "process": "Process"}
        self.variables["parent"] = "Process"
        self._declare(EventHead)
        self._declare(Resource)
        self._declare(Process)
        self._declare(Finding)
        for name, struct in EVENT_CLASSES.items():
            self._declare(struct)
            self.variables[_VARIABLE_OF_CLASS[name]] = struct.__name__
        self.pool = descriptor_pool.DescriptorPool()
        self.pool.Add(self._file)
        self._classes = {
            struct: message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"{_PACKAGE}.{struct.__name__}"))
            for struct in self._declared
        }
        self._empty = {
            variable: self._classes[struct]()
            for struct in self._declared
            for variable, name in self.variables.items()
            if name == struct.__name__
        }
        self._plans = {struct: self._plan_of(struct) for struct in self._declared}
        self._messages: Generations[int, tuple[Any, ProtoMessage]] = Generations(_MOST_REMEMBERED)

    def message_name(self, variable: str) -> str:
        """The full message name of a variable's type."""
        return f"{_PACKAGE}.{self.variables[variable]}"

    finding_message = f"{_PACKAGE}.Finding"

    def _declare(self, struct: type) -> None:
        if struct in self._declared:
            return
        self._declared.add(struct)
        message = self._file.message_type.add(name=struct.__name__)
        known = self.fields[struct.__name__] = {}
        hints = typing.get_type_hints(struct)
        for number, field in enumerate(struct.__struct_fields__, 1):  # type: ignore[attr-defined]
            annotation = _plain(hints[field])
            name = _name_in_policy(struct, field)
            self._attributes[struct.__name__, name] = field
            entry = message.field.add(name=name, number=number, label=_Proto.LABEL_OPTIONAL)
            origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
            if origin is dict:
                entry.label = _Proto.LABEL_REPEATED
                entry.type = _Proto.TYPE_MESSAGE
                nested = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
                nested.options.map_entry = True
                nested.field.add(name="key", number=1, type=_Proto.TYPE_STRING, label=_Proto.LABEL_OPTIONAL)
                nested.field.add(name="value", number=2, type=_Proto.TYPE_STRING, label=_Proto.LABEL_OPTIONAL)
                entry.type_name = f".{_PACKAGE}.{struct.__name__}.{nested.name}"
                known[name] = "map"
                continue
            if origin is tuple:
                entry.label = _Proto.LABEL_REPEATED
                annotation = _plain(arguments[0])
            scalar = _SCALARS.get(annotation)
            if scalar is not None:
                entry.type = scalar  # type: ignore[assignment]
                known[name] = "list" if origin is tuple else annotation.__name__
            else:
                self._declare(annotation)
                entry.type = _Proto.TYPE_MESSAGE
                entry.type_name = f".{_PACKAGE}.{annotation.__name__}"
                known[name] = f"list of {annotation.__name__}" if origin is tuple else annotation.__name__

    def _plan_of(self, struct: type) -> tuple[tuple[str, str, _Shape], ...]:
        """(field, name in a policy, how its value becomes a field's value)."""
        hints = typing.get_type_hints(struct)
        plan: list[tuple[str, str, _Shape]] = []
        for field in struct.__struct_fields__:  # type: ignore[attr-defined]
            annotation = _plain(hints[field])
            origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
            inner = _plain(arguments[0]) if origin is tuple else annotation
            shape: _Shape = "plain"
            if origin is not dict and inner not in _SCALARS:
                shape = "structs" if origin is tuple else "struct"
            elif inner is int:
                shape = "integer"
            plan.append((field, _name_in_policy(struct, field), shape))
        return tuple(plan)

    def message(self, struct: Any) -> ProtoMessage:
        """The struct as a message of its declared type; what is empty is left out.

        Processes and resources come again and again as the same object: their messages are remembered.
        """
        kind = type(struct)
        if kind not in _REMEMBERED:
            return self._made(struct, kind)
        known = self._messages.get(id(struct))
        if known is not None and known[0] is struct:
            return known[1]
        message = self._made(struct, kind)
        if getattr(struct, "size", 0) <= _LARGEST_REMEMBERED:
            self._messages.put(id(struct), (struct, message))
        return message

    def _made(self, struct: Any, kind: type) -> ProtoMessage:
        values: dict[str, Any] = {}
        for field, name, shape in self._plans[kind]:
            value = getattr(struct, field)
            if not value:
                continue
            if shape == "integer":
                value = _bounded(value)
            elif shape == "struct":
                value = self.message(value)
            elif shape == "structs":
                value = [self.message(one) for one in value]
            values[name] = value
        return self._classes[kind](**values)

    def bind(self, event: Event, findings: Sequence[Finding], names: Iterable[str]) -> dict[str, Any]:
        """Values of the named variables for one masked event; variables of other classes are empty messages."""
        body = event.body
        own = _VARIABLE_OF_CLASS[event.event_class]
        bound: dict[str, Any] = {}
        for name in names:
            if name == own:
                bound[name] = self.message(body)
            elif name == "resource":
                bound[name] = self.message(event.resource)
            elif name in ("process", "parent"):
                value = getattr(body, name, None)
                bound[name] = self._empty[name] if value is None else self.message(value)
            elif name == "findings":
                bound[name] = [self.message(finding) for finding in findings]
            elif name == "event":
                bound[name] = self.message(EventHead(event.id, event.source, event.event_class, event.time_unix_nano))
            else:
                bound[name] = self._empty[name]
        return bound

    def plain_path(self, source: str) -> PlainPath | None:
        """`network.destination.names` taken apart; None for anything but variable and fields down to a plain value."""
        variable, *names = source.split(".")
        struct = self.variables.get(variable)
        if struct is None or variable == "event" or not names:
            return None
        attributes: list[str] = []
        for name in names:
            attribute = self._attributes.get((struct, name))
            if attribute is None:
                return None
            attributes.append(attribute)
            struct = self.fields[struct][name]
        return (variable, tuple(attributes), _NOTHING[struct]) if struct in _NOTHING else None

    def read(self, event: Event, path: PlainPath) -> Any:
        """The value at the path; what CEL gives for nothing where something on the way is not there."""
        variable, attributes, nothing = path
        body = event.body
        value: Any = None
        if variable == "resource":
            value = event.resource
        elif variable == _VARIABLE_OF_CLASS[event.event_class]:
            value = body
        elif variable in ("process", "parent"):
            value = getattr(body, variable, None)
        for attribute in attributes:
            if value is None:
                return nothing
            value = getattr(value, attribute)
        return nothing if value is None else value

    def tree(self, event: Event, findings: Sequence[Finding]) -> dict[str, Any]:
        """The same vocabulary as nested plain values, for `pattern` and `deny`; names as in CEL."""
        body = event.body
        head = EventHead(event.id, event.source, event.event_class, event.time_unix_nano)
        tree: dict[str, Any] = {
            "event": _builtin(head),
            "resource": _builtin(event.resource),
            _VARIABLE_OF_CLASS[event.event_class]: _builtin(body),
            "findings": [_builtin(finding) for finding in findings],
        }
        for variable in ("process", "parent"):
            value = getattr(body, variable, None)
            if value is not None:
                tree[variable] = _builtin(value)
        return tree


def _bounded(value: Any) -> Any:
    """Integers as far as CEL knows them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(value, 2**63 - 1))
    return value


def _builtin(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        struct = type(value)
        return {_name_in_policy(struct, name): _builtin(getattr(value, name)) for name in struct.__struct_fields__}
    if isinstance(value, tuple):
        return [_builtin(item) for item in value]
    if isinstance(value, dict):
        return {key: _builtin(item) for key, item in value.items()}
    return value
