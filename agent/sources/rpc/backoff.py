"""Waits between attempts: growing, jittered, and forgotten after a connection that held."""

from __future__ import annotations

import random


class Backoff:
    """Full jitter over a floor: each wait is drawn from `first` to min(longest, first * 2**tries) seconds."""

    def __init__(self, first_seconds: float, longest_seconds: float, chance: random.Random | None = None) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._chance = chance or random.Random()  # noqa: S311 - jitter, not a secret
        self._tries = 0

    def next_seconds(self) -> float:
        """How long to wait before the next attempt."""
        ceiling = min(self._longest, self._first * 2 ** min(self._tries, 20))
        self._tries += 1
        return self._chance.uniform(min(self._first, ceiling), ceiling)

    def reset(self) -> None:
        """The last connection was good."""
        self._tries = 0
