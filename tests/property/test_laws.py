"""Laws that hold for any input: flatten and mask, the ledger, receipts, joining, the audit tree."""

import asyncio
import hashlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.tree import CompactRange, leaf_hash, root_of
from agent.engine.flatten import flatten
from agent.engine.mask import masked, merged
from agent.model import Outcome, worst
from agent.pipeline.contracts import Receipt
from agent.pipeline.ledger import Ledger
from agent.sources.containerlogs.decode import Joiner, Part, parse_cri

OUTCOMES = st.sampled_from(list(Outcome))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(OUTCOMES), st.randoms())
def test_merging_outcomes_ignores_order(outcomes, chance):
    shuffled = list(outcomes)
    chance.shuffle(shuffled)
    assert worst(outcomes) is worst(shuffled)


@given(st.text(max_size=200))
def test_flattening_keeps_every_characters_origin_in_order(text):
    flat = flatten(text)
    if flat.starts is None:
        assert len(flat.text) == len(text)
    else:
        assert len(flat.starts) == len(flat.ends) == len(flat.text)
        assert list(flat.starts) == sorted(flat.starts)
        assert all(0 <= start < end <= len(text) for start, end in zip(flat.starts, flat.ends, strict=True))


@given(st.text(max_size=60), st.booleans())
def test_a_json_string_flattens_to_what_it_says(text, ascii_only):
    clean = text.encode("utf-8", "ignore").decode().replace("\\", "").replace("%", "").replace("+", "")
    encoded = json.dumps(clean, ensure_ascii=ascii_only)
    inner = flatten(encoded).text[1:-1]
    # Control characters become \u00XX, which is undone; everything else stands as it is.
    assert inner == clean


@given(JSON, st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), max_size=6), st.booleans())
def test_masked_json_is_json(value, places, ascii_only):
    text = json.dumps({"value": value}, ensure_ascii=ascii_only)
    spans = [(start, min(start + size, len(text)), "X") for start, size in places if start < len(text)]
    inner = [(start, end, name) for start, end, name in spans if start < end]
    escapes_whole = [flatten(text).origin(0, 1)] if text else []
    assert escapes_whole
    result = masked(text, _whole_escapes(text, inner))
    json.loads(result)


def _whole_escapes(text, spans):
    """Spans as the engine gives them: never a part of an escape."""
    import re

    escapes = [match.span() for match in re.finditer(r"\\(?:u[0-9a-f]{4}(?:\\u[0-9a-f]{4})?|.)", text)]
    widened = []
    for start, end, name in spans:
        for first, last in escapes:
            if first < start < last:
                start = first
            if first < end < last:
                end = last
        widened.append((start, end, name))
    return widened


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40)), max_size=12))
def test_merged_spans_are_apart_and_cover_the_same(places):
    spans = [(start, start + size, "X") for start, size in places]
    joined = merged(spans)
    covered = {at for start, end, _ in spans for at in range(start, end)}
    assert {at for start, end, _ in joined for at in range(start, end)} == covered
    assert all(before[1] <= after[0] for before, after in zip(joined, joined[1:], strict=False))


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 50), st.lists(OUTCOMES, max_size=5)), max_size=20)
)
def test_the_ledger_adds_up_after_any_history(history):
    ledger = Ledger()
    for source, count, ends in history:
        ledger.admit(source, count)
        for outcome in ends[:count]:
            ledger.settle(source, outcome, 1, "queue_full" if outcome is Outcome.DROPPED else None)
        assert ledger.is_balanced
    admitted = sum(account.admitted for account in ledger.sources.values())
    assert admitted == sum(count for _, count, _ in history)


@given(OUTCOMES, OUTCOMES)
def test_a_receipt_is_settled_once(first, second):
    async def settle_twice():
        receipt = Receipt()
        receipt.settle(first)
        try:
            receipt.settle(second)
        except RuntimeError:
            return await receipt
        return None

    assert asyncio.run(settle_twice()) is first


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6), st.lists(st.binary(max_size=40), max_size=4))
def test_parts_join_to_what_was_cut_whatever_stands_between(content, cuts, others):
    content = content.replace(b"\n", b" ")
    borders = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    parts = [content[start:end] for start, end in zip(borders, borders[1:], strict=False)]
    joiner = Joiner()
    whole = []
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if number < len(others):
            record = joiner.feed(Part(0, "stderr", others[number], is_partial=False), 1000 + number)
            assert record is not None
            assert record.content == others[number]
        record = joiner.feed(Part(0, "stdout", part, is_partial=not is_last), number)
        if record is not None:
            whole.append(record)
    assert [record.content for record in whole] == [content]
    assert whole[0].first_mark == 0


@given(st.binary(max_size=400))
def test_no_line_makes_the_parser_raise(line):
    parse_cri(line)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=20), max_size=40))
def test_the_compact_range_is_the_tree_of_rfc_6962(records):
    leaves = [leaf_hash(record) for record in records]
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == root_of(leaves) == _recursive_root(leaves)


def _recursive_root(leaves):
    """RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _recursive_root(leaves[:split]) + _recursive_root(leaves[split:])).digest()
