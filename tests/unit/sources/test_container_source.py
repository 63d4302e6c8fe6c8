"""agent.sources.containerlogs.source, .tail, .store, .config: rotation, compression, restarts, checkpoints."""

import asyncio
import gzip
import os
import shutil
from contextlib import closing

import pytest

from agent.model import Outcome
from agent.plugins import Surroundings
from agent.sources.containerlogs import SPEC
from agent.sources.containerlogs.config import ContainerLogsConfig
from agent.sources.containerlogs.source import ContainerLogsSource
from agent.sources.containerlogs.store import CheckpointStore, Position, StoreUnavailable, head_of
from agent.sources.containerlogs.tail import ContainerTail, Turn
from agent.testing import MemoryOutput

POD = "llm-prod_bot-0_2f6d8f0e-1c55-4d1e-9a53-0a1b2c3d4e5f"


def line(number, text=None, tag="F"):
    return f"2026-11-23T10:00:{number // 1000 % 60:02}.{number:09}Z stdout {tag} {text or f'line {number}'}\n".encode()


class Container:
    """A container's log directory, written and rotated as the kubelet does."""

    def __init__(self, root):
        self.root = root / "pods"
        self.directory = self.root / POD / "app"
        self.directory.mkdir(parents=True)
        self.live = self.directory / "0.log"

    def write(self, *numbers, tag="F"):
        with self.live.open("ab") as file:
            for number in numbers:
                file.write(line(number, tag=tag))

    def rotate(self, stamp):
        rotated = self.directory / f"0.log.{stamp}"
        self.live.rename(rotated)
        return rotated

    def compress(self, rotated):
        temporary = rotated.with_name(rotated.name + ".tmp")
        with gzip.open(temporary, "wb") as file:
            file.write(rotated.read_bytes())
        temporary.rename(rotated.with_name(rotated.name + ".gz"))
        rotated.unlink()


@pytest.fixture
def container(tmp_path):
    return Container(tmp_path)


def make(container, tmp_path, **config):
    settings = ContainerLogsConfig(
        paths=(container.root,), **{"group_seconds": 0.1, "partial_seconds": 0.3, "read_bytes": 4096, **config}
    )
    return ContainerLogsSource(settings, "containerlogs", Surroundings(node="n", state_dir=tmp_path, rules=()))


class Running:
    """A source that runs while a test acts."""

    def __init__(self, source, out=None):
        self.source = source
        self.out = out or MemoryOutput()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.source.run(self.out))
        return self

    async def __aexit__(self, *_):
        await self.source.stop()
        await asyncio.wait_for(self.task, 20)

    async def until(self, count):
        for _ in range(1000):
            if len(self.out.acknowledged) >= count or self.task.done():
                break
            await asyncio.sleep(0.01)
        return self.texts

    @property
    def texts(self):
        return [event.body.text.reveal() for event in self.out.events]


def lines(*numbers):
    return [f"line {number}" for number in numbers]


async def test_what_is_there_and_what_comes_is_read(container, tmp_path):
    container.write(1, 2)
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(2) == lines(1, 2)
        container.write(3)
        assert await run.until(3) == lines(1, 2, 3)
        resource = run.out.events[0].resource
        assert (resource.namespace, resource.pod, resource.container) == ("llm-prod", "bot-0", "app")


async def test_a_new_container_is_noticed(container, tmp_path):
    async with Running(make(container, tmp_path)) as run:
        other = container.root / "ns_late-0_uid" / "app"
        other.mkdir(parents=True)
        (other / "0.log").write_bytes(line(7))
        assert await run.until(1) == lines(7)


async def test_a_record_that_straddles_a_rotation_is_put_together(container, tmp_path):
    async with Running(make(container, tmp_path)) as run:
        with container.live.open("ab") as file:
            file.write(line(1, "card 4111 11", tag="P"))
        await asyncio.sleep(0.15)
        container.rotate("20261123-100000")
        with container.live.open("ab") as file:
            file.write(line(2, "11 1111 1111"))
        assert await run.until(1) == ["card 4111 1111 1111 1111"]


async def test_rotations_while_running_lose_and_repeat_nothing(container, tmp_path):
    async with Running(make(container, tmp_path)) as run:
        number = 0
        for turn in range(5):
            for _ in range(60):
                container.write(number)
                number += 1
            rotated = container.rotate(f"20261123-10000{turn}")
            container.write(number)
            number += 1
            await asyncio.sleep(0.05)
            if turn % 2:
                await run.until(number - 1)
                container.compress(rotated)
        assert await run.until(number) == lines(*range(number))


