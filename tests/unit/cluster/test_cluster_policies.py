"""agent.cluster.policies: resources become files, broken ones say so in their status, one of many agents writes it."""

import json
import threading

import pytest

from agent.app.clustered import PolicyCheck
from agent.cluster.policies import PolicyResources, document_of
from agent.config import parse
from agent.plugins import ClusterError

GOOD = {
    "apiVersion": "reeve.dev/v1alpha1",
    "kind": "RuntimePolicy",
    "metadata": {
        "name": "no-shell",
        "uid": "u1",
        "generation": 3,
        "resourceVersion": "99",
        "managedFields": [{"manager": "kubectl"}],
        "annotations": {
            "policies.kyverno.io/severity": "high",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        },
    },
    "spec": {
        "rules": [
            {
                "name": "no-log",
                "match": {"any": [{"resources": {"kinds": ["Log"]}}]},
                "validate": {"message": "m", "cel": {"expressions": [{"expression": 'log.stream != "stderr"'}]}},
            }
        ]
    },
}


def broken(name="no-shell", generation=4):
    item = json.loads(json.dumps(GOOD))
    item["metadata"] |= {"name": name, "generation": generation}
    item["spec"]["rules"][0]["validate"]["cel"]["expressions"][0]["expression"] = "log.streem != 1"
    return item


class Api:
    def __init__(self):
        self.patches = []
        self.came = threading.Event()
        self.error = None

    def call(self, method, path, *, query=None, body=None, content_type="application/json"):
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.patches.append((path, body["status"]))
        self.came.set()
        if self.error:
            raise self.error
        return {}


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def resources(api, tmp_path, monkeypatch):
    monkeypatch.setattr("agent.cluster.policies._SPREAD_SECONDS", 0.1)
    kept = tmp_path / "kept"
    made = PolicyResources(api, kept, PolicyCheck([tmp_path / "git"], kept))
    made.open()
    yield made
    made.stop()


def test_a_document_is_as_it_would_stand_in_git():
    document = document_of(GOOD)
    assert document["metadata"] == {"name": "no-shell", "annotations": {"policies.kyverno.io/severity": "high"}}
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}


def test_a_good_policy_becomes_a_file_and_goes_with_its_resource(resources):
    resources.put(GOOD)
    path = resources.directory / "no-shell.yaml"
    (document,) = parse(path.read_text(), "x")
    assert document.value == document_of(GOOD)
    written = path.stat().st_mtime_ns
    resources.put({**GOOD, "metadata": {**GOOD["metadata"], "resourceVersion": "100"}})
    assert path.stat().st_mtime_ns == written
    resources.remove(GOOD)
    assert not path.exists()


def test_a_list_removes_the_files_of_policies_that_are_gone(resources):
    resources.put(GOOD)
    resources.replace([])
    assert not list(resources.directory.iterdir())


def test_a_broken_policy_leaves_the_last_good_one_in_force(resources):
    resources.put(GOOD)
    before = (resources.directory / "no-shell.yaml").read_text()
    resources.put(broken())
    assert (resources.directory / "no-shell.yaml").read_text() == before
    assert "streem" in resources.broken["no-shell"]
    status = resources.status_of("no-shell", broken())
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Loaded", "False", "Broken")
    assert condition["message"].startswith("the last good version stays in force (1 rules): ")
    assert (status["rules"], status["loadErrors"], status["observedGeneration"]) == (1, 1, 4)
    assert status["errors"][0]["where"] == "spec.rules[0].validate.cel.expressions[0].expression"
    resources.put({**GOOD, "metadata": {**GOOD["metadata"], "generation": 5}})
    assert not resources.broken
    assert resources.status_of("no-shell", GOOD)["conditions"][0]["status"] == "True"


def test_a_policy_that_was_never_good_says_that_nothing_is_in_force(resources):
    resources.put(broken())
    status = resources.status_of("no-shell", broken())
    assert status["rules"] == 0
    assert status["conditions"][0]["message"].startswith("no version of it is in force: ")


def test_a_name_that_a_file_has_already_is_refused(resources, tmp_path):
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "one.yaml").write_text(json.dumps(document_of(GOOD)))
    resources.put(GOOD)
    assert "is also in" in resources.broken["no-shell"]
    assert not list(resources.directory.iterdir())


def test_a_status_is_written_once(resources, api):
    resources.start()
    resources.put(GOOD)
    assert api.came.wait(5)
    path, status = api.patches[0]
    assert path == "/apis/reeve.dev/v1alpha1/runtimepolicies/no-shell/status"
    assert (status["rules"], status["loadErrors"], status["observedGeneration"]) == (1, 0, 3)
    api.came.clear()
    resources.put({**GOOD, "status": status})  # as the server has it now
    assert not api.came.wait(0.4)


def test_a_status_that_another_agent_wrote_is_not_written_again(resources, api):
    status = resources.status_of("no-shell", GOOD)
    status["conditions"][0]["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    resources.start()
    resources.put({**GOOD, "status": status})
    assert not api.came.wait(0.4)


def test_an_agent_that_disagrees_is_not_fought_with(resources, api):
    resources.start()
    for number in range(4):
        resources.put({**GOOD, "status": {"observedGeneration": 3, "rules": number + 7}})
        api.came.wait(0.4)
    assert len(api.patches) == 1


def test_a_status_that_cannot_be_written_is_survived(resources, api):
    api.error = ClusterError(403, "Forbidden", "no")
    resources.start()
    resources.put(GOOD)
    assert api.came.wait(5)
    assert (resources.directory / "no-shell.yaml").exists()


def test_what_an_older_agent_kept_and_this_one_refuses_is_left_out(resources, tmp_path, api):
    (resources.directory / "old.yaml").write_text(json.dumps(document_of(broken("old"))))
    (resources.directory / "odd.yaml").write_text("not json")
    resources.put(GOOD)
    again = PolicyResources(api, resources.directory, PolicyCheck([], resources.directory))
    again.open()
    assert [path.name for path in resources.directory.iterdir()] == ["no-shell.yaml"]


@pytest.mark.parametrize("name", ["../../etc/x", ".hidden", ""])
def test_a_name_cannot_leave_the_directory(resources, name):
    resources.put({**GOOD, "metadata": {"name": name}})
    assert not list(resources.directory.iterdir())
