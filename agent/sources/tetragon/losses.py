"""What Tetragon lost, from the counters on its metrics page.  The stream itself never says."""

from __future__ import annotations

import re
from collections import Counter

# Counter name -> the reason in a loss report.  `notify_overflowed` names no client: the loss may be another's.
COUNTERS = {
    "tetragon_notify_overflowed_events_total": "tetragon_stream_queue",
    "tetragon_observer_ringbuf_events_lost_total": "tetragon_ring_buffer",
    "tetragon_observer_ringbuf_queue_events_lost_total": "tetragon_daemon_queue",
    "tetragon_bpf_missed_events_total": "tetragon_bpf_missed",
}
LARGEST_PAGE = 4 * 1024 * 1024
_SAMPLE = re.compile(r"^(tetragon_[a-z_]+)(?:\{[^\n]*?\})? +([0-9.eE+-]+|\+Inf|NaN)(?: +-?\d+)? *$", re.MULTILINE)


def totals(page: str) -> dict[str, int]:
    """Reason -> sum over all series of its counter; counters that are not there are left out."""
    sums: Counter[str] = Counter()
    for name, value in _SAMPLE.findall(page):
        reason = COUNTERS.get(name)
        if reason is None:
            continue
        try:
            sums[reason] += int(float(value))
        except (ValueError, OverflowError):
            continue
    return dict(sums)


class LossCounters:
    """Growth between two looks at the page."""

    def __init__(self) -> None:
        self._before: dict[str, int] | None = None

    def grown(self, page: str) -> dict[str, int]:
        """Reason -> how much more was lost since the last look; a counter that fell began anew.

        The first look only sets the mark: what was lost before we came is not ours to report.
        """
        now = totals(page)
        before, self._before = self._before, now
        if before is None:
            return {}
        grown = {}
        for reason, value in now.items():
            earlier = before.get(reason, 0)
            more = value - earlier if value >= earlier else value
            if more > 0:
                grown[reason] = more
        return grown
