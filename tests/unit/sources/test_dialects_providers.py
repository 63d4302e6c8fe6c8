"""agent.sources.dialects.reading, .walk, .catalogue: Anthropic, Gemini, Mistral, Cohere, Groq and others."""

import json

import pytest

from tests.unit.sources.dialect_exchanges import everything, operation, said, sse

CLAUDE = {
    "model": "claude-5",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Write to hr@mega.example", "cache_control": {"type": "ephemeral"}}],
    "metadata": {"user_id": "siobhan@example.ie"},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "I am Siobhan"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 40}},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"mail": "s@example.ie"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "+353 20 915"}]}
            ],
        },
    ],
}


def event(name: str, **more) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **more})}\n\n".encode()


def test_anthropic():
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-5-1",
        "content": [
            {"type": "thinking", "thinking": "She asks", "signature": "EqQB" * 100},
            {"type": "text", "text": "IE29 AIBK"},
        ],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 5},
    }
    one = operation("/v1/messages", CLAUDE, answer, "api.anthropic.com", headers=[("x-api-key", "sk-ant-1")])
    assert (one.provider, one.operation, one.request_model, one.response_model) == (
        "anthropic",
        "chat",
        "claude-5",
        "claude-5-1",
    )
    assert (one.input_tokens, one.output_tokens) == (12, 5)
    assert said(one, "system") == ["Write to hr@mega.example"]
    assert said(one, "user") == ["I am Siobhan"]
    assert said(one, "other") == ["siobhan@example.ie"]
    assert said(one, "assistant", "tool_call") == ["find", "s@example.ie"]
    assert said(one, "tool", "tool_result") == ["+353 20 915"]
    assert said(one, "assistant") == ["She asks", "IE29 AIBK"]
    assert one.credential.reveal() == "sk-ant-1"


def test_anthropic_streamed():
    answer = (
        event(
            "message_start",
            message={
                "id": "m",
                "role": "assistant",
                "model": "claude-5-1",
                "content": [],
                "usage": {"input_tokens": 12, "output_tokens": 1},
            },
        )
        + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + event("ping")
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "IE29 "})
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "AIBK"})
        + event("content_block_stop", index=0)
        + event(
            "content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "find", "input": {}}
        )
        + event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"mail": "s@exam'})
        + event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": 'ple.ie"}'})
        + event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
        + event("message_stop")
    )
    one = operation(
        "/v1/messages", {"model": "claude-5", "messages": []}, answer, "api.anthropic.com", "text/event-stream"
    )
    assert said(one, "assistant") == ["IE29 AIBK"]
    assert said(one, "assistant", "tool_call") == ["find", "s@example.ie"]
    assert (one.input_tokens, one.output_tokens, one.response_model, one.is_streaming) == (12, 9, "claude-5-1", True)


GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "I am Jane"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo" * 40}}],
        },
        {"role": "model", "parts": [{"functionCall": {"name": "find", "args": {"city": "Paris"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {"result": "12 rue X"}}}]},
    ],
}
GOOGLE = "generativelanguage.googleapis.com"


def candidate(text: str, **more) -> dict:
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}],
        "modelVersion": "gemini-3-001",
        **more,
    }


USED = {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}}


def test_gemini_and_a_key_in_its_url():
    target = "/v1beta/models/gemini-3-pro:generateContent?key=AIzaSyD-9tSrke72"
    one = operation(target, GEMINI, candidate("Hello Jane", **USED), GOOGLE)
    assert (one.provider, one.operation) == ("gcp.gemini", "generate_content")
    assert (one.request_model, one.response_model, one.input_tokens, one.output_tokens) == (
        "gemini-3-pro",
        "gemini-3-001",
        7,
        3,
    )
    assert (said(one, "system"), said(one, "user"), said(one, "assistant")) == (
        ["Be brief."],
        ["I am Jane"],
        ["Hello Jane"],
    )
    assert said(one, "assistant", "tool_call") == ["find", "Paris"]
    assert said(one, "tool", "tool_result") == ["find", "12 rue X"]
    assert one.credential.reveal() == "AIzaSyD-9tSrke72"
    assert "AIzaSyD-9tSrke72" not in everything(one)


@pytest.mark.parametrize("is_array", [True, False])
def test_gemini_streamed(is_array):
    parts = [candidate("Hello "), candidate("Ja"), candidate("ne", **USED)]
    answer = json.dumps(parts).encode() if is_array else sse(*parts)
    kind = "application/json" if is_array else "text/event-stream"
    one = operation("/v1beta/models/gemini-3-pro:streamGenerateContent", GEMINI, answer, GOOGLE, kind)
    assert said(one, "assistant") == ["Hello Jane"]
    assert (one.input_tokens, one.output_tokens, one.is_streaming) == (7, 3, True)


def test_a_gemini_array_may_end_with_usage_alone():
    answer = json.dumps([candidate("Hello "), candidate("Jane"), USED]).encode()
    one = operation("/v1beta/models/gemini-3-pro:streamGenerateContent", GEMINI, answer, GOOGLE)
    assert (said(one, "assistant"), one.input_tokens) == (["Hello Jane"], 7)


def test_a_gemini_array_that_breaks_off_is_still_one_text():
    answer = b"[" + b",\r\n".join(json.dumps(candidate(one)).encode() for one in ("536-", "22-", "8714"))
    one = operation("/v1beta/models/gemini-3-pro:streamGenerateContent", GEMINI, answer, GOOGLE)
    assert "536-22-8714" in everything(one)