async def test_rotated_and_compressed_files_are_backfilled_in_order(container, tmp_path):
    container.write(1, 2)
    container.compress(container.rotate("20261123-090000"))
    container.write(3, 4)
    container.rotate("20261123-100000")
    container.write(5)
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(5) == lines(1, 2, 3, 4, 5)


async def test_starting_at_the_end_reads_only_what_is_new(container, tmp_path):
    container.write(1, 2)
    async with Running(make(container, tmp_path, start_at="end")) as run:
        await asyncio.sleep(0.4)
        container.write(3)
        assert await run.until(1) == lines(3)


async def test_a_restart_goes_on_where_it_was_acknowledged(container, tmp_path):
    container.write(1, 2)
    async with Running(make(container, tmp_path)) as run:
        await run.until(2)
    container.write(3)
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(1) == lines(3)


async def test_a_restart_after_rotation_and_compression_goes_on_too(container, tmp_path):
    container.write(1, 2)
    async with Running(make(container, tmp_path)) as run:
        await run.until(2)
    container.write(3)
    container.compress(container.rotate("20261123-100000"))
    container.write(4)
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(2) == lines(3, 4)


async def test_what_waited_for_more_is_read_again_after_a_restart(container, tmp_path):
    container.write(1)
    with container.live.open("ab") as file:
        file.write(line(2, "first half ", tag="P"))
    async with Running(make(container, tmp_path, partial_seconds=60)) as run:
        await run.until(1)
    with container.live.open("ab") as file:
        file.write(line(3, "second half"))
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(1) == ["first half second half"]


async def test_a_partial_without_an_end_is_given_up_and_marked(container, tmp_path):
    with container.live.open("ab") as file:
        file.write(line(1, "cut off", tag="P"))
    async with Running(make(container, tmp_path)) as run:
        assert await run.until(1) == ["cut off"]
        assert run.out.events[0].body.is_truncated


async def test_what_errored_is_sent_again_and_not_checkpointed(container, tmp_path):
    container.write(1, 2)
    out = MemoryOutput(lambda number: Outcome.ERRORED if number == 0 else Outcome.DELIVERED)
    async with Running(make(container, tmp_path), out) as run:
        await run.until(2)
        assert {event.body.text.reveal() for event in out.acknowledged} == set(lines(1, 2))
    first, second = out.batches[0][0].id, [event.id for event in out.acknowledged][0]
    assert first == second


async def test_another_run_of_the_container_begins_anew(container, tmp_path):
    with container.live.open("ab") as file:
        file.write(line(1, "killed in the middle ", tag="P"))
    async with Running(make(container, tmp_path, partial_seconds=60)) as run:
        await asyncio.sleep(0.3)
        (container.directory / "1.log").write_bytes(line(2))
        texts = await run.until(2)
        assert texts == ["killed in the middle ", "line 2"]
        assert [event.resource.restart for event in run.out.events] == [0, 1]


async def test_namespaces_and_own_pods_can_be_left_out(container, tmp_path):
    container.write(1)
    for name in ("kube-system_dns_u", "x_reeve-abc_u"):
        directory = container.root / name / "app"
        directory.mkdir(parents=True)
        (directory / "0.log").write_bytes(line(9))
    async with Running(make(container, tmp_path, exclude_namespaces=("kube-*",), exclude_pods=("reeve-*",))) as run:
        await run.until(1)
        await asyncio.sleep(0.2)
        assert run.texts == lines(1)


async def test_a_busy_stream_does_not_hold_a_quiet_one_back(container, tmp_path):
    async with Running(make(container, tmp_path, partial_seconds=60)) as run:
        with container.live.open("ab") as file:
            file.write(line(0).replace(b"stdout F line 0", b"stderr F alone"))
        for number in range(1, 60):
            container.write(number)
            await asyncio.sleep(0.02)
            if "alone" in run.texts:
                break
        assert "alone" in run.texts
        assert number < 59


async def test_new_containers_are_read_from_their_beginning_also_when_starting_at_the_end(container, tmp_path):
    container.write(1)
    async with Running(make(container, tmp_path, start_at="end")) as run:
        await asyncio.sleep(0.3)
        other = container.root / "ns_late-0_uid" / "app"
        other.mkdir(parents=True)
        (other / "0.log").write_bytes(line(7))
        assert await run.until(1) == lines(7)


