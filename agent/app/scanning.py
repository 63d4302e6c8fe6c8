"""Files to findings, without a pipeline: what `reeve scan` does.

Every format gives texts with, for each, where in the file its characters are; findings carry places, never values.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import msgspec

from agent.engine import Detector, Engine, TextDetector, by_kind, fingerprint
from agent.model import DecodeError, Direction, Finding, Match, Sensitive
from agent.sources.containerlogs.assembly import Assembly, LogFormat
from agent.sources.containerlogs.decode import Record, parse_cri, parse_docker
from agent.sources.replay.source import open_input

Format: TypeAlias = Literal["auto", "text", "lines", "cri", "docker", "jsonl"]

# A text file is scanned in pieces of whole lines of about this size; the longest value a rule allows has 12 000
# characters.
_TEXT_BYTES = 512 * 1024
_OVERLAP_CHARACTERS = 16 * 1024
_SNIFF_BYTES = 64 * 1024


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of a file.  `line` counts from 1; `start` and `end` are characters in the text the finding is in:
    the line for `lines` and `jsonl`, the joined record for `cri` and `docker`, the file for `text`."""

    file: str
    line: int
    entity: str
    start: int
    end: int
    score: float
    kind: str
    detector: str
    length: int
    fingerprint: str


class Unscanned(msgspec.Struct, frozen=True):
    """A text, by the line it begins on, a part of which was not looked at, and why."""

    file: str
    line: int
    unscanned: str


@dataclass(slots=True)
class ScanText:
    """A text, its character offset in the whole (`text` format), and the file's lines its parts begin on."""

    text: str
    offset: int
    starts: list[int]  # characters, ascending, the first is 0
    lines: list[int]  # the file's line of each start
    seen: int = 0  # characters at the beginning that were in the text before: what ends in them was told

    def line_of(self, character: int) -> int:
        return self.lines[max(0, bisect.bisect_right(self.starts, character) - 1)]


def detected_format(beginning: bytes, name: str) -> Format:
    """The format of a file by its first lines."""
    lines = [line for line in beginning.split(b"\n")[:20] if line.strip()]
    if not lines:
        return "text"
    if sum(not isinstance(parse_cri(line), DecodeError) for line in lines) > len(lines) // 2:
        return "cri"
    if sum(not isinstance(parse_docker(line), DecodeError) for line in lines) > len(lines) // 2:
        return "docker"
    is_candidate = len(lines) > 1 or name.endswith((".jsonl", ".ndjson"))
    if is_candidate and all(line.lstrip().startswith(b"{") and _is_json(line) for line in lines[:-1] or lines):
        return "jsonl"
    return "lines" if name.endswith((".log", ".lines")) else "text"


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _record_text(record: Record) -> ScanText:
    """A record's text; marks are offsets in bytes and become offsets in characters."""
    starts, lines = [], []
    for at, line in record.marks:
        starts.append(len(record.content[:at].decode("utf-8", "replace")))
        lines.append(line)
    text = record.text
    for mark in range(1, len(starts)):
        starts[mark] = max(starts[mark], starts[mark - 1])
    return ScanText(text, 0, starts, lines)


def texts_of(file: BinaryIO, log_format: Format) -> Iterator[ScanText]:
    """All texts of an opened file."""
    match log_format:
        case "cri" | "docker":
            yield from _container_texts(file, log_format)
        case "lines" | "jsonl":
            for number, line in enumerate(file, 1):
                text = line.rstrip(b"\r\n").decode("utf-8", "replace")
                if text:
                    yield ScanText(text, 0, [0], [number])
        case _:
            yield from _text_pieces(file)


def _container_texts(file: BinaryIO, log_format: LogFormat) -> Iterator[ScanText]:
    assembly = Assembly(log_format)
    for number, line in enumerate(file, 1):
        content = line.rstrip(b"\r\n")
        groups = assembly.feed(content, number)
        if isinstance(groups, DecodeError):
            if content:  # not the runtime's: scanned as it stands rather than passed over
                yield ScanText(content.decode("utf-8", "replace"), 0, [0], [number])
            continue
        for group in groups:
            yield _record_text(group)
    for group in assembly.flush():
        yield _record_text(group)


