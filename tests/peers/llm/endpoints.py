"""What the server in Go answers outside of OpenAI's chat: each API's shape, read back by plain urllib.

Raises AssertionError at the first answer that is not the predicted one.
"""

from __future__ import annotations

import base64
import json
import ssl
import struct
import urllib.request
from typing import Any

from tests.peers.llm.answers import expected_answer, prompts, tokens_of
from tests.peers.llm.serving import Server

Json = dict[str, Any]


def check(server: Server) -> None:
    """Anthropic's, Ollama's and the embeddings' endpoints, whole and streamed."""
    for prompt in (*prompts(3, 4096, 1), ""):
        answer = expected_answer(prompt, 1000)
        tokens = list(tokens_of(answer, prompt))
        assert "".join(tokens) == answer
        _check_anthropic(server, prompt, tokens)
        _check_ollama(server, prompt, tokens)
    _check_embeddings(server)


def _check_anthropic(server: Server, prompt: str, tokens: list[str]) -> None:
    blocks = [{"type": "text", "text": prompt[:7]}, {"type": "text", "text": prompt[7:]}]
    request: Json = {"model": "claude-test", "max_tokens": 1000, "messages": [{"role": "user", "content": blocks}]}
    message = json.loads(_post(server, "/v1/messages", request))
    assert message["content"] == [{"type": "text", "text": "".join(tokens)}]
    assert message["usage"]["output_tokens"] == len(tokens)
    events = []
    for event in _post(server, "/v1/messages", request | {"stream": True}).decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [one["delta"]["text"] for one in events if one["type"] == "content_block_delta"] == tokens
    assert [one["type"] for one in events[:3]] == ["message_start", "content_block_start", "ping"]
    assert [one["type"] for one in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]


def _check_ollama(server: Server, prompt: str, tokens: list[str]) -> None:
    messages = [{"role": "user", "content": "before"}, {"role": "user", "content": prompt}]
    request: Json = {"model": "llama3", "options": {"num_predict": 1000}, "messages": messages}
    whole = json.loads(_post(server, "/api/chat", request | {"stream": False}))
    assert (whole["message"]["content"], whole["done"]) == ("".join(tokens), True)
    lines = [json.loads(line) for line in _post(server, "/api/chat", request).split(b"\n")[:-1]]
    assert [line["message"]["content"] for line in lines] == [*tokens, ""]
    assert [line["done"] for line in lines] == [False] * len(tokens) + [True]


def _check_embeddings(server: Server) -> None:
    request: Json = {"model": "text-embedding-3-small", "input": ["one", "two"]}
    numbers = json.loads(_post(server, "/v1/embeddings", request))["data"]
    packed = json.loads(_post(server, "/v1/embeddings", request | {"encoding_format": "base64"}))["data"]
    for one, other in zip(numbers, packed, strict=True):
        unpacked = struct.unpack("<8f", base64.b64decode(other["embedding"]))
        assert max(abs(a - b) for a, b in zip(one["embedding"], unpacked, strict=True)) < 1e-6
    assert numbers[0]["embedding"] != numbers[1]["embedding"]


def _post(server: Server, path: str, value: Json) -> bytes:
    request = urllib.request.Request(server.url + path, data=json.dumps(value).encode())
    context = ssl.create_default_context(cafile=str(server.ca_file))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(request, timeout=60) as response:
        return bytes(response.read())