async def test_a_removed_pod_is_let_go(container, tmp_path):
    container.write(1)
    source = make(container, tmp_path)
    async with Running(source) as run:
        await run.until(1)
        container.live.unlink()
        for _ in range(300):
            if not source._tails:
                break
            await asyncio.sleep(0.02)
        assert not source._tails


async def test_a_checkpoint_that_cannot_be_kept_is_tried_again(container, tmp_path, monkeypatch):
    container.write(1)
    commit, failures = CheckpointStore.commit, []

    def full(self, name, positions):
        if len(failures) < 2:
            failures.append(name)
            raise StoreUnavailable("database or disk is full")
        commit(self, name, positions)

    monkeypatch.setattr(CheckpointStore, "commit", full)
    monkeypatch.setattr("agent.sources.containerlogs.source._RETRY_FIRST_SECONDS", 0.05)
    async with Running(make(container, tmp_path)) as run:
        await run.until(3)
        assert set(run.texts) == {"line 1"}
        container.write(2)
        for _ in range(200):
            if "line 2" in run.texts:
                break
            await asyncio.sleep(0.02)
    assert len(failures) == 2


async def test_docker_files_with_equal_first_messages_are_told_apart(tmp_path):
    directory = tmp_path / "pods" / ("ab" * 32)
    directory.mkdir(parents=True)
    live = directory / f"{'ab' * 32}-json.log"

    def docker(number):
        text = "start " + "x" * 400 if number % 10 == 0 else f"line {number}"
        return f'{{"log":"{text}\\n","stream":"stdout","time":"2026-01-15T10:00:00.{number:09}Z"}}\n'.encode()

    live.write_bytes(b"".join(docker(number) for number in range(5)))
    config = ContainerLogsConfig(paths=(tmp_path / "pods",), group_seconds=0.05)
    source = ContainerLogsSource(config, "c", Surroundings(node="n", state_dir=tmp_path, rules=()))
    async with Running(source) as run:
        await run.until(5)
        live.rename(live.with_name(live.name + ".1"))
        live.write_bytes(b"".join(docker(number) for number in range(10, 15)))
        texts = await run.until(10)
        assert texts[-4:] == [f"line {number}" for number in range(11, 15)]
        assert len(texts) == 10


def test_a_damaged_store_is_told_as_unavailable(tmp_path):
    with closing(CheckpointStore(tmp_path / "c.sqlite")) as store:
        store._database.execute("DROP TABLE positions")
        with pytest.raises(StoreUnavailable, match="no such table"):
            store.positions("a")


def test_positions_of_gone_files_are_forgotten(container):
    known = [Position(size, head_of(bytes(size)), 10) for size in range(10, 40)]
    container.write(1)
    with closing(ContainerTail(container.directory, "n", known)) as tail:
        turn = tail.read(10_000)
        tail.acknowledged(turn.position, tail.positions(turn.position))
        assert tail.known_count >= 30
        tail.known_now()
        assert tail.known_count <= 1


def test_the_directory_of_links_is_refused():
    with pytest.raises(ValueError, match="watch /var/log/pods instead"):
        ContainerLogsConfig(paths=("/var/log/containers",))


async def test_lines_that_are_none_are_counted(container, tmp_path):
    container.live.write_bytes(b"garbage\n" + line(1))
    async with Running(make(container, tmp_path)) as run:
        await run.until(1)
    assert dict(run.out.decode_errors) == {"not_cri": 1}
    assert run.out.lines_read == 2


async def test_quiet_containers_are_closed_and_found_again(tmp_path):
    root = tmp_path / "pods"
    logs = []
    for number in range(40):
        directory = root / f"ns_pod-{number}_uid-{number}" / "app"
        directory.mkdir(parents=True)
        logs.append(directory / "0.log")
        logs[-1].write_bytes(line(number))
    config = ContainerLogsConfig(paths=(root,), group_seconds=0.05, open_files=8)
    source = ContainerLogsSource(config, "c", Surroundings(node="n", state_dir=tmp_path, rules=()))
    async with Running(source) as run:
        await run.until(40)
        for turn in range(1, 4):
            for number, log in enumerate(logs):
                if turn == 2:
                    log.rename(log.with_name("0.log.20261123-100000"))
                with log.open("ab") as file:
                    file.write(line(1000 * turn + number))
            await run.until(40 * (turn + 1))
        await asyncio.sleep(0.3)
        assert len(source._tails) <= 8
        wanted = {f"line {1000 * turn + number}" for turn in range(4) for number in range(40)}
        assert sorted(run.texts) == sorted(wanted)


