"""A text that grows, told part by part: a leak in an answer that is streamed for minutes is told while it comes.

A value may be cut anywhere.  Each part therefore brings along what came before it, as far as a value and the words
beside it reach, and says where findings are new: those that end behind what was told before, and far enough before the
end that more text cannot change them.  So nothing is missed that a scan of the whole would find, and nothing is told
twice; the engine needs no memory of the stream.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from agent.sources.exchanges import Heard

# The longest value a shipped rule allows has 12 000 characters (PEM, JWT), and its context stands within 100.
LEAD_CHARACTERS = 16 * 1024
# A match that ends this far before the end of what has come has seen its end, and the word behind it.
HOLD_CHARACTERS = 256

_BLANK = re.compile(r"\s")


class Part(NamedTuple):
    """A piece of a text.  New is what ends behind `new_from` and not behind `new_until`, places in the piece."""

    text: str
    new_from: int
    new_until: int


def part_of(
    text: str,
    heard: Heard | None,
    *,
    is_whole: bool,
    lead: int = LEAD_CHARACTERS,
    hold: int = HOLD_CHARACTERS,
) -> tuple[Part | None, Heard | None]:
    """What is new of a text, None if nothing is; and what is told of it then.  `is_whole`: no more comes."""
    before = heard.characters if heard is not None and heard.digest == _digest(text[: heard.characters]) else 0
    until = len(text) if is_whole else len(text) - hold
    if until <= before:
        return None, heard
    start = _start(text, before - lead, lead)
    return Part(text[start:], before - start, until - start), Heard(until, _digest(text[:until]))


def _start(text: str, cut: int, lead: int) -> int:
    """Behind a blank, if there is one near: a word that is cut in two is another word."""
    if cut <= 0:
        return 0
    blank = _BLANK.search(text, cut, cut + lead // 2)
    return blank.end() if blank else cut


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
