"""agent.sources.dialects.reading, .bodies: Bedrock, its signed requests and its binary event streams."""

import base64
import json

from tests.unit.sources.dialect_exchanges import operation, said

CONVERSE = {
    "system": [{"text": "Be brief."}],
    "messages": [
        {
            "role": "user",
            "content": [{"text": "I am Jane"}, {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo" * 40}}}],
        },
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "find", "input": {"city": "Paris"}}}]},
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"street": "12 rue X"}}]}}],
        },
    ],
}
AWS = "bedrock-runtime.eu-central-1.amazonaws.com"


def aws(kind: str, payload: dict) -> bytes:
    heads = b"".join(
        bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2, "big") + value
        for name, value in ((b":event-type", kind.encode()), (b":message-type", b"event"))
    )
    content = json.dumps(payload).encode()
    total = 16 + len(heads) + len(content)
    return total.to_bytes(4, "big") + len(heads).to_bytes(4, "big") + b"crc1" + heads + content + b"crc2"


def test_bedrock_converse():
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello Jane"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 4, "outputTokens": 2},
    }
    one = operation("/model/anthropic.claude-3%3A0/converse", CONVERSE, answer, AWS)
    assert (one.provider, one.operation, one.request_model) == ("aws.bedrock", "chat", "anthropic.claude-3:0")
    assert (one.input_tokens, one.output_tokens) == (4, 2)
    assert (said(one, "system"), said(one, "user"), said(one, "assistant")) == (
        ["Be brief."],
        ["I am Jane"],
        ["Hello Jane"],
    )
    assert said(one, "assistant", "tool_call") == ["find", "Paris"]
    assert said(one, "tool", "tool_result") == ["12 rue X"]


def test_bedrock_converse_streamed():
    answer = (
        aws("messageStart", {"role": "assistant", "p": "abc"})
        + aws("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello "}, "p": "abcd"})
        + aws("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city": "Pa'}}, "p": "a"})
        + aws("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Jane"}, "p": "abcdef"})
        + aws("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": 'ris"}'}}, "p": "a"})
        + aws("messageStop", {"stopReason": "end_turn"})
        + aws("metadata", {"usage": {"inputTokens": 4, "outputTokens": 2}})
    )
    one = operation("/model/m/converse-stream", CONVERSE, answer, AWS, "application/vnd.amazon.eventstream")
    assert said(one, "assistant") == ["Hello Jane"]
    assert said(one, "assistant", "tool_call")[2:] == ["Paris"]
    assert (one.input_tokens, one.output_tokens, one.is_streaming) == (4, 2, True)


def test_bedrock_invoke_streamed_holds_base64():
    pieces = [
        {"type": "message_start", "message": {"model": "claude-3", "usage": {"input_tokens": 8}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "536-22"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "-8714"}},
    ]
    answer = b"".join(
        aws("chunk", {"bytes": base64.b64encode(json.dumps(one).encode()).decode(), "p": "ab"}) for one in pieces
    )
    asked = {
        "anthropic_version": "bedrock-2023-05-31",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "I am Jane"}],
    }
    one = operation(
        "/model/m/invoke-with-response-stream", asked, answer + b"\0\0\1", AWS, "application/vnd.amazon.eventstream"
    )
    assert (said(one, "system"), said(one, "user"), said(one, "assistant")) == (
        ["Be brief."],
        ["I am Jane"],
        ["536-22-8714"],
    )
    assert one.input_tokens == 8


def test_calls_signed_with_one_key_have_one_credential():
    def credential(signature: str) -> str:
        header = f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/eu/bedrock/aws4_request, SignedHeaders=host, Signature={signature}"
        return operation(
            "/model/m/converse", CONVERSE, {}, AWS, headers=[("authorization", header)]
        ).credential.reveal()

    assert credential("0" * 64) == credential("f" * 64)
