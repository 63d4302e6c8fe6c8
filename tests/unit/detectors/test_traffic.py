"""agent.detectors.traffic.catalogue, .config, .detector: flows to findings."""

import json
import lzma
from collections import Counter

import pytest

from agent.config import Problems
from agent.detectors.traffic import TrafficConfig, TrafficDetector
from agent.detectors.traffic.catalogue import Catalogue, Entry, catalogue_files, entries_of
from agent.engine import Engine
from agent.model import Endpoint, Event, HttpActivity, NetworkActivity
from agent.resolve import Resolver
from agent.sources.hubble.decode import event_from_json


@pytest.fixture(scope="module")
def detector(rules):
    return TrafficDetector(TrafficConfig(), Catalogue(entries_of(catalogue_files([rules]))))


@pytest.fixture(scope="module")
def rules():
    from pathlib import Path

    return Path(__file__).resolve().parents[3] / "rules"


def entities(detector, body):
    return [finding.entity for finding in detector.examine(Event(id="1", source="t", body=body))]


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("api.openai.com", "openai"),
        ("API.OpenAI.com.", "openai"),
        ("eu.api.openai.com", "openai"),
        ("notapi.openai.com", None),
        ("api.openai.com.evil.example", None),
        ("team.openai.azure.com", "azure-openai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws-bedrock"),
        ("bedrock-runtime.a.b.amazonaws.com", None),
        ("europe-west4-aiplatform.googleapis.com", "google-vertex"),
        ("cdn-lfs.hf.co", "huggingface-hub"),
        ("localhost", None),
        ("", None),
    ],
)
def test_hosts(detector, host, wanted):
    entry = detector._catalogue.of_host(host)
    assert (entry.id if entry else None) == wanted


@pytest.mark.parametrize(
    ("path", "is_model"),
    [
        ("/v1/chat/completions", True),
        ("/openai/v1/chat/completions", True),
        ("/v1/chat/completions/", True),
        ("/v1beta/models/gemini-2.0-flash:streamGenerateContent", True),
        ("/v2/models/llama/infer", True),
        ("/v1/models", False),
        ("/healthz", False),
        ("/a/b/c/d/e/v1/chat/completions", False),
        ("/v1/chat/completionsX", False),
        ("/" + "a/" * 5000, False),
    ],
)
def test_paths(detector, path, is_model):
    assert detector._catalogue.is_model_path(path) is is_model


def test_a_shared_address_is_told_with_less_certainty(detector):
    def score(*names):
        body = NetworkActivity(
            action="flow", source=Endpoint(), destination=Endpoint(names=names, is_world=True), direction="egress"
        )
        return [finding.score for finding in detector.examine(Event(id="1", source="t", body=body))]

    assert score("api.openai.com") == [0.9]
    assert score("api.openai.com", "shop.example") == [0.5]


def test_replies_and_answers_are_no_calls(detector):
    world = Endpoint(names=("api.openai.com",), is_world=True)
    assert not entities(detector, NetworkActivity(action="flow", source=Endpoint(), destination=world, is_reply=True))
    assert not entities(detector, HttpActivity(host="api.openai.com", path="/v1/messages", is_response=True))


def test_a_redirected_connection_is_a_contact_and_no_refusal(detector):
    body = NetworkActivity(
        action="flow",
        source=Endpoint(namespace="a", pod="p"),
        destination=Endpoint(names=("api.openai.com",), is_world=True, address="203.0.113.9"),
        verdict="redirected",
    )
    assert entities(detector, body) == ["LLM_PROVIDER_EGRESS"]
    assert Resolver()(Event(id="1", source="t", body=body)).body.denials == 0


def test_packets_of_a_standing_connection_are_no_new_access(detector):
    server = Endpoint(namespace="models", pod="vllm-0", port=8000)
    client = Endpoint(namespace="apps", pod="p")
    assert not entities(
        detector, NetworkActivity(action="flow", source=client, destination=server, observation="trace")
    )
    opening = NetworkActivity(action="flow", source=client, destination=server, observation="trace", is_opening=True)
    assert entities(detector, opening) == ["MODEL_SERVER_CROSS_NAMESPACE"]


def test_a_burst_is_told_at_the_threshold_and_its_doublings(detector):
    def is_told(**fields):
        return "DENIED_BURST" in entities(
            detector, NetworkActivity(action="flow", source=Endpoint(), destination=Endpoint(), **fields)
        )

    assert [count for count in range(1, 200) if is_told(denials=count, is_denial_peak=True)] == [20, 40, 80, 160]
    assert [
        count for count in range(1, 100) if is_told(denials=99, denied_destinations=count, is_destination_peak=True)
    ] == [10, 20, 40, 80]
    assert not is_told(denials=20, denied_destinations=10)  # no more than it has been before


def test_one_connection_is_told_once(detector):
    """A verdict, a traced SYN, a redirection; the request that the proxy then saw is a fact of its own."""
    resolver = Resolver()
    found = []
    for when, fields in enumerate(
        (
            {"observation": "policy-verdict", "verdict": "redirected"},
            {"observation": "trace", "is_opening": True, "verdict": "forwarded"},
        ),
        1,
    ):
        body = NetworkActivity(
            action="flow",
            source=Endpoint(namespace="apps", pod="p", address="10.0.0.1", port=4711),
            destination=Endpoint(address="203.0.113.7", port=80, names=("api.openai.com",), is_world=True),
            direction="egress",
            **fields,
        )
        found += [
            one.entity for one in detector.examine(resolver(Event(id="1", source="t", body=body, time_unix_nano=when)))
        ]
    assert found == ["LLM_PROVIDER_EGRESS"]
    request = HttpActivity(
        method="POST", host="api.openai.com", path="/v1/chat/completions", destination=Endpoint(is_world=True)
    )
    assert entities(detector, request) == ["LLM_PROVIDER_EGRESS", "PLAINTEXT_LLM_CALL"]


