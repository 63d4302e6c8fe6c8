"""How often something may be written: token buckets, one for the node and one for each object.  Pure: time is given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """`burst` tokens at first, and one more each `refill_seconds`, never more than `burst`."""

    burst: int
    refill_seconds: float
    tokens: float
    filled_at: float

    def fill(self, now: float) -> None:
        self.tokens = min(float(self.burst), self.tokens + max(0.0, now - self.filled_at) / self.refill_seconds)
        self.filled_at = max(now, self.filled_at)


class Limits:
    """At most `most` objects are remembered; the one not asked about for longest is forgotten, with a full bucket."""

    def __init__(self, *, each: tuple[int, float], together: tuple[int, float], most: int) -> None:
        self._each = each
        self._together = Bucket(*together, float(together[0]), 0.0)
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, key: Hashable, now: float) -> bool:
        """Take a token of the object and one of the node, or neither."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(*self._each, float(self._each[0]), now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.fill(now)
        self._together.fill(now)
        if bucket.tokens < 1 or self._together.tokens < 1:
            return False
        bucket.tokens -= 1
        self._together.tokens -= 1
        return True

    def give_back(self, key: Hashable) -> None:
        """A write that did not happen cost nothing."""
        for bucket in (self._buckets.get(key), self._together):
            if bucket is not None:
                bucket.tokens = min(float(bucket.burst), bucket.tokens + 1)
