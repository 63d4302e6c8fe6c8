"""Text that arrives in pieces, scanned as it comes: streamed completions, parts of log lines, TLS records.

A value may be cut anywhere.  What was read is kept until no value can begin in it any more, and scanned again together
with what follows, so that nothing is missed that a scan of the whole would find.  A finding is told once enough text
has come behind it that more cannot change it, or at the end.  Pure; offsets count characters from the stream's
beginning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from agent.model import Finding

TextScan: TypeAlias = Callable[[str], tuple[Sequence[Finding], str]]
"""A text to its findings, and why a part of it was not scanned (empty if all was)."""

# The longest value a shipped rule allows has 12 000 characters (PEM, JWT), and its context stands within 100.
LEAD_CHARACTERS = 16 * 1024
# A match that ends this far before the end of what has come has seen its end, and the word behind it.
HOLD_CHARACTERS = 256
# Scanning again costs the lead: new text is gathered to this size first, unless someone asks (`flush`).
STEP_CHARACTERS = 4 * 1024

_BLANK = re.compile(r"\s")


class TextStream:
    """One stream.  `unscanned` lists why parts were not scanned."""

    def __init__(
        self,
        scan: TextScan,
        *,
        lead: int = LEAD_CHARACTERS,
        hold: int = HOLD_CHARACTERS,
        step: int = STEP_CHARACTERS,
    ) -> None:
        self._scan = scan
        self._lead, self._hold, self._step = lead, hold, step
        self._text = ""  # from `_offset` on
        self._offset = 0
        self._scanned = 0  # everything before this was in a scan
        self._settled = 0
        self._told: set[tuple[str, int, int]] = set()
        self.unscanned: list[str] = []

    @property
    def received(self) -> int:
        """Characters that have come."""
        return self._offset + len(self._text)

    @property
    def settled(self) -> int:
        """No finding that begins before this will be told any more, but for values longer than the hold."""
        return self._settled

    def feed(self, piece: str) -> list[Finding]:
        """Take a piece; findings that are sure by now."""
        self._text += piece
        return self.flush() if self.received - self._scanned >= self._step else []

    def flush(self) -> list[Finding]:
        """Scan what has come without waiting for more; findings that are sure by now."""
        return self._advance(self.received - self._hold)

    def finish(self) -> list[Finding]:
        """The stream has ended: all findings that were not told yet."""
        return self._advance(self.received)

    def _advance(self, until: int) -> list[Finding]:
        findings, unscanned = self._scan(self._text)
        if unscanned and unscanned not in self.unscanned:
            self.unscanned.append(unscanned)
        told: list[Finding] = []
        for finding in findings:
            start, end = finding.start + self._offset, finding.end + self._offset
            key = (finding.entity, start, end)
            # What ends before the settled place was told when it was settled; its left side may be cut off now.
            if end <= until and end > self._settled and key not in self._told:
                self._told.add(key)
                told.append(msgspec.structs.replace(finding, start=start, end=end))
        self._scanned = self.received
        self._settled = max(self._settled, until)
        self._forget()
        return told

    def _forget(self) -> None:
        """Let go of text in which no untold value can begin; the cut falls behind a blank if there is one."""
        cut = self._settled - self._lead - self._offset
        if cut <= 0:
            return
        blank = _BLANK.search(self._text, cut, min(len(self._text), cut + self._lead // 2))
        at = blank.end() if blank else cut
        self._text = self._text[at:]
        self._offset += at
        self._told = {key for key in self._told if key[2] > self._offset}