async def test_a_tail_that_is_opened_meanwhile_does_not_disturb_the_search_for_a_quiet_one(tmp_path):
    config = ContainerLogsConfig(paths=(tmp_path,)).model_copy(update={"open_files": 1})
    source = ContainerLogsSource(config, "c", Surroundings(node="n", state_dir=tmp_path, rules=()))

    class Tail:
        def __init__(self, opens=None):
            self.opens = opens

        @property
        def is_waiting(self):
            if self.opens:
                source._tails[self.opens] = Tail()  # as the reading thread does
            return bool(self.opens)

        def close(self):
            """Nothing is open."""

    source._tails[tmp_path / "a"] = Tail(opens=tmp_path / "b")
    source._tails[tmp_path / "c"] = Tail()
    assert source._has_place(tmp_path / "d")
    assert set(source._tails) == {tmp_path / "a", tmp_path / "b"}


async def test_thousands_of_containers_share_one_watcher(tmp_path):
    root = tmp_path / "pods"
    for number in range(2000):
        directory = root / f"ns_pod-{number}_uid-{number}" / "app"
        directory.mkdir(parents=True)
        (directory / "0.log").write_bytes(line(number))
    config = ContainerLogsConfig(paths=(root,), group_seconds=0.1)
    source = ContainerLogsSource(config, "c", Surroundings(node="n", state_dir=tmp_path, rules=()))
    async with Running(source) as run:
        for _ in range(3000):
            if len(run.out.acknowledged) >= 2000:
                break
            await asyncio.sleep(0.01)
        assert len(run.out.acknowledged) == 2000
        with open("/proc/self/status") as status:
            threads = next(int(row.split()[1]) for row in status if row.startswith("Threads"))
        assert threads < 40
        assert len(os.listdir("/proc/self/fd")) < 800
        with (root / "ns_pod-7_uid-7" / "app" / "0.log").open("ab") as file:
            file.write(line(5000))
        await run.until(2001)
        assert run.texts[-1] == "line 5000"


def test_a_file_cut_in_place_is_read_from_its_beginning(container):
    container.write(1, 2, 3)
    with closing(ContainerTail(container.directory, "n", [])) as tail:
        assert len(tail.read(10_000).events) == 2
        os.truncate(container.live, 0)
        container.write(4)
        assert tail.read(10_000).lines == 1


def late(tail):
    turn = Turn()
    tail.add_late(turn, 0.0, 0.0)
    return turn


def test_an_endless_line_is_skipped_and_counted(container, monkeypatch):
    monkeypatch.setattr("agent.sources.containerlogs.tail._LINE_LIMIT", 1000)
    container.live.write_bytes(b"x" * 5000 + b"\n" + line(1))
    with closing(ContainerTail(container.directory, "n", [])) as tail:
        turns = [tail.read(512) for _ in range(20)]
        assert sum(turn.errors["line_too_long"] for turn in turns) == 1
        assert [event.body.text.reveal() for event in late(tail).events] == lines(1)


def test_a_directory_that_went_away_is_empty(container):
    with closing(ContainerTail(container.directory, "n", [])) as tail:
        shutil.rmtree(container.directory)
        assert tail.read(100).events == []


def test_checkpoints_are_kept_and_forgotten(tmp_path):
    store = CheckpointStore(tmp_path / "c.sqlite")
    one = Position(4, head_of(b"abcd"), 10, "0.log")
    store.commit("a", [one])
    store.commit("a", [Position(4, head_of(b"abcd"), 20, "0.log.1")])
    store.commit("b", [one])
    store.close()
    with closing(CheckpointStore(tmp_path / "c.sqlite")) as store:
        assert [(position.offset, position.name) for position in store.positions("a")] == [(20, "0.log.1")]
        store.forget("b", keep=())
        assert store.containers() == ["a"]


def test_the_plugin_builds_a_source(tmp_path):
    config = SPEC.config.model_validate({"paths": [str(tmp_path)]})
    assert SPEC.build(config, "mine", Surroundings(node="n", state_dir=tmp_path, rules=())).name == "mine"
