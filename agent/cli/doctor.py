"""`reeve doctor`: what this node allows the agent to see."""

from __future__ import annotations

import json
import sys

import click

from agent.cli.root import FAULT

_MARKS = {"ok": "ok  ", "off": "off ", "bad": "BAD "}
_NAME = 16


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
def doctor(as_json: bool) -> None:
    """Tell which probes, TLS stacks and kernel features this node has, and what to do about those it has not.

    Probes are really loaded and attached, for a moment.  Exit code 1 if no probe can stand.

    \b
    Example:
      sudo reeve doctor
    """
    from agent.sources.ebpf.examination import examine

    checks = examine()
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
