"""Masked processes and resources, remembered by identity.

A decoder gives the same object for the same process event after event.  What was found in it and what it looks like
masked need not be worked out again: only the field's path differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from agent.engine.cache import Scanned
from agent.engine.texts import Place
from agent.model import Direction, Generations

_LARGEST = 4096  # characters of a struct's texts
_MOST = 4096  # in each of two generations, about 3 KB each

Note: TypeAlias = tuple[Place, int, Scanned]
"""Where something was found or not scanned, the text's length, and what."""


class _Known(NamedTuple):
    struct: Any  # held, so that its identity is nobody else's
    masked: Any
    notes: tuple[Note, ...]


class MaskMemory:
    """For one thread at a time."""

    def __init__(self, most: int = _MOST) -> None:
        self._known: Generations[tuple[int, Direction], _Known] = Generations(most)

    def masked(
        self, struct: Any, path: str, direction: Direction, notes: list[Note], make: Callable[[list[Note]], Any]
    ) -> Any:
        """The masked struct; what there is to say of it is added to `notes` under `path`.

        `make` masks it and notes with paths that begin in the struct.
        """
        key = (id(struct), direction)
        known = self._known.get(key)
        if known is None or known.struct is not struct:
            own: list[Note] = []
            masked = make(own)
            known = _Known(struct, masked, tuple(own))
            # What a pod can make long must not fill our memory.
            if getattr(struct, "size", 0) <= _LARGEST:
                self._known.put(key, known)
        for place, size, scanned in known.notes:
            notes.append((place._replace(field=f"{path}.{place.field}"), size, scanned))
        return known.masked
