"""Settings from several files: agent.config Document.merged, agent.app.running.load_settings."""

import pytest

from agent.app.running import build_plugins, load_settings
from agent.config import Problems, parse

HEAD = "apiVersion: reeve.dev/v1alpha1\nkind: AgentConfig\n"


def files(tmp_path, **texts):
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(HEAD + text)
    return tmp_path


def test_a_later_file_goes_over_the_former_and_a_directory_is_read_in_order(tmp_path):
    files(
        tmp_path,
        a_base="node: one\nsources: {containerlogs: {paths: [/a], exclude_namespaces: [x]}}\nsinks: {audit: {}}\n",
        b_more="node: two\nsources: {containerlogs: {paths: [/b]}, ebpf: {}}\nsinks: {audit: , stdout: {format: ocsf}}\n",
    )
    settings, _ = load_settings(tmp_path)
    assert settings.node == "two"
    assert settings.sources == {"containerlogs": {"paths": ["/b"], "exclude_namespaces": ["x"]}, "ebpf": {}}
    assert settings.sinks == {"audit": {}, "stdout": {"format": "ocsf"}}


def test_a_mistake_is_told_at_its_own_file_and_line(tmp_path):
    files(tmp_path, a="sources:\n  containerlogs: {}\n", b="sources:\n  containerlogs:\n    pathz: [/x]\nhttpp: {}\n")
    with pytest.raises(Problems) as caught:
        load_settings(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/b.yaml:6: httpp: is no key here")
    files(tmp_path, b="sources:\n  containerlogs:\n    pathz: [/x]\n")
    settings, document = load_settings(tmp_path)
    with pytest.raises(Problems) as caught:
        build_plugins("sources", settings, document)
    assert f"{tmp_path}/b.yaml:5: sources.containerlogs.pathz" in str(caught.value)


def test_the_node_is_given_where_no_file_names_one(tmp_path):
    files(tmp_path, a="sources: {containerlogs: {}}\n")
    assert load_settings(tmp_path, node="worker-7")[0].node == "worker-7"
    files(tmp_path, a="node: mine\nsources: {containerlogs: {}}\n")
    assert load_settings(tmp_path, node="worker-7")[0].node == "mine"


def test_an_empty_directory_is_a_mistake(tmp_path):
    with pytest.raises(Problems, match=r"holds no \*\.yaml"):
        load_settings(tmp_path)


def test_what_never_was_a_text_has_no_lines():
    (document,) = parse("a: 1", "f")
    assert document.problem(("a",), "x").line == 1
    assert document.merged(parse("b: 2", "g")[0]).problem(("b",), "x").file == "g"
