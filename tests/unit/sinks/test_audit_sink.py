"""agent.sinks.audit: .config, .directory, .sink; rotation, crash recovery, full disks."""

import errno
import json
import os

import pytest

from agent.audit import Entry, verify
from agent.model import Finding, PolicyResult
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.audit import SPEC
from agent.sinks.audit.config import AuditConfig
from agent.sinks.audit.directory import (
    AuditDirectory,
    AuditDirectoryError,
    lines_of,
    load_private_key,
    load_public_key,
    notes_of,
    segments_of,
)
from agent.sinks.audit.sink import AuditSink
from agent.testing import evaluation_of, log_event


def entries(count, start=0):
    return [Entry(kind="heartbeat", time="t", facts={"n": str(number)}) for number in range(start, start + count)]


@pytest.fixture
def key(tmp_path):
    return load_private_key(tmp_path / "keys" / "audit.pem")


def opened(directory, key, **settings):
    log = AuditDirectory(directory, "origin", key, **{"segment_bytes": 1_000_000, "fsync": "never", **settings})
    log.open()
    return log


def fault_of(directory):
    return verify(lines_of(directory), notes_of(directory), load_public_key(directory / "public.key")).fault


def numbers(directory):
    return [json.loads(line.content).get("facts", {}).get("n") for line in lines_of(directory)]


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "audit.pem"
    first = load_private_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_private_key(path).sign(b"x") == first.sign(b"x")


def test_a_public_key_that_is_none_is_told(tmp_path):
    (tmp_path / "public.key").write_text("nonsense")
    with pytest.raises(AuditDirectoryError, match="holds no public key"):
        load_public_key(tmp_path / "public.key")


def test_segments_rotate_and_the_log_stays_whole(tmp_path, key):
    log = opened(tmp_path / "a", key, segment_bytes=4096)
    for start in range(0, 200, 10):
        log.append(entries(10, start))
    log.checkpoint()
    log.close()
    assert len(segments_of(tmp_path / "a")) > 3
    assert fault_of(tmp_path / "a") is None
    assert numbers(tmp_path / "a") == [str(number) for number in range(200)]


def test_a_log_goes_on_after_a_restart(tmp_path, key):
    for start in (0, 5):
        log = opened(tmp_path / "a", key)
        log.append(entries(5, start))
        log.checkpoint()
        log.close()
    assert log.size == 10
    assert fault_of(tmp_path / "a") is None


def test_a_torn_last_line_is_cut_off_and_said(tmp_path, key):
    log = opened(tmp_path / "a", key)
    log.append(entries(3))
    log.close()
    with segments_of(tmp_path / "a")[0].open("ab") as file:
        file.write(b'{"number":4,"prev')
    log = opened(tmp_path / "a", key)
    assert log.recovered == "a torn last line of 17 bytes was cut off"
    log.append(entries(1, 3))
    log.close()
    assert numbers(tmp_path / "a") == ["0", "1", "2", "3"]
    assert fault_of(tmp_path / "a") is None


