"""agent.sources.dialects.catalogue, .bodies: copies of prompts that leave for an observer."""

import gzip
import json
import struct

import pytest
import zstandard

from agent.model import GenAiOperation
from agent.sources.dialects import operations_of
from agent.sources.exchanges import Conversation, Exchange


def posted(host: str, target: str, body: bytes, kind: str = "application/json", encoding: str = "") -> GenAiOperation:
    """As a connection shows it, so that encodings are undone on the way."""
    head = f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nX-Api-Key: lsv2_pt_1\r\n"
    head += (f"Content-Encoding: {encoding}\r\n" if encoding else "") + f"Content-Length: {len(body)}\r\n\r\n"
    conversation = Conversation()
    conversation.feed("sent", head.encode() + body)
    (exchange,) = conversation.feed("received", b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
    assert isinstance(exchange, Exchange)
    (one,) = operations_of(exchange)
    return one


def texts(one: GenAiOperation) -> str:
    return "\n".join(message.text.reveal() for message in one.messages)


PART = '--b\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: application/json\r\n{more}\r\n'
INPUTS = {"messages": [{"role": "user", "content": "I am Margaret"}]}


def multipart(encoding: str = "") -> bytes:
    def part(name: str, value: object) -> bytes:
        content = json.dumps(value).encode()
        content = zstandard.compress(content) if encoding else content
        more = f"Content-Encoding: {encoding}\r\n" if encoding else ""
        return PART.format(name=name, more=more).encode() + content + b"\r\n"

    outputs = part("post.1.outputs", {"output": "536-22-8714\r\nnext"})
    return part("post.1", {"name": "chain"}) + part("post.1.inputs", INPUTS) + outputs + b"--b--\r\n"


@pytest.mark.parametrize(("whole", "parts"), [("", ""), ("zstd", ""), ("", "zstd")])
def test_langsmith_posts_parts(whole, parts):
    body = zstandard.compress(multipart(parts)) if whole else multipart(parts)
    one = posted("api.smith.langchain.com", "/runs/multipart", body, "multipart/form-data; boundary=b", whole)
    assert (one.operation, one.provider, one.credential.reveal()) == ("telemetry", "langsmith", "lsv2_pt_1")
    assert "I am Margaret" in texts(one)
    assert "536-22-8714\r\nnext" in texts(one)


def test_langsmith_parts_that_break_off_are_read_as_far_as_they_go():
    body = multipart()
    one = posted(
        "api.smith.langchain.com", "/runs/multipart", body[: body.index(b"8714")], "multipart/form-data; boundary=b"
    )
    assert "I am Margaret" in texts(one)
    assert "536-22-" in texts(one)


@pytest.mark.parametrize(
    ("host", "target", "provider"),
    [
        ("api.lunary.ai", "/v1/runs/ingest", "lunary"),
        ("lunary.tools.svc", "/v1/runs/ingest", "lunary"),
        ("cloud.langfuse.com", "/api/public/ingestion", "langfuse"),
        ("us.cloud.langfuse.com", "/api/public/scores", "langfuse"),
        ("langfuse.tools.svc:3000", "/api/public/ingestion", "langfuse"),
        ("api.helicone.ai", "/oai/v1/log", "helicone"),
        ("api.hconeai.com", "/custom/v1/log", "helicone"),
        ("eu.api.smith.langchain.com", "/runs/batch", "langsmith"),
        ("api.traceloop.com", "/v1/traces", "traceloop"),
        ("logfire-eu.pydantic.dev", "/v1/traces", "logfire"),
        ("api.openai.com", "/v1/traces/ingest", "otlp"),
        ("collector.obs.svc:4318", "/v1/traces", "otlp"),
    ],
)
def test_observers_are_known_by_host_or_path(host, target, provider):
    one = posted(
        host, target, json.dumps({"events": [{"type": "llm", "input": INPUTS, "userId": "cust@example.com"}]}).encode()
    )
    assert (one.operation, one.provider) == ("telemetry", provider)
    assert [(message.role, message.text.reveal()) for message in one.messages] == [
        ("user", "I am Margaret"),
        ("other", "cust@example.com"),
    ]


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


SPAN = field(1, b"user.id") + field(2, field(1, b"margaret.holloway@example.com of the bank"))


@pytest.mark.parametrize(("body", "encoding"), [(SPAN, ""), (gzip.compress(SPAN), "gzip")])
def test_otlp_protobuf_gives_its_values_exactly(body, encoding):
    one = posted("collector:4318", "/v1/traces", body, "application/x-protobuf", encoding)
    assert [message.text.reveal() for message in one.messages][:2] == [
        "user.id",
        "margaret.holloway@example.com of the bank",
    ]


def test_otlp_over_grpc():
    made = Exchange(
        protocol="h2",
        is_client=True,
        method="POST",
        target="/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        host="collector:4317",
        headers=(("content-type", "application/grpc"), ("grpc-encoding", "gzip")),
        body=struct.pack(">BI", 1, len(gzip.compress(SPAN))) + gzip.compress(SPAN),
        status=200,
    )
    (one,) = operations_of(made)
    assert (one.operation, one.provider) == ("telemetry", "otlp")
    assert "margaret.holloway@example.com" in texts(one)


def test_otlp_json_decodes_what_its_strings_hold():
    value = {
        "key": "gen_ai.input.messages",
        "value": {"stringValue": json.dumps([{"role": "user", "content": "I am J\u00fcrgen"}])},
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [value]}]}]}]}).encode()
    one = posted("collector:4318", "/v1/traces", body)
    assert ("user", "I am J\u00fcrgen") in [(message.role, message.text.reveal()) for message in one.messages]
