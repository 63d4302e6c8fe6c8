"""What a text may cost: a number of steps, the same for the same text on every machine.

A step is about a microsecond on the machine it was measured on.  Work that grows with the text alone (one prefilter
scan, linear patterns) is not counted; what hostile text can make grow faster is: matches and their checks, phone
candidates, backtracking, tokens.  Who has used up its steps is told so (`Exhausted`), and says that a part was not
scanned.
"""

from __future__ import annotations

# 36 ms for up to 64 KiB; more text may take more.  A page of ordinary text with ten findings takes 500 steps.
BASE_STEPS = 36_000
STEPS_PER_CHARACTER = BASE_STEPS / 65_536

MATCH = 6
WINDOW = 8
CANDIDATE = 4
GROUP = 1
PARSE = 60
CHECK = 25  # the named rejections of a strict profile, for one match
# Characters that a backtracking engine looks at in a step, for a pattern of its own and for one that would be linear on
# ASCII (those are the large ones).
CHARACTERS, CHARACTERS_OF_LARGE = 32, 5


class Exhausted(Exception):
    """The text has used up its steps."""


class Budget:
    """The steps left for one text."""

    __slots__ = ("left",)

    def __init__(self, characters: int, factor: float = 1.0) -> None:
        """For a text of some length; `factor` stretches it, for files that nobody waits for."""
        self.left = int(max(BASE_STEPS, characters * STEPS_PER_CHARACTER) * factor)

    def spend(self, steps: int) -> None:
        """Take steps.  Raises Exhausted."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted

    @property
    def seconds(self) -> float:
        """How long a pattern without a bound of its own may run: three times what the steps are worth, because the
        clock that watches it also runs while others have the processor."""
        return max(self.left, 1_000) * 3e-6
