"""The command group and what all commands share."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from agent import VERSION
from agent.config import Problems

GOOD, FAULT, USAGE = 0, 1, 2


class Lazy(click.Group):
    """Loads a command's module when it is called: `reeve --help` must not wait for Presidio.

    `commands_from` gives, for each command, its place (`module:attribute`) and the line that help shows.
    """

    def __init__(self, *args: Any, commands_from: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._from = commands_from

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._from)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self._from:
            return None
        module, _, attribute = self._from[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._from.items()])


def say(text: str) -> None:
    """Talk to people: standard error."""
    click.echo(text, err=True)


def refuse(problems: Problems) -> NoReturn:
    """Show every mistake and end with the usage code."""
    for problem in problems.problems:
        say(str(problem))
    sys.exit(USAGE)


EXISTING = click.Path(exists=True, path_type=Path)


@click.command(
    cls=Lazy,
    commands_from={
        "run": ("agent.cli.running:run", "Run the agent until it is told to stop."),
        "scan": ("agent.cli.scanning:scan", "Find personal data and secrets in files."),
        "replay": ("agent.cli.replaying:replay", "Judge recorded events, logs and prompts."),
        "check": ("agent.cli.documents:check", "Check configuration, rules and policies."),
        "policies": ("agent.cli.documents:policies", "Policies: list, test, export, import."),
        "rules": ("agent.cli.documents:rules", "Rules: list, test."),
        "audit": ("agent.cli.audit:audit", "The tamper-evident audit log: verify."),
        "doctor": ("agent.cli.doctor:doctor", "Which probes and TLS stacks this node allows."),
        "canary": ("agent.cli.canary:canary", "Plant a synthetic leak in a running agent, and see it come out."),
        "demo": ("agent.cli.demo:demo", "Watch a leaking LLM service for a few seconds."),
        "completion": ("agent.cli.completion:completion", "Print a completion script for the shell."),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(VERSION, prog_name="reeve")
def main() -> None:
    """Runtime security and compliance for LLM workloads on Kubernetes.

    \b
    Try it:           reeve demo
    Look into files:  reeve scan /var/log/pods
    On a node:        reeve run --config /etc/reeve/config.yaml

    Exit codes: 0 good, 1 a finding or a fault, 2 a mistake in usage or configuration.
    """
