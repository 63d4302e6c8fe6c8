"""`reeve replay`: recorded input through the whole line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import click

from agent.app.places import KEY_BYTES, load_key
from agent.app.replaying import Replay
from agent.app.running import settings_from
from agent.cli.root import EXISTING, FAULT, GOOD, USAGE, refuse, say
from agent.config import Problems
from agent.sinks.stdout.config import StdoutConfig
from agent.sinks.stdout.sink import StdoutSink
from agent.sources.replay.config import ReplayConfig
from agent.telemetry import configure


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--source",
    "kind",
    type=click.Choice(["tetragon", "hubble", "cri", "docker", "prompts"]),
    required=True,
    help="What wrote the file.",
)
@click.option("--json", "as_json", is_flag=True, help="One evaluation per line, all of them, masked.")
@click.option("--ocsf", is_flag=True, help="One OCSF 1.8 finding per violation.")
@click.option("--ledger", type=click.Path(path_type=Path), help="Write the totals as JSON to this file.")
@click.option("--speed", type=click.Choice(["full", "recorded"]), default="full", show_default=True)
@click.option("--rules", type=EXISTING, multiple=True, help="Rule directory; the shipped ones if not given.")
@click.option(
    "--policies", type=EXISTING, multiple=True, help="Policy directory or file; the shipped ones if not given."
)
@click.option(
    "--fingerprint-key",
    type=click.Path(path_type=Path),
    help="Key file, for fingerprints that are equal in another run; without it the key is made for this run.",
)
def replay(
    file: str,
    kind: str,
    as_json: bool,
    ocsf: bool,
    ledger: Path | None,
    speed: str,
    rules: tuple[Path, ...],
    policies: tuple[Path, ...],
    fingerprint_key: Path | None,
) -> None:
    """Judge recorded events: a Tetragon export, `hubble observe -o jsonpb`, container logs, JSON lines of prompts.

    FILE may be compressed (.gz, .xz, .bz2) or - for standard input.  Exit code 1 on a violation.

    \b
    Examples:
      reeve replay --source tetragon /var/log/tetragon/tetragon.log
      hubble observe -o jsonpb --last 1000 | reeve replay --source hubble -
      reeve replay --source prompts --json --ledger totals.json chats.jsonl
    """
    configure("warning", "text")
    settings = settings_from(rules=rules, policies=policies)
    config = ReplayConfig(kind=kind, path=file, speed=speed)  # type: ignore[arg-type]
    if file != "-" and not Path(file).is_file():
        say(f"{file}: no such file")
        sys.exit(USAGE)
    output = StdoutConfig(format="json" if as_json else "ocsf" if ocsf else "table", all=as_json)
    try:
        key = load_key(fingerprint_key) if fingerprint_key else os.urandom(KEY_BYTES)
        run = Replay(settings, config, [StdoutSink(output, "stdout")], key)
    except Problems as problems:
        refuse(problems)
    except (OSError, ValueError) as error:
        say(str(error))
        sys.exit(USAGE)
    asyncio.run(run.run())
    totals = run.totals_json()
    if ledger is not None:
        ledger.write_text(json.dumps(totals, indent=2) + "\n")
    errors = sum(totals["decode_errors"].values())
    say(
        f"{totals['read']} lines read, {totals['events']} events, {errors} decode errors, "
        f"{sum(totals['findings'].values())} findings, {totals['violations']} violations"
    )
    is_nothing_read = totals["read"] > 0 and not totals["events"]
    if is_nothing_read:
        say(f"no line of {file} could be decoded; is --source {kind} right?")
    is_whole = (
        not is_nothing_read
        and totals["balanced"]
        and not totals["errored"]
        and "source_failed" not in totals["decode_errors"]
    )
    sys.exit(FAULT if totals["violations"] or not is_whole else GOOD)
