"""Text that may hold personal data or secrets, and never prints it.

A source wraps every text that a workload wrote.  Only detectors, the mask and the gateway may call `.reveal()`
(tests/test_house.py walks the syntax trees for it); everyone else sees a length.  After masking, a text is a `str`.
"""

from __future__ import annotations

from typing import Final, TypeAlias


class Sensitive:
    """A text whose `str`, `repr` and format show its length in characters, never its content."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """The text itself.  For detectors, the mask and the gateway only."""
        return self._text

    def __len__(self) -> int:
        return len(self._text)

    def __repr__(self) -> str:
        return f"Sensitive({len(self._text)} characters)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sensitive) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Sensitive, self._text))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("Sensitive text is not pickled: it would leave the process unmasked")


Text: TypeAlias = Sensitive | str
"""A text of an event: `Sensitive` until the engine has masked it, then `str`."""
