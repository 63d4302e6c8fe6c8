"""`reeve run`: the agent."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from agent.app.running import Agent, load_settings
from agent.cli.root import EXISTING, FAULT, USAGE, refuse, say
from agent.config import Problems
from agent.telemetry import configure


@click.command()
@click.option(
    "--config",
    "-c",
    type=EXISTING,
    required=True,
    multiple=True,
    help="The agent's configuration (kind AgentConfig): a file or a directory of files, a later one over the former.",
)
@click.option("--node", envvar="NODE_NAME", default="", help="The node's name, where the configuration names none.")
def run(config: tuple[Path, ...], node: str) -> None:
    """Run the agent until it is told to stop.

    SIGTERM stops it: sources end, what was admitted is delivered, then it exits.

    \b
    Example:
      reeve run --config examples/node.yaml
    """
    # Whatever is written is for the agent's user, and its group at most: an auditor's account may be in that.
    os.umask(os.umask(0) | 0o027)
    try:
        settings, document = load_settings(*config, node=node)
        configure(settings.log.level, settings.log.format)
        agent = Agent(settings, document)
    except Problems as problems:
        refuse(problems)
    except (OSError, ValueError) as error:
        say(f"{config[0]}: {error}")
        sys.exit(USAGE)
    try:
        asyncio.run(agent.run())
    except OSError as error:
        say(f"the agent cannot start: {error}")
        sys.exit(FAULT)
    if not agent.ledger.is_balanced:
        say("the ledger does not add up; please report this")
        sys.exit(FAULT)
