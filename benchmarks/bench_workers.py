"""Events per second (wall time) with one scanning process, with two, and with two threads of one process."""

import asyncio
import threading
import time

from agent.app.loading import load_detectors, make_engine
from agent.app.running import settings_from, surroundings_of
from agent.app.workers import Recipe, WorkerPool
from agent.model import Event, LogRecord, Resource, Sensitive
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


def threaded(made: list[Event], recipe: Recipe) -> float:
    settings = recipe.settings
    engines = [make_engine(settings, load_detectors(settings, recipe.surroundings), None, KEY) for _ in range(2)]
    for engine in engines:
        for event in made[:400]:
            engine.evaluate(event)

    def work(number: int) -> None:
        for event in made[number::2]:
            engines[number].evaluate(event)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
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
    one = asyncio.run(pooled(1, made, recipe))
    two = asyncio.run(pooled(2, made, recipe))
    threads = threaded(made, recipe)
    print(f"events per second: one process {one:.0f} (baseline), two processes {two:.0f} ({two / one:.2f} x), ", end="")
    print(f"two threads {threads:.0f} ({threads / one:.2f} x)")


if __name__ == "__main__":
    main()