def test_what_only_another_pod_asked_for_is_hearsay(detector):
    def score(origin):
        end = Endpoint(names=("api.openai.com",), names_origin=origin, is_world=True, address="203.0.113.7")
        body = NetworkActivity(action="flow", source=Endpoint(), destination=end, direction="egress")
        return [finding.score for finding in detector.examine(Event(id="1", source="t", body=body))]

    assert (score("observer"), score("dns"), score("dns-node")) == ([0.9], [0.9], [0.3])


@pytest.mark.parametrize(
    ("method", "path", "server", "is_call"),
    [
        ("GET", "/videos/123/embed", "video-0", False),
        ("POST", "/api/invoices/generate", "billing-0", False),
        ("POST", "/search/rerank", "shop-0", False),
        ("POST", "/api/chat", "support-0", False),
        ("POST", "/api/chat", "ollama-0", True),
        ("POST", "/generate", "tgi-llama-0", True),
        ("GET", "/v1/chat/completions", "vllm-0", False),
        ("POST", "/openai/deployments/gpt-4o/chat/completions", "gateway-0", True),
        ("POST", "/model/anthropic.claude/invoke", "proxy-0", True),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/gemini:generateContent", "proxy-0", True),
    ],
)
def test_ordinary_paths_are_no_model_calls(detector, method, path, server, is_call):
    body = HttpActivity(method=method, path=path, destination=Endpoint(namespace="n", pod=server))
    assert ("PLAINTEXT_LLM_CALL" in entities(detector, body)) is is_call


def test_the_api_server_of_a_managed_cluster_is_nobody_s_egress(detector):
    end = Endpoint(address="34.1.2.3", port=443, identity="kube-apiserver")
    assert not entities(
        detector,
        NetworkActivity(
            action="flow", source=Endpoint(namespace="a", pod="p"), destination=end, direction="egress", is_opening=True
        ),
    )


def test_the_recorded_scenarios_come_out_as_intended(detector, shared):
    """Each of the 146 flows has its case beside it; what a policy excludes (the gateway) is still found here."""
    lines = lzma.open(shared / "hubble" / "llm-scenarios.jsonl.xz").read().splitlines()
    cases = {
        one["line"]: one["case"] for one in json.loads((shared / "hubble" / "llm-scenarios.expected.json").read_text())
    }
    resolver, found = Resolver(), {}
    engine = Engine(text_detectors=(), event_detectors=(detector,), fingerprint_key=bytes(32))
    for number, line in enumerate(lines, 1):
        evaluation = engine.evaluate(resolver(event_from_json(line)))
        found.setdefault(cases[number], Counter()).update(one.entity for one in evaluation.findings)
    assert found["unapproved provider: DNS"] == {"LLM_PROVIDER_LOOKUP": 2}
    assert found["search-domain lookup, NXDOMAIN"] == {"LLM_PROVIDER_LOOKUP": 1}
    assert found["unapproved provider: contact, names given"] == {"LLM_PROVIDER_EGRESS": 1}
    assert found["unapproved provider: contact, names EMPTY, must come from own DNS table"] == {
        "LLM_PROVIDER_EGRESS": 1
    }
    assert found["unapproved provider: blocked"] == {"LLM_PROVIDER_EGRESS": 1}
    assert found["direct-IP world egress from sandbox, no DNS seen"] == {"UNNAMED_WORLD_EGRESS": 1}
    assert found["plaintext chat completion with bearer token"]["PLAINTEXT_LLM_CALL"] == 1
    assert found["plaintext embeddings, credential in URL"]["PLAINTEXT_LLM_CALL"] == 1
    assert found["vector DB access, AUDIT"] == {"VECTOR_DATABASE_CROSS_NAMESPACE": 1}
    assert found["denied burst / port scan (pairs)"]["DENIED_BURST"] == 3  # 60 refusals by 60: at 10, 20 and 40


def test_a_broken_catalogue_names_file_line_and_remedy(tmp_path):
    folder = tmp_path / "providers"
    folder.mkdir()
    head = "apiVersion: reeve.dev/v1alpha1\nkind: ProviderCatalogue\nproviders:\n"
    (folder / "a.yaml").write_text(head + "  - {id: x, title: X, kind: llm-provider, hosts: ['https://x.example/']}\n")
    (folder / "b.yaml").write_text(
        head + "  - {id: y, title: Y, kind: model-server}\n  - {id: y, title: Z, kind: model-hub}\n"
    )
    with pytest.raises(Problems) as caught:
        entries_of(catalogue_files([tmp_path]))
    texts = [str(problem) for problem in caught.value.problems]
    assert any("a.yaml:4" in text and "is no host pattern" in text for text in texts)
    assert any("b.yaml:5" in text and "is also in" in text for text in texts)


def test_users_add_their_own():
    mine = Entry(id="acme", title="Acme", kind="llm-provider", hosts=("llm.acme.example",))
    assert Catalogue([mine]).of_host("llm.acme.example") is mine
    assert not Catalogue([mine]).is_model_path("/v1/messages")
