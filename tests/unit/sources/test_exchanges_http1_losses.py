"""agent.sources.exchanges.http1, .pairing, .conversation: what is missing, broken, too large or met in its middle."""

import gzip

import pytest

from agent.sources.exchanges import Conversation, Exchange, Limits, Trouble

ASK = b'POST /v1/chat HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n{"q":"1"}'
SAY = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n%s"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"


def exchanges(told: list[Exchange | Trouble]) -> list[Exchange]:
    return [one for one in told if isinstance(one, Exchange)]


def names(told: list[Exchange | Trouble]) -> list[str]:
    return [one.name for one in told if isinstance(one, Trouble)]


def test_a_connection_met_at_an_answer_is_picked_up_at_the_next_request():
    conversation = Conversation()
    assert names(conversation.feed("received", SAY % b"yesterday"))[0] == "http1_joined_midway"
    conversation.feed("sent", ASK)
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.is_client, exchange.body, exchange.answer) == (True, b'{"q":"1"}', b"today 123")


def test_a_connection_met_inside_a_body_is_picked_up_at_the_next_request():
    conversation = Conversation()
    conversation.feed("received", b'data: {"choices":[]}\n\n\r\n')
    conversation.feed("received", b"0\r\n\r\n")
    conversation.feed("sent", ASK)
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.body, exchange.answer) == (b'{"q":"1"}', b"today 123")


def test_what_is_no_http_is_said_so_once():
    conversation = Conversation()
    assert conversation.feed("sent", b"SSH-2.0-OpenSSH_9.2\r\n") == [Trouble("not_http")]
    assert conversation.feed("received", b"SSH-2.0-OpenSSH_9.2\r\n") == []
    assert conversation.is_opaque
    assert conversation.end() == []


def test_a_gap_inside_a_body_of_known_length_costs_only_its_bytes():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    assert conversation.feed("received", SAY % b"abc", missing=4) == []
    (exchange,) = conversation.feed("received", b"xy")
    assert (exchange.answer, exchange.missing, exchange.is_complete) == (b"abcxy", 4, True)


def test_a_gap_up_to_the_end_of_a_body_ends_it():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    (exchange,) = conversation.feed("received", SAY % b"abc", missing=6)
    assert (exchange.answer, exchange.missing) == (b"abc", 6)


def test_a_gap_inside_a_request_body_is_counted():
    conversation = Conversation()
    conversation.feed("sent", ASK[:-4], missing=4)
    (exchange,) = conversation.feed("received", SAY % b"today 123")
    assert (exchange.body, exchange.missing) == (b'{"q":', 4)


def test_a_gap_that_ends_a_body_and_swallows_whole_messages_costs_only_those():
    conversation = Conversation()
    conversation.feed("sent", ASK, missing=len(NEXT))
    conversation.feed("sent", ASK[:-4], missing=4 + len(NEXT))
    told = conversation.feed("sent", ASK.replace(b"/v1/chat", b"/after"))
    assert "/after" in [one.target for one in exchanges(told + conversation.end())]


def test_a_gap_larger_than_the_rest_of_an_answer_does_not_spoil_the_next():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    told = conversation.feed("received", SAY % b"abc", missing=6 + len(SAY % b"today 123"))
    assert exchanges(told)[0].answer == b"abc"
    conversation.feed("sent", NEXT)
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.target, exchange.answer) == ("/next", b"today 123")


def test_a_gap_inside_a_chunked_answer_ends_it_and_the_next_is_read():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\nwor"
    told = conversation.feed("received", head, missing=10)
    (exchange,) = exchanges(told)
    assert names(told) == ["http1_gap"]
    assert (exchange.answer, exchange.is_complete, exchange.missing) == (b"hellowor", False, 10)
    conversation.feed("received", b"xyz\r\n0\r\n\r\n")
    conversation.feed("sent", NEXT)
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.target, exchange.answer) == ("/next", b"today 123")


def test_the_rest_of_a_lost_body_without_a_line_end_does_not_spoil_the_next_answer():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    conversation.feed("received", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nwor", missing=5)
    conversation.feed("received", b"tail of it")
    conversation.feed("sent", NEXT)
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.target, exchange.answer) == ("/next", b"today 123")


def test_a_gap_in_the_head_of_an_answer_does_not_shift_the_pairs():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    told = conversation.feed("received", b"HTTP/1.1 200 OK\r\nDate: to", missing=60)
    conversation.feed("sent", NEXT)
    told += conversation.feed("received", SAY % b"today 123")
    told += conversation.end()
    assert [one.answer for one in exchanges(told) if one.target == "/next"] == [b"today 123"]
    assert [one.answer for one in exchanges(told) if one.target == "/v1/chat"] == [b""]


def test_a_malformed_answer_does_not_shift_the_pairs():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    told = conversation.feed("received", b"HTTP/1.1 200 OK\r\nbad header: 1\r\nContent-Length: 0\r\n\r\n")
    assert "http1_malformed" in names(told)
    conversation.feed("sent", NEXT)
    told += conversation.feed("received", SAY % b"today 123")
    told += conversation.end()
    assert [one.answer for one in exchanges(told) if one.target == "/next"] == [b"today 123"]
    assert [one.answer for one in exchanges(told) if one.target == "/v1/chat"] == [b""]


