"""`reeve demo`: a leaking LLM service, watched for a few seconds by the whole agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from agent.app.running import Agent, load_settings
from agent.audit import verify
from agent.cli.root import FAULT, GOOD, refuse, say
from agent.config import Problems
from agent.sinks.audit.directory import lines_of, load_public_key, notes_of
from agent.telemetry import configure

_DATA = Path(__file__).resolve().parents[1] / "demo"
_POD = "llm-prod_support-bot-7d9c5b6f4-x2k8p_9b7e6c1a-53f2-4c0e-8d3a-6f1e2d3c4b5a"
# What is planted in the demo's data and must be found nowhere afterwards.
_PLANTED = (
    "anna.berger@example.com",
    "536-90-4399",
    "4012 8888 8888 1881",
    "DE75512108001245126199",
    "49 30 901820",
    "Wq9-vTr4kk2",
    "demo-0123456789abcdef-token",
)
_WAIT_SECONDS = 60.0
_METRICS = ("reeve_findings_total", "reeve_events_lost_total", "reeve_ledger_balanced")


@click.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Keep everything that is written in this directory.")
def demo(keep: Path | None) -> None:
    """Watch a leaking LLM service for a few seconds: logs, runtime events, policies, metrics, audit log, reports.

    Needs no cluster, no network and no root.  Everything is written to a temporary directory.

    \b
    Example:
      reeve demo --keep /tmp/reeve-demo
    """
    configure("warning", "text")
    directory = keep or Path(tempfile.mkdtemp(prefix="reeve-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        is_good = asyncio.run(_demo(directory))
    except Problems as problems:
        refuse(problems)
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(GOOD if is_good else FAULT)


def _heading(text: str) -> None:
    style = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    click.echo(f"\n{style[0]}{text}{style[1]}")


def _config(directory: Path) -> Path:
    """An agent configuration as a user would write it."""
    document = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "node": "demo-node",
        "state_dir": str(directory / "state"),
        "http": {"listen": "127.0.0.1:0"},
        "log": {"level": "warning", "format": "text"},
        "sources": {
            "containerlogs": {"paths": [str(directory / "pods")]},
            "tetragon": {"type": "replay", "kind": "tetragon", "path": str(_DATA / "tetragon.jsonl")},
            "hubble": {"type": "replay", "kind": "hubble", "path": str(_DATA / "hubble.jsonl")},
        },
        "sinks": {"stdout": {"format": "table"}, "audit": {}, "policyreport": {"flush_seconds": 1}},
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


async def _write_logs(directory: Path) -> int:
    """Write the service's log as containerd does, one long line in two parts; the number of records."""
    container = directory / "pods" / _POD / "app"
    container.mkdir(parents=True, exist_ok=True)
    lines = (_DATA / "service.log").read_text(encoding="utf-8").splitlines()
    with (container / "0.log").open("ab", buffering=0) as file:
        for line in lines:
            stream, _, text = line.partition(" ")
            content = text.encode()
            # Cut one record inside its card number, as the runtime cuts at 16 KiB.
            cut = content.find(b"8888 8888")
            parts = [content[: cut + 6], content[cut + 6 :]] if cut >= 0 else [content]
            for number, part in enumerate(parts, 1):
                stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
                tag = b"F" if number == len(parts) else b"P"
                file.write(b"%s %s %s %s\n" % (stamp.encode(), stream.encode(), tag, part))
            await asyncio.sleep(0.15)
    return len(lines)


async def _demo(directory: Path) -> bool:
    started = time.monotonic()
    (directory / "pods").mkdir(exist_ok=True)
    settings, document = load_settings(_config(directory))
    agent = Agent(settings, document)
    stop = asyncio.Event()
    _heading("Violations, as they happen")
    running = asyncio.create_task(agent.run(stop))
    await _write_logs(directory)
    await _until_quiet(agent)
    metrics = await asyncio.to_thread(_scrape, agent.http.port if agent.http else 0)
    stop.set()
    await running
    _heading(f"Metrics, scraped from 127.0.0.1:{agent.http.port if agent.http else 0}/metrics")
    for line in metrics.splitlines():
        if line.startswith(_METRICS):
            click.echo(f"  {line}")
    is_whole = _show_audit(directory / "state" / "audit")
    _show_report(directory / "state" / "reports")
    leaks = _leaks(directory, metrics)
    _heading("Personal data that was written anywhere")
    click.echo("  none of the planted values" if not leaks else f"  LEAKED: {', '.join(leaks)}")
    account = agent.ledger.source("containerlogs")
    say(
        f"\n{account.read} log lines, {agent.tally.events.total()} events, {agent.tally.findings.total()} findings, "
        f"ledger {'adds up' if agent.ledger.is_balanced else 'DOES NOT ADD UP'}, {time.monotonic() - started:.1f} s"
    )
    return is_whole and not leaks and agent.ledger.is_balanced and bool(agent.tally.findings)


async def _until_quiet(agent: Agent) -> None:
    """Wait until everything read is judged and nothing more comes."""
    deadline = time.monotonic() + _WAIT_SECONDS
    quiet = 0
    before = -1
    while quiet < 4 and time.monotonic() < deadline:
        await asyncio.sleep(0.4)
        now = agent.tally.events.total()
        is_idle = all(account.in_flight == 0 for account in agent.ledger.sources.values())
        quiet = quiet + 1 if now == before and is_idle and now else 0
        before = now


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def _show_audit(directory: Path) -> bool:
    key = load_public_key(directory / "public.key")
    notes = notes_of(directory)
    verification = verify(lines_of(directory), notes, key)
    _heading(f"Audit log: reeve audit verify {directory}")
    if verification.fault is not None:
        click.echo(f"  {verification.fault}")
        return False
    click.echo(
        f"  whole: {verification.records} records, {verification.covered} covered by {len(notes)} signed checkpoints"
    )
    last = [line for line in lines_of(directory) if b'"findings"' in line.content][-1]
    shown = json.loads(last.content)
    click.echo(f"  one of them: {json.dumps(shown['findings'][0])}")
    return True


def _show_report(directory: Path) -> None:
    reports = sorted(directory.glob("*.yaml"))
    _heading(f"Policy reports: {len(reports)} files, one of them")
    chosen = next((path for path in reports if path.name.startswith("llm-prod")), reports[0] if reports else None)
    if chosen is not None:
        for line in chosen.read_text(encoding="utf-8").splitlines()[:42]:
            click.echo(f"  {line}")


def _leaks(directory: Path, metrics: str) -> list[str]:
    """Planted values in anything the agent wrote; the pod's own log is not ours."""
    written = [metrics]
    for root, _, names in os.walk(directory / "state"):
        for name in names:
            with contextlib.suppress(OSError):
                written.append((Path(root) / name).read_bytes().decode("utf-8", "replace"))
    return [value for value in _PLANTED if any(value in text for text in written)]
