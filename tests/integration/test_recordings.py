"""Logs recorded with planted, made-up personal data: every value of a type that a pattern can find is found."""

import gzip
import json
import re
from collections import defaultdict

import pytest

from agent.app.loading import load_detectors, make_engine
from agent.app.running import settings_from, surroundings_of
from agent.app.scanning import texts_of
from agent.engine import flatten
from agent.model import Sensitive

# No pattern tells a person's name from two words with capitals; this wants a model (issue: names and addresses).
NOT_BY_PATTERN = {"PERSON"}


@pytest.fixture(scope="module")
def engine(rules):
    settings = settings_from(rules=(rules,))
    return make_engine(settings, load_detectors(settings, surroundings_of(settings)), None, b"k" * 32)


@pytest.fixture(scope="module")
def scanned(recordings, engine):
    """(text, masked, findings) of every record of the pod's rotated and live logs."""
    directory = next((recordings / "logs" / "var" / "log" / "pods").glob("*/app"))
    result = []
    for path in sorted(directory.iterdir(), key=lambda one: (one.name == "0.log", one.name)):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for text in texts_of(file, "cri"):
                masked, findings, unscanned = engine.scan_text(Sensitive(text.text), "log")
                assert unscanned == ""
                result.append((text.text, masked, findings))
    return result


@pytest.fixture(scope="module")
def planted(recordings):
    return json.loads((recordings / "ground_truth.json").read_text())["planted"]


def test_every_planted_value_that_a_pattern_can_find_is_masked(scanned, planted):
    seen, missed = 0, defaultdict(int)
    for one in planted:
        for text, masked, _ in scanned:
            if one["value"] not in text and one["value"] not in flatten(text).text:
                continue
            seen += 1
            if one["value"] in masked or one["value"] in flatten(masked).text:
                missed[one["type"], one["value"]] += 1
    assert seen > 200
    assert {kind for kind, _ in missed} <= NOT_BY_PATTERN


def test_nothing_else_is_reported(scanned, planted):
    values = [one["value"] for one in planted]
    others = []
    for text, _, findings in scanned:
        for finding in findings:
            value = flatten(text[finding.start : finding.end]).text.replace("+", " ").strip()
            plain = re.sub(r"[^0-9A-Za-z]", "", value)
            if not any(
                re.sub(r"[^0-9A-Za-z]", "", known) in plain or plain in re.sub(r"[^0-9A-Za-z]", "", known)
                for known in values
            ):
                others.append((finding.entity, len(value)))
    assert {entity for entity, _ in others} <= {"URL_WITH_TOKEN"}  # the planted URL, with its escapes undone


def test_masked_json_lines_are_json(scanned):
    checked = 0
    for text, masked, _ in scanned:
        try:
            json.loads(text)
        except ValueError:
            continue
        json.loads(masked)
        checked += 1
    assert checked > 25


def test_the_same_value_has_one_fingerprint_in_every_encoding(scanned):
    fingerprints = defaultdict(set)
    for text, _, findings in scanned:
        for finding in findings:
            if finding.entity == "EMAIL_ADDRESS":
                fingerprints[flatten(text[finding.start : finding.end]).text].add(finding.fingerprint)
    assert len(fingerprints) >= 5
    assert all(len(one) == 1 for one in fingerprints.values())


def test_docker_logs_give_the_same_findings(recordings, engine, scanned):
    path = next((recordings / "logs" / "var" / "lib" / "docker").rglob("*-json.log"))
    with path.open("rb") as file:
        findings = [engine.scan_text(Sensitive(text.text), "log")[1] for text in texts_of(file, "docker")]
    count = sum(len(one) for one in findings)
    assert count == sum(len(one) for _, _, one in scanned) > 200
