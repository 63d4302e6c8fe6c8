"""agent.audit: .tree, .checkpoint, .record, .verify; bad logs are found and the first bad record is named."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.audit.checkpoint import Checkpoint, CheckpointError, parse_note, signed_note, verified_note
from agent.audit.record import Entry, decoded, encoded, record_of
from agent.audit.tree import CompactRange, leaf_hash, root_of
from agent.audit.verify import Line, verify

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
ORIGIN = "reeve.dev/audit/node-1"

# RFC 6962 reference test data (certificate-transparency, merkletree tests): the leaves and the roots of 1 to 8 of them.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "60" + "6162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]  # fmt: skip


def test_roots_are_those_of_the_reference():
    tree = CompactRange()
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        tree.append(leaf_hash(leaf))
        assert tree.root().hex() == root
    assert root_of([]) == hashlib.sha256(b"").digest()


def test_a_range_continues_where_it_was_left():
    whole, half = CompactRange(), CompactRange()
    for number, leaf in enumerate(LEAVES):
        whole.append(leaf_hash(leaf))
        half.append(leaf_hash(leaf))
        half = CompactRange(half.size, half.hashes)
        assert half.root() == whole.root(), number
    with pytest.raises(ValueError, match="do not fit"):
        CompactRange(3, [bytes(32)])
    with pytest.raises(ValueError, match="32 bytes"):
        whole.append(b"short")


def test_a_note_is_signed_and_read_again():
    checkpoint = Checkpoint(ORIGIN, 7, b"r" * 32)
    note = signed_note(checkpoint, KEY)
    assert note.startswith(f"{ORIGIN}\n7\n")
    assert verified_note(note, KEY.public_key()) == checkpoint
    assert parse_note(note)[0] == checkpoint


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("", "no checkpoint note"),
        ("a\nb\nc\n\nd", "no checkpoint note"),
        (f"{ORIGIN}\n7\n!!\n\n— x eA==\n", "bad base64"),
        (f"{ORIGIN}\n7\neA==\n\n— x eA==\n", "not 32 bytes"),
        (signed_note(Checkpoint(ORIGIN, 7, b"r" * 32), OTHER), "not signed by this key"),
        (signed_note(Checkpoint(ORIGIN, 7, b"r" * 32), KEY).replace("\n7\n", "\n8\n"), "wrong signature"),
    ],
)
def test_bad_notes_are_refused(note, said):
    with pytest.raises(CheckpointError, match=said):
        verified_note(note, KEY.public_key())


class Log:
    """A log as it would be on disk: lines, and notes after some of them."""

    def __init__(self, count=10, checkpoints=(4, 10)):
        self.contents, self.notes = [], []
        tree, previous = CompactRange(), bytes(32)
        for number in range(1, count + 1):
            entry = Entry(kind="heartbeat", time=f"2026-11-23T10:00:{number:02}Z", facts={"number": str(number)})
            line, previous = encoded(record_of(entry, number, previous))
            tree.append(previous)
            self.contents.append(line)
            if number in checkpoints:
                self.notes.append(signed_note(Checkpoint(ORIGIN, tree.size, tree.root()), KEY))

    def fault(self, key=KEY, known=()):
        lines = [Line("audit-000001.jsonl", number, content) for number, content in enumerate(self.contents, 1)]
        return verify(lines, self.notes, key.public_key(), known).fault


def test_a_whole_log_has_no_fault():
    log = Log()
    lines = [Line("f", number, content) for number, content in enumerate(log.contents, 1)]
    verification = verify(lines, log.notes, KEY.public_key())
    assert (verification.fault, verification.records, verification.covered) == (None, 10, 10)


def test_records_after_the_newest_checkpoint_are_chained():
    log = Log(checkpoints=(4,))
    assert log.fault() is None
    log.contents[8] = log.contents[8].replace(b'"number":"9"', b'"number":"8"')
    assert log.fault().record == 9


def test_a_flipped_bit_names_its_record():
    log = Log()
    log.contents[5] = log.contents[5].replace(b"10:00:06", b"10:00:07")
    fault = log.fault()
    assert fault.record == 6
    assert str(fault).startswith("audit log broken at record 6 (audit-000001.jsonl:6): its content does not match")


def test_a_flipped_bit_in_the_last_record_is_caught_by_its_checkpoint():
    log = Log()
    log.contents[9] = log.contents[9].replace(b"10:00:10", b"10:00:11")
    assert "not those that checkpoint 2 was signed for" in str(log.fault())


def test_a_removed_record_is_named():
    log = Log()
    del log.contents[2]
    fault = log.fault()
    assert fault.record == 3
    assert "record 4 stands where record 3 belongs" in fault.what


def test_reordered_records_are_named():
    log = Log()
    log.contents[2], log.contents[3] = log.contents[3], log.contents[2]
    assert log.fault().record == 3


def test_a_truncated_tail_is_found_against_the_logs_own_checkpoint():
    log = Log()
    del log.contents[7:]
    fault = log.fault()
    assert fault.record == 8
    assert "was signed for 10 records, there are 7" in fault.what


def test_a_tail_cut_with_its_checkpoint_is_found_against_a_known_one():
    log = Log()
    known = log.notes.pop()
    del log.contents[7:]
    assert log.fault() is None
    assert "known checkpoint 1 was signed for 10 records" in log.fault(known=[known]).what


def test_a_wrong_key_is_told():
    assert "not signed by this key" in str(Log().fault(key=OTHER))


def test_a_rewritten_chain_is_caught_by_the_signature():
    log, other = Log(), Log()
    other.contents = Log(count=10).contents
    previous = bytes(32)
    for number in range(10):
        entry = Entry(kind="heartbeat", time="2026-11-23T11:00:00Z", facts={"forged": "yes"})
        log.contents[number], previous = encoded(record_of(entry, number + 1, previous))
    assert "not those that checkpoint 1 was signed for" in str(log.fault())


def test_what_is_no_record_is_named():
    log = Log()
    log.contents[1] = b"{}"
    assert log.fault().what == "it is no audit record"
    assert decoded(b"\xff") is None


def test_checkpoints_that_go_back_or_contradict_are_told():
    log = Log()
    log.notes.reverse()
    assert "fewer records" in str(log.fault())
    log = Log()
    log.notes.append(signed_note(Checkpoint(ORIGIN, 10, b"x" * 32), KEY))
    assert "contradicts" in str(log.fault())
