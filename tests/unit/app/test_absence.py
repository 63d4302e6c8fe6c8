"""agent.app.absence: the time nobody watched is told once, where it cannot be made up for."""

import asyncio
import os
import time

import pytest

from agent.app.absence import Absence
from agent.app.running import settings_from
from agent.testing.parts import MemoryOutput


def settings(tmp_path, sources):
    return settings_from(state_dir=tmp_path, node="n", sources=sources)


async def ran(absence):
    out = MemoryOutput()
    running = asyncio.create_task(absence.run(out))
    await asyncio.sleep(0.1)
    await absence.stop()
    await running
    return out


@pytest.mark.parametrize("seconds", [95.5, 7.0])
async def test_a_gap_is_told_with_its_length(tmp_path, seconds):
    (tmp_path / "alive").touch()
    before = time.time() - seconds
    os.utime(tmp_path / "alive", (before, before))
    out = await ran(Absence(settings(tmp_path, {"ebpf": {}, "mine": {"type": "hubble"}, "containerlogs": {}})))
    (event,) = out.events
    assert (event.body.origin, event.body.reason) == ("ebpf, hubble", "agent_was_away")
    assert seconds <= event.body.gap_seconds < seconds + 2
    assert time.time() - (tmp_path / "alive").stat().st_mtime < 2
    assert not (await ran(Absence(settings(tmp_path, {"ebpf": {}})))).events


async def test_a_first_start_is_no_gap(tmp_path):
    assert not (await ran(Absence(settings(tmp_path, {"ebpf": {}})))).events
    assert (tmp_path / "alive").exists()


def test_logs_are_read_again_and_replays_end(tmp_path):
    assert not Absence(settings(tmp_path, {"containerlogs": {}})).streams
    assert not Absence(settings(tmp_path, {"tetragon": {"type": "replay", "kind": "tetragon", "path": "x"}})).streams
