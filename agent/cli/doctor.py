"""`reeve doctor`: what this node allows the agent to see."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from agent.cli.root import EXISTING, FAULT, refuse
from agent.config import Problems

_MARKS = {"ok": "ok  ", "off": "off ", "bad": "BAD "}
_NAME = 16


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
@click.option("--config", "-c", type=EXISTING, multiple=True, help="Look at what this configuration needs.")
@click.option("--node", envvar="NODE_NAME", default="", help="The node's name, where the configuration names none.")
def doctor(as_json: bool, config: tuple[Path, ...], node: str) -> None:
    """Tell which probes, TLS stacks and kernel features this node has, and what to do about those it has not.

    Probes are really loaded and attached, for a moment.  With a configuration: its directories, the API server, the
    rights of the service account and the definitions it needs; probes only if it has the source ebpf.
    Exit code 1 if something that is needed is missing.

    \b
    Examples:
      sudo reeve doctor
      kubectl -n reeve-system exec ds/reeve -- reeve doctor --config /etc/reeve/agent.d
    """
    from agent.app.examining import configuration_checks
    from agent.app.loading import plugin_name
    from agent.app.running import load_settings
    from agent.sources.ebpf.examination import examine

    checks = []
    has_probes = True
    if config:
        try:
            settings, _ = load_settings(*config, node=node)
        except Problems as problems:
            refuse(problems)
        checks += configuration_checks(settings)
        has_probes = any(plugin_name(name, one) == "ebpf" for name, one in settings.sources.items())
    if has_probes:
        checks += examine()
    area = ""
    for check in checks:
        if as_json:
            click.echo(json.dumps(check._asdict()))
            continue
        if check.area != area:
            area = check.area
            click.echo(f"{area}")
        click.echo(f"  {_MARKS[check.state]}{check.name:<{_NAME}} {check.what}")
        if check.remedy:
            click.echo(f"      {'':<{_NAME}} {check.remedy}")
    if any(check.state == "bad" for check in checks):
        sys.exit(FAULT)
