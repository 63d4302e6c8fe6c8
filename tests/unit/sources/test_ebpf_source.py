"""agent.sources.ebpf.source, .plaintext: records to events of a running source, pieces of plaintext to exchanges."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from agent.model import GenAiOperation, HttpActivity, Process, Resource, Sensitive
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.layout import Kind, head_of
from agent.sources.ebpf.plaintext import Piece, Plaintext, piece_of
from agent.sources.ebpf.processes import Known
from agent.sources.ebpf.source import EbpfSource
from agent.testing import MemoryOutput
from tests.unit.sources.ebpf_records import exec_args, head_and_record, record_of

CLIENT = Known(Process(exec_id="client", pid=1), 0, Resource(pod="client"), "/bin/curl")
SERVER = Known(Process(exec_id="server", pid=2), 0, Resource(pod="server"), "/bin/vllm")
ASK = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}'
SAY = b'{"model":"m","choices":[{"message":{"role":"assistant","content":"fine"}}]}'
SECOND = 1_000_000_000


def request(text=b"hello"):
    body = ASK % text
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def answer():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(SAY) + SAY


@pytest.fixture
def made():
    return Plaintext(message_bytes=1 << 20, connections=4, idle_seconds=10.0, whole_call=1 << 20)


def feed(made, way, data, *, place=0, offset=0, total=None, number=7, known=CLIENT, time=1, wall=SECOND):
    head, _ = head_and_record(Kind.PLAIN, pid=known.process.pid, a=number, b=place, time=time)
    piece = Piece(way, "openssl", place, offset, len(data) if total is None else total, data)
    return list(made.take(head, piece, known, wall))


def texts(events):
    bodies = [event.body for event in events if isinstance(event.body, GenAiOperation)]
    return [(one.role, one.text.reveal()) for body in bodies for one in body.messages]


def test_a_piece_has_its_place_and_its_call():
    payload = (1).to_bytes(4, "little") + (3).to_bytes(4, "little") + (900).to_bytes(4, "little") + bytes(4) + b"data"
    head, record = head_and_record(Kind.PLAIN, payload, b=500)
    assert piece_of(head, record) == Piece("received", "go", 500, 0, 900, b"data")


@pytest.mark.parametrize(("payload", "size"), [(b"", 0), (bytes(15), 15), (bytes(16), 200)])
def test_a_piece_that_is_cut_is_none(payload, size):
    head, record = head_and_record(Kind.PLAIN, payload, size=size)
    assert piece_of(head, record) is None


def test_a_record_in_a_larger_slot_has_its_own_bytes_only():
    payload = bytes(8) + (4).to_bytes(4, "little") + bytes(4) + b"data" + b"\xee" * 508
    head, record = head_and_record(Kind.PLAIN, payload, size=20)
    assert piece_of(head, record).data == b"data"


def test_a_request_and_its_answer_are_one_operation(made):
    assert feed(made, "sent", request()) == []
    events = feed(made, "received", answer())
    assert texts(events) == [("user", "hello"), ("assistant", "fine")]
    assert events[0].resource == CLIENT.owner
    assert events[0].body.process == CLIENT.process


def test_pieces_of_any_size_are_the_same_exchange(made):
    ask, events = request(), []
    for place in range(0, len(ask), 7):
        events += feed(made, "sent", ask[place : place + 7], place=place)
    events += feed(made, "received", answer())
    assert texts(events) == [("user", "hello"), ("assistant", "fine")]
    assert made.missing_bytes == 0


def test_a_gap_is_counted_to_the_byte_and_marks_its_exchange(made):
    ask = request(b"x" * 500)
    feed(made, "sent", ask[:300])
    feed(made, "sent", ask[400:], place=400)
    events = feed(made, "received", answer())
    assert made.missing_bytes == 100
    assert any(event.body.is_truncated for event in events)


def test_a_piece_that_comes_late_is_not_missing_and_takes_no_later_one_with_it(made):
    ask = request()
    feed(made, "sent", ask[:20])
    feed(made, "sent", ask[:20], place=0)
    feed(made, "sent", ask[20:], place=20)
    feed(made, "received", answer()[:50])
    feed(made, "received", answer()[50:], place=50)
    assert made.missing_bytes == 0


def test_what_is_over_a_call_s_limit_is_counted():
    made = Plaintext(message_bytes=64, connections=4, idle_seconds=10.0, whole_call=64)
    feed(made, "sent", request(b"x" * 500)[:64], total=600)
    assert made.missing_bytes == 536


def test_both_ends_of_a_connection_are_one_exchange(made):
    events = feed(made, "sent", request()) + feed(made, "received", request(), known=SERVER)
    events += feed(made, "sent", answer(), known=SERVER) + feed(made, "received", answer())
    assert Counter(texts(events)) == {("user", "hello"): 1, ("assistant", "fine"): 1}
    assert made.other_ends >= 1


def test_the_same_words_twice_from_one_end_are_two_exchanges(made):
    events = feed(made, "sent", request()) + feed(made, "received", answer())
    events += feed(made, "sent", request(), place=len(request())) + feed(
        made, "received", answer(), place=len(answer())
    )
    assert texts(events).count(("user", "hello")) == 2


def test_the_same_words_from_another_end_much_later_are_another_exchange(made):
    first = feed(made, "sent", request()) + feed(made, "received", answer())
    later = feed(made, "received", request(), known=SERVER, wall=60 * SECOND)
    later += feed(made, "sent", answer(), known=SERVER, wall=60 * SECOND)
    assert texts(first).count(("user", "hello")) == texts(later).count(("user", "hello")) == 1


def test_a_connection_that_is_joined_in_its_middle_is_picked_up(made):
    feed(made, "received", answer()[40:], place=16_384)
    events = feed(made, "sent", request(), place=9_000) + feed(
        made, "received", answer(), place=16_384 + len(answer()) - 40
    )
    assert ("user", "hello") in texts(events)


def test_connections_of_two_processes_with_one_address_are_two(made):
    feed(made, "sent", request(b"one"))
    feed(made, "sent", request(b"two"), known=SERVER)
    assert len(made) == 2


def test_a_connection_that_is_closed_tells_what_was_asked(made):
    feed(made, "sent", request())
    assert texts(made.closed(1, 7, SECOND)) == [("user", "hello")]
    assert made.closed(1, 7, SECOND) == []


def test_the_end_of_a_process_ends_its_connections_and_no_other_s(made):
    feed(made, "sent", request(b"one"), number=1)
    feed(made, "sent", request(b"two"), number=2, known=SERVER)
    assert texts(made.process_ended(1, SECOND)) == [("user", "one")]
    assert len(made) == 1


def test_too_many_connections_push_out_the_one_that_is_quiet_longest_and_say_so(made):
    events = []
    for number in range(5):
        events += feed(made, "sent", request(b"%d" % number), number=number, time=number + 1)
    assert len(made) == 4
    assert texts(events) == [("user", "0")]
    assert made.troubles["too_many_connections"] == 1


def test_only_what_is_told_before_its_answer_is_told_as_open(made):
    feed(made, "sent", request())
    made.look(1, SECOND)
    (early,) = made.look(1, SECOND)
    assert early.body.is_open
    feed(made, "sent", request(b"cut off"), number=8)
    assert [event.body.is_open for event in made.end(SECOND)] == [False]


def streamed(words):
    """Server-sent events as chunks of HTTP/1.1, one for each word."""
    for word in words:
        event = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s "}}]}\n\n' % word
        yield b"%x\r\n%s\r\n" % (len(event), event)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORDS = [b"word%d" % number for number in range(400)]


class Streaming:
    """A slow answer at one or both ends: a look after every ten words."""

    def __init__(self, made, sides):
        self.made, self.sides, self.events = made, sides, []
        self.places = {side[2]: 0 for side in sides}

    def say(self, data):
        for way, known, number in self.sides:
            self.events += feed(self.made, way, data, place=self.places[number], known=known, number=number)
            self.places[number] += len(data)

    def run(self):
        for way, known, number in self.sides:
            asked = {"sent": "received", "received": "sent"}[way]
            self.events += feed(self.made, asked, request(b"tell me"), known=known, number=number)
        self.say(STREAM_HEAD)
        for number, chunk in enumerate(streamed(WORDS)):
            self.say(chunk)
            if number % 10 == 9:
                self.events += self.made.look(1, SECOND)
        self.say(b"0\r\n\r\n")
        return [event.body for event in self.events if event.body.messages]


def new_words(operations):
    """What is new of each part, joined."""
    parts = [one for operation in operations for one in operation.messages if one.role == "assistant"]
    return "".join(one.text.reveal()[one.new_from : one.new_until or None] for one in parts), parts


def test_a_long_answer_is_told_while_it_comes_and_nothing_twice(made):
    operations = Streaming(made, [("received", CLIENT, 7)]).run()
    words, parts = new_words(operations)
    assert words.split() == [word.decode() for word in WORDS]
    assert 3 <= len(parts) <= 8  # more rarely, the longer it lasts
    assert [operation.is_open for operation in operations] == [True] * (len(operations) - 1) + [False]
    assert [(m.role, m.text.reveal()) for one in operations for m in one.messages].count(("user", "tell me")) == 1


@pytest.mark.parametrize("is_server_first", [True, False])
def test_a_long_answer_that_both_ends_tell_is_told_by_one(made, is_server_first):
    sides = [("received", CLIENT, 7), ("sent", SERVER, 9)]
    operations = Streaming(made, sides[::-1] if is_server_first else sides).run()
    words, _ = new_words(operations)
    assert words.split() == [word.decode() for word in WORDS]


def test_a_long_answer_of_another_server_to_the_same_question_is_told_too(made):
    """One client and two servers are watched: one server is the client's other end, the other one is nobody's."""
    other = Known(Process(exec_id="other", pid=3), 0, Resource(pod="other"), "/bin/vllm")
    operations = Streaming(made, [("received", CLIENT, 7), ("sent", SERVER, 9), ("sent", other, 11)]).run()
    by_exchange = {}
    for one in operations:
        by_exchange.setdefault(one.exchange_id, []).append(one)
    told = [new_words(one)[0].split() for one in by_exchange.values() if new_words(one)[1]]
    assert told == [[word.decode() for word in WORDS]] * 2


def test_a_long_answer_that_breaks_off_is_told_as_far_as_it_came(made):
    stream = Streaming(made, [("received", CLIENT, 7)])
    say, count = stream.say, 0

    def until_it_breaks(data):
        nonlocal count
        count += 1
        if count <= 301:
            say(data)

    stream.say = until_it_breaks
    operations = stream.run() + [event.body for event in made.closed(1, 7, SECOND)]
    words, _ = new_words(operations)
    assert words.split() == [word.decode() for word in WORDS[:300]]


def test_an_idle_connection_is_let_go(made):
    feed(made, "sent", request(), time=1)
    assert texts(made.look(20 * SECOND, 20 * SECOND)) == [("user", "hello")]
    assert len(made) == 0


def test_at_the_end_everything_that_is_open_is_told(made):
    feed(made, "sent", request(b"one"), number=1)
    feed(made, "sent", request(b"two"), number=2)
    assert texts(made.end(SECOND)) == [("user", "one"), ("user", "two")]


def test_http_that_is_no_model_s_is_told_without_body_and_credentials(made):
    feed(made, "sent", b"GET /login?api_key=sk-secret HTTP/1.1\r\nHost: a.example\r\n\r\n")
    (event,) = feed(made, "received", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert isinstance(event.body, HttpActivity)
    assert event.body.host == "a.example"
    assert "sk-secret" not in event.body.url.reveal()


def test_two_events_have_two_names(made):
    events = feed(made, "sent", request()) + feed(made, "received", answer())
    events += feed(made, "sent", request(), place=len(request())) + feed(
        made, "received", answer(), place=len(answer())
    )
    assert len({event.id for event in events}) == len(events)


# -------------------------------------------------------------------- source


def source(**settings):
    return EbpfSource(EbpfConfig(**settings), "ebpf", "n")


async def test_every_record_is_an_event_or_has_a_reason():
    made, out = source(), MemoryOutput()
    items = [(exec_args("/bin/ls", "ls"), 1), (record_of(Kind.EXEC, b"/bin/ls\0", a=100), 1), (b"short", 1)]
    items += [(record_of(Kind.OPEN, b"/etc/shadow\0", pid=5_000_001), 50), (record_of(Kind.CGROUP, a=1), 1)]
    made._waiting.extend(items)
    await made._take_waiting(out)
    assert out.lines_read == sum(count for _, count in items) == 54
    assert len(out.events) == 2
    assert out.aside == {"merged": 2, "folded": 49}
    assert out.decode_errors == {"short_record": 1}
    assert out.events[1].body.count == 50


async def test_many_records_that_are_no_events_let_others_run():
    """Records of failed calls make no event, so nothing is sent, and nothing is waited for: the loop stands still."""
    made, out = source(), MemoryOutput()
    made._waiting.extend([(exec_args("/nowhere", "x"), 1)] * 20_000)
    taking, turns = asyncio.create_task(made._take_waiting(out)), 0
    while not taking.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_a_source_that_is_told_to_stop_does_not_first_read_what_comes_for_ever():
    made, out = source(), MemoryOutput()
    record, fed = record_of(Kind.CGROUP, a=1), [0]

    class Endless(type(made._waiting)):
        """A reader that hands on as fast as the loop takes."""

        def popleft(self):
            fed[0] += 1
            if fed[0] == 1000:
                made._is_stopping.set()
            if fed[0] < 300_000:
                self.append((record, 1))
            return super().popleft()

    made._waiting = Endless([(record, 1)] * 100)
    await made._take_waiting(out)
    assert fed[0] < 300_000


async def test_a_record_that_breaks_the_meaning_costs_that_record_and_not_the_source(monkeypatch):
    made, out = source(), MemoryOutput()
    take = made.meaning.take

    def breaking(record, count):
        if head_of(record).pid == 666:
            raise RuntimeError("a bug")
        return take(record, count)

    monkeypatch.setattr(made.meaning, "take", breaking)
    made._waiting.extend([(record_of(Kind.CGROUP, pid=666), 1), (record_of(Kind.OPEN, b"/etc/shadow\0"), 1)])
    await made._take_waiting(out)
    assert len(out.events) == 1
    assert out.decode_errors.total() == 1


async def test_a_loop_that_was_too_slow_is_told_once():
    made, out = source(), MemoryOutput()
    made._reporter.attach(out)
    made.kernel.accounting._read = lambda slot: [0]
    made.reader = SimpleNamespace(refused=9)
    await made._tell_losses()
    await made._tell_losses()
    (event,) = out.events
    assert (event.body.reason, event.body.count) == ("loop_too_slow", 9)
    assert out.aside == {"loop_too_slow": 9}
    assert Sensitive("x") not in (event.body.origin,)


async def test_a_runtime_that_waits_does_not_hold_up_the_end(monkeypatch):
    """Asking for pods waits up to ten seconds for its next turn; the end of the source does not."""
    made, ended = source(), []

    async def listing():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    class Standing:
        """A kernel of which nothing is left to do."""

        off, on = (), ()
        ring, accounting = None, made.kernel.accounting

        def detach(self):
            pass

        def abandon_ring(self):
            pass

    monkeypatch.setattr(made, "kernel", Standing())
    made.kernel.accounting._read = lambda slot: [0]
    monkeypatch.setattr(made, "_list_pods", lambda: asyncio.create_task(listing()))
    monkeypatch.setattr(made.meaning, "scan", lambda: None)
    monkeypatch.setattr(
        "agent.sources.ebpf.source.Reader",
        lambda *_, **__: SimpleNamespace(start=lambda: None, stop=lambda: True, refused=0),
    )
    out = MemoryOutput()
    made._reporter.attach(out)
    following = asyncio.create_task(made._follow(out, asyncio.get_running_loop()))
    while not out.is_connected:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await made.stop()
    async with asyncio.timeout(5):
        await following
    assert ended == [True]
