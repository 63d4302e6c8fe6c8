"""`reeve audit`: whether an audit log is whole."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.audit import verify as verified
from agent.cli.root import EXISTING, FAULT, USAGE, say
from agent.sinks.audit.directory import AuditDirectoryError, lines_of, load_public_key, notes_of, segments_of


@click.group()
def audit() -> None:
    """The tamper-evident audit log."""


@audit.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--public-key",
    type=EXISTING,
    help="The key you kept elsewhere.  The one beside the log, used without it, shows only that the log fits itself.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    type=EXISTING,
    multiple=True,
    help="A checkpoint note that was kept elsewhere; shows a tail that was cut off.",
)
@click.option("--verbose", "-v", is_flag=True, help="Say how many records there are and how many a checkpoint covers.")
def verify(directory: Path, public_key: Path | None, checkpoints: tuple[Path, ...], verbose: bool) -> None:
    """Check an audit log offline: silent and 0 when it is whole, else the first bad record and 1.

    \b
    Examples:
      reeve audit verify /var/lib/reeve/audit
      reeve audit verify --public-key node-7.key --checkpoint yesterday.note audit/
    """
    if not segments_of(directory):
        say(f"{directory}: holds no audit log (audit-*.jsonl)")
        sys.exit(USAGE)
    try:
        key = load_public_key(public_key or directory / "public.key")
        notes = notes_of(directory)
        known = [path.read_text(encoding="utf-8") for path in checkpoints]
    except (AuditDirectoryError, OSError, UnicodeDecodeError) as error:
        say(f"audit log broken ({directory}): {error}")
        sys.exit(FAULT)
    verification = verified(lines_of(directory), notes, key, known)
    if verification.fault is not None:
        say(str(verification.fault))
        sys.exit(FAULT)
    if not notes:
        count = verification.records
        say(f"audit log broken ({directory}): {count} records and no checkpoint; its checkpoints were removed")
        sys.exit(FAULT)
    aside = sorted(path.name for path in directory.glob("damaged-*"))
    if aside:
        names = ", ".join(aside)
        say(f"audit log broken ({directory}): an earlier part did not fit its checkpoint and was set aside as {names}")
        sys.exit(FAULT)
    if verbose:
        say(
            f"whole: {verification.records} records, {verification.covered} of them covered by {len(notes)} checkpoints"
        )
