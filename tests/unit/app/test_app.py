"""agent.app: .loading, .places, .reload, .running, .replaying, .scanning; agent.cases."""

import asyncio
import io
import json
import shutil
import urllib.request

import pytest
import yaml

from agent.app.loading import load_judge, policy_files
from agent.app.places import default_directory, load_key
from agent.app.reload import Ruleset, watch
from agent.app.replaying import Replay
from agent.app.running import Agent, load_settings, settings_from, surroundings_of
from agent.app.scanning import ScanText, detected_format, engine_scanner, scan_file, texts_of
from agent.cases import event_of, joined, run_policy_cases, run_rule_cases
from agent.config import Problems
from agent.engine import Engine
from agent.sources.replay.config import ReplayConfig
from agent.telemetry import Tally, configure
from agent.testing import MemorySink


def test_shipped_rules_and_policies_are_found(rules, policies):
    assert default_directory("rules") == (rules,)
    assert default_directory("policies") == (policies,)
    assert default_directory("nonsense") == ()


def test_a_key_is_made_once_and_checked(tmp_path):
    path = tmp_path / "keys" / "fingerprint.key"
    key = load_key(path)
    assert (len(key), path.stat().st_mode & 0o777) == (32, 0o600)
    assert load_key(path) == key
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="holds 5 bytes"):
        load_key(path)


def test_policy_files_leave_out_cases_and_the_inside_of_config_maps(tmp_path):
    (tmp_path / "..2026_data").mkdir()
    for name in ("a.yaml", "a.test.yaml", "..2026_data/a.yaml"):
        (tmp_path / name).write_text("x: 1")
    assert policy_files([tmp_path]) == [tmp_path / "a.yaml"]


def test_all_broken_policies_are_told_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text("kind: x")
    with pytest.raises(Problems) as error:
        load_judge([tmp_path, tmp_path / "none"])
    assert {problem.file for problem in error.value.problems} >= {
        str(tmp_path / "a.yaml"),
        str(tmp_path / "b.yaml"),
        str(tmp_path / "none"),
    }


def config(tmp_path, rules, policies, **more):
    document = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "node": "n",
        "state_dir": str(tmp_path / "state"),
        "rules": [str(rules)],
        "policies": [str(policies)],
        "http": {"listen": "127.0.0.1:0"},
        **more,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_settings_name_every_mistake_of_every_plugin_at_its_line(tmp_path, rules, policies):
    path = config(
        tmp_path, rules, policies, sinks={"stdout": {"formt": "x"}, "odit": {}}, sources={"replay": {"kind": "x"}}
    )
    settings, document = load_settings(path)
    with pytest.raises(Problems) as error:
        Agent(settings, document)
    told = [str(problem) for problem in error.value.problems]
    assert any("sources.replay.kind: 'x' is not allowed; known: cri" in one for one in told), told
    assert any("sources.replay.path: is missing" in one for one in told)
    assert all(one.startswith(str(path) + ":") for one in told)


def policy_text(expression):
    return f"""
apiVersion: reeve.dev/v1alpha1
kind: RuntimePolicy
metadata: {{name: p}}
spec:
  rules:
    - name: r
      match: {{any: [{{resources: {{kinds: [GenAI]}}}}]}}
      validate: {{cel: {{expressions: [{{expression: '{expression}'}}]}}}}
"""


