"""agent.cli.resources: policies from git to the cluster and back are the same documents."""

import json

import pytest
import yaml
from click.testing import CliRunner

from agent.cli.documents import policies
from tests.unit.cluster.test_cluster_policies import GOOD, broken


def reeve(*arguments, given=None):
    return CliRunner().invoke(policies, [str(argument) for argument in arguments], input=given)


def test_what_is_exported_comes_back_as_it_was(tmp_path):
    out = reeve("export", "--label", "app.kubernetes.io/part-of=reeve")
    assert out.exit_code == 0
    documents = list(yaml.safe_load_all(out.stdout))
    assert len(documents) >= 12
    assert all(one["metadata"]["labels"] == {"app.kubernetes.io/part-of": "reeve"} for one in documents)
    back = reeve("import", "--from", "-", "--to", tmp_path / "git", given=out.stdout)
    assert back.exit_code == 0, back.output
    files = sorted((tmp_path / "git").iterdir())
    assert len(files) == len(documents)
    by_name = {one["metadata"]["name"]: one for one in documents}
    assert all(yaml.safe_load(file.read_text()) == by_name[file.stem] for file in files)


@pytest.mark.parametrize("form", [json.dumps, yaml.safe_dump])
def test_a_list_from_the_cluster_is_stripped_and_a_broken_policy_is_told(tmp_path, form):
    listed = form({"kind": "List", "items": [{**GOOD, "status": {"rules": 1}}, broken("bad"), {"kind": "Pod"}]})
    out = reeve("import", "--from", "-", "--to", tmp_path / "git", given=listed)
    assert out.exit_code == 1
    assert "bad.yaml" in out.output
    assert "streem" in out.output
    assert [path.name for path in (tmp_path / "git").iterdir()] == ["no-shell.yaml"]
    document = yaml.safe_load((tmp_path / "git" / "no-shell.yaml").read_text())
    assert "status" not in document
    assert set(document["metadata"]) == {"name", "annotations"}


def test_a_broken_policy_is_not_exported(tmp_path):
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(broken("bad")))
    out = reeve("export", tmp_path)
    assert out.exit_code == 2
    assert "streem" in out.output


def test_no_cluster_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    out = reeve("import", "--to", tmp_path / "git")
    assert out.exit_code == 1
    assert "no policies can be imported" in out.output
