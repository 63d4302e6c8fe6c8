"""agent.sources.ebpf.layout, .accounting: one table for both sides, and books that add up."""

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.ebpf.accounting import Accounting
from agent.sources.ebpf.layout import FOLD_FROM, HEAD, HEAD_BYTES, KINDS, Kind, assertions, defines, head_of
from agent.sources.ebpf.program_text import PROGRAMS

SIZES = {"u64": 8, "u32": 4, "char": 1}


def c_fields():
    """(name, offset) of the fields of `struct head` in the C text."""
    body = re.search(r"struct head \{(.*?)\};", (PROGRAMS / "shared.c").read_text(), re.S)[1]
    place = 0
    for kind, name, many in re.findall(r"(u64|u32|char) (\w+)(?:\[(\d+)\])?;", body):
        yield name, place
        place += SIZES[kind] * int(many or 1)
    yield "end", place


def test_the_head_has_the_c_side_s_size():
    assert HEAD_BYTES == 72
    assert dict(c_fields())["end"] == HEAD_BYTES
    assert f"sizeof(struct head) == {HEAD_BYTES}" in assertions()


def test_the_head_s_fields_stand_where_the_c_side_writes_them():
    record = b"".join(bytes([number]) for number in range(HEAD_BYTES))
    head = head_of(record)
    places = dict(c_fields())
    assert {name: value.to_bytes(8, "little")[0] for name, value in head._asdict().items() if name != "comm"} == {
        name: places[name] for name in head._fields if name != "comm"
    }
    assert head.comm[0] == places["comm"]


def test_folding_compares_from_the_kind_on():
    assert dict(c_fields())["kind"] == FOLD_FROM


def test_kinds_are_numbered_without_a_gap_and_named_once():
    assert [kind.value for kind in Kind] == list(range(KINDS))
    names = re.findall(r"#define (\w+) \d+", defines())
    assert len(names) == len(set(names)) == KINDS + 1


def test_no_kind_has_a_name_that_the_programs_use_for_something_else():
    texts = "\n".join(path.read_text() for path in PROGRAMS.glob("*.c"))
    assert not {kind.name for kind in Kind} & set(re.findall(r"#define (\w+)", texts))


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES - 1])
def test_a_record_shorter_than_a_head_is_an_error(size):
    with pytest.raises(struct.error):
        head_of(bytes(size))


def test_a_longer_record_has_a_head():
    record = HEAD.pack(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, b"sh") + b"payload"
    assert head_of(record)[:10] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


# ---------------------------------------------------------------- accounting


class Counters:
    """The kernel's counters of two CPUs."""

    def __init__(self):
        self.values = {}

    def add(self, kind, cpu, produced, dropped=0):
        for slot, count in ((2 * kind, produced), (2 * kind + 1, dropped)):
            self.values.setdefault(slot, [0, 0])[cpu] += count

    def __call__(self, slot):
        return self.values.get(slot, [0, 0])


def test_what_was_read_or_dropped_is_accounted_for():
    counters = Counters()
    accounting = Accounting(counters)
    counters.add(Kind.OPEN, 0, produced=10, dropped=3)
    counters.add(Kind.OPEN, 1, produced=2)
    accounting.take(Kind.OPEN, 0, 7)
    accounting.take(Kind.OPEN, 1, 1)
    assert accounting.produced() == {(Kind.OPEN, 0): 10, (Kind.OPEN, 1): 2}
    assert accounting.dropped() == {(Kind.OPEN, 0): 3}
    assert accounting.unaccounted() == {(Kind.OPEN, 1): 1}


def test_a_record_of_one_cpu_does_not_stand_in_for_another_s():
    counters = Counters()
    accounting = Accounting(counters)
    counters.add(Kind.OPEN, 0, produced=1)
    counters.add(Kind.OPEN, 1, produced=1)
    accounting.take(Kind.OPEN, 0, 2)
    assert accounting.unaccounted() == {(Kind.OPEN, 0): -1, (Kind.OPEN, 1): 1}


def test_what_was_read_and_never_produced_is_told():
    accounting = Accounting(Counters())
    accounting.take(Kind.OPEN, 0, 2)
    assert accounting.unaccounted() == {(Kind.OPEN, 0): -2}


def test_a_drop_is_told_once():
    counters = Counters()
    accounting = Accounting(counters)
    counters.add(Kind.OPEN, 0, produced=5, dropped=2)
    counters.add(Kind.EXEC, 1, produced=5, dropped=1)
    assert accounting.newly_dropped() == {"open": 2, "exec": 1}
    assert accounting.newly_dropped() == {}
    counters.add(Kind.OPEN, 1, produced=1, dropped=1)
    assert accounting.newly_dropped() == {"open": 1}


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.integers(0, 1), st.booleans()), max_size=200))
def test_books_of_any_order_add_up(steps):
    counters = Counters()
    accounting = Accounting(counters)
    told = 0
    for kind, cpu, is_dropped in steps:
        counters.add(kind, cpu, produced=1, dropped=int(is_dropped))
        if not is_dropped:
            accounting.take(kind, cpu)
        told += sum(accounting.newly_dropped().values())
    assert accounting.unaccounted() == {}
    assert told == sum(is_dropped for *_, is_dropped in steps)
