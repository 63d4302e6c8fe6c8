"""agent.app.absence: the time nobody watched is told once for each stream, where it cannot be made up for."""

import asyncio
import json
import time

import pytest

from agent.app.absence import Absence
from agent.app.running import settings_from
from agent.pipeline import Ledger
from agent.testing.parts import MemoryOutput


def settings(tmp_path, sources):
    return settings_from(state_dir=tmp_path, node="n", sources=sources)


def stood(tmp_path, **ages):
    (tmp_path / "alive").write_text(json.dumps({name: time.time() - age for name, age in ages.items()}))


async def ran(absence, ledger, connects=(), after=0.0):
    out = MemoryOutput()
    running = asyncio.create_task(absence.run(out))
    await asyncio.sleep(after)
    for name in connects:
        ledger.source(name).is_connected = True
    await asyncio.sleep(0.5)
    await absence.stop()
    await running
    return out.events


async def one_run(tmp_path, sources, connects=(), after=0.0):
    ledger = Ledger()
    return await ran(Absence(settings(tmp_path, sources), ledger), ledger, connects, after)


async def test_a_gap_lasts_until_the_stream_stands(tmp_path):
    stood(tmp_path, ebpf=7.0, mine=95.5)
    events = await one_run(
        tmp_path, {"ebpf": {}, "mine": {"type": "hubble"}, "containerlogs": {}}, ["ebpf", "mine"], 0.6
    )
    told = {event.body.origin: event.body for event in events}
    assert set(told) == {"ebpf", "mine"}
    assert {body.reason for body in told.values()} == {"agent_was_away"}
    assert 7.6 <= told["ebpf"].gap_seconds < 9.6
    assert 96.0 <= told["mine"].gap_seconds < 98.1
    assert events[0].resource.node == "n"


async def test_a_gap_is_told_once(tmp_path):
    stood(tmp_path, ebpf=7.0)
    assert len(await one_run(tmp_path, {"ebpf": {}}, ["ebpf"])) == 1
    assert not await one_run(tmp_path, {"ebpf": {}}, ["ebpf"])


async def test_what_never_stands_stays_away_until_it_does(tmp_path):
    stood(tmp_path, ebpf=7.0)
    assert not await one_run(tmp_path, {"ebpf": {}})
    (event,) = await one_run(tmp_path, {"ebpf": {}}, ["ebpf"])
    assert event.body.gap_seconds > 7.4  # from before the run in between


@pytest.mark.parametrize("held", ["", "[]", "{", '{"ebpf": "soon"}', '{"ebpf": null}', "\x00" * 10])
async def test_a_first_start_or_a_broken_file_is_no_gap(tmp_path, held):
    if held:
        (tmp_path / "alive").write_text(held)
    assert not await one_run(tmp_path, {"ebpf": {}}, ["ebpf"])
    assert time.time() - json.loads((tmp_path / "alive").read_text())["ebpf"] < 2


def test_logs_are_read_again_and_replays_end(tmp_path):
    assert not Absence(settings(tmp_path, {"containerlogs": {}}), Ledger()).streams
    replay = {"tetragon": {"type": "replay", "kind": "tetragon", "path": "x"}}
    assert not Absence(settings(tmp_path, replay), Ledger()).streams
