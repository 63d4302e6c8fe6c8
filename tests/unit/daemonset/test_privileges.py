"""Whatever the manifests give the agent stands in daemonset/README.md with a reason, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from tests.unit.daemonset.manifests import DAEMONSET, objects, operations, walk

README = (DAEMONSET / "README.md").read_text(encoding="utf-8")
_TRUE_IS_MORE = ("hostPID", "hostNetwork", "hostIPC", "shareProcessNamespace", "privileged", "allowPrivilegeEscalation")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def documented_privileges() -> set[str]:
    return {quoted(row[0])[0] for row in rows("Privileges")}


def documented_rights() -> set[tuple[str, str, str]]:
    return {
        ("" if row[2] == "core" else row[2], quoted(row[1])[0], verb)
        for row in rows("Rights")
        for verb in quoted(row[0])
    }


def privileges(documents: Iterable[Mapping[str, Any]]) -> set[str]:
    """What the documents give a pod, in the README's words."""
    wholes = list(documents)
    volumes = {one["name"]: one for whole in wholes for part in walk(whole) for one in part.get("volumes", ())}
    return {found for whole in wholes for part in walk(whole) for found in _of(part, volumes)}


def _of(part: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from (name for name in _TRUE_IS_MORE if part.get(name) is True)
    yield from (f"capability {name}" for name in _list(part.get("capabilities"), "add"))
    for mount in _maps(part.get("volumeMounts")):
        access = "read only" if mount.get("readOnly") else "written"
        source = volumes.get(mount["name"], {})
        if "hostPath" in source:
            yield f"host path {source['hostPath']['path']}, {access}"
        else:
            yield f"mount {mount['mountPath']}, {access}"
    if isinstance(part.get("runAsUser"), int):
        yield f"user {part['runAsUser']}"
    for key, name in (("appArmorProfile", "AppArmor"), ("seccompProfile", "seccomp")):
        if isinstance(profile := part.get(key), Mapping) and profile.get("type") != "RuntimeDefault":
            yield f"{name} {profile.get('type')}"
    if part.get("automountServiceAccountToken") is True:
        yield "token of the service account"
    labels = part.get("labels")
    if isinstance(labels, Mapping) and (level := labels.get("pod-security.kubernetes.io/enforce")):
        yield f"PodSecurity {level}"
    yield from (f"port {port['hostPort']} of the host" for port in _maps(part.get("ports")) if "hostPort" in port)
    if part.get("procMount"):
        yield f"procMount {part['procMount']}"


def _list(part: Any, key: str) -> list[str]:
    return list(part.get(key) or ()) if isinstance(part, Mapping) else []


def _maps(part: Any) -> list[Mapping[str, Any]]:
    return [one for one in part if isinstance(one, Mapping)] if isinstance(part, list) else []


def rights(documents: Iterable[Mapping[str, Any]]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every rule of a role."""
    rules = [part for whole in documents for part in walk(whole) if "verbs" in part]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", ["no group"])
        for resource in rule.get("resources", rule.get("nonResourceURLs", ["nothing"]))
        for verb in rule["verbs"]
    }


def everything() -> list[Mapping[str, Any]]:
    return [*objects(), *operations()]


def test_every_privilege_has_its_reason_and_every_reason_its_privilege() -> None:
    assert privileges(everything()) == documented_privileges()


def test_every_right_has_its_reason_and_every_reason_its_right() -> None:
    assert rights(everything()) == documented_rights()


def test_every_row_gives_a_reason() -> None:
    short = [row for heading in ("Privileges", "Rights") for row in rows(heading) if len(row[-1]) < 10]
    assert not short


def test_the_chart_gives_no_capability_or_path_that_the_readme_lacks() -> None:
    text = (DAEMONSET / "chart" / "templates" / "daemonset.yaml").read_text(encoding="utf-8")
    capabilities = re.findall(r"^\s+- ([A-Z][A-Z_]+)$", text, re.MULTILINE)
    paths = re.findall(r"hostPath: \{path: (/[^,]+),", text)
    assert {f"capability {name}" for name in capabilities} == {
        one for one in documented_privileges() if "capability" in one
    }
    assert {f"host path {path}" for path in paths} <= {one.partition(",")[0] for one in documented_privileges()}


POD = {"name": "x", "volumes": [{"name": "disk", "hostPath": {"path": "/dev"}}]}


@pytest.mark.parametrize(
    ("added", "found"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, "capability NET_ADMIN"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccomp Unconfined"),
        ({"volumeMounts": [{"name": "disk", "mountPath": "/dev"}]}, "host path /dev, written"),
        ({"volumeMounts": [{"name": "other", "mountPath": "/x", "readOnly": True}]}, "mount /x, read only"),
        ({"ports": [{"containerPort": 1, "hostPort": 9464}]}, "port 9464 of the host"),
        ({"securityContext": {"procMount": "Unmasked"}}, "procMount Unmasked"),
    ],
)
def test_one_more_privilege_is_noticed(added: dict[str, Any], found: str) -> None:
    assert privileges([{**POD, **added}]) - documented_privileges() == {found}


@pytest.mark.parametrize(
    "rule",
    [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]},
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ],
)
def test_one_more_right_is_noticed(rule: dict[str, Any]) -> None:
    assert len(rights([{"rules": [rule]}]) - documented_rights()) == 1
