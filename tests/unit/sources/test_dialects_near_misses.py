"""agent.sources.dialects.catalogue, .reading: what is no call of a model, and credentials that stay where they are."""

import json

import pytest

from agent.sources.dialects import operations_of
from agent.sources.dialects.catalogue import api_of, api_of_shape
from agent.sources.dialects.reading import credential_of, host_and_port, without_credential
from agent.sources.exchanges import Conversation, Exchange


def exchange(
    method: str, target: str, asked: object = None, answer: object = None, host: str = "app.shop.svc", headers=()
) -> Exchange:
    return Exchange(
        protocol="http/1.1",
        is_client=True,
        method=method,
        target=target,
        host=host,
        headers=(("content-type", "application/json"), *headers),
        body=b"" if asked is None else json.dumps(asked).encode(),
        status=200,
        answer_headers=(("content-type", "application/json"),),
        answer=b"" if answer is None else json.dumps(answer).encode(),
        is_request_whole=True,
        is_complete=True,
    )


PEOPLE = {"people": [{"name": "Jane", "mail": "jane@x.example"}]}


@pytest.mark.parametrize(
    ("method", "target", "asked"),
    [
        ("GET", "/", None),
        ("GET", "/v1/models", None),
        ("GET", "/api/tags", None),
        ("GET", "/health", None),
        ("POST", "/api/users", {"name": "Jane"}),
        ("PUT", "/api/v1/orders/7", {"items": [1, 2]}),
        ("POST", "/graphql", {"query": "{ user { name } }", "variables": {}}),
        ("POST", "/login", {"user": "jane", "password": "secret"}),
        ("POST", "/notify", {"messages": [{"to": "jane@x.example", "text": "hello"}]}),
        ("POST", "/notify", {"messages": ["hello", "world"]}),
        ("POST", "/notify", {"messages": [{"role": "admin", "body": "the server is down"}]}),
        ("POST", "/cars", {"model": "Golf", "color": "red"}),
        ("POST", "/search", {"query": "shoes", "documents": 5}),
        ("POST", "/jobs", {"inputs": ["a"]}),
        ("POST", "/rpc", {"jsonrpc": "1.0", "method": "x"}),
        ("POST", "/rpc", [1, 2, 3]),
        ("POST", "/rpc", "text"),
        ("DELETE", "/v1/sessions/5", None),
    ],
)
def test_ordinary_calls_are_no_operation(method, target, asked):
    assert operations_of(exchange(method, target, asked, PEOPLE)) == []


@pytest.mark.parametrize(
    ("method", "target", "asked"),
    [
        ("GET", "/messages", None),
        ("GET", "/v1/messages?unread=1", None),
        ("POST", "/messages", {"to": "jane@x.example", "text": "hello"}),
        ("POST", "/v1/chat", {"room": 5, "text": "hello"}),
        ("GET", "/api/chat", None),
        ("POST", "/api/generate", {"report": "sales", "year": 2026}),
        ("POST", "/score", {"team": "red", "points": 3}),
        ("POST", "/slots", {"day": "monday", "patient": "Jane"}),
        ("POST", "/classify", {"ticket": 7}),
        ("POST", "/runs", {"pipeline": "deploy"}),
        ("GET", "/runs/7", None),
        ("POST", "/api/report", {"kind": "abuse"}),
        ("POST", "/v1/conversations/7/read", {"seen": True}),
    ],
)
def test_ordinary_calls_at_paths_that_models_use_too_are_no_operation(method, target, asked):
    assert operations_of(exchange(method, target, asked, PEOPLE)) == []


@pytest.mark.parametrize("host", ["evil-api.openai.com.attacker.example", "api.openai.com.evil", "notapi.openai.comx"])
def test_hosts_that_look_alike_are_others(host):
    api = api_of(host, "/v1/chat/completions")
    assert api is not None
    assert api.provider == "openai"  # by the path alone, as of any server that speaks it
    assert api_of(host, "/v1/anything") is None


def test_shapes_are_told_without_a_host():
    assert api_of_shape({"model": "m", "messages": [{"role": "user", "content": "x"}]}).operation == "chat"
    assert api_of_shape({"contents": [{"parts": [{"text": "x"}]}]}).provider == "gcp.gemini"
    assert api_of_shape({"anthropic_version": "x", "messages": []}).provider == "anthropic"
    assert api_of_shape({"model": "m", "prompt": "x"}).operation == "text_completion"
    assert api_of_shape({"jsonrpc": "2.0", "method": "x"}).kind == "mcp"
    assert api_of_shape(None) is None


CHAT = {"model": "m", "messages": [{"role": "user", "content": "I am Jane"}]}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello Jane"}}]}


@pytest.mark.parametrize(
    ("headers", "target", "credential"),
    [
        ([("authorization", "Bearer sk-proj-1")], "/v1/chat/completions", "sk-proj-1"),
        ([("authorization", "bearer  sk-proj-1")], "/v1/chat/completions", "sk-proj-1"),
        ([("authorization", "sk-proj-1")], "/v1/chat/completions", "sk-proj-1"),
        ([("x-api-key", "sk-proj-1")], "/v1/messages", "sk-proj-1"),
        ([("api-key", "sk-proj-1")], "/openai/deployments/d/chat/completions?api-version=1", "sk-proj-1"),
        ([("x-goog-api-key", "sk-proj-1")], "/v1beta/models/g:generateContent", "sk-proj-1"),
        ([], "/v1beta/models/g:generateContent?alt=sse&key=sk-proj-1", "sk-proj-1"),
        ([], "/v1/chat/completions?key=sk%2Dproj%2D1&x=y", "sk-proj-1"),
        ([], "/v1/chat/completions?monkey=sk-proj-1", ""),
        ([], "/v1/chat/completions", ""),
    ],
)
def test_a_credential_is_found_and_is_in_no_text(headers, target, credential):
    asked = exchange("POST", target, CHAT, ANSWER, headers=headers)
    (one,) = operations_of(asked)
    assert (one.credential.reveal() if one.credential else "") == credential
    assert "sk-proj-1" not in "".join(message.text.reveal() for message in one.messages)
    assert "sk-proj-1" not in repr(one)
    assert credential_of(asked) == credential


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/x?key=AIza1", "/x?key=REDACTED"),
        ("/x?alt=sse&key=AIza1&y=z", "/x?alt=sse&key=REDACTED&y=z"),
        ("/x?api_key=1&access_token=2", "/x?api_key=REDACTED&access_token=REDACTED"),
        ("/x?monkey=1", "/x?monkey=1"),
        ("/x", "/x"),
    ],
)
def test_a_target_is_shown_without_its_credential(target, shown):
    assert without_credential(target) == shown


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("a.example", "a.example", 443),
        ("A.example:8080", "a.example", 8080),
        ("[::1]:8080", "::1", 8080),
        ("[::1]", "::1", 443),
        ("a:port", "a:port", 443),
        ("", "", 443),
    ],
)
def test_hosts_and_ports(authority, host, port):
    assert host_and_port(authority) == (host, port)


def test_an_answer_whose_request_was_handed_on_is_told_with_it():
    conversation = Conversation()
    body = json.dumps(CHAT).encode()
    conversation.feed("sent", b"POST /my/llm HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    (early,) = conversation.early() + conversation.early()
    (asked,) = operations_of(early)
    assert [message.text.reveal() for message in asked.messages] == ["I am Jane"]
    answer = json.dumps(ANSWER).encode()
    (late,) = conversation.feed("received", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
    (answered,) = operations_of(late)
    assert [message.text.reveal() for message in answered.messages] == ["Hello Jane"]
    assert answered.request_model == "m"
