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
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message as ProtoMessage

from agent.model import EVENT_CLASSES, Event, Finding, Process, Resource, Sensitive

_PACKAGE = "reeve"
_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS: dict[type, int] = {
    str: _Proto.TYPE_STRING,
    int: _Proto.TYPE_INT64,
    bool: _Proto.TYPE_BOOL,
    float: _Proto.TYPE_DOUBLE,
}

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
    """Declared types, and for each struct type the function that fills its message."""

    def __init__(self) -> None:
        self._file = descriptor_pb2.FileDescriptorProto(name="reeve/policy.proto", package=_PACKAGE, syntax="proto3")
        self._declared: set[type] = set()
        self.fields: dict[str, dict[str, str]] = {}  # message name -> field name -> what it is, for people and checks
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
        self._fillers: dict[type, list[tuple[str, Callable[[ProtoMessage, Any], None]]]] = {
            struct: self._fillers_of(struct) for struct in self._declared
        }

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

    def _fillers_of(self, struct: type) -> list[tuple[str, Callable[[ProtoMessage, Any], None]]]:
        hints = typing.get_type_hints(struct)
        fillers = []
        for field in struct.__struct_fields__:  # type: ignore[attr-defined]
            annotation = _plain(hints[field])
            origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
            name = _name_in_policy(struct, field)
            inner = _plain(arguments[0]) if origin is tuple else annotation
            fillers.append((field, self._filler(name, origin, is_struct=origin is not dict and inner not in _SCALARS)))
        return fillers

    def _filler(self, name: str, origin: Any, *, is_struct: bool) -> Callable[[ProtoMessage, Any], None]:
        if origin is dict:
            return lambda message, value: getattr(message, name).update(value)
        if origin is tuple and is_struct:

            def add_all(message: ProtoMessage, values: Any) -> None:
                target = getattr(message, name)
                for value in values:
                    self.fill(target.add(), value)

            return add_all
        if origin is tuple:
            return lambda message, values: getattr(message, name).extend(values)
        if is_struct:

            def fill_inner(message: ProtoMessage, value: Any) -> None:
                inner = getattr(message, name)
                inner.SetInParent()
                self.fill(inner, value)

            return fill_inner
        return lambda message, value: setattr(message, name, _bounded(value))

    def fill(self, message: ProtoMessage, struct: Any) -> ProtoMessage:
        """The message with the struct's values that are not empty."""
        for field, filler in self._fillers[type(struct)]:
            value = getattr(struct, field)
            if value:
                filler(message, value)
        return message

    def bind(self, event: Event, findings: Sequence[Finding]) -> dict[str, Any]:
        """Values of all variables for one masked event; variables of other classes are empty messages."""
        body = event.body
        bound: dict[str, Any] = dict(self._empty)
        head = EventHead(event.id, event.source, event.event_class, event.time_unix_nano)
        bound["event"] = self.fill(self._classes[EventHead](), head)
        bound["resource"] = self.fill(self._classes[Resource](), event.resource)
        bound[_VARIABLE_OF_CLASS[event.event_class]] = self.fill(self._classes[type(body)](), body)
        for variable in ("process", "parent"):
            value = getattr(body, variable, None)
            if value is not None:
                bound[variable] = self.fill(self._classes[Process](), value)
        bound["findings"] = [self.fill(self._classes[Finding](), finding) for finding in findings]
        return bound

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
