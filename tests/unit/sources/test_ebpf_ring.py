"""agent.sources.ebpf.ring: the kernel's ring, laid out in a file in memory."""

import mmap
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.ebpf.ring import Ring, drained

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The writing side.  The real one shows its data twice in a row; here each byte is written twice."""

    def __init__(self, size=PAGE):
        self.size = size
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * PAGE + 2 * size)
        self.place = 0
        self.ring = Ring(self.descriptor, size)

    def close(self):
        self.ring.close()
        os.close(self.descriptor)

    def _put(self, place, data):
        for index, byte in enumerate(data):
            at = (place + index) % self.size
            for copy in (at, at + self.size):
                os.pwrite(self.descriptor, bytes([byte]), 2 * PAGE + copy)

    def consumed(self):
        return struct.unpack("<Q", os.pread(self.descriptor, 8, 0))[0]

    def room(self):
        return self.size - (self.place - self.consumed())

    def write(self, data, flags=0):
        """A record; its place."""
        place = self.place
        whole = (len(data) + 15) & ~7
        assert whole <= self.room(), "no room"
        self._put(place, struct.pack("<II", len(data) | flags, 0) + data)
        self.place += whole
        os.pwrite(self.descriptor, struct.pack("<Q", self.place), PAGE)
        return place

    def finish(self, place, length, flags=0):
        self._put(place, struct.pack("<I", length | flags))


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    made.close()


def test_records_come_in_order_and_their_room_is_given_back(kernel):
    kernel.write(b"one")
    kernel.write(b"")
    kernel.write(b"three" * 7)
    assert kernel.ring.waiting == 16 + 8 + 48
    assert kernel.ring.take() == [b"one", b"", b"three" * 7]
    assert kernel.consumed() == kernel.place
    assert kernel.ring.waiting == 0
    assert kernel.ring.take() == []


def test_a_record_that_is_written_still_holds_up_those_behind_it(kernel):
    kernel.write(b"first")
    place = kernel.write(b"second", BUSY)
    kernel.write(b"third")
    assert kernel.ring.take() == [b"first"]
    assert kernel.ring.take() == []
    kernel.finish(place, 6)
    assert kernel.ring.take() == [b"second", b"third"]


def test_a_record_that_was_thrown_away_is_skipped(kernel):
    kernel.write(b"first")
    kernel.write(b"thrown away", DISCARDED)
    kernel.write(b"third")
    assert kernel.ring.take() == [b"first", b"third"]
    assert kernel.consumed() == kernel.place


def test_a_record_that_is_thrown_away_after_a_while_is_skipped_then(kernel):
    place = kernel.write(b"wait", BUSY)
    assert kernel.ring.take() == []
    kernel.finish(place, 4, DISCARDED)
    assert kernel.ring.take() == []
    assert kernel.consumed() == kernel.place


def test_a_record_over_the_ring_s_end_is_whole(kernel):
    for _ in range(3):
        kernel.write(b"x" * 1000)
    kernel.ring.take()
    kernel.write(b"y" * 2000)
    assert kernel.place > kernel.size
    assert kernel.ring.take() == [b"y" * 2000]


def test_a_pass_is_bounded_and_the_next_one_goes_on(kernel):
    for number in range(10):
        kernel.write(bytes([number]) * 92)  # 104 bytes in the ring
    assert len(kernel.ring.take(most_bytes=300)) == 3
    assert [one[0] for batch in drained(kernel.ring) for one in batch] == [3, 4, 5, 6, 7, 8, 9]


def test_a_pass_takes_one_record_at_least(kernel):
    kernel.write(b"z" * 2000)
    assert kernel.ring.take(most_bytes=1) == [b"z" * 2000]


def test_a_full_ring_is_emptied(kernel):
    kernel.write(b"f" * (PAGE - 8))
    assert kernel.room() == 0
    assert kernel.ring.take() == [b"f" * (PAGE - 8)]
    assert kernel.ring.largest_backlog == PAGE


def test_what_was_taken_stays_when_the_ring_is_written_again(kernel):
    kernel.write(b"a" * 2000)
    (record,) = kernel.ring.take()
    kernel.write(b"b" * 2000)
    kernel.ring.take()
    kernel.write(b"c" * 2000)
    assert record == b"a" * 2000


def test_places_grow_beyond_the_ring(kernel):
    for _ in range(50):
        kernel.write(b"r" * 500)
        kernel.ring.take()
    assert kernel.ring.read == kernel.ring.written == 50 * 512


def test_a_ring_that_is_closed_leaves_no_mapping():
    def count():
        with open("/proc/self/maps") as file:
            return file.read().count("memfd:ring")

    before = count()
    kernel = Kernel()
    assert count() == before + 2
    kernel.close()
    assert count() == before


@given(st.lists(st.tuples(st.integers(0, 700), st.sampled_from([0, 0, 0, DISCARDED]), st.booleans()), max_size=40))
def test_every_record_is_read_once_and_in_order(steps):
    kernel = Kernel()
    try:
        written, read = [], []
        for number, (size, flags, does_read) in enumerate(steps):
            data = bytes([number]) * size
            if (size + 15) & ~7 > kernel.room():
                read += kernel.ring.take()
            kernel.write(data, flags)
            written += [] if flags else [data]
            if does_read:
                read += kernel.ring.take(most_bytes=512)
        read += [one for batch in iter(kernel.ring.take, []) for one in batch]
        read += kernel.ring.take()
        assert read == written
    finally:
        kernel.close()
