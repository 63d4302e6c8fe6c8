"""The one door to CEL (cel-expr-python, Google's cel-cpp).

Types are declared, so a misspelt field or a wrong type is an error when the policy loads, with a suggestion.  An
evaluation that errs is told as an error and never as true or false.  The library stops an evaluation after 10 000
comprehension steps; regular expressions are RE2, so they are linear.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from cel_expr_python import cel
from cel_expr_python.ext import ext_math, ext_strings

from agent.config import suggestion
from agent.model import Event, Finding
from agent.policy.vocabulary import PlainPath, Vocabulary

_UNKNOWN_FIELD = re.compile(r"undefined field '([^']+)' not found in struct '(?:\w+\.)*(\w+)'")
_UNKNOWN_NAME = re.compile(r"undeclared reference to '([^']+)'")
_WORD = re.compile(r"[A-Za-z_]+")
_POSITION = re.compile(r"<input>:(\d+):(\d+): ")


class CelError(Exception):
    """An expression does not compile, or an evaluation erred; the text is for people."""


class Expression(NamedTuple):
    """A compiled expression, the name of its type, and the variables that it may read."""

    source: str
    compiled: Any
    type_name: str
    uses: frozenset[str]


class Binding:
    """One event's values, made for those variables only that are asked for."""

    def __init__(self, environment: CelEnvironment, event: Event, findings: Sequence[Finding]) -> None:
        self._environment = environment
        self._event = event
        self._findings = findings
        self._names: frozenset[str] = frozenset()
        self._activation: Any = None

    def read(self, path: PlainPath) -> Any:
        """The value at a plain path, without CEL."""
        return self._environment.read(self._event, path)

    def covering(self, names: frozenset[str]) -> Any:
        """An activation with at least these variables."""
        if self._activation is None or not names <= self._names:
            self._names |= names
            self._activation = self._environment.activation(self._event, self._findings, self._names)
        return self._activation


def _contains_ip(network: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _is_private(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


def _functions() -> list[Any]:
    text, boolean = cel.Type.STRING, cel.Type.BOOL
    return [
        # Called as in Kubernetes: cidr('10.0.0.0/8').containsIP(network.destination.address)
        cel.FunctionDecl(
            "cidr", [cel.Overload("cidr_string", return_type=text, parameters=[text], impl=lambda network: network)]
        ),
        cel.FunctionDecl(
            "containsIP",
            [
                cel.Overload(
                    "string_contains_ip",
                    return_type=boolean,
                    parameters=[text, text],
                    is_member=True,
                    impl=_contains_ip,
                )
            ],
        ),
        cel.FunctionDecl(
            "isPrivateIP",
            [cel.Overload("is_private_ip", return_type=boolean, parameters=[text], impl=_is_private)],
        ),
    ]


class CelEnvironment:
    """Compiles and evaluates expressions over the vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        variables = {name: cel.Type(vocabulary.message_name(name)) for name in vocabulary.variables}
        variables["findings"] = cel.Type.List(cel.Type(vocabulary.finding_message))
        self._names = sorted(variables)
        self._env = cel.NewEnv(
            vocabulary.pool,
            variables=variables,
            extensions=[ext_strings.ExtStrings(), ext_math.ExtMath()],
            functions=_functions(),
        )

    def compile(self, source: str, wanted: Literal["bool", "any"] = "bool") -> Expression:
        """The compiled expression.  Raises CelError with what is wrong and what would be right."""
        try:
            compiled = self._env.compile(source)
        except RuntimeError as error:
            raise CelError(self._explained(str(error))) from error
        type_name = compiled.return_type().name()
        if wanted == "bool" and type_name not in ("BOOL", "DYN"):
            raise CelError(f"is of type {type_name.lower()}; a condition must be true or false")
        return Expression(source, compiled, type_name, self.variables_in(source))

    def variables_in(self, text: str) -> frozenset[str]:
        """Variables whose names stand in a text; it may name one as a field or in a string, which does no harm."""
        return frozenset(self._names).intersection(_WORD.findall(text))

    def _explained(self, message: str) -> str:
        first = message.removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ").split("\n", 1)[0]
        position = _POSITION.match(first)
        place = f" (column {position[2]})" if position else ""
        plain = _POSITION.sub("", first).removesuffix(" [INVALID_ARGUMENT]")
        field = _UNKNOWN_FIELD.search(plain)
        if field:
            hint = suggestion(field[1], self._vocabulary.fields.get(field[2], ()))
            return f'"{field[1]}" is no field of {field[2]}{place}; {hint}'
        name = _UNKNOWN_NAME.search(plain)
        if name:
            unknown = name[1].partition(".")[0]
            return f'"{unknown}" is not known{place}; {suggestion(unknown, self._names)}'
        return plain.removesuffix(" (in container '')") + place

    def plain_path(self, source: str) -> PlainPath | None:
        """The path that an expression is, if it is nothing else."""
        return self._vocabulary.plain_path(source)

    def read(self, event: Event, path: PlainPath) -> Any:
        """The value at a plain path of an event, as CEL would give it."""
        return self._vocabulary.read(event, path)

    def activation(self, event: Event, findings: Sequence[Finding], names: Iterable[str]) -> Any:
        """The named variables' values for one event."""
        return self._env.Activation(self._vocabulary.bind(event, findings, names))

    def truth(self, expression: Expression, binding: Binding) -> bool:
        """The expression's truth.  Raises CelError if the evaluation errs."""
        try:
            value = expression.compiled.eval(binding.covering(expression.uses)).plain_value()
        except RuntimeError as error:
            raise CelError(_runtime_text(str(error))) from error
        if value is True or value is False:
            return bool(value)
        value = self.value(expression, binding)  # an error, which that tells, or no condition at all
        raise CelError("is neither true nor false")

    def value(self, expression: Expression, binding: Binding) -> Any:
        """The expression's plain value.  Raises CelError if the evaluation errs."""
        try:
            result = expression.compiled.eval(binding.covering(expression.uses))
        except RuntimeError as error:
            raise CelError(_runtime_text(str(error))) from error
        if result.type().name() == "ERROR":
            raise CelError(_runtime_text(str(result.value())))
        return result.plain_value()


def _runtime_text(message: str) -> str:
    """An evaluation error without the values it may quote."""
    head = message.split("\n", 1)[0]
    return re.sub(r'"[^"]*"|\'[^\']*\'', "...", head)[:200]
