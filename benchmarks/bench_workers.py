"""Events per second (wall time): one engine, two threads with an engine each, one and two worker processes."""

import asyncio
import threading
import time

from agent.app.reload import Ruleset
from agent.app.running import settings_from, surroundings_of
from agent.app.workers import Recipe, WorkerPool
from agent.model import Event, LogRecord, Resource, Sensitive
from agent.telemetry import Tally
from benchmarks import corpora

KEY = b"k" * 32
BATCH = 64


def events() -> list[Event]:
    return [
        Event(
            id=str(number),
            source="bench",
            body=LogRecord(text=Sensitive(line)),
            resource=Resource(namespace="n", pod=f"pod-{number % 20}"),
        )
        for number, line in enumerate(corpora.log_lines()[:12_000])
    ]


async def pooled(count: int, made: list[Event], recipe: Recipe) -> float:
    pool = WorkerPool(count, recipe)
    await pool.start()
    await pool.evaluate_batch([(event, True) for event in made[:400]])
    started = time.perf_counter()
    slots = asyncio.Semaphore(pool.parcels_at_once)

    async def one(at: int) -> None:
        async with slots:
            await pool.evaluate_batch([(event, True) for event in made[at : at + BATCH]])

    await asyncio.gather(*(one(at) for at in range(0, len(made), BATCH)))
    spent = time.perf_counter() - started
    await pool.close()
    return len(made) / spent


def here(count: int, made: list[Event], recipe: Recipe) -> float:
    """In this process, with as many threads and engines."""
    engines = [Ruleset(recipe.settings, recipe.surroundings, KEY, Tally(), recipe.file).engine for _ in range(count)]
    for engine in engines:
        for event in made[:400]:
            engine.evaluate(event)

    def work(number: int) -> None:
        for event in made[number::count]:
            engines[number].evaluate(event)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(made) / (time.perf_counter() - started)


def main() -> None:
    settings = settings_from(pipeline={"scan_cache_bytes": 0})
    recipe = Recipe(settings, surroundings_of(settings), KEY, "")
    made = events()
    one = here(1, made, recipe)
    threads = here(2, made, recipe)
    single = asyncio.run(pooled(1, made, recipe))
    two = asyncio.run(pooled(2, made, recipe))
    print(
        f"events per second, judged: one engine in this process {one:.0f} (baseline), two threads {threads:.0f} ",
        end="",
    )
    print(
        f"({threads / one:.2f} x), one worker {single:.0f} ({single / one:.2f} x), two workers {two:.0f} ({two / one:.2f} x)"
    )


if __name__ == "__main__":
    main()
