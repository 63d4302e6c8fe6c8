"""Writes to standard output, or to any text stream it is given."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from agent.model import Evaluation, Outcome, evaluation_json
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.stdout.config import StdoutConfig
from agent.sinks.stdout.ocsf import ocsf_findings
from agent.sinks.stdout.table import rows


class StdoutSink:
    """A line for each thing to tell, in the configured format."""

    def __init__(self, config: StdoutConfig, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self._config = config
        self._stream = stream

    async def open(self) -> None:
        """Nothing to get ready."""

    def _lines(self, evaluation: Evaluation, *, color: bool) -> list[str]:
        match self._config.format:
            case "table":
                return rows(evaluation, color=color)
            case "ocsf":
                return [msgspec.json.encode(finding).decode() for finding in ocsf_findings(evaluation)]
            case "json":
                is_told = self._config.all or evaluation.is_notable
                return [evaluation_json(evaluation).decode()] if is_told else []

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        stream = self._stream or sys.stdout
        color = self._config.color == "always" or (self._config.color == "auto" and stream.isatty())
        text = "".join(f"{line}\n" for evaluation in evaluations for line in self._lines(evaluation, color=color))
        if text:
            try:
                await asyncio.to_thread(_write, stream, text)
            except OSError as error:
                raise SinkUnavailable(f"standard output cannot be written: {error.strerror}") from error
        return [Outcome.DELIVERED] * len(evaluations)

    async def close(self) -> None:
        """Nothing to let go."""


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def build(config: StdoutConfig, name: str, surroundings: Surroundings) -> StdoutSink:
    del surroundings
    return StdoutSink(config, name)
