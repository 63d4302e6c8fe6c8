"""Detect, mask, judge: `Engine.evaluate` turns an event into an evaluation.

Masking comes before judging, so that neither a policy nor a message made by one ever sees a raw value.  No clock, no
chance, no I/O: the fingerprint and cache keys are given, and a recorded event always gives the same evaluation.
Texts longer than a piece are scanned in overlapping pieces; what is over the limit is not scanned, said so, and cut
out, because text that nobody looked at must not be passed on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, get_args

import msgspec

from agent.engine.cache import ScanCache, Scanned
from agent.engine.contracts import EventDetector, Judge, Scan, TextDetector
from agent.engine.fingerprint import fingerprint
from agent.engine.flatten import Flat, flatten
from agent.engine.mask import Span, masked
from agent.engine.memory import MaskMemory, Note
from agent.engine.texts import CREDENTIAL, Place, Rewrite, struct_with_texts, texts_of, with_texts
from agent.model import Direction, Evaluation, Event, Finding, GenAiOperation, Match, PolicyResult, Sensitive

# 32 Ki characters: one scan call stays near 0.3 s with plain Presidio at 0.1 MB/s (facts: 8 KB prompts 91 ms).
PIECE_CHARACTERS = 48 * 1024
# The longest value a shipped rule allows has 12 000 characters (PEM, JWT): any value lies whole in some piece.
OVERLAP_CHARACTERS = 16 * 1024
# A cut at the limit falls on a blank if there is one this near, so that no value is cut in two and half of it shown.
_CUT_CHARACTERS = 1024


Prepare: TypeAlias = Callable[[Sequence[tuple[str, Direction]]], None]


class _Hit(msgspec.Struct, frozen=True):
    """A match with its detector and its place in the flat and in the original text."""

    detector: TextDetector
    match: Match
    start: int
    end: int


class Engine:
    """One set of detectors and policies; a reload makes another one, and the pipeline swaps them between two events."""

    def __init__(
        self,
        *,
        text_detectors: Sequence[TextDetector],
        event_detectors: Sequence[EventDetector] = (),
        judge: Judge | None = None,
        fingerprint_key: bytes,
        cache: ScanCache | None = None,
        limit_characters: int = 1024 * 1024,
    ) -> None:
        self._text_detectors = tuple(text_detectors)
        self._event_detectors = tuple(event_detectors)
        # A detector may have a `prepare`, to be told of an event's texts before they are scanned one by one.
        self._prepares: list[Prepare] = [made for one in text_detectors if (made := getattr(one, "prepare", None))]
        self._judge = judge
        self._key = fingerprint_key
        self._limit = limit_characters
        self._memory = MaskMemory()
        self.cache = cache

    @property
    def policy_digest(self) -> str:
        return self._judge.digest if self._judge else ""

    def evaluate(self, event: Event, *, is_window_complete: bool = True) -> Evaluation:
        """The evaluation of one event; its texts are masked and hold no found value any more."""
        notes: list[Note] = []

        def rewrite(place: Place, text: Sensitive) -> str:
            return self._rewritten(place, text, notes)

        def remembered(struct: Any, path: str, direction: Direction, _: Rewrite) -> Any:
            def make(own: list[Note]) -> Any:
                return struct_with_texts(struct, direction, lambda place, text: self._rewritten(place, text, own))

            return self._memory.masked(struct, path, direction, notes, make)

        if self._prepares:
            texts = [(flatten(text.reveal()).text, place.direction) for place, text in texts_of(event.body)]
            for prepare in self._prepares:
                # What a batch cannot do, the scans that follow do one by one, or tell.
                with contextlib.suppress(Exception):
                    prepare(texts)
        body = with_texts(event.body, rewrite, remembered)
        resource = remembered(event.resource, "resource", "network", rewrite)
        clean = event
        if body is not event.body or resource is not event.resource:
            clean = msgspec.structs.replace(event, body=body, resource=resource)
        findings, unscanned = _told(notes)
        if isinstance(event.body, GenAiOperation):
            findings = _new(findings, event.body)
        for detector in self._event_detectors:
            findings.extend(detector.examine(clean))
        results = self._judge.judge(clean, findings) if self._judge else ()
        if unscanned:
            results = [_unsure(result, unscanned) for result in results]
        return Evaluation(
            event=clean,
            findings=tuple(findings),
            results=tuple(results),
            unscanned=tuple(unscanned),
            policy_digest=self.policy_digest,
            is_window_complete=is_window_complete,
        )

    def _rewritten(self, place: Place, text: Sensitive, notes: list[Note]) -> str:
        """The masked text; noted if there is something to say of it."""
        if place.field == CREDENTIAL:
            notes.append((place, len(text), self._credential(text.reveal())))
            return "[CREDENTIAL]"
        scanned = self._scanned(text.reveal(), place.direction, place.label)
        if scanned.findings or scanned.unscanned:
            notes.append((place, len(text), scanned))
        return scanned.masked

    def _credential(self, value: str) -> Scanned:
        """The finding for a value that is a credential because of where it stands."""
        finding = Finding(
            kind="secret",
            entity="CREDENTIAL",
            detector="engine",
            score=1.0,
            end=len(value),
            length=len(value),
            fingerprint=fingerprint(self._key, value, "secret"),
        )
        return Scanned("[CREDENTIAL]", (finding,), "")

    def warm(self) -> None:
        """Scan a text in each direction, so that what detectors make ready at first use is ready.

        Building a prefilter for the first time on a node takes seconds; the first prompt must not wait for it.
        """
        for direction in get_args(Direction):
            self._scan("a", direction, "")

    def scan_text(self, text: Sensitive, direction: Direction) -> tuple[str, tuple[Finding, ...], str]:
        """Masked text, findings (offsets in the original) and why a part was not scanned, for one text on its own."""
        scanned = self._scanned(text.reveal(), direction)
        return scanned.masked, scanned.findings, scanned.unscanned

    def _scanned(self, text: str, direction: Direction, label: str = "") -> Scanned:
        if not text:
            return Scanned("", (), "")
        if self.cache is None:
            return self._scan(text, direction, label)
        key = self.cache.key_of(f"{len(label)}:{label}{text}", direction)
        scanned = self.cache.get(key)
        if scanned is None:
            scanned = self._scan(text, direction, label)
            self.cache.put(key, scanned)
        return scanned

    def _scan(self, text: str, direction: Direction, label: str) -> Scanned:
        """Scan one text.  A label (a header's name, a variable's) is context: `authorization: Bearer ...`."""
        unscanned = ""
        whole = text
        if len(text) > self._limit:
            text, unscanned = _cut(text, self._limit), "text_too_long"
        prefix = f"{label}: " if label else ""
        flat = flatten(prefix + text)
        hits: list[_Hit] = []
        spans: list[Span] = []
        for offset, piece in _pieces(flat.text):
            for detector in self._text_detectors:
                scan = _scan_of(detector, piece, direction)
                if scan.unscanned:
                    unscanned = unscanned or scan.unscanned
                    spans.append((*flat.origin(offset, offset + len(piece)), "UNSCANNED"))
                hits += [_hit(flat, detector, match, offset) for match in scan.matches]
        kept = [hit for hit in _resolved(hits) if hit.end > len(prefix)]
        findings = tuple(self._finding(flat, hit, len(prefix)) for hit in kept)
        spans += [(hit.start, hit.end, hit.match.entity) for hit in kept]
        clean = masked(text, [(max(0, start - len(prefix)), end - len(prefix), name) for start, end, name in spans])
        if len(whole) > len(text):
            clean += f"[UNSCANNED {len(whole) - len(text)} characters]"
        return Scanned(clean, findings, unscanned)

    def _finding(self, flat: Flat, hit: _Hit, prefix: int) -> Finding:
        match = hit.match
        value = flat.text[match.start : match.end]
        kind = hit.detector.kind
        return Finding(
            kind=kind,
            entity=match.entity,
            detector=hit.detector.name,
            score=round(match.score, 4),
            start=max(0, hit.start - prefix),
            end=hit.end - prefix,
            length=len(value),
            fingerprint=fingerprint(self._key, value, kind),
        )


def _told(notes: Sequence[Note]) -> tuple[list[Finding], list[str]]:
    """Findings in their places, and why parts were not scanned."""
    findings: list[Finding] = []
    unscanned: list[str] = []
    for place, size, scanned in notes:
        for finding in scanned.findings:
            findings.append(
                msgspec.structs.replace(finding, field=place.field, direction=place.direction, role=place.role)
            )
        if scanned.unscanned:
            findings.append(_unscanned(place, size, scanned.unscanned))
            if scanned.unscanned not in unscanned:
                unscanned.append(scanned.unscanned)
    return findings, unscanned


def _new(findings: list[Finding], body: GenAiOperation) -> list[Finding]:
    """Without those that the operation before this one told of a text that grows, or the next one will tell."""
    parts = {
        f"genai.messages[{number}].text": (one.new_from, one.new_until)
        for number, one in enumerate(body.messages)
        if one.new_until
    }
    if not parts:
        return findings

    def is_new(finding: Finding) -> bool:
        after, until = parts.get(finding.field, (-1, finding.end))
        return after < finding.end <= until

    return [one for one in findings if one.kind == "unscanned" or is_new(one)]


def _scan_of(detector: TextDetector, text: str, direction: Direction) -> Scan:
    """The detector's answer.  One that fails has not scanned the text: it is cut out, and the event goes on."""
    try:
        return detector.scan(text, direction)
    except Exception:  # noqa: BLE001 - hostile text that breaks one recogniser must not hide a whole event
        return Scan((), "detector_failed")


