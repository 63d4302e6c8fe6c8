"""agent.app.workers and agent.engine.courier: engines in processes, in order, and what becomes of events when one dies."""

import asyncio
import os
import pickle
import signal

import pytest

from agent.app import workers
from agent.app.loading import load_detectors, make_engine
from agent.app.running import settings_from, surroundings_of
from agent.app.workers import Recipe, WorkerPool, processors_given
from agent.engine.courier import packed, unpacked
from agent.model import Event, LogRecord, Resource, Sensitive

PLANTED = "jane.roe@example.com"


def recipe(rules, policies, **settings):
    made = settings_from(rules=(rules,), policies=(policies,), **settings)
    return Recipe(made, surroundings_of(made), b"k" * 32, "")


def event(number, pod="a", text="mail " + PLANTED):
    return Event(
        id=str(number), source="x", body=LogRecord(text=Sensitive(text)), resource=Resource(namespace="n", pod=pod)
    )


@pytest.fixture
async def pool(rules, policies):
    made = WorkerPool(2, recipe(rules, policies))
    await made.start()
    yield made
    await made.close()
    assert not [pid for pid in made.pids if pid and os.path.exists(f"/proc/{pid}") and not _is_zombie(pid)]


def _is_zombie(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_sensitive_text_travels_only_by_courier():
    with pytest.raises(TypeError):
        pickle.dumps(event(1))
    assert unpacked(packed(event(1))) == event(1)


async def test_answers_come_in_order_masked_and_counted(pool):
    items = [(event(number, f"pod-{number % 7}"), True) for number in range(60)]
    batches = await asyncio.gather(*(pool.evaluate_batch(items[at : at + 20]) for at in (0, 20, 40)))
    answers = [answer for batch in batches for answer in batch]
    assert [answer.event.id for answer, _ in answers] == [str(number) for number in range(60)]
    assert {finding.entity for answer, _ in answers for finding in answer.findings} == {"EMAIL_ADDRESS"}
    assert PLANTED not in repr(answers)
    assert all(seconds >= 0 for _, seconds in answers)
    hits, misses, _ = pool.cache
    assert misses >= 2
    assert hits + misses >= 60


async def test_a_worker_is_chosen_by_pod(pool):
    chosen = {pod: pool._worker_of(event(1, pod)) for pod in map(str, range(40))}
    assert set(chosen.values()) == {0, 1}
    assert all(pool._worker_of(event(2, pod)) == number for pod, number in chosen.items())


async def test_a_killed_worker_loses_nothing(pool):
    warm = await pool.evaluate_batch([(event(0), True)])
    assert warm[0][0].event.id == "0"
    items = [(event(number, f"pod-{number % 5}", f"n {number} {PLANTED} " * 200), True) for number in range(200)]
    working = asyncio.create_task(pool.evaluate_batch(items))
    await asyncio.sleep(0.05)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    answers = await asyncio.wait_for(working, 60)
    assert [answer.event.id for answer, _ in answers] == [str(number) for number in range(200)]
    assert pool.deaths == 2


async def killed_at_work(made):
    """A pool whose one worker died over an event and is being started again, and the answer to come."""
    pool = WorkerPool(1, made)
    await pool.start()
    os.kill(pool.pids[0], signal.SIGSTOP)
    waiting = asyncio.create_task(pool.evaluate_batch([(event(1), True)]))
    await asyncio.sleep(0.1)
    os.kill(pool.pids[0], signal.SIGKILL)
    await asyncio.sleep(0.2)
    return pool, waiting


async def test_what_is_given_while_a_worker_is_started_again_is_answered_in_order(rules, policies):
    pool, first = await killed_at_work(recipe(rules, policies))
    second = asyncio.create_task(pool.evaluate_batch([(event(2), True), (event(3), True)]))
    try:
        answers = await asyncio.wait_for(asyncio.gather(first, second), 60)
    finally:
        await pool.close()
    assert [[answer.event.id for answer, _ in batch] for batch in answers] == [["1"], ["2", "3"]]


async def test_closing_while_a_worker_is_started_again_answers_what_waits(rules, policies):
    pool, waiting = await killed_at_work(recipe(rules, policies))
    await pool.close()
    assert await asyncio.wait_for(waiting, 10) == [("WorkerDied", 0.0)]


async def test_broken_rules_on_disk_leave_the_agents_own_engine_in_force(tmp_path, policies, capfd):
    rule = tmp_path / "pii" / "own.yaml"
    rule.parent.mkdir()
    rule.write_text(
        "recognizers:\n  - {name: own, supported_entity: OWN, patterns: [{name: p, regex: 'QX', score: 0.9}]}\n"
    )
    made = recipe(tmp_path, policies)
    detectors = load_detectors(made.settings, made.surroundings)
    engine = make_engine(made.settings, detectors, None, made.key)
    pool = WorkerPool(1, made, lambda: engine)
    await pool.start()
    try:
        rule.write_text("recognizers: [oops\n")
        pool.reload()
        kept = await pool.evaluate_batch([(event(1, text="QX"), True)])
        os.kill(pool.pids[0], signal.SIGKILL)
        await asyncio.sleep(0.2)
        after = await asyncio.wait_for(pool.evaluate_batch([(event(2, text="QX"), True)]), 60)
    finally:
        await pool.close()
    assert [one.entity for one in kept[0][0].findings] == [one.entity for one in after[0][0].findings] == ["OWN"]
    out, err = capfd.readouterr()
    assert "Files on disk are broken" not in out
    assert "Traceback" not in err


POISON = """
import os
from agent.engine.evaluate import Engine
original = Engine.evaluate
def evaluate(self, event, **options):
    if event.id == "7":
        os._exit(3)
    return original(self, event, **options)
Engine.evaluate = evaluate
"""


async def test_an_event_that_kills_every_worker_is_answered_and_the_rest_evaluated(
    tmp_path, rules, policies, monkeypatch
):
    (tmp_path / "sitecustomize.py").write_text(POISON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(workers, "_RESTART_SECONDS", 0.01)
    pool = WorkerPool(1, recipe(rules, policies))
    await pool.start()
    try:
        items = [(event(number), True) for number in range(10)]
        first, second = await asyncio.wait_for(
            asyncio.gather(pool.evaluate_batch(items), pool.evaluate_batch([(event(99), True)])), 60
        )
    finally:
        await pool.close()
    assert first[7] == ("WorkerDied", 0.0)
    assert [answer.event.id for place, (answer, _) in enumerate(first) if place != 7] == [
        str(number) for number in range(10) if number != 7
    ]
    assert second[0][0].event.id == "99"
    assert pool.deaths == 3  # with the others, then twice on its own


async def test_a_worker_that_hangs_is_replaced(pool, monkeypatch):
    await pool.evaluate_batch([(event(0), True)])
    monkeypatch.setattr(workers, "STUCK_SECONDS", 0.3)
    for pid in pool.pids:
        os.kill(pid, signal.SIGSTOP)
    answers = await asyncio.wait_for(pool.evaluate_batch([(event(1), True)]), 60)
    assert answers[0][0].event.id == "1"
    assert pool.deaths >= 1


async def test_a_reload_reaches_the_workers(tmp_path, rules, policies):
    own = tmp_path / "rules"
    (own / "pii").mkdir(parents=True)
    rule = own / "pii" / "own.yaml"
    text = "recognizers:\n  - {name: own, supported_entity: OWN_ID, patterns: [{name: p, regex: 'QX-\\d{4}', score: 0.9}]}\n"
    rule.write_text(text)
    pool = WorkerPool(2, recipe(own, policies))
    await pool.start()
    try:
        before = await pool.evaluate_batch([(event(1, text="QX-1234 and ZY-1234"), True)])
        rule.write_text(text.replace("QX", "ZY"))
        pool.reload()
        after = await pool.evaluate_batch([(event(2, text="QX-1234 and ZY-1234"), True)])
    finally:
        await pool.close()
    assert [(one.start, one.entity) for one in before[0][0].findings] == [(0, "OWN_ID")]
    assert [(one.start, one.entity) for one in after[0][0].findings] == [(12, "OWN_ID")]


def test_processors_are_whole_and_at_least_one():
    assert 1 <= processors_given() <= os.cpu_count()