def test_mistral_fim():
    answer = {
        "model": "codestral",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "return 1"}}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3},
    }
    one = operation(
        "/v1/fim/completions",
        {"model": "codestral", "prompt": "def f():", "suffix": "# end"},
        answer,
        "codestral.mistral.ai",
    )
    assert (one.provider, one.operation, said(one, "user"), said(one, "assistant")) == (
        "mistral_ai",
        "text_completion",
        ["def f():", "# end"],
        ["return 1"],
    )


def test_cohere_v2_streamed():
    def part(text: str) -> dict:
        return {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}}

    answer = sse({"type": "message-start", "delta": {"message": {"role": "assistant"}}}, part("Hello "), part("Jane"))
    answer += sse({"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 5, "output_tokens": 6}}}})
    asked = {
        "model": "command",
        "messages": [{"role": "user", "content": "I am Jane"}],
        "documents": ["Jane is 40", {"data": {"t": "and rich"}}],
    }
    one = operation("/v2/chat", asked, answer, "api.cohere.com", "text/event-stream")
    assert (one.provider, said(one, "user"), said(one, "document")) == (
        "cohere",
        ["I am Jane"],
        ["Jane is 40", "and rich"],
    )
    assert (said(one, "assistant"), one.input_tokens, one.output_tokens) == (["Hello Jane"], 5, 6)


COHERE = {
    "model": "command",
    "message": "I am Jane",
    "preamble": "Be brief.",
    "chat_history": [{"role": "CHATBOT", "message": "Yes?"}],
}


def test_cohere_v1():
    one = operation(
        "/v1/chat",
        COHERE,
        {"text": "Hello Jane", "generation_id": "1", "meta": {"tokens": {"input_tokens": 3, "output_tokens": 2}}},
        "api.cohere.ai",
    )
    assert (said(one, "user"), said(one, "system"), said(one, "assistant")) == (
        ["I am Jane"],
        ["Be brief."],
        ["Yes?", "Hello Jane"],
    )
    assert (one.input_tokens, one.output_tokens) == (3, 2)


def test_cohere_v1_streamed_tells_each_text_once():
    lines = [
        {"event_type": "stream-start", "generation_id": "1", "is_finished": False},
        {"event_type": "text-generation", "text": "536-22", "is_finished": False},
        {"event_type": "text-generation", "text": "-8714", "is_finished": False},
        {
            "event_type": "stream-end",
            "finish_reason": "COMPLETE",
            "is_finished": True,
            "response": {"text": "536-22-8714"},
        },
    ]
    answer = b"\n".join(json.dumps(line).encode() for line in lines)
    one = operation("/v1/chat", COHERE, answer, "api.cohere.com", "application/stream+json")
    assert said(one, "assistant")[1:] == ["536-22-8714"]


def test_cohere_rerank():
    asked = {"model": "rerank-3", "query": "who is rich", "documents": ["Jane is", "Tom is not"]}
    one = operation("/v2/rerank", asked, {"results": [{"index": 0, "relevance_score": 0.9}]}, "api.cohere.com")
    assert (one.operation, said(one, "user"), said(one, "document")) == (
        "rerank",
        ["who is rich"],
        ["Jane is", "Tom is not"],
    )


def test_groq_tells_its_usage_beside_the_answer():
    answer = sse(
        {
            "model": "llama",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello "}}],
            "x_groq": {"id": "req_1"},
        },
        {"model": "llama", "choices": [{"index": 0, "delta": {"content": "Jane"}}]},
        {
            "model": "llama",
            "choices": [{"index": 0, "delta": {}}],
            "x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 2}},
        },
    )
    asked = {"model": "llama", "messages": [{"role": "user", "content": "I am Jane"}]}
    one = operation("/openai/v1/chat/completions", asked, answer, "api.groq.com", "text/event-stream")
    assert (one.provider, said(one, "assistant"), one.input_tokens, one.output_tokens) == ("groq", ["Hello Jane"], 4, 2)


@pytest.mark.parametrize(
    ("host", "path", "provider"),
    [
        ("openrouter.ai", "/api/v1/chat/completions", "openrouter"),
        ("api.deepseek.com", "/chat/completions", "deepseek"),
        ("api.deepseek.com", "/beta/completions", "deepseek"),
        ("api.together.xyz", "/v1/chat/completions", "together_ai"),
        ("api.fireworks.ai", "/inference/v1/chat/completions", "fireworks"),
        ("eu.api.openai.com", "/v1/chat/completions", "openai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/openai/v1/chat/completions", "aws.bedrock"),
        (
            "europe-west4-aiplatform.googleapis.com",
            "/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict",
            "gcp.vertex_ai",
        ),
        ("oai.helicone.ai", "/v1/chat/completions", "helicone"),
        ("vllm.ai.svc:8000", "/v1/chat/completions", "openai"),
        ("api-inference.huggingface.co", "/models/gpt2", "hugging_face"),
    ],
)
def test_the_host_tells_the_provider(host, path, provider):
    asked = (
        {"model": "m", "prompt": "x"}
        if path.endswith("/completions") and "chat" not in path
        else {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    )
    if "huggingface" in host:
        asked = {"inputs": "x"}
    assert operation(path, asked, {"choices": []}, host).provider == provider


def test_counts_larger_than_anybody_counts_are_kept_within_a_number():
    one = operation("/v1/messages", CLAUDE, b'{"usage": {"input_tokens": 1%s}}' % (b"0" * 300), "api.anthropic.com")
    assert 0 <= one.input_tokens < 2**63
