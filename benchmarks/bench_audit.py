"""Audit records per second with an fsync for each checkpoint, against one for each record (wall time: it is the disk)."""

import tempfile
import time
from pathlib import Path

from agent.audit import Entry
from agent.model import Evaluation, Event, Finding, LogRecord, PolicyResult, Resource
from agent.sinks.audit.directory import AuditDirectory, load_private_key

FOUND = Finding(
    kind="pii", entity="EMAIL_ADDRESS", detector="pii", score=0.9, field="log.text", end=17, fingerprint="f" * 32
)
FAILED = PolicyResult(policy="pii-in-logs", rule="r", status="fail", message="m" * 60, severity="high")
EVENT = Event(
    id="e" * 32, source="cri", body=LogRecord(text="x"), resource=Resource(namespace="n", pod="p", container="c")
)
ENTRY = Entry(
    kind="evaluation",
    time="2026-11-23T10:00:00.000000Z",
    evaluation=Evaluation(event=EVENT, findings=(FOUND,), results=(FAILED,), policy_digest="d" * 64),
)
COUNTS = {"checkpoint": 20_000, "always": 400}


def rate(directory: Path, fsync: str) -> float:
    log = AuditDirectory(
        directory / fsync, "o", load_private_key(directory / "key"), segment_bytes=1 << 26, fsync=fsync
    )
    log.open()
    count = COUNTS[fsync]
    batch = 64 if fsync == "checkpoint" else 1
    start = time.monotonic()
    for number in range(0, count, batch):
        log.append([ENTRY] * batch)
        if number % 1024 == 0:
            log.checkpoint()
    seconds = time.monotonic() - start
    log.close()
    return count / seconds


with tempfile.TemporaryDirectory() as name:
    fast, slow = rate(Path(name), "checkpoint"), rate(Path(name), "always")
print(f"{fast:9.0f} records/s, {fast / slow:6.1f} x the rate with an fsync for each record ({slow:.0f} records/s)")
