"""The contracts as checks: every source, sink and detector passes them, ours and foreign ones.

Each check raises AssertionError with what was broken.  They run a plug-in as the pipeline would, with an outside that
delivers, rejects, fails, dawdles and cancels.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from agent.engine import TextDetector
from agent.model import Direction, Evaluation, Outcome
from agent.pipeline import Sink, Source
from agent.testing.parts import MemoryOutput

# A plug-in that does not end in this time does not end.
_PATIENCE_SECONDS = 20.0

NASTY_TEXTS = (
    "",
    "\x00\x01\x02",
    "\ud800 lone surrogate",
    "a" * 70_000,
    "9" * 5_000,
    '{"a": ' * 400,
    "%" * 200 + "%zz%41",
    "\\u00" + "\\" * 99,
    "İ\u0130ß\ufb03 4111 1111 1111 1111",
    "👩‍👩‍👧 +49 30 901820 \u202e jane@example.com",
    "\n" * 1_000,
)


async def _run_until(source: Source, out: MemoryOutput, is_enough: Callable[[], bool]) -> None:
    """Run a source until enough has come, then stop it and wait for its end."""
    running = asyncio.create_task(source.run(out))
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while not is_enough() and not running.done():
        assert asyncio.get_running_loop().time() < deadline, f"{source.name} did not send what it has"
        await asyncio.sleep(0.01)
    await source.stop()
    await asyncio.wait_for(running, _PATIENCE_SECONDS)


async def check_source(make: Callable[[], Source], expected: int, *, reads_again: bool, seed: int = 7) -> None:
    """`make` gives a fresh source over the same input, which holds `expected` events.

    `reads_again` says whether it has a checkpoint: what ended as errored comes again.
    """
    chance = random.Random(seed)  # noqa: S311 - chosen outcomes, not a secret

    out = MemoryOutput()
    await _run_until(make(), out, lambda: len(out.acknowledged) >= expected)
    ids = [event.id for event in out.events]
    assert len(ids) == expected, f"{len(ids)} events came, {expected} were there"
    assert len(set(ids)) == len(ids), "an event came twice although all was delivered"

    kind = [Outcome.DELIVERED, Outcome.REJECTED, Outcome.DROPPED]
    out = MemoryOutput(lambda _: chance.choice(kind))
    await _run_until(make(), out, lambda: len(out.acknowledged) >= expected)
    assert {event.id for event in out.events} == set(ids), "rejections changed what a source sends"

    out = MemoryOutput(lambda number: Outcome.ERRORED if number < 3 else Outcome.DELIVERED)
    wanted = expected if reads_again else 0
    await _run_until(make(), out, lambda: len({event.id for event in out.acknowledged}) >= wanted > 0)
    assert {event.id for event in out.events} == set(ids), "errors made a source send other events"
    if reads_again:
        assert {event.id for event in out.acknowledged} == set(ids), "what ended as errored was not sent again"

    out = MemoryOutput(pause_seconds=0.02)
    await _run_until(make(), out, lambda: len(out.acknowledged) >= expected)
    assert {event.id for event in out.events} == set(ids), "a slow consumer lost events"

    out = MemoryOutput(pause_seconds=5.0)
    running = asyncio.create_task(make().run(out))
    while not out.batches and not running.done():  # noqa: ASYNC110 - the output is plain memory, without events
        await asyncio.sleep(0.01)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=_PATIENCE_SECONDS)
    assert done, "a cancelled source does not end"


async def check_sink(make: Callable[[], Sink], evaluations: Sequence[Evaluation]) -> None:
    """`make` gives a fresh sink each time, to the same or another place."""
    count = len(evaluations)

    sink = make()
    await sink.open()
    outcomes = await sink.write(evaluations)
    assert list(outcomes) == [Outcome.DELIVERED] * count, "a healthy sink delivers, one outcome for each evaluation"
    assert list(await sink.write([])) == [], "an empty batch has no outcomes"
    again = await sink.write(evaluations)
    assert len(again) == count, "the same evaluations may come again"
    await sink.close()

    sink = make()
    await sink.open()
    await asyncio.gather(*(sink.write([evaluation]) for evaluation in evaluations))
    await sink.close()

    sink = make()
    await sink.open()
    writing = asyncio.create_task(_write_forever(sink, evaluations))
    await asyncio.sleep(0.02)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await asyncio.wait_for(sink.close(), _PATIENCE_SECONDS)

    await asyncio.wait_for(make().close(), _PATIENCE_SECONDS)


async def _write_forever(sink: Sink, evaluations: Sequence[Evaluation]) -> None:
    while True:
        await sink.write(evaluations)
        await asyncio.sleep(0)


def check_detector(detector: TextDetector, texts: Sequence[str], directions: Sequence[Direction]) -> None:
    """Any text gets an answer, the same each time, with spans inside of it."""
    for direction in directions:
        for text in (*NASTY_TEXTS, *texts):
            scan = detector.scan(text, direction)
            for match in scan.matches:
                assert 0 <= match.start < match.end <= len(text), f"{match.entity} lies outside of its text"
                assert 0 <= match.score <= 1, f"{match.entity} has a score of {match.score}"
            again = detector.scan(text, direction)
            assert list(again.matches) == list(scan.matches), "the same text got another answer"
