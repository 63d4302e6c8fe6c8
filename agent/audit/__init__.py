"""Audit records, their tree, signed checkpoints, and whether a log is whole.  Pure; files are `sinks/audit`'s."""

from agent.audit.checkpoint import Checkpoint, CheckpointError, parse_note, signed_note, verified_note
from agent.audit.record import Entry, Record, decoded, encoded, record_of
from agent.audit.tree import CompactRange, leaf_hash, root_of
from agent.audit.verify import Fault, Line, Verification, verify

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CompactRange",
    "Entry",
    "Fault",
    "Line",
    "Record",
    "Verification",
    "decoded",
    "encoded",
    "leaf_hash",
    "parse_note",
    "record_of",
    "root_of",
    "signed_note",
    "verified_note",
    "verify",
]
