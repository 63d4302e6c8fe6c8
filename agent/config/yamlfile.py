"""YAML with the line of every value, and typed documents from it with every mistake at its line.

Refused: duplicate keys, files over 1 MiB, documents that unfold to more than 100 000 values (alias bombs).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pydantic
import yaml

from agent.config.problem import Problem, Problems, suggestion

LIMIT_BYTES = 1024 * 1024
LIMIT_VALUES = 100_000

DocumentPath: TypeAlias = tuple[str | int, ...]
Model = TypeVar("Model", bound=pydantic.BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value, and the line of each path in it.  What came from another file is in `files`.

    A value that was never a text (a resource of the API server) has no lines, and its mistakes are told without."""

    file: str
    value: Any
    lines: dict[DocumentPath, int] = field(default_factory=dict)
    files: dict[DocumentPath, str] = field(default_factory=dict)

    def line_of(self, path: Sequence[str | int]) -> int:
        """The line of a path, or of the nearest parent that has one."""
        whole = tuple(path)
        if not self.lines:
            return 0
        for size in range(len(whole), -1, -1):
            if whole[:size] in self.lines:
                return self.lines[whole[:size]]
        return 1

    def problem(self, path: Sequence[str | int], what: str, remedy: str = "") -> Problem:
        return Problem(self.file_of(path), self.line_of(path), dotted(path), what, remedy)

    def file_of(self, path: Sequence[str | int]) -> str:
        """The file a path came from: that of the nearest parent whose line is known."""
        whole = tuple(path)
        for size in range(len(whole), -1, -1):
            if whole[:size] in self.lines:
                return self.files.get(whole[:size], self.file)
        return self.file

    def part(self, path: DocumentPath, value: Any) -> Document:
        """The document below a path, with `value` for what stands there."""
        size = len(path)
        return Document(
            self.file_of(path),
            value,
            {key[size:]: line for key, line in self.lines.items() if key[:size] == path},
            {key[size:]: file for key, file in self.files.items() if key[:size] == path},
        )

    def merged(self, later: Document) -> Document:
        """Both documents in one: mappings are merged, anything else of the later one stands for the former's."""
        lines, files = dict(self.lines), dict(self.files)

        def merge(one: Any, other: Any, path: DocumentPath) -> Any:
            if isinstance(one, dict) and isinstance(other, dict):
                keys = {**one, **other}
                return {
                    key: merge(one.get(key), other[key], (*path, key)) if key in other else one[key] for key in keys
                }
            for key in [key for key in lines if key[: len(path)] == path and len(key) > len(path)]:
                del lines[key]
            for key, line in later.lines.items():
                if key[: len(path)] == path:
                    lines[key], files[key] = line, later.file
            return {} if other is None and isinstance(one, dict) else other

        return Document(self.file, merge(self.value, later.value, ()), lines, files)


def dotted(path: Sequence[str | int]) -> str:
    """`("spec", "rules", 0)` as `spec.rules[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


class _Loader(yaml.SafeLoader):
    """Times stay text: policies compare them as people wrote them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Walk:
    """Lines of all nodes, and the mistakes that YAML itself allows."""

    def __init__(self, file: str, loader: _Loader) -> None:
        self.file = file
        self.loader = loader
        self.lines: dict[DocumentPath, int] = {}
        self.problems: list[Problem] = []
        self.values = 0

    def visit(self, node: yaml.Node, path: DocumentPath) -> None:
        self.values += 1
        if self.values > LIMIT_VALUES:
            raise Problems(
                [Problem(self.file, node.start_mark.line + 1, "", "unfolds to too many values", "avoid aliases")]
            )
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
                line = key_node.start_mark.line + 1
                if key in seen and key != "<<":
                    self.problems.append(
                        Problem(self.file, line, dotted((*path, key)), "the key stands twice", "keep one")
                    )
                seen.add(key)
                self.visit(value_node, (*path, key))
                self.lines[(*path, key)] = line
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, (*path, index))


def parse(text: str, file: str) -> list[Document]:
    """All documents of a YAML text that are not empty.  Raises Problems."""
    if len(text) > LIMIT_BYTES:
        raise Problems([Problem(file, 0, "", f"is larger than {LIMIT_BYTES} bytes", "split it")])
    documents: list[Document] = []
    problems: list[Problem] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node said there is one"
            walk = _Walk(file, loader)
            walk.visit(node, ())
            problems += walk.problems
            value = loader.construct_document(node)
            if value is not None:
                documents.append(Document(file, value, walk.lines))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Problems([Problem(file, line, "", f"is no YAML: {error.problem or error.context}")]) from error
    except Problems:
        raise
    except Exception as error:  # PyYAML's constructors let KeyError, IndexError and more through for odd tags
        raise Problems([Problem(file, 0, "", f"is no YAML: {type(error).__name__}")]) from error
    finally:
        loader.dispose()
    if problems:
        raise Problems(problems)
    return documents


def read(path: Path) -> list[Document]:
    """All documents of a file.  Raises Problems, also when it cannot be read."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """A file's text.  Raises Problems if it cannot be read, is too large or is not UTF-8."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise Problems([Problem(str(path), 0, "", f"is larger than {LIMIT_BYTES} bytes", "split it")])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problems([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise Problems([Problem(str(path), 0, "", "is not UTF-8", "save it as UTF-8")]) from error


def typed(model: type[Model], document: Document, prefix: DocumentPath = ()) -> Model:
    """The document (or the part of it under `prefix`) as a typed value.  Raises Problems with all mistakes."""
    value = document.value
    for step in prefix:
        value = value[step]
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        details = error.errors()
        # pydantic adds "too short" for a list whose items are all wrong; the items' own mistakes say it better.
        told = [
            detail
            for detail in details
            if detail["type"] != "too_short"
            or not any(
                len(other["loc"]) > len(detail["loc"]) and other["loc"][: len(detail["loc"])] == detail["loc"]
                for other in details
            )
        ]
        raise Problems([_problem(model, document, prefix, detail) for detail in told]) from error


def _problem(model: type[pydantic.BaseModel], document: Document, prefix: DocumentPath, detail: Any) -> Problem:
    location = tuple(step for step in detail["loc"])
    path = (*prefix, *(step for step in location if not (isinstance(step, str) and "[" in step)))
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return document.problem(path, "is no key here", suggestion(str(location[-1]), known))
    if kind == "missing":
        return document.problem(path, "is missing", "add it")
    if kind in ("literal_error", "enum"):
        expected = str(detail.get("ctx", {}).get("expected", ""))
        names = [name.strip(" '\"") for name in expected.replace(" or ", ", ").split(",")]
        return document.problem(
            path, f"{_shown(detail['input'])} is not allowed", suggestion(str(detail["input"]), names)
        )
    message = detail["msg"].removeprefix("Value error, ")
    return document.problem(path, message[0].lower() + message[1:])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _fields_at(model: type[pydantic.BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys a model allows at a place, following its annotations."""
    current: Any = model
    for step in location:
        current = _without_optional(current)
        origin, arguments = typing.get_origin(current), typing.get_args(current)
        if origin in (list, tuple):
            current = arguments[0]
        elif origin is dict:
            current = arguments[1]
        elif isinstance(current, type) and issubclass(current, pydantic.BaseModel):
            found = next((f for name, f in current.model_fields.items() if (f.alias or name) == step), None)
            if found is None:
                return []
            current = found.annotation
        else:
            return []
    current = _without_optional(current)
    if isinstance(current, type) and issubclass(current, pydantic.BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _without_optional(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation
