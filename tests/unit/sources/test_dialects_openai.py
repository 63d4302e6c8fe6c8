"""agent.sources.dialects.reading, .walk: OpenAI and those who speak like it."""

from agent.sources.dialects import operations_of
from tests.unit.sources.dialect_exchanges import everything, exchange, operation, said, sse

HOST = "api.openai.com"
CHAT = {
    "model": "gpt-4o",
    "user": "cust.4711@example.com",
    "messages": [
        {"role": "developer", "content": "Escalate to desk@acme.example."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "I am J\u00fcrgen"}, {"type": "text", "text": "from Berlin"}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"iban": "DE89 3704"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "balance 12 EUR"},
    ],
    "tools": [{"type": "function", "function": {"name": "find", "description": "Finds accounts"}}],
}
ANSWERED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "You have 12 EUR."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38},
    "system_fingerprint": "fp_1",
}


def chunk(delta: dict, index: int = 0, **more) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": index, "delta": delta, "finish_reason": None}],
        **more,
    }


def test_a_chat_has_its_words_in_their_roles():
    one = operation("/v1/chat/completions", CHAT, ANSWERED, HOST)
    assert (one.operation, one.provider, one.is_streaming, one.error) == ("chat", "openai", False, "")
    assert (one.request_model, one.response_model) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (one.server_address, one.server_port) == ("api.openai.com", 443)
    assert (one.input_tokens, one.output_tokens) == (31, 7)
    assert said(one, "system") == ["Escalate to desk@acme.example."]
    assert said(one, "user") == ["cust.4711@example.com", "I am J\u00fcrgen", "from Berlin"]
    assert said(one, "assistant", "tool_call") == ["find", "DE89 3704"]
    assert said(one, "tool", "tool_result") == ["balance 12 EUR"]
    assert said(one, "assistant") == ["You have 12 EUR."]


def test_a_streamed_chat_is_one_text_for_each_choice():
    answer = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Call +44 20"}),
        chunk({"content": "Other"}, 1),
        chunk({"content": " 7946 "}),
        chunk({"content": " words"}, 1),
        chunk({"content": "0958"}),
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": 9},
        },
    )
    one = operation(
        "/v1/chat/completions", CHAT, answer + b"data: [DONE]\n\n", HOST, "text/event-stream; charset=utf-8"
    )
    assert said(one, "assistant") == ["Call +44 20 7946 0958", "Other words"]
    assert (one.input_tokens, one.output_tokens, one.is_streaming) == (5, 9, True)
    assert one.response_model == "gpt-4o-2024-08-06"


def test_streamed_tool_arguments_are_put_together_and_decoded():
    answer = sse(
        chunk(
            {
                "role": "assistant",
                "tool_calls": [
                    {"index": 0, "id": "c1", "type": "function", "function": {"name": "pay", "arguments": ""}}
                ],
            }
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"iban": "GB29NW'}}]}),
        chunk(
            {
                "tool_calls": [
                    {"index": 1, "id": "c2", "type": "function", "function": {"name": "mail", "arguments": ""}}
                ]
            }
        ),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": '{"to": "a@b.c"}'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'BK6016"}'}}]}),
    )
    one = operation("/v1/chat/completions", CHAT, answer, HOST, "text/event-stream")
    assert said(one, "assistant", "tool_call")[2:] == ["pay", "GB29NWBK6016", "mail", "a@b.c"]


def test_streamed_tool_arguments_may_begin_with_their_name():
    answer = sse(
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "pay", "arguments": '{"iban": "GB29'},
                    }
                ]
            }
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'NWBK6016"}'}}]}),
    )
    one = operation("/v1/chat/completions", CHAT, answer, HOST, "text/event-stream")
    assert "GB29NWBK6016" in said(one, "assistant", "tool_call")


def test_a_letter_may_be_cut_between_two_events():
    answer = b'data: {"choices":[{"index":0,"delta":{"content":"Hi \\ud83d"}}]}\n\n'
    answer += b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00!"}}]}\n\n'
    one = operation("/v1/chat/completions", CHAT, answer, HOST, "text/event-stream")
    assert said(one, "assistant") == ["Hi \U0001f600!"]


def test_half_a_letter_can_be_written_down():
    one = operation("/v1/chat/completions", CHAT, b'{"choices":[{"message":{"content":"Hi \\ud83d"}}]}', HOST)
    assert everything(one).encode()


def test_an_error_is_an_error_with_its_text():
    asked = exchange("/v1/chat/completions", CHAT, {"error": {"message": "Incorrect API key: sk-abc"}}, HOST)
    asked.status = 401
    (one,) = operations_of(asked)
    assert one.error == "401"
    assert said(one, "other")[-1] == "Incorrect API key: sk-abc"


def test_azure_names_the_model_in_its_path():
    answer = {
        **ANSWERED,
        "prompt_filter_results": [
            {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
        ],
    }
    asked = {"messages": [{"role": "user", "content": "I am Jane"}]}
    target = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    one = operation(target, asked, answer, "acme.openai.azure.com", headers=[("api-key", "k" * 32)])
    assert (one.provider, one.request_model, one.response_model) == ("azure.ai.openai", "my-gpt", "gpt-4o-2024-08-06")
    assert said(one, "user") == ["I am Jane"]
    assert said(one, "assistant").count("You have 12 EUR.") == 1
    assert one.credential.reveal() == "k" * 32


def test_azure_streams_begin_without_a_choice():
    answer = sse(
        {"choices": [], "model": "", "prompt_filter_results": []},
        chunk({"content": "You "}),
        chunk({"content": "have"}),
    )
    target = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    one = operation(target, CHAT, answer, "acme.openai.azure.com", "text/event-stream")
    assert said(one, "assistant") == ["You have"]


ASKED_RESPONSES = {
    "model": "gpt-5",
    "instructions": "Write to dpo@insurer.example.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "I am Bart"},
                {"type": "input_image", "image_url": "data:image/png;base64," + "iVBORw0KGgo" * 40},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "find", "arguments": '{"mbi": "1EG4-TE5"}'},
        {"type": "function_call_output", "call_id": "c", "output": "found 1"},
    ],
}


def test_responses_have_their_words_in_their_roles():
    answer = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5-2025",
        "output": [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "He asks"}],
                "encrypted_content": "x" * 400,
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Call me", "annotations": []}],
            },
        ],
        "usage": {"input_tokens": 3, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 2}},
    }
    one = operation("/v1/responses", ASKED_RESPONSES, answer, HOST)
    assert (one.operation, one.request_model, one.response_model) == ("chat", "gpt-5", "gpt-5-2025")
    assert (one.input_tokens, one.output_tokens) == (3, 4)
    assert said(one, "system") == ["Write to dpo@insurer.example."]
    assert said(one, "user") == ["I am Bart"]
    assert "1EG4-TE5" in said(one, "assistant", "tool_call")
    assert said(one, "tool", "tool_result") == ["found 1"]
    assert said(one, "assistant") == ["He asks", "Call me"]


def delta(kind: str, text: str, **more) -> dict:
    return {
        "type": kind,
        "item_id": "m1",
        "output_index": 0,
        "content_index": 0,
        "delta": text,
        "obfuscation": "aX3",
        **more,
    }


def test_streamed_responses_tell_each_text_once():
    whole = {
        "type": "message",
        "id": "m1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Call 555-0187"}],
    }
    answer = sse(
        {
            "type": "response.created",
            "response": {"model": "gpt-5-2025", "instructions": "Write to dpo@insurer.example."},
        },
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "message", "id": "m1", "content": []},
        },
        delta("response.output_text.delta", "Call 555"),
        delta("response.output_text.delta", "-0187"),
        {"type": "response.output_text.done", "item_id": "m1", "text": "Call 555-0187"},
        {
            "type": "response.content_part.done",
            "item_id": "m1",
            "part": {"type": "output_text", "text": "Call 555-0187"},
        },
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": 1, "delta": '{"mbi":"1EG'},
        {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": 1, "delta": '4-TE5"}'},
        {
            "type": "response.function_call_arguments.done",
            "item_id": "f",
            "output_index": 1,
            "arguments": '{"mbi":"1EG4-TE5"}',
        },
        {
            "type": "response.completed",
            "response": {"model": "gpt-5-2025", "output": [whole], "usage": {"input_tokens": 3, "output_tokens": 4}},
        },
    )
    one = operation("/v1/responses", {"model": "gpt-5", "input": "hello"}, answer, HOST, "text/event-stream")
    assert said(one, "user") == ["hello"]
    assert said(one, "assistant") == ["Call 555-0187"]
    assert said(one, "assistant", "tool_call") == ["1EG4-TE5"]
    assert (one.input_tokens, one.output_tokens, one.response_model) == (3, 4, "gpt-5-2025")


def test_what_streamed_responses_tell_only_at_the_end_is_told():
    item = {"type": "mcp_call", "id": "c1", "name": "find", "arguments": "{}", "output": "Jane lives in Paris"}
    answer = sse(
        delta("response.output_text.delta", "Done."),
        {"type": "response.output_item.done", "output_index": 1, "item": item},
        {"type": "response.completed", "response": {"output": [item]}},
    )
    one = operation("/v1/responses", {"model": "gpt-5", "input": "hello"}, answer, HOST, "text/event-stream")
    assert everything(one).count("Jane lives in Paris") == 1


def test_completions_and_embeddings():
    asked = {"model": "davinci-002", "prompt": ["I am August", "and I am July"], "suffix": "bye"}
    one = operation(
        "/v1/completions", asked, {"choices": [{"index": 0, "text": "912-70"}], "model": "davinci-002"}, HOST
    )
    assert (one.operation, said(one, "user"), said(one, "assistant")) == (
        "text_completion",
        ["I am August", "and I am July", "bye"],
        ["912-70"],
    )
    asked = {"model": "embed-3", "input": ["passport A049"], "encoding_format": "base64"}
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": "AAAA" * 400}],
        "model": "embed-3",
        "usage": {"prompt_tokens": 8},
    }
    one = operation("/v1/embeddings", asked, answer, HOST)
    assert (one.operation, everything(one), one.input_tokens) == ("embeddings", "passport A049", 8)


def test_embeddings_of_numbers_have_no_text():
    answer = {"data": [{"embedding": [0.1] * 1000}], "model": "embed-3"}
    one = operation("/v1/embeddings", {"model": "embed-3", "input": [1, 2, 3]}, answer, HOST)
    assert one.messages == ()
