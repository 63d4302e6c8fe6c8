"""Exchanges with model APIs as tests write them down, and what was said in the operation they were."""

import json

from agent.model import GenAiOperation
from agent.sources.dialects import operations_of
from agent.sources.exchanges import Exchange


def exchange(
    target: str, asked: object, answer: bytes | object, host: str, kind: str = "application/json", **more
) -> Exchange:
    return Exchange(
        protocol="h2",
        is_client=True,
        method="POST",
        target=target,
        host=host,
        headers=(("content-type", "application/json"), *more.get("headers", ())),
        body=json.dumps(asked).encode(),
        status=200,
        answer_headers=(("content-type", kind),),
        answer=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        is_request_whole=True,
        is_complete=True,
    )


def operation(*parts, **more) -> GenAiOperation:
    (found,) = operations_of(exchange(*parts, **more))
    return found


def said(one: GenAiOperation, role: str, part: str = "") -> list[str]:
    return [message.text.reveal() for message in one.messages if (message.role, message.part) == (role, part)]


def everything(one: GenAiOperation) -> str:
    return "\n".join(message.text.reveal() for message in one.messages)


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
