"""agent.app.occupancy: one agent for each state directory."""

import asyncio
import subprocess
import sys

import pytest

from agent.app.occupancy import Occupancy, Occupied

# Holds the lock until its input ends.
HOLDER = """
import asyncio, sys
from pathlib import Path
from agent.app.occupancy import Occupancy
held = Occupancy(Path(sys.argv[1]))
assert asyncio.run(held.take(0, asyncio.Event()))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


async def test_a_second_agent_is_refused_with_the_place_and_the_remedy(tmp_path, holder):
    with pytest.raises(Occupied, match=r"still runs with this state directory.*state_dir") as told:
        await Occupancy(tmp_path).take(0.2, asyncio.Event())
    assert str(told.value).startswith(f"{tmp_path}: ")


async def test_the_successor_of_one_that_is_killed_goes_on(tmp_path, holder):
    taking = asyncio.create_task(Occupancy(tmp_path).take(30, asyncio.Event()))
    await asyncio.sleep(0.3)
    assert not taking.done()
    holder.kill()
    assert await taking


async def test_who_waits_can_be_stopped(tmp_path, holder):
    stop = asyncio.Event()
    taking = asyncio.create_task(Occupancy(tmp_path).take(30, stop))
    await asyncio.sleep(0.2)
    stop.set()
    assert not await taking


async def test_what_is_released_is_free(tmp_path):
    first = Occupancy(tmp_path)
    assert await first.take(0, asyncio.Event())
    first.release()
    second = Occupancy(tmp_path)
    assert await second.take(0, asyncio.Event())
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    second.release()