@pytest.mark.parametrize("damage", ["cut", "change", "gone"])
def test_a_log_that_does_not_fit_its_checkpoint_is_set_aside(tmp_path, key, damage):
    log = opened(tmp_path / "a", key)
    log.append(entries(5))
    log.checkpoint()
    log.close()
    segment = segments_of(tmp_path / "a")[0]
    content = segment.read_bytes()
    if damage == "cut":
        segment.write_bytes(b"".join(content.splitlines(keepends=True)[:3]))
    elif damage == "change":
        segment.write_bytes(content.replace(b'"n":"2"', b'"n":"9"'))
    else:
        segment.unlink()
    log = opened(tmp_path / "a", key)
    assert "set aside as damaged-001" in log.recovered
    log.append(entries(1))
    log.checkpoint()
    log.close()
    assert fault_of(tmp_path / "a") is None
    assert (tmp_path / "a" / "damaged-001" / "checkpoints.jsonl").exists()


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, key, monkeypatch):
    log = opened(tmp_path / "a", key)
    log.append(entries(2))
    real_write = os.write

    def full(descriptor, data):
        real_write(descriptor, bytes(data)[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.append(entries(2, 2))
    monkeypatch.setattr(os, "write", real_write)
    log.append(entries(2, 2))
    log.checkpoint()
    log.close()
    assert numbers(tmp_path / "a") == ["0", "1", "2", "3"]
    assert fault_of(tmp_path / "a") is None


def sink(tmp_path, **config):
    return AuditSink(AuditConfig(**config), "audit", Surroundings(node="node-1", state_dir=tmp_path, rules=()))


FAILED = PolicyResult(policy="p", rule="r", status="fail")
PASSED = PolicyResult(policy="p", rule="r", status="pass")
FOUND = Finding(kind="pii", entity="X", detector="d", score=1.0, fingerprint="f")


def kinds(tmp_path):
    return [json.loads(line.content)["kind"] for line in lines_of(tmp_path / "audit")]


@pytest.mark.parametrize(("record", "count"), [("violations", 1), ("notable", 2), ("all", 3)])
async def test_what_is_recorded_can_be_chosen(tmp_path, record, count):
    audit = sink(tmp_path, record=record)
    await audit.open()
    event = log_event("x")
    batch = [evaluation_of(event, FAILED), evaluation_of(event, PASSED, findings=[FOUND]), evaluation_of(event, PASSED)]
    await audit.write(batch)
    await audit.close()
    assert kinds(tmp_path) == ["start", "reload", *["evaluation"] * count, "stop"]
    assert fault_of(tmp_path / "audit") is None


async def test_records_name_policy_set_event_and_findings_but_no_text(tmp_path):
    audit = sink(tmp_path)
    await audit.open()
    await audit.write([evaluation_of(log_event("jane"), FAILED, findings=[FOUND])])
    await audit.close()
    record = next(json.loads(line.content) for line in lines_of(tmp_path / "audit") if b"evaluation" in line.content)
    assert record["policy_digest"] == "0" * 64
    assert record["findings"][0]["fingerprint"] == "f"
    assert "text" not in json.dumps(record)


async def test_a_checkpoint_comes_after_so_many_records_and_a_heartbeat_when_nothing_comes(tmp_path):
    import asyncio

    audit = sink(tmp_path, checkpoint_records=3, checkpoint_seconds=0.1, heartbeat_seconds=0.1)
    await audit.open()
    await audit.write([evaluation_of(log_event("x"), FAILED)] * 5)
    assert len(notes_of(tmp_path / "audit")) == 2
    await asyncio.sleep(0.5)
    await audit.close()
    assert "heartbeat" in kinds(tmp_path)


async def test_a_full_disk_makes_the_sink_unavailable_not_broken(tmp_path, monkeypatch):
    audit = sink(tmp_path)
    await audit.open()

    def full(entries):
        raise OSError(errno.ENOSPC, "No space left on device")

    append = audit._log.append
    monkeypatch.setattr(audit._log, "append", full)
    with pytest.raises(SinkUnavailable, match="No space left"):
        await audit.write([evaluation_of(log_event("x"), FAILED)])
    monkeypatch.setattr(audit._log, "append", append)
    await audit.write([evaluation_of(log_event("x"), FAILED)])
    await audit.close()
    assert fault_of(tmp_path / "audit") is None


def test_the_plugin_builds_a_sink(tmp_path):
    built = SPEC.build(SPEC.config(), "audit", Surroundings(node="n", state_dir=tmp_path, rules=()))
    assert built.directory == tmp_path / "audit"


def test_a_torn_checkpoint_is_cut_off(tmp_path, key):
    log = opened(tmp_path / "a", key)
    log.append(entries(2))
    log.checkpoint()
    log.close()
    with (tmp_path / "a" / "checkpoints.jsonl").open("ab") as file:
        file.write(b'"reeve.dev/au')
    log = opened(tmp_path / "a", key)
    assert log.recovered == "a torn last checkpoint was cut off"
    log.close()
    assert fault_of(tmp_path / "a") is None


def test_garbage_after_the_newest_checkpoint_is_set_aside_not_continued(tmp_path, key):
    log = opened(tmp_path / "a", key)
    log.append(entries(2))
    log.checkpoint()
    log.close()
    with segments_of(tmp_path / "a")[0].open("ab") as file:
        file.write(b"\0" * 20 + b"\n")
    log = opened(tmp_path / "a", key)
    assert "does not follow the one before" in log.recovered
    log.append(entries(1))
    log.close()
    assert fault_of(tmp_path / "a") is None


def test_a_segment_that_cannot_be_opened_wedges_nothing_and_repeats_nothing(tmp_path, key, monkeypatch):
    log = opened(tmp_path / "a", key, segment_bytes=4096)
    log.append(entries(40))
    real_open = os.open

    def refuse(path, *rest, **more):
        if "audit-000002" in str(path):
            raise OSError(errno.EMFILE, "Too many open files")
        return real_open(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many"):
        log.append(entries(5, 40))
    monkeypatch.setattr(os, "open", real_open)
    log.append(entries(5, 40))
    log.checkpoint()
    log.close()
    assert numbers(tmp_path / "a") == [str(number) for number in range(45)]
    assert fault_of(tmp_path / "a") is None


async def test_a_checkpoint_that_cannot_be_written_repeats_no_record(tmp_path, monkeypatch):
    audit = sink(tmp_path, checkpoint_records=1)
    await audit.open()

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audit._log, "checkpoint", full)
        assert len(await audit.write([evaluation_of(log_event("x"), FAILED)])) == 1
    await audit.close()
    assert kinds(tmp_path).count("evaluation") == 1
    assert fault_of(tmp_path / "audit") is None
