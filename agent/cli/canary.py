"""`reeve canary`: ask a running agent to plant a synthetic leak in each enabled path."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click

from agent.cli.root import FAULT, GOOD, USAGE, say

_SECONDS = 300.0


@click.command()
@click.option("--url", default="http://127.0.0.1:9464", show_default=True, help="Where the agent serves /canary.")
def canary(url: str) -> None:
    """Plant a synthetic leak in each enabled path of a running agent, and see whether its violation comes out in time.

    \b
    Examples:
      reeve canary
      kubectl -n reeve-system exec ds/reeve -- reeve canary
    """
    try:
        answer = _asked(f"{url.rstrip('/')}/canary?run=1")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        say(f"{url}: no canary answers ({reason}); does the agent run there, with `canary: {{}}` in its configuration?")
        sys.exit(USAGE)
    for path, state in answer["paths"].items():
        word = f"out after {state['seconds']:.1f} s" if state["up"] else f"FAILED: {state.get('problem', '')}"
        click.echo(f"{path:<10} {word}")
    if not answer["paths"]:
        say("no path is enabled; name a source of logs or of runtime events in the configuration")
    sys.exit(GOOD if answer["up"] and answer["paths"] else FAULT)


def _asked(url: str) -> dict[str, Any]:
    """The answer, also a bad one.  Raises OSError, ValueError."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("the address begins with neither http:// nor https://")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:  # noqa: S310 - checked above
            text = response.read(1024 * 1024)
    except urllib.error.HTTPError as error:
        text = error.read(1024 * 1024)
    answer = json.loads(text)
    if "paths" not in answer:
        raise ValueError(answer.get("problem", "the answer is none of a canary's"))
    return dict(answer)
