"""agent.sources.exchanges.sse: server-sent events of a whole body."""

import pytest

from agent.sources.exchanges.sse import ServerEvent, events_of


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data: a\n\n", [("", "a")]),
        ("data:a\n\ndata:b\n\n", [("", "a"), ("", "b")]),
        ("data:  a\n\n", [("", " a")]),
        ("data: a\ndata: b\ndata\n\n", [("", "a\nb\n")]),
        ("event: ping\ndata: {}\n\n", [("ping", "{}")]),
        ("data: x\nevent: late\n\n", [("late", "x")]),
        ("event: only\n\ndata: x\n\n", [("", "x")]),
        (": OPENROUTER PROCESSING\n\ndata: x\n\n", [("", "x")]),
        ("id: 5\nretry: 100\nother: y\ndata: x\n\n", [("", "x")]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("", "a"), ("", "b"), ("", "c")]),
        ("\ufeffdata: a\n\n", [("", "a")]),
        ("data: broken off", [("", "broken off")]),
        ("data: a\n\n\n\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        ("data: a\u2028b\x0bc\x85d\n\n", [("", "a\u2028b\x0bc\x85d")]),  # none of these ends a line here
        ("", []),
        ("\n\n", []),
        ("datax: a\n\n", []),
    ],
)
def test_events(text, events):
    assert events_of(text) == [ServerEvent(*one) for one in events]
