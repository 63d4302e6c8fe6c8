"""The definition of RuntimePolicy is what agent/policy/document.py reads and what agent/cluster/policies.py writes."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
import pytest

from agent.cluster.policies import PolicyResources
from agent.config import Problem
from agent.policy.document import KINDS, Operator, RuntimePolicy, Spec
from agent.reports.document import APIS
from tests.unit.daemonset.manifests import DAEMONSET, documents, the

POLICIES = the("CustomResourceDefinition", "runtimepolicies.reeve.dev", "crds")
REPORTS = [
    one
    for file in ("wgpolicyk8s.yaml", "openreports.yaml")
    for one in documents(DAEMONSET / "components" / "policy-report-crds" / file)
]


def schema_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    (version,) = definition["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"])


def models(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    """The models within a type: `tuple[Filter, ...]`, `Match | None`."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        if not isinstance(part, (str, types.EllipsisType)):
            yield from models(part)


def differences(model: type[pydantic.BaseModel], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """Where the fields of a model and the properties of a schema are not the same, or are required by one alone."""
    schema = schema.get("items", schema)
    properties = schema.get("properties", {})
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    yield from (f"{place}.{name}" for name in properties.keys() ^ fields.keys())
    required = {name for name, field in fields.items() if field.is_required()}
    yield from (f"{place}.{name} required" for name in required ^ set(schema.get("required", ())))
    for name in properties.keys() & fields.keys():
        for inner in models(fields[name].annotation):
            yield from differences(inner, properties[name], f"{place}.{name}")


def test_the_definition_has_the_fields_that_the_agent_reads() -> None:
    assert not list(differences(Spec, schema_of(POLICIES)["properties"]["spec"], "spec"))


def rule() -> dict[str, Any]:
    found: dict[str, Any] = schema_of(POLICIES)["properties"]["spec"]["properties"]["rules"]["items"]["properties"]
    return found


def test_it_knows_the_kinds_and_operators_that_the_agent_knows() -> None:
    resources = rule()["match"]["properties"]["any"]["items"]["properties"]["resources"]["properties"]
    assert set(resources["kinds"]["items"]["enum"]) == {*KINDS, "*"}
    conditions = rule()["validate"]["properties"]["deny"]["properties"]["conditions"]["properties"]
    assert set(conditions["any"]["items"]["properties"]["operator"]["enum"]) == set(typing.get_args(Operator))


def test_group_version_and_kind_are_those_of_policies_in_git() -> None:
    (version,) = POLICIES["spec"]["versions"]
    written = f"{POLICIES['spec']['group']}/{version['name']}"
    assert typing.get_args(RuntimePolicy.model_fields["api_version"].annotation) == (written,)
    assert typing.get_args(RuntimePolicy.model_fields["kind"].annotation) == (POLICIES["spec"]["names"]["kind"],)


class Silent:
    """An API server that nobody asks."""

    def call(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        raise AssertionError(f"{method} {path}")


@pytest.mark.parametrize("problems", [(), (Problem("f", 0, "spec.rules[0]", "is wrong", "make it right"),)])
def test_the_status_that_the_agent_writes_is_kept_whole(problems: tuple[Problem, ...], tmp_path: Path) -> None:
    keeper = PolicyResources(Silent(), tmp_path, lambda file, document: (1, problems))
    item = {"metadata": {"name": "x", "generation": 3}, "spec": {}}
    assert not list(unknown(keeper.status_of("x", item), schema_of(POLICIES)["properties"]["status"], "status"))


def unknown(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """What the API server would prune."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            if name in schema.get("properties", {}):
                yield from unknown(one, schema["properties"][name], f"{place}.{name}")
            else:
                yield f"{place}.{name}"
    elif isinstance(value, list):
        for one in value:
            yield from unknown(one, schema["items"], f"{place}[]")


@pytest.mark.parametrize("api", APIS)
def test_both_kinds_of_reports_are_defined(api: Any) -> None:
    version, kind, node_kind, collection, node_collection = APIS[api]
    defined = {
        (one["spec"]["group"] + "/" + one["spec"]["versions"][0]["name"], one["spec"]["names"]["kind"]): one["spec"]
        for one in REPORTS
    }
    assert defined[version, kind]["names"]["plural"] == collection
    assert defined[version, kind]["scope"] == "Namespaced"
    assert defined[version, node_kind]["names"]["plural"] == node_collection
    assert defined[version, node_kind]["scope"] == "Cluster"


def test_all_four_definitions_of_reports_have_one_shape() -> None:
    shapes = [
        {
            name: one
            for name, one in schema_of(definition)["properties"].items()
            if name not in ("source", "configuration")
        }
        for definition in REPORTS
    ]
    assert shapes[1:] == shapes[:-1]


def test_the_properties_of_results_are_texts() -> None:
    result = schema_of(REPORTS[0])["properties"]["results"]["items"]["properties"]
    assert result["properties"] == {"type": "object", "additionalProperties": {"type": "string"}}
