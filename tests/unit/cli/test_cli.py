"""agent.cli: .root, .running, .scanning, .replaying, .documents, .audit, .demo, .completion; as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from agent.cli.root import main
from tests.conftest import ROOT

REEVE = [sys.executable, "-m", "agent"]
PLANTED = "jane.doe@acme.com"


def reeve(*words, stdin=None):
    return CliRunner().invoke(main, [str(word) for word in words], input=stdin)


def run(*words, stdin=b""):
    return subprocess.run([*REEVE, *map(str, words)], input=stdin, capture_output=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run"],
        ["scan"],
        ["replay"],
        ["check"],
        ["policies", "list"],
        ["policies", "test"],
        ["rules", "list"],
        ["rules", "test"],
        ["audit", "verify"],
        ["demo"],
        ["completion"],
    ],
)
def test_every_command_has_help(words):
    result = reeve(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_does_not_load_presidio():
    code = "import sys; from agent.cli.root import main; main(['--help'], standalone_mode=False); assert 'presidio_analyzer' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_command_that_is_none_is_a_usage_mistake():
    assert reeve("scna").exit_code == 2


def test_scan_json_gives_places_and_never_the_value(tmp_path):
    path = tmp_path / "a.log"
    path.write_text(f"x\nmail {PLANTED} now\n")
    result = reeve("scan", "--json", path)
    assert result.exit_code == 1
    (hit,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (hit["file"], hit["line"], hit["entity"], hit["start"], hit["end"]) == (str(path), 2, "EMAIL_ADDRESS", 5, 22)
    assert hit["score"] == 1.0
    assert PLANTED not in result.output


def test_scan_reads_standard_input_directories_and_compressed_files(tmp_path):
    import gzip

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.log.gz").write_bytes(gzip.compress(PLANTED.encode()))
    (tmp_path / "b.txt").write_text("nothing")
    result = reeve("scan", tmp_path)
    assert result.exit_code == 1
    assert "a.log.gz:1: EMAIL_ADDRESS" in result.stdout
    assert run("scan", "--format", "lines", "-", stdin=f"a\n{PLANTED}\n".encode()).stdout.startswith(
        b"-:2: EMAIL_ADDRESS"
    )


def test_scan_of_nothing_is_good_and_of_no_file_is_a_mistake(tmp_path):
    (tmp_path / "a.log").write_text("all quiet\n")
    assert reeve("scan", tmp_path).exit_code == 0
    result = reeve("scan", tmp_path / "none")
    assert result.exit_code == 2
    assert "no such file" in result.stderr


@pytest.mark.parametrize(("profile", "found"), [("logs", False), ("prompts", True), ("presidio", True)])
def test_scan_profiles(tmp_path, profile, found):
    (tmp_path / "a.txt").write_text("from 203.0.113.77\n")
    result = reeve("scan", "--profile", profile, tmp_path / "a.txt")
    assert ("IP_ADDRESS" in result.stdout) is found


PROMPTS = f'{{"prompt": "mail {PLANTED}"}}\nnonsense\n{{"prompt": "hello"}}\n'


def test_replay_judges_and_counts(tmp_path):
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    result = reeve("replay", "--source", "prompts", "--json", "--ledger", tmp_path / "l.json", tmp_path / "p.jsonl")
    assert result.exit_code == 1
    evaluations = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(evaluations) == 2
    assert evaluations[0]["results"]
    totals = json.loads((tmp_path / "l.json").read_text())
    assert (totals["read"], totals["events"], totals["decode_errors"]) == (3, 2, {"not_json": 1})
    assert (totals["evaluations"], totals["violations"]) == (2, 1)
    assert PLANTED not in result.output + json.dumps(totals)


def test_replay_shows_a_table_or_ocsf(tmp_path):
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    assert "pii-in-prompts/no-personal-data fail" in reeve("replay", "--source", "prompts", tmp_path / "p.jsonl").stdout
    ocsf = reeve("replay", "--source", "prompts", "--ocsf", tmp_path / "p.jsonl").stdout
    assert json.loads(ocsf)["class_uid"] == 2006


def test_replay_without_violations_is_good(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n')
    assert reeve("replay", "--source", "prompts", tmp_path / "p.jsonl").exit_code == 0
    assert reeve("replay", "--source", "prompts", tmp_path / "none").exit_code == 2


def test_replay_reads_standard_input():
    done = run("replay", "--source", "prompts", "-", stdin=PROMPTS.encode())
    assert done.returncode == 1
    assert b"pii-in-prompts" in done.stdout


def test_fingerprints_with_a_key_are_equal_in_another_run(tmp_path):
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    words = ["replay", "--source", "prompts", "--json", "--fingerprint-key", tmp_path / "k", tmp_path / "p.jsonl"]
    assert (
        reeve(*words).stdout.splitlines()[0].split("observed")[0]
        == reeve(*words).stdout.splitlines()[0].split("observed")[0]
    )


def test_check_is_good_on_what_is_shipped():
    result = reeve("check")
    assert result.exit_code == 0
    assert "recognisers, 23 policy rules" in result.stderr


def test_check_tells_every_mistake_with_its_line(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "apiVersion: reeve.dev/v1alpha1\nkind: RuntimePolicy\nmetadata: {nam: x}\nspec: {rules: []}\n"
    )
    result = reeve("check", "--policies", tmp_path)
    assert result.exit_code == 2
    assert f'{tmp_path}/p.yaml:3: metadata.nam: is no key here; did you mean "name"?' in result.stderr


def test_check_tells_mistakes_of_a_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("apiVersion: reeve.dev/v1alpha1\nkind: AgentConfig\nsinks:\n  stdot: {}\n")
    result = reeve("check", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 2
    assert f'{tmp_path}/c.yaml:4: sinks.stdot: "stdot" is no plug-in; did you mean "stdout"?' in result.stderr


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_good(example, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert reeve("check", "--config", example).exit_code == 0


def test_lists():
    assert "pii-in-logs/no-personal-data" in reeve("policies", "list").stdout
    assert "OPENAI_API_KEY" in reeve("rules", "list").stdout


def test_cases_run_from_the_command_line():
    assert reeve("rules", "test").stdout.endswith(" passed, 0 failed\n")
    assert reeve("policies", "test").stdout.endswith(" passed, 0 failed\n")


def test_completion_names_the_command():
    assert "_REEVE_COMPLETE" in reeve("completion", "bash").stdout


def test_the_demo_shows_everything_and_leaks_nothing(tmp_path):
    done = run("demo", "--keep", tmp_path / "demo")
    output = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    for shown in (
        "shell-in-inference-pod/no-shell fail",
        "service-account-token-read",
        "unapproved-llm-provider",
        "plaintext-llm-traffic",
        "blindness",
        "pii-in-logs/no-personal-data fail",
        "reeve_findings_total{",
        "kind: PolicyReport",
        "none of the planted values",
    ):
        assert shown in output
    assert b"ledger adds up" in done.stderr
    verified = run("audit", "verify", "--verbose", tmp_path / "demo" / "state" / "audit")
    assert (verified.returncode, verified.stdout) == (0, b"")
    segment = next((tmp_path / "demo" / "state" / "audit").glob("audit-*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:3] + lines[4:]))
    broken = run("audit", "verify", tmp_path / "demo" / "state" / "audit")
    assert broken.returncode == 1
    assert b"audit log broken at record 4 (audit-000001.jsonl:4)" in broken.stderr


def test_verifying_what_is_no_log_is_a_mistake(tmp_path):
    assert reeve("audit", "verify", tmp_path).exit_code == 2


def test_run_refuses_a_bad_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("kind: AgentConfig\n")
    result = reeve("run", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 2
    (tmp_path / "d.yaml").write_text("apiVersion: reeve.dev/v1alpha1\nkind: AgentConfig\nsources: {replay: {}}\n")
    assert reeve("run", "--config", tmp_path / "d.yaml").exit_code == 2


def test_run_ends_on_sigterm_with_everything_delivered(tmp_path):
    pods = tmp_path / "pods" / "ns_pod_uid" / "app"
    pods.mkdir(parents=True)
    lines = [f"2026-11-23T10:00:00.{number:09}Z stdout F {number} {PLANTED}\n" for number in range(300)]
    (pods / "0.log").write_text("".join(lines))
    config = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "state_dir": str(tmp_path / "state"),
        "http": {"listen": "127.0.0.1:0"},
        "sources": {"containerlogs": {"paths": [str(tmp_path / "pods")]}},
        "sinks": {"stdout": {"format": "json"}, "audit": {}, "policyreport": {"flush_seconds": 1}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen([*REEVE, "run", "-c", str(tmp_path / "c.yaml")], stdout=out, stderr=err)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (tmp_path / "out").stat().st_size < 20_000:
            time.sleep(0.05)
        port = next(json.loads(line)["port"] for line in (tmp_path / "err").read_text().splitlines() if "port" in line)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
    written = (tmp_path / "out").read_text()
    numbers = {json.loads(line)["event"]["body"]["text"].split()[0] for line in written.splitlines()}
    ledger_line = json.loads((tmp_path / "err").read_text().splitlines()[-1])
    assert ledger_line["ledger_balanced"] is True
    assert run("audit", "verify", tmp_path / "state" / "audit").returncode == 0
    kept = list((tmp_path / "state").rglob("*"))
    assert len(kept) > 8
    assert [path for path in kept if path.stat().st_mode & 0o027] == []
    everything = [metrics, written, (tmp_path / "err").read_text()]
    everything += [
        path.read_bytes().decode("utf-8", "replace") for path in (tmp_path / "state").rglob("*") if path.is_file()
    ]
    assert not [text for text in everything if PLANTED in text]
    assert len(numbers) >= 10


def test_the_module_is_the_command():
    assert b"reeve, version" in run("--version").stdout
    assert Path(sys.executable).exists()


def scanned(tmp_path, text, *options):
    file = tmp_path / "x.log"
    file.write_text(text)
    result = CliRunner().invoke(main, ["scan", "--format", "lines", "--json", *options, str(file)])
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_the_presidio_profile_scans_the_text_as_it_stands(tmp_path):
    text = "219-09-9999 ssn 219-09-9999 jane\\u0040example.com\n"
    hits = scanned(tmp_path, text, "--profile", "presidio")
    assert [(hit["entity"], hit["start"], hit["score"]) for hit in hits] == [
        ("US_SSN", 0, 0.5),
        ("US_SSN", 16, 0.85),
        ("URL", 33, 0.5),
    ]
    assert "EMAIL_ADDRESS" in {hit["entity"] for hit in scanned(tmp_path, text, "--profile", "logs")}


def test_entities_can_be_asked_for(tmp_path):
    text = "from 10.0.0.7: jane.roe@example.com\n"
    assert [hit["entity"] for hit in scanned(tmp_path, text)] == ["EMAIL_ADDRESS"]
    assert [hit["entity"] for hit in scanned(tmp_path, text, "--entities", "IP_ADDRESS")] == ["IP_ADDRESS"]


def test_what_was_not_scanned_is_told_in_json(tmp_path):
    rules = tmp_path / "rules" / "pii"
    rules.mkdir(parents=True)
    pattern = "{name: p, regex: '(?<!c)(a|aa)+$', score: 0.9}"
    (rules / "slow.yaml").write_text(
        f"recognizers:\n  - {{name: slow, supported_entity: SLOW, patterns: [{pattern}]}}\n"
    )
    hits = scanned(tmp_path, "a" * 80 + "b\n", "--rules", str(rules.parent))
    assert hits == [{"file": str(tmp_path / "x.log"), "line": 1, "unscanned": "regex_timeout"}]
