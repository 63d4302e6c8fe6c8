"""How an event ended, and why it was let go."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Literal, TypeAlias


class Outcome(enum.IntEnum):
    """How an event ended; a larger value is worse, and outcomes merge by worst-of.

    DELIVERED: every sink took it.  DROPPED: we let it go, with a reason.  REJECTED: a sink refuses it for ever.
    ERRORED: it failed and may be sent again; only this one holds a source's checkpoint.
    """

    DELIVERED = 0
    DROPPED = 1
    REJECTED = 2
    ERRORED = 3

    @property
    def label(self) -> str:
        return self.name.lower()

    @property
    def may_checkpoint(self) -> bool:
        return self is not Outcome.ERRORED


DropReason: TypeAlias = Literal["queue_full", "sink_queue_full", "shutting_down", "told_by_other_source"]
DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "sink_queue_full", "shutting_down", "told_by_other_source")


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of the outcomes; DELIVERED if there are none."""
    return max(outcomes, default=Outcome.DELIVERED)
