"""`reeve check`, `reeve policies` and `reeve rules`: documents in git, before they are in force."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from agent.app.loading import load_detectors, load_judge, policy_files
from agent.app.places import default_directory
from agent.app.running import build_plugins, load_settings, settings_from, surroundings_of
from agent.cases import Report, run_policy_cases, run_rule_cases
from agent.cli.resources import export_policies, import_policies
from agent.cli.root import EXISTING, FAULT, GOOD, refuse, say
from agent.config import Problem, Problems, Settings
from agent.detectors.presidio.loading import recognizer_files, recognizers_of
from agent.detectors.traffic.catalogue import catalogue_files, entries_of
from agent.telemetry import configure

_CONFIG = click.option(
    "--config",
    "-c",
    type=EXISTING,
    multiple=True,
    help="Take rules and policies from this configuration: a file, a directory, or several, the later over the former.",
)
_RULES = click.option("--rules", type=EXISTING, multiple=True, help="Rule directory; the shipped ones if not given.")
_POLICIES = click.option(
    "--policies",
    "policy_paths",
    type=EXISTING,
    multiple=True,
    help="Policy directory or file; the shipped ones if not given.",
)


def _settings(rules: tuple[Path, ...] = (), policy_paths: tuple[Path, ...] = ()) -> Settings:
    return settings_from(rules=rules, policies=policy_paths)


@click.command()
@_CONFIG
@_RULES
@_POLICIES
def check(config: tuple[Path, ...], rules: tuple[Path, ...], policy_paths: tuple[Path, ...]) -> None:
    """Check configuration, rules and policies: every mistake with its file and line, and what would be right.

    \b
    Examples:
      reeve check
      reeve check --config examples/node.yaml
      reeve check --policies my-policies/
    """
    configure("error", "text")
    problems: list[Problem] = []
    settings = _settings(rules, policy_paths)
    if config:
        try:
            settings, document = load_settings(*config)
            for group in ("sources", "sinks"):
                _gather(problems, lambda group=group: build_plugins(group, settings, document))
        except Problems as error:
            refuse(error)
    _gather(problems, lambda: load_detectors(settings, surroundings_of(settings), str(config[0]) if config else ""))
    judges = []
    _gather(problems, lambda: judges.append(load_judge(settings.policies)))
    if problems:
        refuse(Problems(problems))
    recognizers = sum(
        len(recognizers_of(path)) for folder in ("pii", "secrets") for path in recognizer_files(settings.rules, folder)
    )
    say(f"good: {recognizers} recognisers, {len(judges[0].rules)} policy rules, digest {judges[0].digest[:12]}")


def _gather(problems: list[Problem], load: object) -> None:
    assert callable(load)
    try:
        load()
    except Problems as error:
        problems.extend(error.problems)


@click.group()
def policies() -> None:
    """Policies: what is allowed."""


policies.add_command(export_policies)
policies.add_command(import_policies)


@policies.command("list")
@_POLICIES
def list_policies(policy_paths: tuple[Path, ...]) -> None:
    """One line per policy rule: severity, policy/rule, title, file."""
    try:
        judge = load_judge(_settings(policy_paths=policy_paths).policies)
    except Problems as problems:
        refuse(problems)
    for rule in judge.rules:
        click.echo(f"{rule.severity:<8} {rule.policy + '/' + rule.document.name:<55} {rule.title:<60} {rule.file}")


@policies.command("test")
@_POLICIES
@_RULES
def test_policies(policy_paths: tuple[Path, ...], rules: tuple[Path, ...]) -> None:
    """Run the cases beside the policies.

    \b
    Example:
      reeve policies test --policies my-policies/
    """
    configure("error", "text")
    settings = _settings(rules, policy_paths)
    try:
        detectors = load_detectors(settings, surroundings_of(settings))
        sys.exit(_told(run_policy_cases(policy_files(settings.policies), detectors)))
    except Problems as problems:
        refuse(problems)


@click.group()
def rules() -> None:
    """Rules: what is detected."""


@rules.command("list")
@_RULES
def list_rules(rules: tuple[Path, ...]) -> None:
    """One line per recogniser and provider: kind, entity, name, file."""
    try:
        for folder, kind in (("pii", "pii"), ("secrets", "secret")):
            for path in recognizer_files(rules or default_directory("rules"), folder):
                for one in recognizers_of(path):
                    click.echo(f"{kind:<7} {one.supported_entity:<34} {one.name:<36} {path}")
        for path in catalogue_files(rules or default_directory("rules")):
            for entry in entries_of([path]):
                click.echo(f"{'threat':<7} {entry.kind:<34} {entry.id:<36} {path}")
    except Problems as problems:
        refuse(problems)


@rules.command("test")
@_RULES
def test_rules(rules: tuple[Path, ...]) -> None:
    """Run the cases beside the rules.

    \b
    Example:
      reeve rules test --rules my-rules/
    """
    configure("error", "text")
    try:
        sys.exit(_told(run_rule_cases(rules or default_directory("rules"))))
    except Problems as problems:
        refuse(problems)


def _told(reports: Iterable[Report] | Iterator[Report]) -> int:
    passed = failed = files = 0
    for report in reports:
        files += 1
        passed += report.passed
        failed += len(report.failures)
        for failure in report.failures:
            click.echo(failure)
    click.echo(f"{passed} passed, {failed} failed")
    say(f"cases of {files} files")
    if not files:
        say("no file with cases was found")
        return FAULT
    return FAULT if failed else GOOD
