"""agent.app.liveness: alive while the loop turns and events end."""

import asyncio

from agent.app.liveness import LOOP_SECONDS, STUCK_SECONDS, Pulse
from agent.model import Outcome
from agent.pipeline import Ledger


class Clock:
    now = 5.0

    def __call__(self):
        return self.now


def test_a_loop_that_does_not_turn_is_no_life():
    clock = Clock()
    pulse = Pulse(Ledger(), clock)
    pulse.beat()
    clock.now += LOOP_SECONDS - 1
    assert pulse.beats() == (True, {"alive": True, "problems": []})
    clock.now += 2
    assert pulse.beats()[0] is False
    pulse.beat()
    assert pulse.beats()[0] is True


def test_events_that_never_end_are_no_life_and_quiet_is():
    clock, ledger = Clock(), Ledger()
    pulse = Pulse(ledger, clock)
    for _ in range(3):
        clock.now += STUCK_SECONDS
        pulse.beat()
        assert pulse.beats()[0] is True  # nothing in flight
    ledger.admit("s", 2)
    pulse.beat()
    clock.now += STUCK_SECONDS + 1
    pulse.beat()
    is_alive, detail = pulse.beats()
    assert not is_alive
    assert "none has ended for 601 s" in detail["problems"][0]
    ledger.settle("s", Outcome.DELIVERED, 1)
    pulse.beat()
    assert pulse.beats()[0] is True


async def test_it_beats():
    clock = Clock()
    pulse = Pulse(Ledger(), clock)
    clock.now += LOOP_SECONDS + 1
    beating = asyncio.create_task(pulse.run())
    await asyncio.sleep(0.05)
    assert pulse.beats()[0] is True
    beating.cancel()
