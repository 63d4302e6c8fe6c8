"""The process that runs a model: Presidio's own NLP engine and model recognisers, made from Presidio's own files.

Run as a program of its own by `model.py`: it imports nothing of the agent, whose Presidio has no spaCy.  Requests come
on standard input, answers go to standard output.  Nothing is downloaded: a model that is not installed is an error with
a remedy.  The process ends after an answer if it has grown over its limit, and is started again with the next request.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
from collections.abc import Iterator
from typing import IO, Any

import msgspec

FRAME = struct.Struct(">Q")
Span = tuple[str, int, int, float]


class ModelSettings(msgspec.Struct, frozen=True):
    """`nlp_configuration` and `recognizer_registry` are Presidio's own YAML files; the second may be empty."""

    nlp_configuration: str
    recognizer_registry: str
    language: str
    entities: tuple[str, ...]
    batch: int
    memory_bytes: int


def frames(source: IO[bytes]) -> Iterator[bytes]:
    """The frames of a stream, until it ends."""
    while len(head := source.read(FRAME.size)) == FRAME.size:
        (size,) = FRAME.unpack(head)
        body = source.read(size)
        if len(body) < size:
            return
        yield body


def write_frame(target: IO[bytes], body: bytes) -> None:
    target.write(FRAME.pack(len(body)) + body)
    target.flush()


class Model:
    """The engine and the recognisers that a pattern cannot replace."""

    def __init__(self, settings: ModelSettings) -> None:
        """Raises whatever Presidio raises if a file is wrong or a model is missing."""
        from presidio_analyzer import EntityRecognizer, PatternRecognizer, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine
        from presidio_analyzer.predefined_recognizers import PhoneRecognizer
        from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

        SpacyNlpEngine._download_spacy_model_if_needed = staticmethod(_refuse_download)
        self._settings = settings
        self._merged = EntityRecognizer.remove_duplicates
        self._engine = NlpEngineProvider(conf_file=settings.nlp_configuration).create_engine()
        self._engine.load()
        registry = RecognizerRegistry(supported_languages=[settings.language])
        if settings.recognizer_registry:
            registry = RecognizerRegistryProvider(conf_file=settings.recognizer_registry).create_recognizer_registry()
        else:
            registry.add_nlp_recognizer(self._engine)
        self._recognizers = [
            one
            for one in registry.recognizers
            if one.supported_language == settings.language and not isinstance(one, (PatternRecognizer, PhoneRecognizer))
        ]
        for one in self._recognizers:
            one.load()

    def spans(self, texts: list[str]) -> list[list[Span]]:
        """(entity, start, end, score) for each text."""
        settings = self._settings
        made = self._engine.process_batch(texts, settings.language, batch_size=settings.batch)
        return [self._of(text, artifacts) for text, (_, artifacts) in zip(texts, made, strict=True)]

    def _of(self, text: str, artifacts: Any) -> list[Span]:
        wanted = list(self._settings.entities)
        results: list[Any] = []
        for one in self._recognizers:
            asked = [entity for entity in one.supported_entities if not wanted or entity in wanted]
            results += one.analyze(text, asked, artifacts) or []
        return [
            (one.entity_type, one.start, one.end, float(one.score))
            for one in self._merged(results)
            if not wanted or one.entity_type in wanted
        ]


def _refuse_download(name: str) -> None:
    import importlib.util

    if importlib.util.find_spec(name) is None and not os.path.exists(name):
        raise FileNotFoundError(
            f"the model {name} is not installed; install it with pip, or name a folder that holds it"
        )


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(settings: ModelSettings, source: IO[bytes], target: IO[bytes]) -> None:
    """Answer requests until they end or the memory limit is passed.  The first frame says whether there is a model."""
    try:
        model = Model(settings)
    except Exception as error:  # noqa: BLE001 - told to the parent, which tells the user
        write_frame(target, msgspec.msgpack.encode(f"{type(error).__name__}: {error}"))
        return
    write_frame(target, msgspec.msgpack.encode(""))
    for body in frames(source):
        texts = msgspec.msgpack.decode(body, type=list[str])
        write_frame(target, msgspec.msgpack.encode(model.spans(texts)))
        if _resident_bytes() > settings.memory_bytes:
            return


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # Presidio's and spaCy's own loggers may quote text
    run(msgspec.json.decode(sys.argv[1], type=ModelSettings), sys.stdin.buffer, sys.stdout.buffer)
