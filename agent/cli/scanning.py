"""`reeve scan`: personal data and secrets in files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agent.app.loading import load_detectors, make_engine
from agent.app.places import default_directory
from agent.app.running import settings_from, surroundings_of
from agent.app.scanning import Format, Hit, Unscanned, engine_scanner, plain_scanner, scan_file
from agent.cli.root import EXISTING, FAULT, GOOD, USAGE, refuse, say
from agent.config import Problems
from agent.model import Direction
from agent.telemetry import configure

Profile = Literal["logs", "prompts", "presidio"]
_DIRECTIONS: dict[Profile, Direction] = {"logs": "log", "prompts": "prompt", "presidio": "other"}
# Smaller inputs are done before a bar could be read.
_BAR_BYTES = 200_000
# Nobody waits behind a file: a text may cost twenty times what it may in the agent before the rest is left.
_WORK_FACTOR = 20


@click.command()
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "--format",
    "log_format",
    type=click.Choice(["auto", "text", "lines", "cri", "docker", "jsonl"]),
    default="auto",
    show_default=True,
    help="How files are read; auto looks at each file's first lines.",
)
@click.option(
    "--profile",
    type=click.Choice(["logs", "prompts", "presidio"]),
    default="logs",
    show_default=True,
    help="What is looked for: quiet on logs, wider on prompts, or all that Presidio finds by default.",
)
@click.option(
    "--entities",
    default="",
    metavar="A,B",
    help="Report these personal data only, also those that the profile leaves out (IP_ADDRESS, URL, DATE_TIME).",
)
@click.option(
    "--countries", default="", metavar="A,B", help="National identifiers of these countries (ISO 3166), or `all`."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding; never the value.")
@click.option("--rules", type=EXISTING, multiple=True, help="Rule directory; the shipped ones if not given.")
def scan(
    paths: tuple[str, ...],
    log_format: str,
    profile: str,
    entities: str,
    countries: str,
    as_json: bool,
    rules: tuple[Path, ...],
) -> None:
    """Find personal data and secrets in files, directories, or standard input (-).

    Exit code 1 if anything was found.

    \b
    Examples:
      reeve scan /var/log/pods
      kubectl logs deploy/bot | reeve scan --format lines -
      reeve scan --profile prompts --json chats.jsonl | jq -r .entity | sort | uniq -c
    """
    configure("warning", "text")
    directories = rules or default_directory("rules")
    direction = _DIRECTIONS[cast(Profile, profile)]
    pii: dict[str, Any] = {
        "profiles": {direction: profile},
        "entities": _listed(entities),
        "work_factor": _WORK_FACTOR,
    }
    if countries:
        pii["countries"] = _listed(countries)
    is_whole = not entities and profile != "presidio"
    settings = settings_from(
        rules=directories,
        policies=directories,
        detectors={"pii": pii, "secrets": {"work_factor": _WORK_FACTOR}} if is_whole else {"pii": pii},
    )
    # A fingerprint links equal values of one run; its key is made anew each time and kept nowhere.
    key = os.urandom(32)
    try:
        loaded = load_detectors(settings, surroundings_of(settings))
    except Problems as problems:
        refuse(problems)
    if profile == "presidio":
        scanner = plain_scanner(loaded, direction, key)
    else:
        scanner = engine_scanner(make_engine(settings, loaded, None, key), direction)
    files = list(_files(paths or ("-",)))
    missing = [name for name in files if name != "-" and not Path(name).exists()]
    if missing:
        say(f"{missing[0]}: no such file or directory")
        sys.exit(USAGE)
    hits = Counter[str]()
    has_fault = False
    total = sum(Path(name).stat().st_size for name in files if name != "-")
    is_shown = total > _BAR_BYTES and sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown, transient=True) as progress:
        task = progress.add_task("scanning", total=total or None)
        for name in files:
            progress.update(task, description=Path(name).name[:40])
            try:
                for hit in scan_file(
                    name, cast(Format, log_format), scanner, lambda size: progress.advance(task, size)
                ):
                    if isinstance(hit, Unscanned):
                        say(f"{hit.file}:{hit.line}: a part was not scanned: {hit.unscanned}")
                        if as_json:
                            click.echo(msgspec.json.encode(hit).decode())
                        has_fault = True
                        continue
                    hits[hit.entity] += 1
                    click.echo(msgspec.json.encode(hit).decode() if as_json else _row(hit))
            except (OSError, EOFError) as error:
                say(f"{name}: cannot be read: {error}")
                has_fault = True
    if hits:
        say(f"{hits.total()} findings: " + ", ".join(f"{entity} {count}" for entity, count in hits.most_common()))
    else:
        say(f"nothing found in {len(files)} {'file' if len(files) == 1 else 'files'}")
    sys.exit(FAULT if hits or has_fault else GOOD)


def _listed(option: str) -> list[str]:
    return [one.strip() for one in option.split(",") if one.strip()]


def _files(paths: tuple[str, ...]) -> Iterator[str]:
    for name in paths:
        if name != "-" and os.path.isdir(name):
            for directory, folders, names in os.walk(name):
                folders.sort()
                inside = (os.path.join(directory, one) for one in sorted(names))
                yield from (path for path in inside if os.path.isfile(path))  # no pipes, no links to nothing
        else:
            yield name


def _row(hit: Hit) -> str:
    return f"{hit.file}:{hit.line}: {hit.entity} ({hit.score:.2f}, {hit.length} characters, {hit.fingerprint[:12]})"