async def test_a_changed_policy_is_swapped_in_and_a_broken_one_is_not(tmp_path, rules, capsys):
    configure("info", "json")
    own = tmp_path / "policies"
    own.mkdir()
    (own / "p.yaml").write_text(policy_text("true"))
    settings = settings_from(rules=(rules,), policies=(own,), detectors={"secrets": {}})
    tally = Tally()
    ruleset = Ruleset(settings, surroundings_of(settings), b"k" * 32, tally)
    first = ruleset.judge.digest
    swapped, stop = [], asyncio.Event()
    watching = asyncio.create_task(watch(ruleset, [own], swapped.append, stop))
    await asyncio.sleep(0.3)

    async def until(condition):
        for _ in range(400):
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("nothing was reloaded")

    (own / "p.yaml").write_text(policy_text("false"))
    await until(lambda: swapped)
    assert ruleset.judge.digest != first
    assert isinstance(swapped[0], Engine)
    good = ruleset.judge.digest
    (own / "p.yaml").write_text(policy_text("genai.operatin == 1"))
    await until(lambda: ruleset.broken)
    assert ruleset.judge.digest == good
    assert "did you mean" in ruleset.broken["policies"]
    assert tally.reloads["policies", "failure"] >= 1
    (own / "p.yaml").write_text(policy_text("true"))
    await until(lambda: not ruleset.broken and ruleset.judge.digest == first)
    stop.set()
    await watching
    assert "the last good set stays in force" in capsys.readouterr().err


async def test_the_agent_runs_serves_and_stops(tmp_path, rules, policies):
    pods = tmp_path / "pods"
    pods.mkdir()
    path = config(tmp_path, rules, policies, sources={"containerlogs": {"paths": [str(pods)]}}, sinks={"audit": {}})
    settings, document = load_settings(path)
    memory = MemorySink()
    agent = Agent(settings, document, sinks=[memory])
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    while not agent.line.is_running and not running.done():
        await asyncio.sleep(0.01)

    def ready():
        with urllib.request.urlopen(f"http://127.0.0.1:{agent.http.port}/readyz", timeout=5) as answer:
            return json.load(answer)

    detail = await asyncio.to_thread(ready)
    assert (detail["ready"], detail["policy_rules"], detail["broken"]) == (True, 23, {})
    directory = pods / "ns_pod_uid" / "app"
    directory.mkdir(parents=True)
    (directory / "0.log").write_text("2026-11-23T10:00:00Z stdout F mail jane.doe@acme.com\n")
    for _ in range(500):
        if memory.written:
            break
        await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 20)
    (evaluation,) = memory.written
    assert evaluation.event.body.text == "mail [EMAIL_ADDRESS]"
    assert [one.rule for one in evaluation.violations] == ["no-personal-data"]
    assert agent.ledger.is_balanced


async def test_a_replay_gives_its_totals(tmp_path, rules, policies):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "mail jane.doe@acme.com"}\nnonsense\n{"prompt": "hello"}\n')
    memory = MemorySink()
    settings = settings_from(rules=(rules,), policies=(policies,))
    replay = Replay(settings, ReplayConfig(kind="prompts", path=str(path)), [memory], b"k" * 32)
    await replay.run()
    totals = replay.totals_json()
    assert (totals["read"], totals["events"], totals["decode_errors"]) == (3, 2, {"not_json": 1})
    assert (totals["evaluations"], totals["violations"], totals["balanced"]) == (2, 1, True)
    assert totals["read"] == totals["events"] + sum(totals["decode_errors"].values())


CRI = b"2026-11-23T10:00:00Z stdout F hello\n"
DOCKER = b'{"log":"hello\\n","stream":"stdout","time":"2026-11-23T10:00:00Z"}\n'


@pytest.mark.parametrize(
    ("content", "name", "form"),
    [
        (CRI * 3, "0.log", "cri"),
        (DOCKER * 3, "x-json.log", "docker"),
        (b'{"a": 1}\n{"b": 2}\n', "x", "jsonl"),
        (b'{"a": 1}\n', "x.jsonl", "jsonl"),
        (b"plain\nlines\n", "app.log", "lines"),
        (b"plain\ntext\n", "notes.txt", "text"),
        (b"", "empty", "text"),
    ],
)
def test_formats_are_detected(content, name, form):
    assert detected_format(content, name) == form


