"""The thread that empties the ring: it counts, folds repetitions, and hands on what is left in batches.

Why rings run over although their reader is idle (measured 2026-11, 182 runs): the reader is ready to run and does not
get a CPU.  Beside eight busy processes it waited up to 310 ms, beside C code that holds Python's lock 510 ms; a ring
must hold that long at the full rate, and an 8 MB ring with a poll every 5 to 20 ms dropped nothing at 50 000 records a
second for a minute.  Real-time priority takes the wait away, so it is asked for; each pass is bounded, and the thread
sleeps between passes.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

import structlog

from agent.sources.ebpf.accounting import Accounting
from agent.sources.ebpf.layout import CPU_AND_KIND, FOLD_FROM, Kind
from agent.sources.ebpf.ring import Ring

log = structlog.get_logger("reeve.ebpf")

Item = tuple[bytes, int]
"""A record, and how many it stands for."""

_NEVER_FOLDED = frozenset(
    {
        Kind.EXEC_ARGS,
        Kind.EXEC,
        Kind.EXIT,
        Kind.FORK,
        Kind.CGROUP,
        Kind.UNREAD,
        Kind.CHDIR,
        Kind.FCHDIR,
        Kind.PLAIN,
        Kind.PLAIN_END,
    }
)
_MOST_FOLDS = 16_384
_PRIORITY = 10
# Records in one turn from which on the reader sleeps by the clock and is not woken.
_BUSY = 32


class Reader:
    """`hand_on` is called in the reader's thread with what is new, and says for how many of it there is room."""

    def __init__(
        self,
        ring: Ring,
        accounting: Accounting,
        hand_on: Callable[[list[Item]], int],
        *,
        poll_seconds: float,
        fold_seconds: float,
        is_realtime: bool,
        is_woken: bool,
    ) -> None:
        self._is_woken = is_woken
        self._ring = ring
        self._accounting = accounting
        self._hand_on = hand_on
        self._poll = poll_seconds
        self._fold = fold_seconds
        self._is_realtime = is_realtime
        self._folds: dict[bytes, list[object]] = {}
        self._due = 0.0
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ebpf-reader", daemon=True)
        self.read = 0
        self.longest_pause = 0.0
        self._last = 0
        self.refused = 0  # records that nobody took
        self.has_realtime = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """Read what was written until now, and end; whether it has ended."""
        self._last = self._ring.written
        self._is_stopping.set()
        self._thread.join(timeout=10)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._is_realtime:
            try:
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
                self.has_realtime = True
            except OSError:
                log.info(
                    "The ring's reader runs without real-time priority; SYS_NICE would allow it, "
                    "and on control groups v1 a real-time budget of the pod (cpu.rt_runtime_us)."
                )
        poller = select.poll()
        poller.register(self._ring.descriptor, select.POLLIN)
        before = time.monotonic()
        while True:
            is_last = self._is_stopping.is_set()
            records = self._ring.take(self._ring.size // 4)
            now = time.monotonic()
            self.longest_pause, before = max(self.longest_pause, now - before), now
            items = self._folded(records, now)
            if now >= self._due or is_last:
                self._due = now + self._fold / 4
                items += self._closed(now if not is_last else float("inf"))
            if items:
                self._give(items)
            if is_last and (not records or self._ring.read >= self._last):
                return
            if len(records) > _BUSY or not self._is_woken:
                # A ring that fills faster than it is emptied is read on, after a pause that lets others run.
                time.sleep(0.0005 if self._ring.waiting > self._ring.size // 8 else self._poll)
            else:
                # Few records: a program that starts wakes the reader at once; a poll would find any other record
                # waiting and come back at once, too, so it follows a short sleep.
                time.sleep(0.001)
                poller.poll(self._poll * 1000)

    def _give(self, items: list[Item]) -> None:
        """Hand on.  What is not taken is counted; the thread goes on, since nobody else reads the ring."""
        room = 0
        try:
            room = self._hand_on(items)
        except Exception as error:  # noqa: BLE001 - a thread's boundary
            log.error("Records could not be handed on.", records=len(items), error=type(error).__name__)
        self.refused += sum(count for _, count in items[room:])

    def _folded(self, records: list[bytes], now: float) -> list[Item]:
        """What goes on at once; repetitions are kept with their count."""
        items: list[Item] = []
        folds, unpack, consumed = self._folds, CPU_AND_KIND.unpack_from, self._accounting.consumed
        self.read += len(records)
        for record in records:
            cpu, kind = unpack(record)
            consumed[kind, cpu] += 1
            if not self._fold or kind in _NEVER_FOLDED:
                items.append((record, 1))
                continue
            key = record[FOLD_FROM:]
            fold = folds.get(key)
            if fold is not None:
                fold[1] += 1  # type: ignore[operator]
                continue
            if len(folds) < _MOST_FOLDS:
                folds[key] = [record, 0, now + self._fold]
            items.append((record, 1))
        return items

    def _closed(self, now: float) -> list[Item]:
        """Repetitions of windows that have ended."""
        ended = [key for key, (_, _, due) in self._folds.items() if due <= now]  # type: ignore[operator]
        closed = [self._folds.pop(key) for key in ended]
        return [(record, count) for record, count, _ in closed if count]  # type: ignore[misc]
