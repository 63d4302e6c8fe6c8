"""agent.sources.replay.source, .config, .prompts: recorded input, at full speed or in recorded time."""

import gzip
import json
import time

import pytest

from agent.model import DecodeError, Resource
from agent.plugins import Surroundings
from agent.sources.replay import SPEC
from agent.sources.replay.config import ReplayConfig
from agent.sources.replay.prompts import event_from_line
from agent.sources.replay.source import ReplaySource
from agent.testing import MemoryOutput


def texts(line):
    event = event_from_line(json.dumps(line).encode())
    return [(message.role, message.text.reveal()) for message in event.body.messages]


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        ("hello", [("user", "hello")]),
        ({"prompt": "q", "completion": "a"}, [("user", "q"), ("assistant", "a")]),
        ({"text": "q"}, [("user", "q")]),
        (
            {"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "q"}]},
            [("system", "s"), ("user", "q")],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
            [("user", "a\nb")],
        ),
        (
            {
                "request": {"messages": [{"role": "user", "content": "q"}]},
                "response": {"choices": [{"message": {"content": "a"}}]},
            },
            [("user", "q"), ("assistant", "a")],
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": '{"x":1}'}}]}
                ]
            },
            [("assistant", '{"x":1}')],
        ),
        ({"prompt": ["a", "b"]}, [("user", "a\nb")]),
    ],
)
def test_prompts_come_in_many_shapes(line, messages):
    assert texts(line) == messages


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"", "empty_line"),
        (b"{", "not_json"),
        (b"[1]", "not_an_object"),
        (b'{"n": 1}', "no_text"),
        (b'{"prompt": ""}', "no_text"),
    ],
)
def test_lines_without_a_prompt_have_named_errors(line, name):
    assert event_from_line(line) == DecodeError(name=name)


async def replayed(tmp_path, kind, content, name="input.log", **config):
    path = tmp_path / name
    path.write_bytes(content)
    out = MemoryOutput()
    await ReplaySource(ReplayConfig(kind=kind, path=str(path), **config), "replay").run(out)
    return out


async def test_every_line_is_counted_as_read_and_as_event_or_error(tmp_path):
    lines = [b'{"prompt": "a"}', b"nonsense", b"", b'{"prompt": "b"}']
    out = await replayed(tmp_path, "prompts", b"\n".join(lines))
    assert (out.lines_read, len(out.events), dict(out.decode_errors)) == (4, 2, {"not_json": 1, "empty_line": 1})


async def test_container_logs_are_joined_and_named_by_their_path(tmp_path):
    directory = tmp_path / "ns_pod_uid" / "app"
    directory.mkdir(parents=True)
    content = b"2026-11-23T10:00:00Z stdout P hel\n2026-11-23T10:00:00Z stdout F lo\n"
    out = await replayed(directory, "cri", content, name="0.log")
    assert [event.body.text.reveal() for event in out.events] == ["hello"]
    assert out.events[0].resource.pod == "pod"


async def test_compressed_input_is_read(tmp_path):
    out = await replayed(tmp_path, "prompts", gzip.compress(b'{"prompt": "a"}\n'), name="p.jsonl.gz")
    assert len(out.events) == 1


async def test_an_owner_can_be_given(tmp_path):
    out = await replayed(tmp_path, "prompts", b'{"prompt": "a"}\n', resource={"namespace": "n", "pod": "p"})
    assert out.events[0].resource == Resource(namespace="n", pod="p")


async def test_recorded_time_waits_as_long_as_it_took(tmp_path):
    lines = [b'{"prompt": "a", "time": "2026-01-01T00:00:00Z"}', b'{"prompt": "b", "time": "2026-01-01T00:00:00.3Z"}']
    started = time.monotonic()
    await replayed(tmp_path, "prompts", b"\n".join(lines), speed="recorded")
    assert time.monotonic() - started >= 0.25


def test_the_plugin_builds_a_source(tmp_path):
    config = SPEC.config.model_validate({"kind": "hubble", "path": "-"})
    assert SPEC.build(config, "mine", Surroundings(node="n", state_dir=tmp_path, rules=())).name == "mine"
