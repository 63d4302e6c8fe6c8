"""What the probes produced, what of it was dropped in the kernel, and what was read: kept so that it adds up.

`produced == dropped + consumed + (what still waits in the ring)`, for each kind and each CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from agent.sources.ebpf.layout import Kind

Read = Callable[[int], Sequence[int]]
"""A slot of the counters to its values, one for each CPU."""


class Accounting:
    """The reader's half of the books, and the comparison with the kernel's."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.consumed: Counter[tuple[int, int]] = Counter()  # (kind, CPU) -> records
        self._told: Counter[int] = Counter()

    def take(self, kind: int, cpu: int, count: int = 1) -> None:
        """Records that were read."""
        self.consumed[kind, cpu] += count

    def produced(self) -> dict[tuple[int, int], int]:
        """Records that probes wanted to write, by kind and CPU."""
        return self._both(0)

    def dropped(self) -> dict[tuple[int, int], int]:
        """Of these, the ones for which there was no room."""
        return self._both(1)

    def _both(self, which: int) -> dict[tuple[int, int], int]:
        return {
            (kind.value, cpu): value
            for kind in Kind
            for cpu, value in enumerate(self._read(2 * kind.value + which))
            if value
        }

    def newly_dropped(self) -> dict[str, int]:
        """Records dropped since the last call, by kind."""
        now: Counter[int] = Counter()
        for (kind, _), count in self.dropped().items():
            now[kind] += count
        grown = {Kind(kind).name.lower(): count - self._told[kind] for kind, count in now.items()}
        self._told = now
        return {name: count for name, count in grown.items() if count > 0}

    def unaccounted(self) -> dict[tuple[int, int], int]:
        """By kind and CPU, what is missing (or too much): nothing, once the ring is empty and the probes rest."""
        produced, dropped = self.produced(), self.dropped()
        keys = produced.keys() | self.consumed.keys()
        rest = {key: produced.get(key, 0) - dropped.get(key, 0) - self.consumed.get(key, 0) for key in keys}
        return {key: count for key, count in rest.items() if count}
