"""Signed tree heads as C2SP checkpoints: origin, size, root, and an Ed25519 signature in a signed note.  Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ED25519 = b"\x01"  # C2SP signed-note: signature type of Ed25519


class CheckpointError(Exception):
    """A note is malformed, or its signature is not by the key."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree `root` (32 bytes) of `origin` at `size` records."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:4]


def signed_note(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The checkpoint as a signed note; the signer's name is the origin."""
    signature = _key_id(checkpoint.origin, key.public_key()) + key.sign(checkpoint.body.encode())
    return f"{checkpoint.body}\n\u2014 {checkpoint.origin} {base64.b64encode(signature).decode()}\n"


def parse_note(note: str) -> tuple[Checkpoint, list[bytes]]:
    """The checkpoint of a note, and its raw signatures (key id and signature).  Raises CheckpointError."""
    body, separator, signatures = note.partition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) < 3 or not (lines[1].isascii() and lines[1].isdigit() and len(lines[1]) < 20):
        raise CheckpointError("is no checkpoint note")
    try:
        root = base64.b64decode(lines[2], validate=True)
        raw = [base64.b64decode(line.rsplit(" ", 1)[1], validate=True) for line in signatures.splitlines() if line]
    except (binascii.Error, IndexError, ValueError) as error:
        raise CheckpointError("holds bad base64") from error
    if len(root) != 32:
        raise CheckpointError("holds a root that is not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root), raw


def verified_note(note: str, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint of a note that the key signed.  Raises CheckpointError."""
    checkpoint, signatures = parse_note(note)
    wanted = _key_id(checkpoint.origin, key)
    for signature in signatures:
        if signature[:4] != wanted:
            continue
        try:
            key.verify(signature[4:], checkpoint.body.encode())
        except InvalidSignature as error:
            raise CheckpointError("has a wrong signature") from error
        return checkpoint
    raise CheckpointError("is not signed by this key")
