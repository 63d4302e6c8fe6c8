"""Bytes recorded on connections to models: every planted value that was on the wire is found, and in its role."""

import base64
import gzip
import json

import pytest

from agent.sources.dialects import operations_of
from agent.sources.exchanges import Conversation, Exchange

WAYS = {"c2s": "sent", "s2c": "received"}
PLACES = {
    "user": ("user", ""),
    "system": ("system", ""),
    "assistant": ("assistant", ""),
    "assistant_json": ("assistant", ""),
    "assistant_thinking": ("assistant", ""),
    "tool_args": ("assistant", "tool_call"),
    "tool_result": ("tool", "tool_result"),
    "embedding_input": ("user", ""),
}


@pytest.fixture(scope="module")
def planted(recordings):
    values = json.loads((recordings / "ground_truth.json").read_text())["planted"]
    return [one for one in values if one["role"] in PLACES]


def events_of(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def connections(recordings):
    """Events of each recorded connection, by its path."""
    paths = sorted((recordings / "wire").rglob("*.jsonl"))
    return {path.relative_to(recordings).as_posix(): events_of(path) for path in paths}


def told(events, step=1 << 30):
    conversation = Conversation()
    found = []
    for event in events:
        data = base64.b64decode(event["b64"])
        for at in range(0, len(data), step):
            found += conversation.feed(WAYS[event["dir"]], data[at : at + step])
    return found + conversation.end()


@pytest.fixture(scope="module")
def exchanges(connections):
    return [one for events in connections.values() for one in told(events) if isinstance(one, Exchange)]


@pytest.fixture(scope="module")
def messages(exchanges):
    """(role, part, text) of all operations."""
    return [
        (message.role, message.part, message.text.reveal())
        for exchange in exchanges
        for operation in operations_of(exchange)
        for message in operation.messages
    ]


def places_of(messages, value):
    return {(role, part) for role, part, text in messages if value in text}


def test_every_recorded_call_is_an_operation(connections, exchanges):
    assert len(connections) > 20
    assert len(exchanges) > 100
    assert [one.target for one in exchanges if len(operations_of(one)) != 1] == []


def test_nothing_recorded_is_trouble(connections):
    troubles = {
        name: [one for one in told(events) if not isinstance(one, Exchange)] for name, events in connections.items()
    }
    assert {name: found for name, found in troubles.items() if found} == {}


def test_every_planted_value_on_the_wire_is_found_in_its_role(connections, planted, messages):
    scenarios = {event.get("scenario") for events in connections.values() for event in events}
    on_the_wire = [
        one
        for one in planted
        if one["scenario"] in scenarios and one["scenario"] in ("chat_basic", "chat_stream", "tool_calls")
    ]
    found = {one["id"]: places_of(messages, one["value"]) for one in on_the_wire}
    missed = [one["id"] for one in on_the_wire if PLACES[one["role"]] not in found[one["id"]]]
    assert len(on_the_wire) >= 15
    assert missed == []


def test_every_planted_value_in_a_decoded_body_is_told(planted, exchanges, messages):
    bodies = [body for one in exchanges for body in (one.body, one.answer)]
    decoded = {text for body in bodies for text in (body.decode(), json.dumps(body.decode()))}
    values = [one for one in planted if any(one["value"] in text for text in decoded)]
    assert len(values) > 40
    assert [one["id"] for one in values if PLACES[one["role"]] not in places_of(messages, one["value"])] == []


def test_http2_gives_the_planted_values(connections, planted):
    (events,) = [events for name, events in connections.items() if "/http2/" in name]
    found = [one for one in told(events) if isinstance(one, Exchange)]
    assert {one.protocol for one in found} == {"h2"}
    operations = [operation for one in found for operation in operations_of(one)]
    assert len(operations) == len(found) > 3
    spoken = [(m.role, m.part, m.text.reveal()) for operation in operations for m in operation.messages]
    values = {one["value"]: PLACES[one["role"]] for one in planted if one["scenario"] == "chat_basic"}
    assert {value: places_of(spoken, value) for value in values if values[value] not in places_of(spoken, value)} == {}


def test_recorded_bytes_may_be_cut_anywhere(connections):
    for name, events in connections.items():
        assert told(events, step=7) == told(events), name


def test_no_credential_is_in_a_text(exchanges, messages):
    keys = {
        operation.credential.reveal() for one in exchanges for operation in operations_of(one) if operation.credential
    }
    assert keys
    assert [key for key in keys if places_of(messages, key)] == []
