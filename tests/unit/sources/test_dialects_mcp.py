"""agent.sources.dialects.reading, .catalogue: MCP of both eras."""

import json

from agent.model import GenAiOperation, Sensitive
from agent.sources.dialects import operations_of
from agent.sources.exchanges import Exchange

CALL = {
    "jsonrpc": "2.0",
    "id": 3,
    "method": "tools/call",
    "params": {"name": "find", "arguments": {"mail": "jane@x.example"}},
}
RESULT = {
    "jsonrpc": "2.0",
    "id": 3,
    "result": {"content": [{"type": "text", "text": "Jane lives in Paris"}], "isError": False},
}


def exchange(
    asked: object, answer: bytes, kind: str = "application/json", target: str = "/mcp", **headers: str
) -> Exchange:
    return Exchange(
        protocol="http/1.1",
        is_client=True,
        method="POST" if asked is not None else "GET",
        target=target,
        host="tools.svc:8080",
        headers=(
            ("content-type", "application/json"),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ),
        body=json.dumps(asked).encode() if asked is not None else b"",
        status=200,
        answer_headers=(("content-type", kind),),
        answer=answer,
        is_complete=True,
    )


def said(one: GenAiOperation, role: str, part: str) -> list[str]:
    return [message.text.reveal() for message in one.messages if (message.role, message.part) == (role, part)]


def sse(*events: object) -> bytes:
    return b"".join(b"event: message\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_stateless_call_is_a_tool_call_with_its_result():
    (one,) = operations_of(
        exchange(
            CALL,
            json.dumps(RESULT).encode(),
            mcp_protocol_version="2026-07-28",
            mcp_method="tools/call",
            mcp_name="find",
        )
    )
    assert (one.provider, one.operation, one.tool.reveal()) == ("mcp", "execute_tool", "tools/call:find")
    assert (one.server_address, one.server_port) == ("tools.svc", 8080)
    assert said(one, "tool", "tool_result") == ["Jane lives in Paris"]


def test_what_a_tool_is_asked_is_the_assistants_tool_call():
    (one,) = operations_of(exchange(CALL, json.dumps(RESULT).encode()))
    assert "jane@x.example" in said(one, "assistant", "tool_call")


def test_a_legacy_answer_is_one_event():
    (one,) = operations_of(exchange(CALL, sse(RESULT), "text/event-stream", mcp_session_id="5"))
    assert said(one, "tool", "tool_result") == ["Jane lives in Paris"]


def test_a_call_at_a_path_of_models_is_mcp_all_the_same():
    (one,) = operations_of(exchange(CALL, b"Accepted", "text/plain", target="/messages?session_id=5"))
    assert one.provider == "mcp"


def test_answers_on_the_stream_of_the_first_era_are_read():
    answer = b"event: endpoint\ndata: /messages?session_id=5\n\n" + sse(RESULT)
    (one,) = operations_of(exchange(None, answer, "text/event-stream", target="/sse"))
    assert one.provider == "mcp"
    assert said(one, "tool", "tool_result") == ["Jane lives in Paris"]


def test_what_a_server_sends_of_its_own_is_read():
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "Jane logged in"}}
    (one,) = operations_of(exchange(None, sse(note), "text/event-stream", mcp_protocol_version="2025-11-25"))
    assert "Jane logged in" in said(one, "tool", "tool_result")


def test_a_prompt_for_sampling_keeps_its_roles():
    params = {
        "messages": [{"role": "user", "content": {"type": "text", "text": "I am Jane"}}],
        "systemPrompt": "Be brief.",
    }
    ask = {"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage", "params": params}
    (one,) = operations_of(exchange(CALL, sse(ask, RESULT), "text/event-stream"))
    assert said(one, "user", "") == ["I am Jane"]
    assert said(one, "system", "") == ["Be brief."]


def test_an_error_is_told():
    answer = {"jsonrpc": "2.0", "id": 3, "error": {"code": -32602, "message": "no such person: Jane"}}
    (one,) = operations_of(exchange(CALL, json.dumps(answer).encode()))
    assert "no such person: Jane" in [message.text.reveal() for message in one.messages]


def test_a_batch_is_read_whole():
    (one,) = operations_of(exchange([CALL, {**CALL, "id": 4}], json.dumps([RESULT]).encode()))
    assert (one.provider, said(one, "tool", "tool_result")) == ("mcp", ["Jane lives in Paris"])
    assert one.tool == Sensitive("tools/call:find")


def test_the_end_of_a_session_is_no_operation():
    ended = exchange(None, b"", mcp_session_id="5", mcp_protocol_version="2025-11-25")
    ended.method = "DELETE"
    assert operations_of(ended) == []
