"""Whether an audit log is whole.  Pure: lines and notes in, the first fault out, nothing if there is none.

Records are chained (each holds the hash of the one before), so a changed, missing or moved record is named; the signed
tree heads catch whoever rewrites the chain.  What stands after the newest checkpoint is chained but not yet signed.  A
tail cut off together with its checkpoints shows only against a checkpoint that was kept elsewhere (`known`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.audit.checkpoint import Checkpoint, CheckpointError, verified_note
from agent.audit.record import decoded
from agent.audit.tree import CompactRange, leaf_hash


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment, without line break; `number` counts lines from 1."""

    file: str
    number: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and with which record (0 if with none in particular)."""

    record: int
    place: str
    what: str

    def __str__(self) -> str:
        where = f"at record {self.record} ({self.place})" if self.record else f"({self.place})"
        return f"audit log broken {where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The first fault, if any; how many records there are and how many a checkpoint covers."""

    fault: Fault | None
    records: int
    covered: int


def verify(
    lines: Iterable[Line], notes: Sequence[str], key: Ed25519PublicKey, known: Sequence[str] = ()
) -> Verification:
    """Check a whole log from its first record.

    `notes` are the log's own checkpoints in order, `known` ones that were kept elsewhere; all must be by `key`.
    """
    checkpoints: dict[int, tuple[str, Checkpoint]] = {}
    last_size = 0
    for number, note in enumerate((*notes, *known), 1):
        place = f"checkpoint {number}" if number <= len(notes) else f"known checkpoint {number - len(notes)}"
        try:
            checkpoint = verified_note(note, key)
        except CheckpointError as error:
            return Verification(Fault(0, place, f"{place} {error}"), 0, 0)
        if number <= len(notes) and checkpoint.size < last_size:
            return Verification(Fault(0, place, "it is for fewer records than the one before"), 0, 0)
        if number <= len(notes):
            last_size = checkpoint.size
        same = checkpoints.get(checkpoint.size)
        if same is not None and same[1].root != checkpoint.root:
            return Verification(Fault(0, place, f"it contradicts {same[0]} about {checkpoint.size} records"), 0, 0)
        checkpoints[checkpoint.size] = (place, checkpoint)
    return _verify_records(lines, checkpoints)


def _verify_records(lines: Iterable[Line], checkpoints: dict[int, tuple[str, Checkpoint]]) -> Verification:
    tree = CompactRange()
    covered = 0
    previous = bytes(32)
    last: Line | None = None
    for line in lines:
        number = tree.size + 1
        place = f"{line.file}:{line.number}"
        record = decoded(line.content)
        if record is None:
            return Verification(Fault(number, place, "it is no audit record"), tree.size, covered)
        if record.number != number:
            what = f"record {record.number} stands where record {number} belongs"
            return Verification(Fault(number, place, what), tree.size, covered)
        if record.previous != previous.hex():
            if last is None:
                return Verification(
                    Fault(number, place, "the first record refers to one before it"), tree.size, covered
                )
            what = f"its content does not match the hash that record {number} keeps of it"
            return Verification(Fault(number - 1, f"{last.file}:{last.number}", what), tree.size, covered)
        previous = leaf_hash(line.content)
        tree.append(previous)
        last = line
        head = checkpoints.get(tree.size)
        if head is not None:
            if head[1].root != tree.root():
                what = f"records {covered + 1} to {number} are not those that {head[0]} was signed for"
                return Verification(Fault(covered + 1, place, what), tree.size, covered)
            covered = tree.size
    newest = max(checkpoints, default=0)
    if newest > tree.size:
        end = f"{last.file}:{last.number}" if last else "no records"
        what = f"it is missing: {checkpoints[newest][0]} was signed for {newest} records, there are {tree.size}"
        return Verification(Fault(tree.size + 1, end, what), tree.size, covered)
    return Verification(None, tree.size, covered)
