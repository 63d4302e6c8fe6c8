"""Mistakes people can mend: place, fact, remedy.  All of a file's mistakes are told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` is a path inside the document (`spec.rules[0].match`), `line` counts from 1, 0 when unknown."""

    file: str
    line: int
    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        middle = f": {self.where}" if self.where else ""
        return f"{place}{middle}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


class Problems(Exception):
    """One or more mistakes in files; nothing of what they describe is in force."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or what is known if nothing is near."""
    names = sorted(set(known))
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{lowered[near[0]]}"?'
    shown = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    return f"known: {shown}" if names else ""
