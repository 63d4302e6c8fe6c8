"""A model for names and places, in a process of its own: its memory is bounded, and its fall is not the agent's.

Only prompts and completions are given to it.  Texts are cut into overlapping pieces and sent in one batch; what was
asked is remembered for the scan that follows.  A model that does not answer makes its text `unscanned`.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec

from agent.config import Problem, Problems
from agent.detectors.pii import model_process
from agent.detectors.pii.config import ModelConfig
from agent.detectors.pii.model_process import ModelSettings, Span, frames, write_frame
from agent.engine import Scan
from agent.model import Match

# What a transformer sees at once is 512 word pieces: about this many characters, with room for a name at the edge.
PIECE_CHARACTERS, OVERLAP_CHARACTERS = 1500, 100
_SURROGATE = re.compile("[\ud800-\udfff]")  # halves of a character cannot be written as UTF-8
_OFFLINE = ("/usr/bin/env", "HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1")
_REMEMBERED_TEXTS = 256
_START_SECONDS = 180.0


class ModelFailed(Exception):
    """The model's process did not answer."""


class ModelClient:
    """The model, as the detector sees it."""

    def __init__(self, config: ModelConfig) -> None:
        """Starts the process.  Raises Problems if there is no such model."""
        self._config = config
        self._settings = ModelSettings(
            str(config.nlp_configuration),
            str(config.recognizer_registry or ""),
            config.language,
            config.entities,
            config.batch,
            config.memory_megabytes << 20,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: Iterator[bytes] = iter(())
        self._known: OrderedDict[str, list[Span]] = OrderedDict()
        self.restarts = -1
        why = self._start()
        if why:
            where = str(config.nlp_configuration)
            raise Problems(
                [Problem(where, 0, "detectors.pii.model", f"gives no model ({why})", "mend it or leave it out")]
            )

    def _start(self) -> str:
        """Why the process has no model; empty if it has one."""
        self.close()
        self.restarts += 1
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            # Hubs are not asked: a model is installed by the user, or it is not there.
            [*_OFFLINE, sys.executable, "-I", model_process.__file__, msgspec.json.encode(self._settings).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._answers = frames(_pipe(self._process.stdout))
        try:
            why = str(msgspec.msgpack.decode(self._answer(_START_SECONDS), type=str))
        except ModelFailed as error:
            why = str(error)
        if why:
            self.close()
        return why

    def __del__(self) -> None:
        self.close()  # a reload lets go of the detectors before

    def close(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process = None

    def _answer(self, seconds: float) -> bytes:
        """The next frame.  Raises ModelFailed."""
        process = self._process
        watch = threading.Timer(seconds, lambda: process.kill() if process else None)
        watch.start()
        try:
            body = next(self._answers, None)
        finally:
            watch.cancel()
        if body is None:
            raise ModelFailed("its process ended or gave no answer in time")
        return body

    def _asked(self, texts: list[str]) -> list[list[Span]]:
        for attempt in (1, 2):
            if self._process is None or self._process.poll() is not None:
                why = self._start()
                if why:
                    raise ModelFailed(why)
            try:
                write_frame(_pipe(self._process.stdin if self._process else None), msgspec.msgpack.encode(texts))
                body = self._answer(self._config.timeout_seconds)
                return msgspec.msgpack.decode(body, type=list[list[Span]])
            except (ModelFailed, OSError) as error:
                self.close()
                if attempt == 2:
                    raise ModelFailed(str(error)) from error
        raise ModelFailed("unreachable")

    def prepare(self, texts: Sequence[str]) -> None:
        """Ask for several texts in one batch; their scans follow.  What fails is asked again by `scan`."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if len(new) > 1:
            with contextlib.suppress(ModelFailed):
                self._learn(new)

    def _learn(self, texts: Sequence[str]) -> None:
        pieces = [
            (number, start, _SURROGATE.sub("\ufffd", text[start:end]))
            for number, text in enumerate(texts)
            for start, end in cuts(len(text))
        ]
        found: list[list[Span]] = [[] for _ in texts]
        for (number, start, _), spans in zip(pieces, self._asked([piece for *_, piece in pieces]), strict=True):
            found[number] += [(entity, begin + start, end + start, score) for entity, begin, end, score in spans]
        for text, spans in zip(texts, found, strict=True):
            self._known[text] = spans
        while len(self._known) > _REMEMBERED_TEXTS:
            self._known.popitem(last=False)

    def scan(self, text: str) -> Scan:
        """The model's findings in a text."""
        if len(text) > self._config.limit_characters:
            return Scan((), "model_text_too_long")
        if text not in self._known:
            try:
                self._learn([text])
            except ModelFailed:
                return Scan((), "model_failed")
        best: dict[tuple[str, int, int], float] = {}
        for entity, start, end, score in self._known[text]:
            best[entity, start, end] = max(score, best.get((entity, start, end), 0.0))
        return Scan([Match(entity, start, end, score) for (entity, start, end), score in best.items()])


def cuts(size: int) -> list[tuple[int, int]]:
    """Overlapping pieces of a text of some length."""
    step = PIECE_CHARACTERS - OVERLAP_CHARACTERS
    return [(start, min(size, start + PIECE_CHARACTERS)) for start in range(0, max(1, size - OVERLAP_CHARACTERS), step)]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ModelFailed("its process is gone")
    return pipe
