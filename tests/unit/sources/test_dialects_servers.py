"""agent.sources.dialects.reading, .walk, .bodies: models one runs oneself: Ollama, vLLM, TGI, llama.cpp, Triton."""

import json
import struct

from agent.sources.dialects import operations_of
from tests.unit.sources.dialect_exchanges import everything, exchange, operation, said, sse

HOST = "model.ai.svc.cluster.local:8000"
CHAT = {
    "model": "llama3",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Jestem Piotr", "images": ["iVBORw0KGgo" * 40]},
    ],
}


def lines(*values: dict) -> bytes:
    return b"".join(json.dumps(value, ensure_ascii=False).encode() + b"\n" for value in values)


def piece(text: str) -> dict:
    return {
        "model": "llama3",
        "created_at": "2026-11-24T10:00:00Z",
        "message": {"role": "assistant", "content": text},
        "done": False,
    }


LAST = {
    "model": "llama3",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 26,
    "eval_count": 28,
}


def test_ollama_streams_lines():
    one = operation(
        "/api/chat", CHAT, lines(piece("Pisz do p@"), piece("example.pl"), LAST), HOST, "application/x-ndjson"
    )
    assert (one.provider, one.operation, one.server_port) == ("ollama", "chat", 8000)
    assert (one.request_model, one.response_model, one.is_streaming) == ("llama3", "llama3", True)
    assert (said(one, "system"), said(one, "user"), said(one, "assistant")) == (
        ["Be brief."],
        ["Jestem Piotr"],
        ["Pisz do p@example.pl"],
    )
    assert (one.input_tokens, one.output_tokens) == (26, 28)


def test_ollama_in_one_piece():
    one = operation("/api/chat", CHAT, {**LAST, "message": {"role": "assistant", "content": "Dobrze"}}, HOST)
    assert (said(one, "assistant"), one.is_streaming, one.output_tokens) == (["Dobrze"], False, 28)


def test_ollama_calls_tools_with_objects():
    call = {
        "model": "llama3",
        "message": {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "find", "arguments": {"pesel": "44051401359"}}}],
        },
    }
    one = operation("/api/chat", CHAT, lines(call, LAST), HOST, "application/x-ndjson")
    assert said(one, "assistant", "tool_call") == ["find", "44051401359"]


def test_ollama_generates():
    asked = {"model": "llama3", "prompt": "Jestem Piotr", "system": "Be brief."}
    answer = lines(
        {"model": "llama3", "response": "Dob", "done": False},
        {"model": "llama3", "response": "rze", "done": True, "context": list(range(100))},
    )
    one = operation("/api/generate", asked, answer, HOST, "application/x-ndjson")
    assert (one.operation, said(one, "user"), said(one, "system"), said(one, "assistant")) == (
        "text_completion",
        ["Jestem Piotr"],
        ["Be brief."],
        ["Dobrze"],
    )


def test_lines_that_break_off_are_read_as_far_as_they_go():
    whole = lines(piece("536-22"), piece("-8714"))
    one = operation("/api/chat", CHAT, whole[:-15], HOST, "application/x-ndjson")
    assert "536-22" in everything(one)
    assert "-8714" in everything(one)


def test_vllm_reasons_beside_the_answer():
    answer = sse(
        {
            "model": "q",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
            "prompt_token_ids": None,
        },
        {"model": "q", "choices": [{"index": 0, "delta": {"reasoning_content": "He is "}}]},
        {"model": "q", "choices": [{"index": 0, "delta": {"reasoning_content": "Piotr"}}]},
        {"model": "q", "choices": [{"index": 0, "delta": {"content": "Witaj"}}]},
    )
    one = operation("/v1/chat/completions", CHAT, answer, HOST, "text/event-stream")
    assert said(one, "assistant") == ["He is Piotr", "Witaj"]


def token(number: int, text: str, whole: str | None = None) -> dict:
    return {
        "index": number,
        "token": {"id": number, "text": text, "logprob": -0.1, "special": False},
        "generated_text": whole,
        "details": {"generated_tokens": 3} if whole else None,
    }


