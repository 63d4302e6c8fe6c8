"""The judge: all rules of a policy set, asked only for the events they concern.

An expression that errs gives the result `error`, never a pass.  `scored: "false"` turns a fail into a warn, as Kyverno
does.  Values are bound once for an event, and only if a rule gets that far.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from agent.model import Event, Finding, PolicyResult, Status
from agent.policy.cel import Binding, CelError
from agent.policy.compiled import CompiledRule, Compiler
from agent.policy.match import Index


class _Bound:
    """One event's values, made when first asked for."""

    def __init__(self, compiler: Compiler, event: Event, findings: Sequence[Finding], names: frozenset[str]) -> None:
        self._compiler = compiler
        self._event = event
        self._findings = findings
        self._names = names

    @cached_property
    def binding(self) -> Binding:
        binding = Binding(self._compiler.environment, self._event, self._findings)
        binding.covering(self._names)  # all rules' at once
        return binding

    @cached_property
    def tree(self) -> dict[str, Any]:
        return self._compiler.vocabulary.tree(self._event, self._findings)


class PolicyJudge:
    """Judges by a fixed set of compiled rules; a reload makes another judge."""

    def __init__(self, compiler: Compiler, rules: Sequence[CompiledRule], digest: str) -> None:
        self._compiler = compiler
        self.rules = tuple(rules)
        self._digest = digest
        # Most results say the same: that a rule passed.
        self._passed = {id(rule): _said(rule, "pass", "") for rule in self.rules}
        self._index: Index[CompiledRule] = Index((rule.document.match, rule) for rule in rules)

    @property
    def digest(self) -> str:
        return self._digest

    def judge(self, event: Event, findings: Sequence[Finding]) -> list[PolicyResult]:
        rules = [rule for rule in self._index.candidates(event) if rule.concerns(event)]
        if not rules:
            return []
        bound = _Bound(self._compiler, event, findings, frozenset().union(*(rule.uses for rule in rules)))
        return [self._result(rule, bound) for rule in rules]

    def _result(self, rule: CompiledRule, bound: _Bound) -> PolicyResult:
        environment = self._compiler.environment
        message = ""
        try:
            if not all(environment.truth(expression, bound.binding) for expression in rule.preconditions):
                return _said(rule, "skip", "")
            status, own_message = rule.check(bound.binding, lambda: bound.tree)
            if status == "fail":
                message = (own_message or rule.message).render(bound.binding)
        except CelError as error:
            return _said(rule, "error", f"could not be evaluated: {error}")
        except Exception as error:  # noqa: BLE001 - one rule that fails on an event must not hide the others' results
            return _said(rule, "error", f"could not be evaluated: {type(error).__name__}")
        if status == "pass":
            return self._passed[id(rule)]
        if status == "fail" and not rule.is_scored:
            return _said(rule, "warn", message)
        return _said(rule, status, message)


def _said(rule: CompiledRule, status: Status, message: str) -> PolicyResult:
    return PolicyResult(
        policy=rule.policy,
        rule=rule.document.name,
        status=status,
        message=message,
        severity=rule.severity,
        category=rule.category,
        controls=rule.controls,
        is_scored=rule.is_scored,
    )