def _cut(text: str, limit: int) -> str:
    """The text up to the limit, less a last word that the limit would cut."""
    head = text[:limit]
    blank = max(head.rfind(" ", limit - _CUT_CHARACTERS), head.rfind("\n", limit - _CUT_CHARACTERS))
    return head[: blank + 1] if blank >= 0 else head[: limit - _CUT_CHARACTERS]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(offset, piece) of overlapping pieces."""
    step = PIECE_CHARACTERS - OVERLAP_CHARACTERS
    offset = 0
    while len(text) - offset > PIECE_CHARACTERS:
        yield offset, text[offset : offset + PIECE_CHARACTERS]
        offset += step
    yield offset, text[offset:] if offset else text


def _unscanned(place: Place, size: int, why: str) -> Finding:
    """The finding that says that a text was not looked at whole."""
    return Finding(
        kind="unscanned",
        entity="UNSCANNED",
        detector="engine",
        score=1.0,
        field=place.field,
        direction=place.direction,
        role=place.role,
        end=size,
        length=size,
        rule=why,
    )


def _unsure(result: PolicyResult, unscanned: Sequence[str]) -> PolicyResult:
    """A pass about something that was not looked at whole is no pass."""
    if result.status != "pass":
        return result
    message = f"a part of the event was not scanned: {', '.join(unscanned)}"
    return msgspec.structs.replace(result, status="error", message=message)


def _hit(flat: Flat, detector: TextDetector, match: Match, offset: int) -> _Hit:
    placed = Match(match.entity, match.start + offset, match.end + offset, match.score)
    return _Hit(detector, placed, *flat.origin(placed.start, placed.end))


def _resolved(hits: Sequence[_Hit]) -> list[_Hit]:
    """Hits in order of place, each once; what lies inside a secret or a longer and surer hit is a part of it."""
    best: dict[tuple[str, int, int], _Hit] = {}
    for hit in hits:
        key = (hit.match.entity, hit.start, hit.end)
        if key not in best or hit.match.score > best[key].match.score:
            best[key] = hit
    kept: list[_Hit] = []
    # By start, longer first: whatever holds a hit comes before it, and only what still reaches over it is asked.
    reaching: list[_Hit] = []
    order = sorted(
        best.values(), key=lambda hit: (hit.start, -hit.end, hit.detector.kind != "secret", hit.match.entity)
    )
    for hit in order:
        reaching = [other for other in reaching if other.end > hit.start]
        if not any(_holds(other, hit) for other in reaching):
            kept.append(hit)
            reaching.append(hit)
    return sorted(kept, key=lambda hit: (hit.start, hit.end, hit.match.entity))


def _holds(outer: _Hit, hit: _Hit) -> bool:
    """Whether a hit is only a part of another one."""
    if not (outer.start <= hit.start and hit.end <= outer.end):
        return False
    if outer.detector.kind == "secret" or outer.match.entity == hit.match.entity:
        return True
    return outer.match.score >= hit.match.score and outer.end - outer.start > hit.end - hit.start