def test_texts_know_their_lines():
    (first, second) = texts_of(io.BytesIO(b"one\n\nthree\n"), "lines")
    assert (first.text, first.line_of(0), second.text, second.line_of(2)) == ("one", 1, "three", 3)
    (whole,) = texts_of(io.BytesIO("é\nzwei\n".encode()), "text")
    assert [whole.line_of(at) for at in (0, 1, 2, 5)] == [1, 1, 2, 2]
    parts = CRI.replace(b"F hello", b"P h\xc3") + CRI.replace(b"F hello", b"F \xa9llo x")
    (joined_text,) = texts_of(io.BytesIO(parts), "cri")
    assert joined_text.text == "héllo x"
    assert [joined_text.line_of(at) for at in (0, 3, 6)] == [1, 2, 2]
    (odd,) = texts_of(io.BytesIO(b"no container log\n"), "cri")
    assert odd == ScanText("no container log", 0, [0], [1])


def test_a_file_is_scanned_with_places_only(tmp_path, rules):
    path = tmp_path / "a.log"
    path.write_text("nothing\nmail jane.doe@acme.com here\n" + "x" * 70_000 + " bob@acme.com\n")
    settings = settings_from(rules=(rules,))
    from agent.app.loading import load_detectors, make_engine

    engine = make_engine(settings, load_detectors(settings, surroundings_of(settings)), None, b"k" * 32)
    sizes = []
    hits = list(scan_file(str(path), "auto", engine_scanner(engine, "log"), sizes.append))
    assert [(hit.line, hit.entity, hit.start, hit.end) for hit in hits] == [
        (2, "EMAIL_ADDRESS", 5, 22),
        (3, "EMAIL_ADDRESS", 70_001, 70_013),
    ]
    assert "jane" not in repr(hits)
    assert sum(sizes) > 70_000


def test_the_shipped_cases_pass(rules, policies):
    reports = [*run_rule_cases([rules]), *run_policy_cases(policy_files([policies]), _detectors(rules))]
    assert [failure for report in reports for failure in report.failures] == []
    assert sum(report.passed for report in reports) > 150


def _detectors(rules):
    from agent.app.loading import load_detectors

    settings = settings_from(rules=(rules,))
    return load_detectors(settings, surroundings_of(settings))


def test_failing_and_missing_cases_are_told_with_a_difference(tmp_path, rules, policies):
    shutil.copytree(rules / "pii", tmp_path / "rules" / "pii")
    cases = tmp_path / "rules" / "pii" / "email_internal.test.yaml"
    cases.write_text(cases.read_text().replace("acme-bank.example}", "acme.example}").replace("unrelated", "near miss"))
    (tmp_path / "rules" / "pii" / "health.test.yaml").unlink()
    failures = [failure for report in run_rule_cases([tmp_path / "rules"]) for failure in report.failures]
    assert any("- wanted, not found: ('EMAIL_ADDRESS', 'escalations-desk@acme.example')" in one for one in failures)
    assert any("+ found, not wanted" in one for one in failures)
    assert any("has no case that is 'unrelated'" in one for one in failures)
    assert any("health.yaml: has no cases" in one for one in failures)


def test_failing_policy_cases_are_told(tmp_path, rules, policies):
    shutil.copytree(policies / "agent", tmp_path / "policies")
    cases = tmp_path / "policies" / "blindness.test.yaml"
    cases.write_text(cases.read_text().replace("'4711'", "'4'"))
    reports = run_policy_cases(policy_files([tmp_path / "policies"]), [])
    assert [failure for report in reports for failure in report.failures] == [
        f"{cases}:2: fires:\n    loss-stays-under-the-limit: wanted fail, came pass"
    ]


def test_texts_of_cases_may_come_in_parts():
    assert joined(("sk-", "abc")) == "sk-abc"
    from agent.cases import PolicyCase

    case = PolicyCase(why="fires", source="loss", input={"origin": "o", "reason": "r", "count": 3}, expect={})
    assert event_of(case).body.count == 3
