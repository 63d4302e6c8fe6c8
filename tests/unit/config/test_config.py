"""agent.config: .problem, .yamlfile, .settings; agent.plugins: every mistake with its place."""

import pytest

from agent.config import Problems
from agent.config.problem import Problem, suggestion
from agent.config.settings import HttpSettings, Settings
from agent.config.yamlfile import LIMIT_BYTES, dotted, parse, read, typed
from agent.plugins import available, spec_of

GOOD = """
apiVersion: reeve.dev/v1alpha1
kind: AgentConfig
sinks:
  stdout: {format: table}
"""


def mistakes(text):
    with pytest.raises(Problems) as error:
        typed(Settings, parse(text, "c.yaml")[0])
    return [str(problem) for problem in error.value.problems]


def test_a_good_file_is_typed():
    settings = typed(Settings, parse(GOOD, "c.yaml")[0])
    assert settings.sinks == {"stdout": {"format": "table"}}
    assert settings.http.address == ("127.0.0.1", 9464)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "apiVersion: reeve.dev/v1alpha1\nkind: AgentConfig\nsink: {}\n",
            'c.yaml:3: sink: is no key here; did you mean "sinks"?',
        ),
        (
            "apiVersion: reeve.dev/v2\n",
            "c.yaml:1: apiVersion: 'reeve.dev/v2' is not allowed; did you mean \"reeve.dev/v1alpha1\"?",
        ),
        ("pipeline: {drain_secs: 3}\n", 'c.yaml:1: pipeline.drain_secs: is no key here; did you mean "drain_seconds"?'),
        ("pipeline: {queue_events: 0}\n", "pipeline.queue_events: input should be greater than or equal to 1"),
        ("http: {listen: '0.0.0.0:9464'}\n", "is not loopback; set http.allow_remote: true"),
        ("http: {listen: nonsense}\n", "is no host:port"),
        ("log: {level: loud}\n", "'loud' is not allowed"),
    ],
)
def test_mistakes_have_place_fact_and_remedy(text, said):
    assert any(said in one for one in mistakes(text)), mistakes(text)


def test_all_mistakes_come_at_once():
    assert len(mistakes("kind: AgentConfig\nsink: {}\nsource: {}\nlog: {level: loud}\n")) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "x.yaml:2: a: the key stands twice; keep one"),
        ("a: [1\n", "is no YAML"),
        ("a: b: c\n", "x.yaml:1: is no YAML"),
        ("a: " + "b" * (LIMIT_BYTES + 1), "is larger than"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(6)), "unfolds to too many values"),
        ("a: !!bool foo\n", "is no YAML"),
        ("a: !!int ''\n", "is no YAML"),
        ("a: !!timestamp foo\n", "is no YAML"),
        ("a: !!python/object/apply:os.system [id]\n", "is no YAML"),
    ],
)  # fmt: skip
def test_bad_yaml_is_refused_with_its_line(text, said):
    with pytest.raises(Problems) as error:
        parse(text, "x.yaml")
    assert said in str(error.value)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(Problems, match="cannot be read: No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(Problems, match="is not UTF-8"):
        read(tmp_path / "latin.yaml")


def test_several_documents_keep_their_lines():
    first, second = parse("a: 1\n---\nb:\n  - c: 2\n", "x.yaml")
    assert (first.line_of(("a",)), second.line_of(("b", 0, "c"))) == (1, 4)
    assert second.line_of(("b", 0, "not", "there")) == 4


def test_times_stay_text():
    assert parse("t: 2026-11-23\n", "x.yaml")[0].value == {"t": "2026-11-23"}


def test_paths_and_problems_read_well():
    assert dotted(("spec", "rules", 0, "match")) == "spec.rules[0].match"
    assert str(Problem("f.yaml", 3, "a.b", "is wrong", "mend it")) == "f.yaml:3: a.b: is wrong; mend it"
    assert str(Problem("f.yaml", 0, "", "is wrong")) == "f.yaml: is wrong"


def test_suggestions():
    assert suggestion("proces", ["process", "file"]) == 'did you mean "process"?'
    assert suggestion("zzz", ["b", "a"]) == "known: a, b"
    assert suggestion("x", []) == ""


def test_remote_listening_must_be_meant():
    assert HttpSettings(listen="0.0.0.0:1", allow_remote=True).address == ("0.0.0.0", 1)
    assert HttpSettings(listen="[::1]:5").address == ("::1", 5)


def test_our_own_plugins_are_there():
    assert set(available("sources")) == {"containerlogs", "ebpf", "hubble", "replay", "tetragon"}
    assert set(available("detectors")) == {"pii", "secrets", "traffic"}
    assert set(available("sinks")) == {"alertmanager", "audit", "events", "policyreport", "stdout", "webhook"}


def test_an_unknown_plugin_is_told_with_a_suggestion():
    with pytest.raises(Problems, match='"stdot" is no plug-in; did you mean "stdout"'):
        spec_of("sinks", "stdot", file="c.yaml")
