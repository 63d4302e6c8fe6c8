"""An exchange to the operation it was: messages with their roles, model, usage, credential."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from agent.model import GenAiOperation, Message, MessagePart, Role, Sensitive
from agent.sources.dialects.bodies import Content, content_of
from agent.sources.dialects.catalogue import Api, api_of, api_of_shape, fits, is_read, provider_of
from agent.sources.dialects.parts import Part, part_of
from agent.sources.dialects.vocabulary import well_formed
from agent.sources.dialects.walk import Said, joined, walk
from agent.sources.exchanges import Exchange
from agent.sources.exchanges.exchange import Headers, path_of
from agent.sources.exchanges.grpc import tensor_texts

_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments|engines|publishers/[^/]+/models)/([^/:?]+)")
_MODEL_IN_QUERY = re.compile(r"[?&]model=([^&#]+)")
# AWS signs each request anew; the key's name is what stays.
_SIGNED = re.compile(r"AWS4-\S+ .*?Credential=([^/,\s]+)")
_JSON_LENGTH = "inference-header-content-length"
_CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "helicone-auth")
_CREDENTIAL_IN_URL = re.compile(r"([?&](?:key|api_key|api-key|access_token|token)=)([^&]+)")
_INPUT_TOKENS = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount", "prompt_eval_count", "prompt_n")
_OUTPUT_TOKENS = (
    "completion_tokens",
    "output_tokens",
    "outputTokens",
    "candidatesTokenCount",
    "eval_count",
    "generated_tokens",
    "predicted_n",
)
_DEPTH = 8
_ERROR_STATUS = 400
# What all readers of JSON can hold; nobody counts further.
_MOST = 2**53


def operations_of(exchange: Exchange) -> list[GenAiOperation]:
    """The operations an exchange was: none if it was no call of a model, tool or observer that is known."""
    host, port = host_and_port(exchange.host)
    # A request that was handed on before is known by what it said then, but not told again.
    asked = _content(exchange.body or exchange.told_body, exchange.headers)
    is_told = not exchange.body and exchange.is_prompt_told
    api = _api(exchange, host, asked)
    if api is None:
        return []
    if exchange.turns:
        return [_socket_operation(exchange, api, host, port)]
    answered = _content(exchange.answer, exchange.answer_headers)
    said = [] if is_told else _said(asked, "assistant" if api.kind == "mcp" else _asking_role(api), api)
    replied = _said(answered, _answering_role(api), api)
    messages = _messages(said)
    if exchange.is_part or exchange.memory.heard:
        messages += _parts(replied, exchange)
        if exchange.is_part and not messages:
            return []
    else:
        messages += _messages(replied)
    if not messages and not exchange.is_prompt_told and not asked.values:
        return []
    return [_operation(exchange, api, (host, port), asked, answered, messages)]


def _content(body: bytes, headers: Headers) -> Content:
    def header(name: str) -> str:
        return next((value for key, value in headers if key == name), "")

    length = header(_JSON_LENGTH)
    if length.isdecimal():  # KServe's binary extension: tensors stand behind the JSON
        end = int(length[:9])
        content = content_of(body[:end], "application/json")
        return Content(content.values, content.events, content.texts + tensor_texts(body[end:], is_cut=True))
    return content_of(body, header("content-type"), header("grpc-encoding"))


def _api(exchange: Exchange, host: str, asked: Content) -> Api | None:
    path = path_of(exchange.target)
    requests = [_first(value) for value in (*asked.values, *asked.events)]
    by_shape = next((found for value in requests if (found := api_of_shape(value))), None)
    if by_shape is not None and by_shape.kind == "mcp":
        return by_shape
    if exchange.method == "GET" and not exchange.turns:
        return _api_of_get(exchange, host, path)
    if exchange.header("mcp-protocol-version"):
        return Api("mcp", "execute_tool", "mcp")
    api = api_of(host, path)
    # With a hole in it a request cannot be judged: rather an ordinary one too many than a prompt too few.
    is_unclear = exchange.missing > 0 and not any(isinstance(one, dict) for one in requests)
    if api is not None and (is_unclear or fits(api, requests)):
        return api
    if by_shape is not None:
        return by_shape._replace(provider=provider_of(host) or by_shape.provider)
    return None


def _api_of_get(exchange: Exchange, host: str, path: str) -> Api | None:
    """The API whose words were read without a request's body: a tool's stream, a slot, an answer that was kept."""
    if not exchange.answer:
        return None
    if exchange.header("mcp-protocol-version"):
        return Api("mcp", "execute_tool", "mcp")
    api = api_of(host, path) if is_read(host, path) else None
    is_stream = exchange.answer_header("content-type").lower().startswith("text/event-stream")
    if api is None and not is_stream:
        return None
    answered = _content(exchange.answer, exchange.answer_headers)
    if any((shape := api_of_shape(_first(one))) and shape.kind == "mcp" for one in answered.events):
        return Api("mcp", "execute_tool", "mcp")
    if api is None or api.kind != "model":
        return None
    needs = api.needs and ("n_ctx" if api.provider == "llama.cpp" else "object+output|object+data")
    return api if fits(api._replace(needs=needs), [_first(value) for value in answered.values]) else None


def _asking_role(api: Api) -> Role:
    return "other" if api.kind == "telemetry" else "user"


def _answering_role(api: Api) -> Role:
    match api.kind:
        case "mcp":
            return "tool"
        case "telemetry":
            return "other"
    return "document" if api.operation == "rerank" else "assistant"


def _said(content: Content, role: Role, api: Api) -> list[Said]:
    found = [one for value in content.values for one in walk(value, role)]
    if content.events:
        # Lines that were posted are separate values; lines that were answered are one text in parts.
        found += (
            joined(content.events, role)
            if api.kind == "model"
            else [x for one in content.events for x in walk(one, role)]
        )
    return found + [Said(role, "", text) for text in content.texts]


def _messages(said: list[Said]) -> tuple[Message, ...]:
    return tuple(_message(one) for one in said)


def _message(one: Said, part: Part | None = None) -> Message:
    after, until = (part.new_from, part.new_until) if part is not None else (0, 0)
    text = Sensitive(part.text if part is not None else one.text)
    if one.role == "call":
        return Message(role="assistant", text=text, part="tool_call", new_from=after, new_until=until)
    kind: MessagePart = "tool_result" if one.role == "tool" else ""
    return Message(role=one.role, text=text, part=kind, new_from=after, new_until=until)


def _parts(replied: list[Said], exchange: Exchange) -> tuple[Message, ...]:
    """What is new of an answer that is told while it comes; the exchange remembers what was told."""
    messages: list[Message] = []
    for number, one in enumerate(replied):
        part, heard = part_of(one.text, exchange.memory.heard.get(number), is_whole=not exchange.is_part)
        if heard is not None:
            exchange.memory.heard[number] = heard
        if part is not None:
            messages.append(_message(one, part))
    return tuple(messages)


def _socket_operation(exchange: Exchange, api: Api, host: str, port: int) -> GenAiOperation:
    asked, answered = Content(), Content()
    for turn in exchange.turns:
        inner = content_of(turn.payload, "application/json")
        side = asked if turn.is_from_client else answered
        side.events += [one for one in (*inner.values, *inner.events) if isinstance(one, (dict, list))]
    said = [one for value in asked.events for one in walk(value, _asking_role(api))]
    return _operation(
        exchange, api, (host, port), asked, answered, _messages([*said, *joined(answered.events, _answering_role(api))])
    )


def _operation(
    exchange: Exchange,
    api: Api,
    server: tuple[str, int],
    asked: Content,
    answered: Content,
    messages: tuple[Message, ...],
) -> GenAiOperation:
    questions, answers = asked.values or asked.events, [*answered.values, *answered.events]
    in_target = _MODEL_IN_PATH.search(path_of(exchange.target)) or _MODEL_IN_QUERY.search(exchange.target)
    is_error = exchange.status >= _ERROR_STATUS
    credential = credential_of(exchange)
    return GenAiOperation(
        operation=api.operation,
        provider=api.provider,
        request_model=_text(questions, ("model", "modelId")) or (unquote(in_target[1]) if in_target else ""),
        response_model=_text(answers, ("model", "modelVersion")),
        server_address=server[0],
        server_port=server[1],
        messages=messages,
        input_tokens=_number(answers, _INPUT_TOKENS),
        output_tokens=_number(answers, _OUTPUT_TOKENS),
        error=str(exchange.status) if is_error else "",
        is_streaming=answered.is_stream,
        credential=Sensitive(credential) if credential else "",
        tool=Sensitive(tool) if (tool := _tool(exchange, questions) if api.kind == "mcp" else "") else "",
        is_truncated=bool(exchange.missing) or bool(exchange.undecoded),
    )


def _tool(exchange: Exchange, questions: list[Any]) -> str:
    """An MCP call's method, and the tool it is for."""
    calls = [one for value in questions for one in (value if isinstance(value, list) else [value])]
    for value in calls:
        if isinstance(value, dict) and isinstance(method := value.get("method"), str):
            params = value.get("params")
            name = params.get("name") if isinstance(params, dict) else None
            return well_formed(f"{method}:{name}" if isinstance(name, str) else method)
    return exchange.header("mcp-method")


