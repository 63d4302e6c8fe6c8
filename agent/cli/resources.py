"""`reeve policies export` and `import`: policies between git and the cluster, both ways the same document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from agent.app.loading import load_judge, policy_files
from agent.cli.root import EXISTING, FAULT, GOOD, refuse, say
from agent.cluster import KubernetesClient, configuration_of, document_of
from agent.cluster.policies import PATH
from agent.config import Problem, Problems, read
from agent.plugins import ClusterError


def exported(directories: Iterable[Path], labels: Mapping[str, str]) -> str:
    """The policies as a stream of resources.  Raises Problems if one of them could not be in force."""
    directories = tuple(directories)
    load_judge(directories)
    parts: list[str] = []
    for path in policy_files(directories):
        for document in read(path):
            value = dict(document.value)
            if labels:
                metadata = dict(value["metadata"])
                value["metadata"] = {**metadata, "labels": {**metadata.get("labels", {}), **labels}}
            parts.append("---\n" + yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
    return "".join(parts)


def imported(items: Iterable[Mapping[str, Any]], directory: Path) -> tuple[list[Path], list[Problem]]:
    """One file for each policy, as it would stand in git; those that could not be in force are not written.

    Raises OSError."""
    written: list[Path] = []
    problems: list[Problem] = []
    directory.mkdir(parents=True, exist_ok=True)
    for item in items:
        document = document_of(item)
        path = directory / f"{document['metadata']['name'].replace('/', '-')}.yaml"
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        try:
            load_judge((temporary,))
        except Problems as error:
            problems += [Problem(str(path), one.line, one.where, one.what, one.remedy) for one in error.problems]
            temporary.unlink()
            continue
        temporary.replace(path)
        written.append(path)
    return written, problems


@click.command("export")
@click.argument("paths", nargs=-1, type=EXISTING)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Add a label to every policy.")
def export_policies(paths: tuple[Path, ...], labels: tuple[str, ...]) -> None:
    """Policies as resources of the cluster, on standard output; the shipped ones if no path is given.

    A policy that the agent's own files hold already is refused as a resource: its name would stand twice.

    \b
    Example:
      reeve policies export my-policies/ | kubectl apply -f -
    """
    from agent.app.running import settings_from

    pairs = dict(label.partition("=")[::2] for label in labels)
    try:
        click.echo(exported(paths or settings_from().policies, pairs), nl=False)
    except Problems as problems:
        refuse(problems)


@click.command("import")
@click.option("--to", "directory", type=click.Path(path_type=Path), required=True, help="Where the files go.")
@click.option("--from", "source", type=click.File("rb"), help="A list or stream of resources, `-` for standard input.")
@click.option("--kubeconfig", type=EXISTING, help="Ask this cluster; without it and without --from the pod's own.")
def import_policies(directory: Path, source: Any, kubeconfig: Path | None) -> None:
    """RuntimePolicy resources of a cluster as files for git.

    \b
    Examples:
      reeve policies import --kubeconfig ~/.kube/config --to my-policies/
      kubectl get runtimepolicies -o yaml | reeve policies import --from - --to my-policies/
    """
    try:
        items = _given(source.read()) if source is not None else _asked(kubeconfig)
        written, problems = imported(items, directory)
    except (ClusterError, ValueError, OSError, yaml.YAMLError) as error:
        say(f"no policies can be imported: {error}")
        sys.exit(FAULT)
    for path in written:
        click.echo(str(path))
    for problem in problems:
        say(str(problem))
    sys.exit(FAULT if problems else GOOD)


def _given(text: bytes) -> list[Mapping[str, Any]]:
    documents = [json.loads(text)] if text.lstrip().startswith(b"{") else list(yaml.safe_load_all(text))
    items: list[Mapping[str, Any]] = []
    for document in documents:
        if not isinstance(document, dict):
            continue
        items += document.get("items", [document])
    return [item for item in items if item.get("kind", "RuntimePolicy") == "RuntimePolicy"]


def _asked(kubeconfig: Path | None) -> list[Mapping[str, Any]]:
    client = KubernetesClient(configuration_of(kubeconfig))
    try:
        return [item for page in client.pages(PATH, {}) for item in page.get("items") or ()]
    finally:
        client.close()
