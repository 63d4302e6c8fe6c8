"""Equal values get equal names, and the name tells nothing about the value without the key."""

from __future__ import annotations

import hashlib
import hmac

from agent.model import FindingKind

KEY_BYTES = 32


def normalised(value: str, kind: FindingKind) -> str:
    """The value as people would compare it: personal data without case and separators, secrets as they stand."""
    if kind != "pii":
        return value.strip()
    kept = "".join(character for character in value.casefold() if character.isalnum() or character in "@.")
    return kept if "@" in kept else kept.replace(".", "")


def fingerprint(key: bytes, value: str, kind: FindingKind) -> str:
    """HMAC-SHA256 of the normalised value, 128 bits as 32 hexadecimal digits."""
    text = normalised(value, kind).encode("utf-8", "surrogatepass")
    return hmac.digest(key, text, hashlib.sha256)[:16].hex()