def test_an_answer_that_was_missed_whole_does_not_shift_the_pairs():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    told = conversation.feed("received", b"", missing=len(SAY % b"yesterday"))
    conversation.feed("sent", NEXT)
    told += conversation.feed("received", SAY % b"today 123")
    told += conversation.end()
    assert [one.answer for one in exchanges(told) if one.target == "/next"] == [b"today 123"]
    assert [one.answer for one in exchanges(told) if one.target == "/v1/chat"] == [b""]


def test_a_malformed_request_is_told_and_the_next_one_is_read():
    conversation = Conversation()
    told = conversation.feed("sent", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n")
    assert names(told) == ["http1_malformed"]
    conversation.feed("sent", NEXT)
    told = conversation.feed("received", SAY % b"today 123")
    assert [one.answer for one in exchanges(told) if one.target == "/next"] == [b"today 123"]


def test_a_broken_chunk_keeps_what_came_before_it():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    told = conversation.feed("received", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    assert names(told) == ["http1_malformed"]
    assert [(one.answer, one.is_complete) for one in exchanges(told)] == [(b"hello", False)]


def test_an_answer_to_nothing_is_told():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    conversation.feed("received", SAY % b"today 123")
    assert names(conversation.feed("received", SAY % b"what else")) == ["http1_answer_to_nothing"]


@pytest.mark.parametrize(
    "target",
    [b"http://[", b"http://[::1", b"http://a]b/", b"//[", b"http://", b"://", b"*"],
)
def test_odd_targets_are_read(target):
    conversation = Conversation()
    conversation.feed("sent", b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [one.answer for one in exchanges(conversation.feed("received", SAY % b"today 123"))] == [b"today 123"]


def test_a_head_over_the_limit_is_given_up():
    conversation = Conversation(Limits(head=1024))
    told = conversation.feed("sent", b"GET / HTTP/1.1\r\nHost: a\r\n")
    for _ in range(40):
        told += conversation.feed("sent", b"X-Filler: " + b"x" * 90 + b"\r\n")
    assert "http1_malformed" in names(told)
    assert exchanges(told + conversation.end()) == []


def test_a_body_over_the_limit_is_cut_and_counted():
    conversation = Conversation(Limits(body=4))
    conversation.feed("sent", ASK)
    (exchange,) = conversation.feed("received", SAY % b"today 123")
    assert (exchange.body, exchange.answer, exchange.missing) == (b'{"q"', b"toda", 10)


def test_a_body_that_grows_over_the_limit_is_cut():
    body = gzip.compress(bytes(10_000_000))
    conversation = Conversation(Limits(body=50_000))
    conversation.feed("sent", ASK)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    (exchange,) = conversation.feed("received", head + body)
    assert len(exchange.answer) == 50_000
    assert exchange.missing > 0


def test_requests_that_wait_are_limited():
    conversation = Conversation(Limits(pipelined=2))
    told = conversation.feed("sent", NEXT * 3)
    assert names(told) == ["http1_too_many_waiting"]
    assert [one.is_complete for one in exchanges(told)] == [False]


def test_requests_over_the_limit_while_an_answer_comes_break_nothing():
    conversation = Conversation(Limits(pipelined=2))
    conversation.feed("sent", NEXT * 2)
    conversation.feed("received", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntod")
    conversation.feed("sent", NEXT)
    told = conversation.feed("received", b"ay 123")
    assert len(exchanges(told + conversation.end())) >= 2


def test_an_unknown_encoding_is_named_and_the_body_kept():
    conversation = Conversation()
    conversation.feed("sent", ASK)
    (exchange,) = conversation.feed(
        "received", b"HTTP/1.1 200 OK\r\nContent-Encoding: snappy\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert (exchange.answer, exchange.undecoded) == (b"abc", "unknown_encoding")


def test_a_gap_before_anything_is_known_is_said_so():
    conversation = Conversation()
    assert names(conversation.feed("sent", b"", missing=3)) == ["gap_at_start"]
    assert names(conversation.feed("sent", b"", missing=3)) == []


def test_requests_that_were_given_up_do_not_shift_the_pairs():
    conversation = Conversation(Limits(pipelined=2))
    told = conversation.feed("sent", NEXT.replace(b"/next", b"/1") + NEXT.replace(b"/next", b"/2") + NEXT)
    assert [one.target for one in exchanges(told)] == ["/1"]
    told = conversation.feed("received", SAY % b"answer 01" + SAY % b"answer 02" + SAY % b"answer 03")
    assert [(one.target, one.answer) for one in exchanges(told)] == [("/2", b"answer 02"), ("/next", b"answer 03")]


def test_a_request_that_still_came_at_the_end_is_told():
    conversation = Conversation()
    conversation.feed("sent", ASK[:-4])
    assert [(one.body, one.is_request_whole) for one in exchanges(conversation.end())] == [(b'{"q":', False)]


def test_a_gap_between_answers_leaves_the_request_at_hand():
    conversation = Conversation()
    conversation.feed("sent", ASK[:-4])
    conversation.feed("received", b"", missing=25)
    conversation.feed("sent", ASK[-4:])
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.body, exchange.answer) == (b'{"q":"1"}', b"today 123")


def test_the_host_of_a_target_is_told_without_its_user():
    conversation = Conversation()
    conversation.feed("sent", b"GET HTTP://jane:secret@b.example?x HTTP/1.1\r\nHost: a\r\n\r\n")
    (exchange,) = exchanges(conversation.feed("received", SAY % b"today 123"))
    assert (exchange.host, exchange.target) == ("b.example", "/?x")