def test_tgi_in_one_piece():
    one = operation(
        "/generate",
        {"inputs": "I am Jane", "parameters": {"max_new_tokens": 5}},
        {"generated_text": "Hello Jane"},
        HOST,
    )
    assert (one.provider, one.operation) == ("text_generation_inference", "text_completion")
    assert (said(one, "user"), said(one, "assistant")) == (["I am Jane"], ["Hello Jane"])


def test_tgi_streams_numbered_tokens_of_one_text():
    answer = sse(token(1, "536-"), token(2, "22-"), token(3, "8714")).replace(b"data: ", b"data:")
    one = operation("/generate_stream", {"inputs": "I am Jane"}, answer, HOST, "text/event-stream")
    assert said(one, "assistant") == ["536-22-8714"]


def test_tgi_tells_the_whole_text_at_its_end_and_it_is_told_once():
    answer = sse(token(1, "536-"), token(2, "22-"), token(3, "8714", "536-22-8714"))
    one = operation("/generate_stream", {"inputs": "I am Jane"}, answer, HOST, "text/event-stream")
    assert said(one, "assistant") == ["536-22-8714"]
    assert one.output_tokens == 3


def test_tgi_answers_at_its_root():
    one = operation("/", {"inputs": "I am Jane", "parameters": {}}, [{"generated_text": "Hello Jane"}], HOST)
    assert (said(one, "user"), said(one, "assistant")) == (["I am Jane"], ["Hello Jane"])


def test_llama_cpp():
    answer = sse(
        {"content": "536-22", "stop": False},
        {"content": "-8714", "stop": False},
        {"content": "", "stop": True, "timings": {"prompt_n": 5, "predicted_n": 6}},
    )
    one = operation(
        "/completion", {"prompt": "I am Jane", "n_predict": 10, "stream": True}, answer, HOST, "text/event-stream"
    )
    assert (said(one, "user"), said(one, "assistant"), one.input_tokens, one.output_tokens) == (
        ["I am Jane"],
        ["536-22-8714"],
        5,
        6,
    )


def test_triton_generates():
    answer = sse(
        {"model_name": "ensemble", "model_version": "1", "text_output": "536-22"},
        {"model_name": "ensemble", "model_version": "1", "text_output": "-8714"},
    )
    one = operation(
        "/v2/models/ensemble/generate_stream",
        {"text_input": "I am Jane", "parameters": {}},
        answer,
        HOST,
        "text/event-stream",
    )
    assert (one.provider, one.request_model, said(one, "user")) == ("triton", "ensemble", ["I am Jane"])
    assert "536-22-8714" in said(one, "assistant")


def test_triton_infers_over_grpc():
    raw = b"\x09\0\0\0I am Jane"
    message = b"\x0a\x08ensemble" + b"\x3a" + bytes([len(raw)]) + raw  # model_name, raw_input_contents
    asked = exchange("/inference.GRPCInferenceService/ModelInfer", {}, b"", HOST)
    asked.headers = (("content-type", "application/grpc"),)
    asked.body = struct.pack(">BI", 0, len(message)) + message
    (one,) = operations_of(asked)
    assert one.provider == "triton"
    assert "I am Jane" in everything(one)


def test_kserve_infers_with_json():
    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["I am Jane"]}]}
    one = operation(
        "/v2/models/m/infer",
        asked,
        {"outputs": [{"name": "out", "datatype": "BYTES", "shape": [1], "data": ["Hello Jane"]}]},
        HOST,
    )
    assert "I am Jane" in said(one, "user")
    assert "Hello Jane" in said(one, "assistant")


def test_kserve_infers_with_tensors_behind_its_json():
    head = json.dumps(
        {"inputs": [{"name": "text", "datatype": "BYTES", "parameters": {"binary_data_size": 13}}]}
    ).encode()
    asked = exchange("/v2/models/m/infer", {}, b"", HOST)
    asked.headers = (
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", str(len(head))),
    )
    asked.body = head + b"\x09\0\0\0I am Jane"
    (one,) = operations_of(asked)
    assert "I am Jane" in said(one, "user")


def test_slots_tell_their_prompts():
    asked = exchange("/slots", {}, [{"id": 0, "n_ctx": 4096, "prompt": "I am Jane"}], HOST)
    asked.method, asked.body = "GET", b""
    (one,) = operations_of(asked)
    assert (one.provider, "I am Jane" in everything(one)) == ("llama.cpp", True)
