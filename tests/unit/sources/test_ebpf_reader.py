"""agent.sources.ebpf.reader: the thread that empties the ring counts each record once and folds repetitions exactly."""

import contextlib
import os
import threading
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.ebpf.accounting import Accounting
from agent.sources.ebpf.layout import Kind
from agent.sources.ebpf.reader import Reader
from tests.unit.sources.ebpf_records import record_of


class Batches:
    """A ring that gives the batches it was made with."""

    size = 1024 * 1024

    def __init__(self, *batches, endless=None):
        self.batches = list(batches)
        self.endless = endless
        self.descriptor = os.eventfd(0)
        self.written = self.read = self.waiting = 0
        self.is_empty = threading.Event()

    def take(self, most_bytes=0):
        if self.batches:
            records = self.batches.pop(0)
        elif self.endless is not None:
            records = [self.endless]
            self.written += 100
        else:
            records = []
            self.is_empty.set()
        self.written = max(self.written, self.read + 100 * len(records))
        self.read += 100 * len(records)
        return records


@contextlib.contextmanager
def reading(ring, fold_seconds=0.0, hand_on=None, is_woken=False):
    items = []
    accounting = Accounting(lambda slot: [0])
    reader = Reader(
        ring,
        accounting,
        hand_on or (lambda new: items.extend(new) or len(new)),
        poll_seconds=0.001,
        fold_seconds=fold_seconds,
        is_realtime=False,
        is_woken=is_woken,
    )
    reader.items, reader.accounting = items, accounting
    try:
        yield reader
    finally:
        os.close(ring.descriptor)


def opened(path=b"/etc/shadow\0", **head):
    return record_of(Kind.OPEN, path, **head)


def test_records_are_handed_on_in_their_order():
    records = [opened(time=1), record_of(Kind.EXEC, b"/bin/sh\0", time=2), record_of(Kind.EXIT, time=3)]
    with reading(Batches(records[:2], records[2:])) as reader:
        reader.start()
        assert reader._ring.is_empty.wait(10)
        assert reader.stop()
    assert reader.items == [(record, 1) for record in records]
    assert reader.read == 3


def test_each_record_is_counted_with_its_kind_and_cpu():
    with reading(Batches([opened(cpu=0), opened(cpu=1), opened(cpu=1)])) as reader:
        reader.start()
        assert reader._ring.is_empty.wait(10)
        reader.stop()
    assert reader.accounting.consumed == {(Kind.OPEN, 0): 1, (Kind.OPEN, 1): 2}


def test_repetitions_become_one_with_their_count():
    with reading(Batches([opened(time=number, tid=number, cpu=number % 2) for number in range(50)]), 60.0) as reader:
        reader.start()
        assert reader._ring.is_empty.wait(10)
        assert reader.items == [(opened(time=0, tid=0, cpu=0), 1)]
        reader.stop()
    assert reader.items[1:] == [(opened(time=0, tid=0, cpu=0), 49)]


def test_another_file_process_user_or_flag_is_no_repetition():
    records = [opened(), opened(b"/etc/passwd\0"), opened(pid=7), opened(uid=7), opened(a=1), opened(cgroup=7)]
    with reading(Batches(records), 60.0) as reader:
        reader.start()
        assert reader._ring.is_empty.wait(10)
        reader.stop()
    assert reader.items == [(record, 1) for record in records]


def test_lives_and_plaintext_are_never_folded():
    kinds = [Kind.EXEC_ARGS, Kind.EXEC, Kind.EXIT, Kind.FORK, Kind.CGROUP, Kind.CHDIR, Kind.PLAIN, Kind.PLAIN_END]
    records = [record_of(kind) for kind in kinds for _ in range(2)]
    with reading(Batches(records), 60.0) as reader:
        reader.start()
        assert reader._ring.is_empty.wait(10)
        reader.stop()
    assert reader.items == [(record, 1) for record in records]


def test_a_reader_that_stops_reads_what_was_written_before():
    ring = Batches([opened(time=1)], [opened(b"/a\0")], [opened(b"/b\0")])
    with reading(ring) as reader:
        reader._last = 300  # as `stop` sets it
        reader._is_stopping.set()
        reader._run()
    assert len(reader.items) == 3


def test_a_reader_stops_although_records_come_faster_than_it_reads():
    ring = Batches(endless=opened())
    with reading(ring) as reader:
        reader.start()
        assert reader.stop()
    assert sum(count for _, count in reader.items) == reader.read == reader.accounting.consumed.total()


def test_a_record_that_is_never_finished_does_not_keep_a_reader_from_stopping():
    ring = Batches()
    ring.written = 1000  # reserved, and not submitted
    with reading(ring) as reader:
        reader.start()
        assert reader.stop()


def test_a_reader_that_is_woken_by_the_ring_stops_without_being_woken():
    with reading(Batches(), is_woken=True) as reader:
        reader.start()
        assert reader.stop()


def test_one_batch_that_nobody_takes_does_not_blind_the_reader_for_good():
    """A failing consumer is told or tried again; a thread that dies silently sees nothing any more."""
    failures = []

    def hand_on(items):
        failures.append(len(items))
        if len(failures) == 1:
            raise RuntimeError("Event loop is closed")
        return len(items)

    caught = []
    before, threading.excepthook = threading.excepthook, lambda arguments: caught.append(arguments.exc_type)
    try:
        ring = Batches([opened(time=1)], [opened(b"/a\0")])
        with reading(ring, hand_on=hand_on) as reader:
            reader.start()
            assert ring.is_empty.wait(5), "the reader's thread is dead"
            reader.stop()
    finally:
        threading.excepthook = before
    assert caught == []


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=30), max_size=6), st.booleans())
def test_counts_of_what_is_handed_on_add_up_to_what_was_read(batches, does_fold):
    made = [[opened(b"/%d\0" % path, cpu=cpu) for path, cpu in batch] for batch in batches]
    with reading(Batches(*made), 60.0 if does_fold else 0.0) as reader:
        handed = Counter()
        for batch in made:
            for record, count in reader._folded(batch, 0.0):
                handed[record[72:]] += count
        for record, count in reader._closed(float("inf")):
            handed[record[72:]] += count
    wanted = Counter(record[72:] for batch in made for record in batch)
    assert handed == wanted
    assert reader.accounting.consumed.total() == reader.read == wanted.total()


def test_a_window_ends_for_its_own_record_only():
    with reading(Batches(), 1.0) as reader:
        reader._folded([opened(), opened()], now=0.0)
        reader._folded([opened(b"/a\0"), opened(b"/a\0"), opened(b"/a\0")], now=0.5)
        assert [count for _, count in reader._closed(1.0)] == [1]
        assert [count for _, count in reader._closed(1.5)] == [2]
        assert reader._closed(99.0) == []
        assert [count for _, count in reader._folded([opened()], now=99.0)] == [1]


def test_more_different_records_than_are_remembered_are_handed_on_all_the_same():
    records = [opened(b"/%d\0" % number) for number in range(16_500)]
    with reading(Batches(), 60.0) as reader:
        assert len(reader._folded(records, 0.0)) == 16_500
        assert len(reader._folded(records, 0.0)) == 16_500 - 16_384
