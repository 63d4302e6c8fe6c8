"""A `RuntimePolicy` as it stands in git: Kyverno's shape, about events instead of admission requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import pydantic
from pydantic import Field

from agent.config import suggestion

# The kinds a `match` block names, and the event class each stands for.
KINDS: dict[str, str] = {
    "Process": "process",
    "File": "file",
    "Network": "network",
    "DNS": "dns",
    "HTTP": "http",
    "Log": "log",
    "GenAI": "genai",
    "Kernel": "kernel",
    "Loss": "loss",
    "Status": "status",
}

Name: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Patterns: TypeAlias = tuple[str, ...]


class Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Requirement(Part):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Patterns = ()


class Selector(Part):
    match_labels: dict[str, str] = Field({}, alias="matchLabels")
    match_expressions: tuple[Requirement, ...] = Field((), alias="matchExpressions")


class ResourceFilter(Part):
    """AND across attributes, OR inside a list; `*` and `?` are wildcards.  `names` are pod names."""

    kinds: Patterns = ()
    names: Patterns = ()
    namespaces: Patterns = ()
    selector: Selector | None = None
    containers: Patterns = ()
    images: Patterns = ()
    nodes: Patterns = ()
    workloads: Patterns = ()
    service_accounts: Patterns = Field((), alias="serviceAccounts")
    sources: Patterns = ()

    @pydantic.field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: Patterns) -> Patterns:
        for kind in kinds:
            if kind != "*" and kind not in KINDS:
                raise ValueError(f'"{kind}" is no kind the agent knows; {suggestion(kind, KINDS)}')
        return kinds


class Filter(Part):
    resources: ResourceFilter


class Match(Part):
    any: tuple[Filter, ...] = ()
    all: tuple[Filter, ...] = ()

    @pydantic.model_validator(mode="after")
    def _is_one(self) -> Match:
        if bool(self.any) == bool(self.all):
            raise ValueError("needs exactly one of any and all")
        return self


class NamedExpression(Part):
    name: str
    expression: str


class CelExpression(Part):
    """True means the event is as it should be."""

    expression: str
    message: str = ""


class CelBlock(Part):
    expressions: Annotated[tuple[CelExpression, ...], Field(min_length=1)]


Operator: TypeAlias = Literal[
    "Equals",
    "NotEquals",
    "AnyIn",
    "AllIn",
    "AnyNotIn",
    "AllNotIn",
    "GreaterThan",
    "GreaterThanOrEquals",
    "LessThan",
    "LessThanOrEquals",
]


class Condition(Part):
    key: str
    operator: Operator
    value: Any
    message: str = ""


class Conditions(Part):
    any: tuple[Condition, ...] = ()
    all: tuple[Condition, ...] = ()


class DenyBlock(Part):
    """True conditions mean the event is not allowed."""

    conditions: Conditions


class Validation(Part):
    message: str = ""
    failure_action: Literal["Audit", "Enforce"] | None = Field(None, alias="failureAction")
    cel: CelBlock | None = None
    pattern: dict[str, Any] | None = None
    any_pattern: tuple[dict[str, Any], ...] | None = Field(None, alias="anyPattern")
    deny: DenyBlock | None = None

    @pydantic.model_validator(mode="after")
    def _is_one(self) -> Validation:
        given = [way for way in (self.cel, self.pattern, self.any_pattern, self.deny) if way is not None]
        if len(given) != 1:
            raise ValueError("needs exactly one of cel, pattern, anyPattern and deny")
        return self


class RuleDocument(Part):
    name: Annotated[str, Field(min_length=1, max_length=63)]
    match: Match
    exclude: Match | None = None
    cel_preconditions: tuple[NamedExpression, ...] = Field((), alias="celPreconditions")
    validation: Validation = Field(alias="validate")


class Metadata(Part):
    name: Name
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class Spec(Part):
    failure_action: Literal["Audit", "Enforce"] = Field("Audit", alias="failureAction")
    rules: Annotated[tuple[RuleDocument, ...], Field(min_length=1)]


class RuntimePolicy(Part):
    api_version: Literal["reeve.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["RuntimePolicy"]
    metadata: Metadata
    spec: Spec