def host_and_port(authority: str) -> tuple[str, int]:
    """A `host[:port]` in its parts; 443 if it names none."""
    host, _, port = authority.rpartition(":")
    if host and port.isdecimal():
        return host.strip("[]").lower(), int(port[:5])
    return authority.strip("[]").lower(), 443


def credential_of(exchange: Exchange) -> str:
    """The credential a request carries; never kept, only its fingerprint."""
    for name in _CREDENTIALS:
        if value := exchange.header(name):
            if signed := _SIGNED.match(value):
                return signed[1]
            return value.rpartition(" ")[2] or value
    found = _CREDENTIAL_IN_URL.search(exchange.target)
    return unquote(found[2]) if found else ""


def without_credential(target: str) -> str:
    """A target without the credential in its query."""
    return _CREDENTIAL_IN_URL.sub(r"\1REDACTED", target)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _text(values: list[Any], keys: tuple[str, ...]) -> str:
    for value in values:
        for key in keys:
            found = _find(value, key, _DEPTH)
            if isinstance(found, str) and found:
                return well_formed(found[:256])
    return ""


def _find(value: Any, key: str, depth: int) -> Any:
    """The value of the outermost such key in objects (not in lists: those hold other things' models)."""
    if not isinstance(value, dict) or not depth:
        return None
    if key in value:
        return value[key]
    return next((found for inner in value.values() if (found := _find(inner, key, depth - 1)) is not None), None)


def _number(values: list[Any], keys: tuple[str, ...]) -> int:
    """The largest number under any of the keys: usage grows as a stream goes on."""
    most = 0
    for value in values:
        for key in keys:
            found = _find(value, key, _DEPTH)
            if isinstance(found, int) and not isinstance(found, bool):
                most = max(most, found)
    return min(most, _MOST)
