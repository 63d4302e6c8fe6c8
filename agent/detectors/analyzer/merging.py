"""Presidio's rule for what is kept of overlapping results of one entity, over plain tuples.

A result without a score is none; one that lies inside another of at least its score is a part of it.
"""

from __future__ import annotations

from typing import TypeAlias

Found: TypeAlias = tuple[int, int, float]
"""Start, end and score."""


def merged(found: list[Found]) -> list[Found]:
    """What is kept, by start and then the longer first.  The same as `EntityRecognizer.remove_duplicates`."""
    if len(found) == 1:
        return found if found[0][2] else []
    kept: list[Found] = []
    active: list[Found] = []
    for one in sorted(set(found), key=_order):
        start, end, score = one
        if not score:
            continue
        active = [other for other in active if other[1] >= start]
        for other in active:
            if end <= other[1] and score <= other[2]:
                break
        else:
            kept.append(one)
            active.append(one)
    return kept


def _order(one: Found) -> tuple[int, int, float]:
    return one[0], -one[1], -one[2]
