"""agent.app.examining: what a configuration needs, and what is missing, each with its remedy."""

import pytest

from agent.app.examining import cluster_checks, configuration_checks, rights_of
from agent.app.running import settings_from
from agent.plugins import ClusterError

SINKS = {"policyreport": {}, "events": {}}


class Api:
    def __init__(self, allowed=lambda attributes: True, missing=()):
        self.allowed, self.missing, self.asked = allowed, missing, []

    def call(self, method, path, *, query=None, body=None, content_type="application/json"):
        if path == "/version":
            return {"gitVersion": "v1.37.2"}
        if path.endswith("selfsubjectaccessreviews"):
            self.asked.append(body["spec"]["resourceAttributes"])
            return {"status": {"allowed": self.allowed(self.asked[-1])}}
        if path.rpartition("/")[2] in self.missing:
            raise ClusterError(404, "NotFound", "no")
        return {}


def settings(tmp_path, **more):
    return settings_from(state_dir=tmp_path, **{"cluster": {}, "sinks": SINKS, **more})


def told(checks):
    return [(check.name, check.state) for check in checks]


def test_only_what_is_configured_is_asked_for(tmp_path):
    assert rights_of(settings(tmp_path, cluster=None)) == []
    assert rights_of(settings(tmp_path, sinks={}, cluster={"identity": False, "policies": False})) == []
    assert {right.resource for right in rights_of(settings(tmp_path, sinks={}))} == {"pods", "runtimepolicies"}
    everything = {str(right) for right in rights_of(settings(tmp_path))}
    assert "patch runtimepolicies/status.reeve.dev" in everything
    assert "patch clusterpolicyreports.wgpolicyk8s.io" in everything
    assert "create events" in everything
    open_reports = rights_of(settings(tmp_path, sinks={"policyreport": {"api": "openreports"}}))
    assert {right.group for right in open_reports if "report" in right.resource} == {"openreports.io"}
    files = rights_of(settings(tmp_path, sinks={"policyreport": {"target": "files"}}))
    assert not [right for right in files if "report" in right.resource]


def test_a_good_cluster_is_good(tmp_path):
    checks = list(cluster_checks(Api(), "https://x", settings(tmp_path)))
    assert {check.state for check in checks} == {"ok"}
    assert [check.what for check in checks if check.name == "definitions"] == ["reeve.dev", "wgpolicyk8s.io"]


def test_what_is_missing_is_told_with_what_is_lost(tmp_path):
    api = Api(lambda attributes: attributes["resource"] != "events", missing=("wgpolicyk8s.io",))
    bad = [check for check in cluster_checks(api, "https://x", settings(tmp_path)) if check.state == "bad"]
    assert [check.what for check in bad] == [
        "may not create events",
        "may not patch events",
        "wgpolicyk8s.io: NotFound",
    ]
    assert "no events on pods; add it to the ClusterRole" in bad[0].remedy
    assert "CustomResourceDefinitions" in bad[2].remedy


def test_a_server_that_is_away_is_told_once(tmp_path):
    class Away:
        def call(self, *arguments, **more):
            raise ClusterError(0, "Unreachable", "Connection refused")

    (check,) = cluster_checks(Away(), "https://x", settings(tmp_path))
    assert (check.state, "the agent runs without" in check.remedy) == ("bad", True)


@pytest.mark.parametrize("cluster", [None, {"kubeconfig": "/nowhere/config"}])
def test_directories_are_looked_at_without_a_cluster_too(tmp_path, cluster):
    (tmp_path / "pods").mkdir()
    paths = [str(tmp_path / "pods"), str(tmp_path / "missing")]
    made = settings(tmp_path, cluster=cluster, sources={"containerlogs": {"paths": paths}})
    checks = configuration_checks(made)
    assert told(checks)[:3] == [("state", "ok"), ("logs", "ok"), ("logs", "bad")]
    assert checks[-1].name == "API server"
    assert configuration_checks(settings_from(state_dir=tmp_path / "none"))[0].state == "bad"
