"""The fault drill: sink down, disk full, kill -9, a log storm.  The ledger adds up, nothing acknowledged is lost."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml

from agent.app.running import Agent, load_settings
from agent.audit import verify
from agent.model import Outcome
from agent.pipeline import SinkUnavailable
from agent.sinks.audit.directory import lines_of, load_public_key, notes_of
from agent.sources.containerlogs.store import CheckpointStore
from agent.testing import MemorySink

POD = "llm-prod_bot-0_2f6d8f0e-1c55-4d1e-9a53-0a1b2c3d4e5f"


def line(number):
    return f"2026-11-23T10:{number // 60_000 % 60:02}:00.{number:09}Z stdout F record {number} jane.doe@acme.com\n".encode()


@pytest.fixture
def pods(tmp_path):
    directory = tmp_path / "pods" / POD / "app"
    directory.mkdir(parents=True)
    return directory


def config(tmp_path, **more):
    document = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "node": "n",
        "state_dir": str(tmp_path / "state"),
        "http": None,
        "log": {"level": "error"},
        "detectors": {"pii": {"entities": ["EMAIL_ADDRESS"]}},
        "sources": {"containerlogs": {"paths": [str(tmp_path / "pods")], "group_seconds": 0.1, "read_bytes": 8192}},
        "sinks": {"audit": {"checkpoint_seconds": 0.2}},
        "pipeline": {"retry": {"first_seconds": 0.01, "longest_seconds": 0.1, "give_up_seconds": 30}},
        **more,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def run_until(agent, condition, seconds=40):
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    deadline = time.monotonic() + seconds
    while not condition() and not running.done():
        assert time.monotonic() < deadline, "nothing more came"
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 30)
    assert agent.ledger.is_balanced


def texts(sink):
    return [evaluation.event.body.text for evaluation in sink.written]


def wanted(count):
    return {f"record {number} [EMAIL_ADDRESS]" for number in range(count)}


async def test_a_sink_that_is_down_for_a_while_loses_nothing(tmp_path, pods):
    (pods / "0.log").write_bytes(b"".join(line(number) for number in range(200)))
    up_at = time.monotonic() + 1.0

    def down(_, batch):
        if time.monotonic() < up_at:
            raise SinkUnavailable("connection refused")
        return [Outcome.DELIVERED] * len(batch)

    sink = MemorySink(decide=down)
    agent = Agent(*load_settings(config(tmp_path)), sinks=[sink])
    await run_until(agent, lambda: len(sink.written) >= 200)
    assert set(texts(sink)) == wanted(200)
    assert agent.ledger.sink("memory").retries > 0
    assert agent.ledger.source("containerlogs").delivered == 200


async def test_a_sink_that_gives_up_makes_the_source_read_again(tmp_path, pods):
    (pods / "0.log").write_bytes(b"".join(line(number) for number in range(50)))
    up_at = time.monotonic() + 1.0

    def down(_, batch):
        if time.monotonic() < up_at:
            raise SinkUnavailable("connection refused")
        return [Outcome.DELIVERED] * len(batch)

    sink = MemorySink(decide=down)
    retry = {"first_seconds": 0.01, "longest_seconds": 0.02, "give_up_seconds": 0.1}
    agent = Agent(*load_settings(config(tmp_path, pipeline={"retry": retry})), sinks=[sink])
    await run_until(agent, lambda: set(texts(sink)) >= wanted(50))
    assert agent.ledger.source("containerlogs").errored > 0
    assert agent.ledger.sink("memory").dead_lettered > 0


async def test_a_full_disk_loses_nothing_and_leaves_a_whole_audit_log(tmp_path, pods, monkeypatch):
    (pods / "0.log").write_bytes(b"".join(line(number) for number in range(100)))
    real_write, full_until = os.write, time.monotonic() + 1.5

    def write(descriptor, data):
        is_audit = "audit-" in os.readlink(f"/proc/self/fd/{descriptor}")
        if is_audit and time.monotonic() < full_until and b'"evaluation"' in bytes(data):
            real_write(descriptor, bytes(data)[:37])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    sink = MemorySink()
    agent = Agent(*load_settings(config(tmp_path)), sinks=[sink])
    await run_until(agent, lambda: agent.ledger.source("containerlogs").delivered >= 100)
    audit = tmp_path / "state" / "audit"
    verification = verify(lines_of(audit), notes_of(audit), load_public_key(audit / "public.key"))
    assert verification.fault is None
    recorded = [json.loads(one.content) for one in lines_of(audit)]
    assert sum(record["kind"] == "evaluation" for record in recorded) == 100
    assert agent.ledger.sink("audit").retries > 0


async def test_a_log_storm_beyond_capacity_is_waited_out(tmp_path, pods):
    count = 5000
    (pods / "0.log").write_bytes(b"".join(line(number) for number in range(count)))

    class Slow(MemorySink):
        async def write(self, evaluations):
            await asyncio.sleep(0.001)
            return await super().write(evaluations)

    sink = Slow()
    pipeline = {"queue_events": 50, "sink_queue_batches": 1}
    agent = Agent(*load_settings(config(tmp_path, pipeline=pipeline)), sinks=[sink])
    await run_until(agent, lambda: len(sink.written) >= count, seconds=90)
    assert Counter(texts(sink)) == Counter(dict.fromkeys(wanted(count), 1))
    assert agent.ledger.source("containerlogs").dropped.total() == 0


async def test_a_storm_on_a_line_that_drops_says_how_much(tmp_path, pods):
    count = 3000
    (pods / "0.log").write_bytes(b"".join(line(number) for number in range(count)))

    class Slow(MemorySink):
        async def write(self, evaluations):
            await asyncio.sleep(0.02)
            return await super().write(evaluations)

    sink = Slow()
    pipeline = {"queue_events": 40, "sink_queue_batches": 1, "when_full": {"containerlogs": "drop_newest"}}
    agent = Agent(*load_settings(config(tmp_path, pipeline=pipeline)), sinks=[sink])
    account = agent.ledger.source("containerlogs")
    await run_until(agent, lambda: account.admitted >= count and account.in_flight == 0, seconds=90)
    assert account.delivered + account.dropped["queue_full"] == count


def test_after_kill_minus_nine_acknowledged_lines_come_once_and_no_line_is_missing(tmp_path, pods):
    """The agent writes each masked line to standard output; it is killed three times while a writer goes on."""
    path = config(tmp_path, sinks={"stdout": {"format": "json"}})
    count, written = 1500, 0
    outputs = []
    acknowledged_before_kill = []
    for attempt in range(4):
        output = tmp_path / f"out-{attempt}"
        outputs.append(output)
        with output.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", "agent", "run", "-c", str(path)], stdout=out)
            target = count * (attempt + 1) // 4
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if written < target:
                    with (pods / "0.log").open("ab") as log:
                        log.write(b"".join(line(number) for number in range(written, min(written + 25, target))))
                    written = min(written + 25, target)
                    if written == target // 2 and attempt == 1:
                        (pods / "0.log").rename(pods / "0.log.20261123-100000")
                time.sleep(0.01)
                is_last = attempt == 3
                if (
                    written == target
                    and output.stat().st_size > 4000
                    and (not is_last or _seen(outputs) >= wanted(count))
                ):
                    break
            os.kill(process.pid, signal.SIGTERM if is_last else signal.SIGKILL)
            process.wait(30)
        acknowledged_before_kill.append(_acknowledged_offset(tmp_path, pods))
    assert _seen(outputs) == wanted(count)
    # What was acknowledged before a kill is not read again: later outputs begin at or after the checkpoint.
    for attempt in range(1, 4):
        first = min((_number(text) for text in _texts(outputs[attempt])), default=None)
        assert first is None or first >= acknowledged_before_kill[attempt - 1]


def _texts(output):
    texts = []
    for row in output.read_bytes().splitlines():
        try:
            texts.append(json.loads(row)["event"]["body"]["text"])
        except ValueError:
            continue  # the last line of a killed process
    return texts


def _seen(outputs):
    return {text for output in outputs for text in _texts(output)}


def _number(text):
    return int(text.split()[1])


def _acknowledged_offset(tmp_path, pods):
    """How many records stand before the offset that is committed for the container."""
    store = CheckpointStore(tmp_path / "state" / "containerlogs.checkpoints.sqlite")
    committed = sum(position.offset for position in store.positions(str(pods)))
    store.close()
    content = b"".join(path.read_bytes() for path in sorted(pods.iterdir(), key=lambda one: one.name, reverse=True))
    return content[:committed].count(b"\n")
