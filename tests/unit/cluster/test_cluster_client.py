"""agent.cluster.client: requests, their failures in words, pages, watches, and where the server is found."""

import threading

import pytest
from kubernetes.client import Configuration

from agent.cluster import KubernetesClient, configuration_of
from agent.plugins import ClusterError
from tests.unit.cluster.apiserver import pod


def test_an_answer_is_json_and_the_token_goes_along(server, client):
    server.put(pod(1))
    answer = client.call("GET", "/api/v1/pods", query={"fieldSelector": "spec.nodeName=n1"})
    assert answer["items"][0]["metadata"]["name"] == "pod-1"
    _, path, query, headers = server.asked[0]
    assert (path, query) == ("/api/v1/pods", {"fieldSelector": "spec.nodeName=n1"})
    assert headers["authorization"] == "bearer secret-token-value"
    assert headers["User-Agent"].startswith("reeve/")
    assert client.requests == {("get", "success"): 1}
    assert client.is_up


def test_a_body_keeps_its_content_type(server, client):
    client.call("PATCH", "/x", body={"a": "ä"}, content_type="application/apply-patch+yaml")
    assert server.patched == [("/x", {"a": "ä"})]
    assert server.asked[0][3]["Content-Type"] == "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("status", "body", "headers", "outcome", "reason", "retry"),
    [
        (403, {"reason": "Forbidden", "message": "pods is forbidden"}, {}, "forbidden", "Forbidden", 0),
        (404, b"404 page not found\n", {}, "not_found", "Not Found", 0),
        (409, {"reason": "Conflict"}, {}, "conflict", "Conflict", 0),
        (410, {"reason": "Expired"}, {}, "gone", "Expired", 0),
        (429, {"reason": "TooManyRequests"}, {"Retry-After": "7"}, "throttled", "TooManyRequests", 7),
        (429, {}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "throttled", "Too Many Requests", 0),
        (500, {"message": "etcdserver: mvcc: database space exceeded"}, {}, "server_error", "Internal Server Error", 0),
        (422, {"reason": "Invalid"}, {}, "refused", "Invalid", 0),
    ],
)
def test_a_refusal_has_the_servers_own_words(server, client, status, body, headers, outcome, reason, retry):
    server.answers = [(status, headers, body)]
    with pytest.raises(ClusterError) as caught:
        client.call("GET", "/x")
    assert (caught.value.status, caught.value.reason, caught.value.retry_after_seconds) == (status, reason, retry)
    assert client.requests == {("get", outcome): 1}
    assert client.is_up == (status < 500)
    assert "secret-token-value" not in str(caught.value)


def test_a_server_that_is_not_there_is_said_without_objects_of_ours(client, server):
    client.call("GET", "/x")
    server.close()
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:1"
    away = KubernetesClient(configuration)
    with pytest.raises(ClusterError) as caught:
        away.call("GET", "/x")
    assert caught.value.status == 0
    assert "Connection refused" in str(caught.value)
    assert "0x" not in str(caught.value)
    assert not away.is_up


def test_a_huge_answer_is_refused(server, client, monkeypatch):
    monkeypatch.setattr("agent.cluster.client.ANSWER_BYTES", 1000)
    server.answers = [(200, {}, b"x" * 2000)]
    with pytest.raises(ClusterError, match="larger than 1000"):
        client.call("GET", "/x")


def test_lists_come_in_pages(server, client):
    for number in range(7):
        server.put(pod(number))
    pages = list(client.pages("/api/v1/pods", {}, limit=3))
    assert [len(page["items"]) for page in pages] == [3, 3, 1]


def test_a_watch_gives_events_as_they_come_and_ends_with_the_server(server, client):
    server.put(pod(1))
    events = client.watch("/api/v1/pods", {"resourceVersion": "1"}, threading.Event(), 5)
    assert next(events)["type"] == "ADDED"
    server.put(pod(1, restart=1))
    assert next(events)["type"] == "MODIFIED"
    server.watch_ends.set()
    assert list(events) == []


def test_a_kubeconfig_names_the_server(tmp_path):
    path = tmp_path / "config"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]\n"
        "users: [{name: u, user: {token: abc}}]\n"
    )
    configuration = configuration_of(path)
    assert configuration.host == "https://10.0.0.1:6443"
    assert configuration.verify_ssl


@pytest.mark.parametrize("path", [None, "missing"])
def test_no_cluster_is_a_mistake_with_a_remedy(tmp_path, monkeypatch, path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ValueError, match=r"name a `cluster\.kubeconfig`"):
        configuration_of(tmp_path / path if path else None)
