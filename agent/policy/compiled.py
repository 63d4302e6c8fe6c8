"""Policy documents to rules that can judge.  Everything that can be checked is checked here, with file and line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from agent.config import Document, Problem, Problems, suggestion, typed
from agent.model import SEVERITIES, Event, Severity
from agent.policy.cel import Binding, CelEnvironment, CelError, Expression
from agent.policy.conditions import holds
from agent.policy.document import Condition, RuleDocument, RuntimePolicy, Validation
from agent.policy.match import predicate
from agent.policy.pattern import any_verdict, split_anchor, verdict
from agent.policy.template import Template
from agent.policy.vocabulary import Vocabulary

Verdict: TypeAlias = tuple[Literal["pass", "fail", "skip"], Template | None]
Check: TypeAlias = Callable[[Binding, Callable[[], dict[str, Any]]], Verdict]
"""(binding, a way to get the plain tree) -> how the event stands, and the message to use if not the rule's own."""

_ANNOTATION = "policies.kyverno.io/"
_CONTROLS = "reeve.dev/controls"
_KNOWN_ANNOTATIONS = frozenset(
    {f"{_ANNOTATION}{key}" for key in ("title", "category", "severity", "description", "scored", "subject")}
    | {_CONTROLS}
)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule of one policy, ready to judge."""

    policy: str
    title: str
    file: str
    document: RuleDocument
    severity: Severity
    category: str
    controls: tuple[str, ...]
    is_scored: bool
    concerns: Callable[[Event], bool]
    preconditions: tuple[Expression, ...]
    check: Check
    message: Template
    uses: frozenset[str]  # variables that preconditions and check may read


class Compiler:
    """Compiles documents one after the other and gathers all mistakes."""

    def __init__(self) -> None:
        self.vocabulary = Vocabulary()
        self.environment = CelEnvironment(self.vocabulary)
        self._problems: list[Problem] = []

    def compile(self, documents: Sequence[Document]) -> list[CompiledRule]:
        """Rules of all documents in order.  Raises Problems with every mistake of every document."""
        self._problems = []
        rules: list[CompiledRule] = []
        seen: dict[str, str] = {}
        for document in documents:
            try:
                policy = typed(RuntimePolicy, document)
            except Problems as problems:
                self._problems += problems.problems
                self._check_expressions(document, document.value, ())
                continue
            name = policy.metadata.name
            if name in seen:
                self._complain(
                    document, ("metadata", "name"), f'"{name}" is also in {seen[name]}', "rename one of them"
                )
            seen[name] = document.file
            rules += self._rules(document, policy)
        if self._problems:
            raise Problems(self._problems)
        return rules

    def _check_expressions(self, document: Document, value: Any, path: tuple[str | int, ...]) -> None:
        """The expressions of a document whose form is wrong, so that all its mistakes are told at once."""
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._check_expressions(document, item, (*path, index))
        elif isinstance(value, dict):
            for key, item in value.items():
                if key == "expression" and isinstance(item, str):
                    self._expression(document, (*path, key), item)
                else:
                    self._check_expressions(document, item, (*path, str(key)))

    def _complain(self, document: Document, path: tuple[str | int, ...], what: str, remedy: str = "") -> None:
        self._problems.append(document.problem(path, what, remedy))

    def _rules(self, document: Document, policy: RuntimePolicy) -> list[CompiledRule]:
        severity, category, controls, is_scored = self._annotations(document, policy)
        rules = []
        names: set[str] = set()
        for number, rule in enumerate(policy.spec.rules):
            at: tuple[str | int, ...] = ("spec", "rules", number)
            if rule.name in names:
                self._complain(document, (*at, "name"), f'"{rule.name}" stands twice in this policy', "rename one")
            names.add(rule.name)
            if (rule.validation.failure_action or policy.spec.failure_action) == "Enforce":
                place = (
                    (*at, "validate", "failureAction") if rule.validation.failure_action else ("spec", "failureAction")
                )
                self._complain(
                    document, place, "Enforce is not possible: nothing in the agent stops an event yet", "use Audit"
                )
            check = self._check(document, (*at, "validate"), rule.validation)
            message = self._template(document, (*at, "validate", "message"), rule.validation.message or rule.name)
            preconditions = [
                self._expression(document, (*at, "celPreconditions", index, "expression"), one.expression)
                for index, one in enumerate(rule.cel_preconditions)
            ]
            if check is None or message is None or None in preconditions:
                continue
            rules.append(
                CompiledRule(
                    policy=policy.metadata.name,
                    title=policy.metadata.annotations.get(f"{_ANNOTATION}title", policy.metadata.name),
                    file=document.file,
                    document=rule,
                    severity=severity,
                    category=category,
                    controls=controls,
                    is_scored=is_scored,
                    concerns=predicate(rule.match, rule.exclude),
                    preconditions=tuple(one for one in preconditions if one is not None),
                    check=check,
                    message=message,
                    uses=self._uses(rule),
                )
            )
        return rules

    def _uses(self, rule: RuleDocument) -> frozenset[str]:
        texts = rule.validation.model_dump_json(exclude={"message"}) + str(rule.cel_preconditions)
        return self.environment.variables_in(texts)

    def _annotations(self, document: Document, policy: RuntimePolicy) -> tuple[Severity, str, tuple[str, ...], bool]:
        annotations = policy.metadata.annotations
        for key in annotations:
            if key.startswith((_ANNOTATION, "reeve.dev/")) and key not in _KNOWN_ANNOTATIONS:
                self._complain(
                    document, ("metadata", "annotations", key), "is no annotation", suggestion(key, _KNOWN_ANNOTATIONS)
                )
        severity = annotations.get(f"{_ANNOTATION}severity", "medium")
        if severity not in SEVERITIES:
            path = ("metadata", "annotations", f"{_ANNOTATION}severity")
            self._complain(document, path, f'"{severity}" is no severity', suggestion(severity, SEVERITIES))
            severity = "medium"
        controls = tuple(part.strip() for part in annotations.get(_CONTROLS, "").split(";") if part.strip())
        is_scored = annotations.get(f"{_ANNOTATION}scored", "true") != "false"
        return cast(Severity, severity), annotations.get(f"{_ANNOTATION}category", ""), controls, is_scored

    def _expression(self, document: Document, path: tuple[str | int, ...], source: str) -> Expression | None:
        try:
            return self.environment.compile(source)
        except CelError as error:
            self._complain(document, path, str(error))
            return None

    def _template(self, document: Document, path: tuple[str | int, ...], text: str) -> Template | None:
        try:
            return Template(text, self.environment)
        except CelError as error:
            self._complain(document, path, f"placeholder: {error}")
            return None

    def _check(self, document: Document, at: tuple[str | int, ...], validation: Validation) -> Check | None:
        if validation.cel is not None:
            return self._cel_check(document, at, validation)
        if validation.deny is not None:
            return self._deny_check(document, at, validation)
        if validation.pattern is not None:
            pattern = validation.pattern
            self._check_keys(document, (*at, "pattern"), pattern)
            return lambda _, tree: (verdict(pattern, tree())[0], None)
        patterns = validation.any_pattern or ()
        for index, one in enumerate(patterns):
            self._check_keys(document, (*at, "anyPattern", index), one)
        return lambda _, tree: (any_verdict(patterns, tree())[0], None)

    def _cel_check(self, document: Document, at: tuple[str | int, ...], validation: Validation) -> Check | None:
        assert validation.cel is not None
        compiled: list[tuple[Expression, Template | None]] = []
        for index, one in enumerate(validation.cel.expressions):
            path = (*at, "cel", "expressions", index)
            expression = self._expression(document, (*path, "expression"), one.expression)
            message = self._template(document, (*path, "message"), one.message) if one.message else None
            if expression is not None:
                compiled.append((expression, message))
        if len(compiled) < len(validation.cel.expressions):
            return None
        environment = self.environment

        def check(binding: Binding, _: Callable[[], dict[str, Any]]) -> Verdict:
            for expression, message in compiled:
                if not environment.truth(expression, binding):
                    return "fail", message
            return "pass", None

        return check

    def _deny_check(self, document: Document, at: tuple[str | int, ...], validation: Validation) -> Check | None:
        assert validation.deny is not None
        conditions = validation.deny.conditions
        compiled: dict[str, list[tuple[Condition, Expression]]] = {"any": [], "all": []}
        before = len(self._problems)
        for group in ("any", "all"):
            for index, condition in enumerate(getattr(conditions, group)):
                path = (*at, "deny", "conditions", group, index, "key")
                source = condition.key.strip()
                if not (source.startswith("{{") and source.endswith("}}")):
                    self._complain(document, path, "is a constant", "write an expression in {{ }}")
                    continue
                try:
                    expression = self.environment.compile(source[2:-2].strip(), "any")
                except CelError as error:
                    self._complain(document, path, str(error))
                    continue
                compiled[group].append((condition, expression))
        if not conditions.any and not conditions.all:
            self._complain(document, (*at, "deny", "conditions"), "are empty", "give any or all")
        if len(self._problems) > before:
            return None
        environment = self.environment

        def is_met(entry: tuple[Condition, Expression], binding: Binding) -> bool:
            condition, expression = entry
            return holds(condition.operator, environment.value(expression, binding), condition.value)

        def check(binding: Binding, _: Callable[[], dict[str, Any]]) -> Verdict:
            any_holds = not compiled["any"] or any(is_met(entry, binding) for entry in compiled["any"])
            all_hold = all(is_met(entry, binding) for entry in compiled["all"])
            return ("fail" if any_holds and all_hold else "pass"), None

        return check

    def _check_keys(self, document: Document, at: tuple[str | int, ...], pattern: dict[str, Any]) -> None:
        """Every key of a pattern must be one of the vocabulary's."""

        def walk(value: Any, known: dict[str, str] | None, path: tuple[str | int, ...]) -> None:
            if isinstance(value, list):
                for index, item in enumerate(value):
                    walk(item, known, (*path, index))
            if not isinstance(value, dict) or known is None:
                return
            for key, inner in value.items():
                name = split_anchor(str(key))[1]
                if name not in known:
                    self._complain(document, (*path, key), f'"{name}" is not known here', suggestion(name, known))
                    continue
                kind = known[name].removeprefix("list of ")
                walk(inner, self.vocabulary.fields.get(kind), (*path, key))

        walk(pattern, {**self.vocabulary.variables, "findings": "list of Finding"}, at)


def digest_of(texts: Sequence[bytes]) -> str:
    """SHA-256 over the policy files' bytes in the order of their digests: the same set gives the same name anywhere."""
    whole = hashlib.sha256()
    for part in sorted(hashlib.sha256(text).digest() for text in texts):
        whole.update(part)
    return whole.hexdigest()
