"""Rules and policies from disk to an engine: everything is compiled and checked before anything is in force."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agent.config import Document, Problem, Problems, Settings, parse, read_text, typed
from agent.engine import Detector, Engine, ScanCache, by_kind
from agent.plugins import Surroundings, spec_of
from agent.policy import Compiler, PolicyJudge, digest_of

CASES_SUFFIX = ".test.yaml"


def policy_files(directories: Sequence[Path]) -> list[Path]:
    """Policy documents below the directories (or the files themselves), in order, less their cases."""
    files: list[Path] = []
    for directory in directories:
        found = [directory] if directory.is_file() else sorted(directory.rglob("*.yaml"))
        # `..data` and `..2026_...` are how a mounted ConfigMap keeps its versions; the links beside them are the files.
        files += [
            path
            for path in found
            if not path.name.endswith(CASES_SUFFIX)
            and not any(part.startswith("..") for part in path.relative_to(directory).parts)
        ]
    return files


def load_judge(directories: Sequence[Path], compiler: Compiler | None = None) -> PolicyJudge:
    """A judge over all policies.  Raises Problems with the mistakes of all files."""
    problems: list[Problem] = []
    documents: list[Document] = []
    texts: list[bytes] = []
    for directory in directories:
        if not directory.exists():
            problems.append(Problem(str(directory), 0, "", "does not exist", "mend `policies` in the configuration"))
    for path in policy_files(directories):
        try:
            text = read_text(path)
            documents += parse(text, str(path))
            texts.append(text.encode())
        except Problems as error:
            problems += error.problems
    compiler = compiler or Compiler()
    try:
        rules = compiler.compile(documents)
    except Problems as error:
        problems += error.problems
    if problems:
        raise Problems(problems)
    return PolicyJudge(compiler, rules, digest_of(texts))


def load_detectors(settings: Settings, surroundings: Surroundings, file: str = "") -> list[Detector]:
    """The configured detectors, secrets first.  Raises Problems."""
    detectors: list[Detector] = []
    problems: list[Problem] = []
    for directory in surroundings.rules:
        if not directory.exists():
            problems.append(Problem(str(directory), 0, "", "does not exist", "mend `rules` in the configuration"))
    for name, config in settings.detectors.items():
        try:
            spec = spec_of("detectors", plugin_name(name, config), settings.foreign_plugins, file)
            typed_config = typed(spec.config, Document(file, plugin_settings(config)))
            detectors.append(spec.build(typed_config, name, surroundings))
        except Problems as error:
            problems += error.problems
    if problems:
        raise Problems(problems)
    return detectors


def plugin_name(name: str, config: dict[str, object] | None) -> str:
    """The plug-in of a configured name: its `type`, else the name itself."""
    return str((config or {}).get("type", name))


def plugin_settings(config: dict[str, object] | None) -> dict[str, object]:
    return {key: value for key, value in (config or {}).items() if key != "type"}


def make_engine(
    settings: Settings, detectors: Sequence[Detector], judge: PolicyJudge | None, fingerprint_key: bytes
) -> Engine:
    """An engine with an empty cache; its cache key lives as long as it does."""
    size = settings.pipeline.scan_cache_bytes
    texts, events = by_kind(detectors)
    return Engine(
        text_detectors=texts,
        event_detectors=events,
        judge=judge,
        fingerprint_key=fingerprint_key,
        cache=ScanCache(os.urandom(32), size) if size else None,
        limit_characters=settings.pipeline.text_limit_characters,
    )
