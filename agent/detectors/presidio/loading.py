"""Recogniser documents from rule directories: `<rules>/<folder>/*.yaml`, less their cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.config import Problem, Problems, read, typed
from agent.detectors.presidio.document import RecognizerDocument, RecognizerFile

CASES_SUFFIX = ".test.yaml"


def recognizer_files(rules: Iterable[Path], folder: str) -> list[Path]:
    """The files of a folder below each rule directory, in order."""
    return [
        path
        for directory in rules
        for path in sorted((directory / folder).glob("*.yaml"))
        if not path.name.endswith(CASES_SUFFIX)
    ]


def recognizers_of(path: Path) -> tuple[RecognizerDocument, ...]:
    """The recognisers of one file.  Raises Problems."""
    return tuple(one for document in read(path) for one in typed(RecognizerFile, document).recognizers)


def recognizers_from(rules: Sequence[Path], folder: str) -> list[RecognizerDocument]:
    """All recognisers of a folder.  Raises Problems with the mistakes of all files."""
    documents: list[RecognizerDocument] = []
    problems: list[Problem] = []
    places: dict[str, Path] = {}
    for path in recognizer_files(rules, folder):
        try:
            found = recognizers_of(path)
        except Problems as error:
            problems += error.problems
            continue
        for one in found:
            if one.name in places:
                problems.append(Problem(str(path), 0, one.name, f"is also in {places[one.name]}", "rename one of them"))
            places[one.name] = path
        documents += found
    if problems:
        raise Problems(problems)
    return documents
