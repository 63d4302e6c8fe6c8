"""agent.sources.dialects.reading, .walk: OpenAI's realtime API on a WebSocket."""

import json

from agent.model import GenAiOperation
from agent.sources.dialects import operations_of
from agent.sources.exchanges import Exchange
from agent.sources.exchanges.exchange import Turn
from tests.unit.sources.dialect_exchanges import said

HOST = "api.openai.com"


def socket(*turns: tuple[bool, dict]) -> GenAiOperation:
    made = Exchange(
        protocol="websocket",
        is_client=True,
        method="GET",
        target="/v1/realtime?model=gpt-realtime",
        host=HOST,
        headers=(("authorization", "Bearer sk-1"),),
        status=101,
        turns=[Turn(is_from_client, json.dumps(event).encode()) for is_from_client, event in turns],
        is_complete=True,
    )
    (found,) = operations_of(made)
    return found


def test_a_realtime_session_has_its_words_in_their_roles():
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Jane"}]}
    whole = {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": "Hello Jane"}]}
    one = socket(
        (True, {"type": "session.update", "session": {"instructions": "Be kind."}}),
        (True, {"type": "conversation.item.create", "item": item}),
        (True, {"type": "input_audio_buffer.append", "audio": "UklGRiQA" * 100}),
        (False, {"type": "response.output_audio_transcript.delta", "item_id": "i", "delta": "Hello "}),
        (False, {"type": "response.output_audio_transcript.delta", "item_id": "i", "delta": "Jane"}),
        (False, {"type": "response.output_audio.delta", "item_id": "i", "delta": "UklGRiQA" * 100}),
        (False, {"type": "response.output_audio_transcript.done", "item_id": "i", "transcript": "Hello Jane"}),
        (
            False,
            {
                "type": "response.done",
                "response": {"output": [whole], "usage": {"input_tokens": 5, "output_tokens": 6}},
            },
        ),
    )
    assert (one.provider, one.operation, one.input_tokens, one.output_tokens) == ("openai", "chat", 5, 6)
    assert said(one, "system") == ["Be kind."]
    assert said(one, "user") == ["I am Jane"]
    assert said(one, "assistant") == ["Hello Jane"]
    assert one.credential.reveal() == "sk-1"


def test_what_a_user_spoke_in_a_realtime_session_is_the_users():
    event = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i", "transcript": "I am Jane"}
    assert said(socket((False, event)), "user") == ["I am Jane"]


def test_a_realtime_session_names_its_model_in_the_url():
    assert socket((True, {"type": "response.create"})).request_model == "gpt-realtime"