def _text_pieces(file: BinaryIO) -> Iterator[ScanText]:
    """Pieces of whole lines, each with the end of the one before, so that a value of several lines is whole in one."""
    offset, line_number = 0, 1
    kept: list[tuple[str, int]] = []  # the last lines of the piece before, with their numbers
    while lines := file.readlines(_TEXT_BYTES):
        before = sum(len(part) for part, _ in kept)
        parts = list(kept)
        for line in lines:
            parts.append((line.decode("utf-8", "replace"), line_number))
            line_number += line.endswith(b"\n")
        starts, size = [], 0
        for part, _ in parts:
            starts.append(size)
            size += len(part)
        text = "".join(part for part, _ in parts)
        yield ScanText(text, offset - before, starts, [number for _, number in parts], before)
        offset += size - before
        kept, held = [], 0
        while parts and held + len(parts[-1][0]) <= _OVERLAP_CHARACTERS:
            kept.insert(0, parts.pop())
            held += len(kept[0][0])


Scanner: TypeAlias = Callable[[str], tuple[Sequence[Finding], str]]


def engine_scanner(engine: Engine, direction: Direction) -> Scanner:
    """As the agent scans: encodings are undone first, a finding inside a longer one is a part of it."""
    return lambda text: engine.scan_text(Sensitive(text), direction)[1:]


def plain_scanner(detectors: Sequence[Detector], direction: Direction, key: bytes) -> Scanner:
    """The detectors' own matches in the text as it stands: with the profile `presidio`, Presidio's results."""

    texts, _ = by_kind(detectors)

    def scan(text: str) -> tuple[Sequence[Finding], str]:
        findings: list[Finding] = []
        unscanned = ""
        for detector in texts:
            answer = detector.scan(text, direction)
            unscanned = unscanned or answer.unscanned
            findings += [_finding(detector, match, text, key) for match in answer.matches]
        return sorted(findings, key=lambda one: (one.start, one.end, one.entity)), unscanned

    return scan


def _finding(detector: TextDetector, match: Match, text: str, key: bytes) -> Finding:
    return Finding(
        kind=detector.kind,
        entity=match.entity,
        detector=detector.name,
        score=match.score,
        start=match.start,
        end=match.end,
        length=match.end - match.start,
        fingerprint=fingerprint(key, text[match.start : match.end], detector.kind),
    )


def scan_file(
    path: str, log_format: Format, scanner: Scanner, progress: Callable[[int], None]
) -> Iterator[Hit | Unscanned]:
    """Findings of a file, in order, and what was not scanned.  Raises OSError."""
    with open_input(path) as opened:
        file: BinaryIO = opened
        if log_format == "auto":
            beginning = file.read(_SNIFF_BYTES)
            log_format = detected_format(beginning, Path(path).name.removesuffix(".gz").removesuffix(".xz"))
            file = _Rejoined(beginning, file)
        for text in texts_of(file, log_format):
            findings, unscanned = scanner(text.text)
            progress(len(text.text))
            if unscanned:
                yield Unscanned(path, text.lines[0], unscanned)
            for finding in findings:
                if finding.end > text.seen:
                    yield _hit(path, text, finding)


class _Rejoined(io.BufferedReader):
    """What was read to find the format, and then the rest."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        super().__init__(_Chain(beginning, rest))


class _Chain(io.RawIOBase):
    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = memoryview(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk: bytes | memoryview = self._beginning[: len(buffer)]
        if chunk:
            self._beginning = self._beginning[len(chunk) :]
        else:
            chunk = self._rest.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _hit(path: str, text: ScanText, finding: Finding) -> Hit:
    return Hit(
        file=path,
        line=text.line_of(finding.start),
        entity=finding.entity,
        start=finding.start + text.offset,
        end=finding.end + text.offset,
        score=finding.score,
        kind=finding.kind,
        detector=finding.detector,
        length=finding.length,
        fingerprint=finding.fingerprint,
    )
