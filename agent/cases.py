"""Runs the cases that stand beside rules and policies, through the same detectors, decoders and judge as the agent.

A case file `x.test.yaml` belongs to `x.yaml`.  Every file needs a case that fires, a near miss and an unrelated one.
Texts may be given as a list of parts that are joined, so that a made-up secret does not look like one in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pydantic
from pydantic import Field

from agent.config import Document, Problem, Problems, read, typed
from agent.detectors import pii, secrets, traffic
from agent.detectors.presidio.loading import CASES_SUFFIX, recognizer_files, recognizers_of
from agent.detectors.traffic.catalogue import Catalogue, catalogue_files, entries_of
from agent.engine import Detector, Engine, TextDetector, by_kind
from agent.model import (
    DecodeError,
    Direction,
    Endpoint,
    Event,
    LogRecord,
    LossReport,
    NetworkActivity,
    Resource,
    Sensitive,
    StatusReport,
)
from agent.policy import Compiler, PolicyJudge, digest_of
from agent.resolve import Resolver
from agent.sources.hubble import event_from_json as hubble_event
from agent.sources.replay.prompts import event_from_line as prompt_event
from agent.sources.tetragon import event_from_json as tetragon_event

Why = Literal["fires", "near miss", "unrelated"]
_WANTED: tuple[Why, ...] = ("fires", "near miss", "unrelated")


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


Joined = str | tuple[str, ...]


def joined(text: Joined) -> str:
    return text if isinstance(text, str) else "".join(text)


class WantedFinding(_Strict):
    entity: str
    value: Joined


class RecognizerCase(_Strict):
    why: Why
    text: Joined
    finds: tuple[WantedFinding, ...]
    note: str = ""
    direction: Direction = "log"


class RecognizerCases(_Strict):
    cases: Annotated[tuple[RecognizerCase, ...], Field(min_length=1)]


class PolicyCase(_Strict):
    """`source` says how `input` is decoded; `expect` names each rule that gives a result, and its status."""

    why: Why
    source: Literal["tetragon", "hubble", "prompts", "log", "loss", "status", "network"]
    input: dict[str, Any]
    expect: dict[str, Literal["pass", "fail", "warn", "error", "skip"]]
    note: str = ""


class PolicyCases(_Strict):
    cases: Annotated[tuple[PolicyCase, ...], Field(min_length=1)]


@dataclass(slots=True)
class Report:
    """How the cases of one file ended; `failures` are texts with place, what was wanted and what came."""

    file: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)


def _complete(document: Document, reasons: Sequence[Why]) -> list[str]:
    missing = [why for why in _WANTED if why not in reasons]
    return [f"{document.file}:1: has no case that is {why!r}" for why in missing]


def _case_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".yaml") + CASES_SUFFIX)


def _documents(path: Path) -> Document | str:
    cases = _case_file(path)
    if not cases.exists():
        return f"{path}: has no cases; write {cases.name} beside it"
    documents = read(cases)
    return documents[0] if len(documents) == 1 else f"{cases}: holds {len(documents)} documents; keep one"


def run_rule_cases(rules: Sequence[Path]) -> Iterator[Report]:
    """Cases of all recognisers and of the provider catalogue.  Raises Problems if a document or case file is broken."""
    folders: tuple[tuple[str, TextDetector], ...] = (
        (pii.FOLDER, pii.PiiDetector(pii.PiiConfig(), _all(rules, pii.FOLDER))),
        (secrets.FOLDER, secrets.SecretsDetector(secrets.SecretsConfig(), _all(rules, secrets.FOLDER))),
    )
    for folder, detector in folders:
        for path in recognizer_files(rules, folder):
            entities = {one.supported_entity for one in recognizers_of(path)}
            yield _recognizer_report(path, detector, entities)
    yield from run_provider_cases(rules)


class WantedThreat(_Strict):
    entity: str
    rule: str = ""


class ProviderCase(_Strict):
    """`before` are inputs that came first (the answers of a name server); `finds` are threats, in order."""

    why: Why
    source: Literal["tetragon", "hubble"]
    before: tuple[dict[str, Any], ...] = ()
    input: dict[str, Any]
    finds: tuple[WantedThreat, ...]
    note: str = ""


class ProviderCases(_Strict):
    cases: Annotated[tuple[ProviderCase, ...], Field(min_length=1)]


def run_provider_cases(rules: Sequence[Path]) -> Iterator[Report]:
    """Cases of the provider catalogue, each file's against the whole of it.  Raises Problems."""
    files = catalogue_files(rules)
    entries = entries_of(files)
    detector = traffic.TrafficDetector(traffic.TrafficConfig(), Catalogue(entries))
    for path in files:
        report = Report(str(path))
        document = _documents(path)
        if isinstance(document, str):
            report.failures.append(document)
            yield report
            continue
        cases = typed(ProviderCases, document).cases
        report.failures += _complete(document, [case.why for case in cases])
        for number, case in enumerate(cases):
            found = _threats(case, detector)
            wanted = [(one.entity, one.rule) for one in case.finds]
            if isinstance(found, str) or found != wanted:
                difference = found if isinstance(found, str) else _difference(wanted, found)
                report.failures.append(
                    f"{document.file}:{document.line_of(('cases', number))}: {case.why}: {difference}"
                )
                continue
            report.passed += 1
        yield report


