"""What tests measured, printed after them, so that the log of a run shows it."""

from __future__ import annotations

import pytest

_SAID = pytest.StashKey[list[tuple[str, list[str]]]]()


def said_in(config: pytest.Config, title: str, lines: list[str]) -> None:
    """Prints `lines`, as they are when all tests have run, under a title."""
    config.stash.setdefault(_SAID, []).append((title, lines))


def print_said(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """To be called when pytest sums up."""
    for title, lines in config.stash.get(_SAID, []):
        reporter.section(title)
        for line in lines:
            reporter.write_line(line)
