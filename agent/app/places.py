"""Where rules and policies are when nothing says so: beside a checkout, in an installed prefix, in /etc/reeve."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import agent

KEY_BYTES = 32


def _roots() -> tuple[Path, ...]:
    return Path(agent.__file__).resolve().parents[1], Path(sys.prefix) / "share" / "reeve", Path("/etc/reeve")


def default_directory(name: str) -> tuple[Path, ...]:
    """The first existing directory called `rules` or `policies`; empty if there is none."""
    for root in _roots():
        if (root / name).is_dir():
            return (root / name,)
    return ()


def load_key(path: Path) -> bytes:
    """The 32 bytes of a key file, made with mode 0600 at the first start.  Raises ValueError if it holds fewer."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes; a key has at least {KEY_BYTES}")
    return key


def cache_directory(state_dir: Path) -> Path:
    """Where things are kept that can be made again: with the agent's state if we may, else in the user's cache."""
    if state_dir.is_dir() and os.access(state_dir, os.W_OK):
        return state_dir / "cache"
    return Path.home() / ".cache" / "reeve"