def _threats(case: ProviderCase, detector: traffic.TrafficDetector) -> list[tuple[str, str]] | str:
    """What the detector says of a case's input after the inputs before it; a text if one does not decode."""
    resolver = Resolver()
    engine = Engine(text_detectors=(), event_detectors=(detector,), fingerprint_key=bytes(32))
    found: list[tuple[str, str]] = []
    for given in (*case.before, case.input):
        event = event_of(PolicyCase(why=case.why, source=case.source, input=given, expect={}))
        if isinstance(event, DecodeError):
            return f"an input does not decode: {event.name}"
        found = [(one.entity, one.rule) for one in engine.evaluate(resolver(event) or event).findings]
    return found


def _all(rules: Sequence[Path], folder: str) -> list[Any]:
    return [one for path in recognizer_files(rules, folder) for one in recognizers_of(path)]


def _recognizer_report(path: Path, detector: TextDetector, entities: set[str]) -> Report:
    report = Report(str(path))
    document = _documents(path)
    if isinstance(document, str):
        report.failures.append(document)
        return report
    cases = typed(RecognizerCases, document).cases
    report.failures += _complete(document, [case.why for case in cases])
    for number, case in enumerate(cases):
        text = joined(case.text)
        found = sorted(
            (match.entity, text[match.start : match.end])
            for match in detector.scan(text, case.direction).matches
            if match.entity in entities
        )
        wanted = sorted((one.entity, joined(one.value)) for one in case.finds)
        if found == wanted:
            report.passed += 1
            continue
        line = document.line_of(("cases", number))
        report.failures.append(f"{document.file}:{line}: {case.why}: " + _difference(wanted, found))
    return report


def _difference(wanted: Sequence[Any], found: Sequence[Any]) -> str:
    lines = [f"\n    - wanted, not found: {one}" for one in wanted if one not in found]
    lines += [f"\n    + found, not wanted: {one}" for one in found if one not in wanted]
    return "".join(lines).lstrip("\n") if lines else "the number of findings differs"


def run_policy_cases(files: Sequence[Path], engine_detectors: Sequence[Detector]) -> Iterator[Report]:
    """Cases of policy files, each file on its own.  Raises Problems if a policy or a case file is broken."""
    compiler = Compiler()
    texts, events = by_kind(engine_detectors)
    for path in files:
        report = Report(str(path))
        rules = compiler.compile(read(path))
        judge = PolicyJudge(compiler, rules, digest_of([path.read_bytes()]))
        engine = Engine(text_detectors=texts, event_detectors=events, judge=judge, fingerprint_key=bytes(32))
        document = _documents(path)
        if isinstance(document, str):
            report.failures.append(document)
            yield report
            continue
        cases = typed(PolicyCases, document).cases
        report.failures += _complete(document, [case.why for case in cases])
        names = {rule.document.name for rule in rules}
        for number, case in enumerate(cases):
            line = document.line_of(("cases", number))
            unknown = sorted(set(case.expect) - names)
            if unknown:
                raise Problems(
                    [document.problem(("cases", number, "expect"), f"{unknown[0]!r} is no rule of {path.name}")]
                )
            event = event_of(case)
            if isinstance(event, Event) and case.source != "network":  # which is given as the resolver leaves it
                event = Resolver()(event) or event
            if isinstance(event, DecodeError):
                report.failures.append(f"{document.file}:{line}: the input does not decode: {event.name}")
                continue
            results = {result.rule: result for result in engine.evaluate(event).results}
            came = {rule: result.status for rule, result in results.items()}
            # A rule that the case does not speak of may pass or skip beside the one it is about.
            told = {
                rule: status for rule, status in came.items() if rule in case.expect or status not in ("pass", "skip")
            }
            if told == case.expect:
                report.passed += 1
                continue
            report.failures.append(f"{document.file}:{line}: {case.why}:" + _status_difference(case.expect, told))
        yield report


def _status_difference(wanted: dict[str, Any], came: dict[str, Any]) -> str:
    return "".join(
        f"\n    {rule}: wanted {wanted.get(rule, 'no result')}, came {came.get(rule, 'no result')}"
        for rule in sorted({*wanted, *came})
        if wanted.get(rule) != came.get(rule)
    )


def event_of(case: PolicyCase) -> Event | DecodeError:
    """The event a case's input stands for."""
    given = {key: joined(value) if _is_parts(value) else value for key, value in case.input.items()}
    line = json.dumps(given).encode()
    match case.source:
        case "tetragon":
            return tetragon_event(line)
        case "hubble":
            return hubble_event(line)
        case "prompts":
            return prompt_event(line)
        case "log":
            text = str(given.pop("text", ""))
            resource = Resource(**{key: str(value) for key, value in given.items()})  # type: ignore[arg-type]
            return Event(id="case", source="containerlogs", body=LogRecord(text=Sensitive(text)), resource=resource)
        case "loss":
            return Event(id="case", source="case", body=msgspec.convert(given, LossReport))
        case "status":
            return Event(id="case", source="case", body=StatusReport(**given))
        case "network":
            values: dict[str, Any] = dict(given)
            for side in ("source", "destination"):
                values[side] = msgspec.convert(values.get(side, {}), Endpoint)
            return Event(id="case", source="case", body=NetworkActivity(**values))


def _is_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


__all__ = ["Problem", "Report", "event_of", "joined", "run_policy_cases", "run_provider_cases", "run_rule_cases"]
