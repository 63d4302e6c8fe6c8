"""agent.sources.tetragon.folding, .processes, .losses, .policies, .config, .meaning: what a stream is between its events."""

import asyncio

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent._pb import tetragon_pb2 as pb
from agent.model import Endpoint, Event, FileActivity, NetworkActivity, Process, ProcessActivity, Resource, Sensitive
from agent.sources.tetragon.config import TetragonConfig
from agent.sources.tetragon.folding import Folding
from agent.sources.tetragon.losses import LossCounters, totals
from agent.sources.tetragon.meaning import Argument, Hook, Socket, hook_body
from agent.sources.tetragon.policies import PolicyWatch
from agent.sources.tetragon.processes import ProcessTree
from agent.sources.tetragon.source import TetragonSource
from agent.sources.tetragon.wire import WireDecoder
from agent.testing import MemoryOutput


def process(name, parent="", **more):
    return Process(exec_id=name, pid=1, binary=Sensitive(f"/bin/{name}"), parent_exec_id=parent, **more)


def event(body, number=0, **resource):
    return Event(id=str(number), source="tetragon", body=body, resource=Resource(**resource), time_unix_nano=number)


def read(path="/data/model", who="cat", action="read", number=0):
    return event(FileActivity(action=action, path=Sensitive(path), process=process(who), function="f"), number)


# ------------------------------------------------------------------- folding


def test_repeated_reads_become_one_event_with_a_count():
    folding = Folding(1.0)
    sent = [one for number in range(50) for one in folding.take(read(number=number), number / 100)]
    assert [one.body.count for one in sent] == [1]
    (summary,) = folding.due(1.1)
    assert (summary.body.count, summary.time_unix_nano) == (49, 49)
    assert folding.take_folded() == 48
    assert folding.take_folded() == 0
    assert folding.due(99) == []


def test_other_files_processes_and_actions_are_not_folded_together():
    folding = Folding(1.0)
    for one in (read(), read(path="/other"), read(who="tar"), read(action="write")):
        assert folding.take(one, 0.0) == [one]
    exec_ = event(ProcessActivity(action="exec", process=process("a")))
    assert folding.take(exec_, 0.0) == folding.take(exec_, 0.0) == [exec_]


def test_a_debugger_s_storm_is_folded():
    folding = Folding(1.0)
    trace = ProcessActivity(action="trace", process=process("strace"), function="ptrace", arguments=("7",))
    sent = [one for number in range(500) for one in folding.take(event(trace, number), number / 1000)]
    assert len(sent) == 1
    assert folding.due(2.0)[0].body.count == 499


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 0.4)), max_size=200))
def test_every_event_is_in_some_count(steps):
    folding = Folding(1.0, most=5)
    now, sent = 0.0, []
    for file, wait in steps:
        now += wait
        sent += folding.take(read(path=f"/{file}"), now)
        sent += folding.due(now)
    sent += folding.due(float("inf"))
    assert sum(one.body.count for one in sent) == len(steps)
    assert len(steps) - len(sent) == folding.take_folded()


def test_no_window_folds_nothing():
    folding = Folding(0.0)
    assert [len(folding.take(read(), 0.0)) for _ in range(5)] == [1] * 5


# ---------------------------------------------------------------------- tree


def test_what_one_event_leaves_out_another_has_told():
    tree = ProcessTree()
    tree.complete(event(ProcessActivity(action="exec", process=process("init")), namespace="llm", pod="vllm-0"))
    tree.complete(event(ProcessActivity(action="exec", process=process("sh", "init")), namespace="llm", pod="vllm-0"))
    # A kprobe before its exec, without parent, ancestors, binary and pod, as Tetragon sends it when its cache is late.
    bare = Process(exec_id="sh", pid=1, parent_exec_id="init")
    late = tree.complete(event(FileActivity(action="read", path="", process=bare), node="n"))
    assert late.body.process.binary == Sensitive("/bin/sh")
    assert late.body.parent.exec_id == "init"
    assert (late.resource.pod, late.resource.node) == ("vllm-0", "n")
    grandchild = tree.complete(event(ProcessActivity(action="exec", process=process("id", "sh"))))
    assert grandchild.body.parent.exec_id == "sh"
    assert [one.exec_id for one in grandchild.body.ancestors] == ["init"]


def test_order_does_not_matter_and_what_is_told_stays():
    tree = ProcessTree()
    kprobe = event(FileActivity(action="read", path="", process=process("a", "p"), parent=process("p")))
    assert tree.complete(kprobe) is kprobe
    child = tree.complete(event(ProcessActivity(action="exec", process=process("b", "a"))))
    assert child.body.parent.exec_id == "a"


def test_loops_and_floods_are_survived():
    tree = ProcessTree(remembered=10)
    for one, other in (("a", "b"), ("b", "a")):
        tree.complete(event(ProcessActivity(action="exec", process=process(one, other))))
    looped = tree.complete(event(ProcessActivity(action="exec", process=process("c", "a"))))
    assert len(looped.body.ancestors) <= 2
    for number in range(500):
        tree.complete(event(ProcessActivity(action="exec", process=process(str(number), "a"))))
    assert len(tree) <= 20
    assert tree.complete(event(ProcessActivity(action="exec", process=process("z", "a")))).body.parent is not None


def test_an_event_without_a_process_passes():
    flow = event(NetworkActivity(action="connect", source=Endpoint(), destination=Endpoint()))
    assert ProcessTree().complete(flow) is flow


# -------------------------------------------------------------------- losses

PAGE = """# HELP tetragon_notify_overflowed_events_total x
# TYPE tetragon_notify_overflowed_events_total counter
tetragon_notify_overflowed_events_total {overflow}
tetragon_bpf_missed_events_total{{error="ENOSPC",msg_op="5"}} {a}
tetragon_bpf_missed_events_total{{error="ENOSPC",msg_op="23"}} {b} 1700000000000
tetragon_events_total{{type="PROCESS_EXEC",namespace="a b"}} 1e+06
tetragon_observer_ringbuf_events_lost_total NaN
"""


def page(overflow=0, a=0, b=0):
    return PAGE.format(overflow=overflow, a=a, b=b)


def test_counters_are_summed_by_reason():
    assert totals(page("2.55e+02", 3, 4)) == {"tetragon_stream_queue": 255, "tetragon_bpf_missed": 7}
    assert totals("") == {}


def test_only_growth_is_a_loss_and_a_restart_begins_anew():
    counters = LossCounters()
    assert counters.grown(page(10, 1, 1)) == {}
    assert counters.grown(page(10, 1, 1)) == {}
    assert counters.grown(page(15, 1, 4)) == {"tetragon_stream_queue": 5, "tetragon_bpf_missed": 3}
    assert counters.grown(page(2, 0, 0)) == {"tetragon_stream_queue": 2}


# ------------------------------------------------------------------ policies


def answer(*policies):
    return pb.ListTracingPoliciesResponse(policies=policies).SerializeToString()


def test_a_policy_is_told_when_it_is_seen_and_when_it_changes():
    watch = PolicyWatch(["llm/egress", "files"])

    def told(raw):
        return {(one.subject, one.state) for one in watch.changes(raw)}

    good = pb.TracingPolicyStatus(name="files", state=pb.TP_STATE_ENABLED)
    assert told(answer(good)) == {("files", "enabled"), ("llm/egress", "missing")}
    assert told(answer(good)) == set()
    broken = pb.TracingPolicyStatus(name="egress", namespace="llm", state=pb.TP_STATE_LOAD_ERROR, error="no such hook")
    (report,) = watch.changes(answer(good, broken))
    assert (report.component, report.subject, report.state) == ("tetragon-policy", "llm/egress", "load_error")
    assert report.detail == Sensitive("no such hook")
    # Enabled, but one of its hooks is not there: in force only in part.
    part = pb.TracingPolicyStatus(
        name="files", state=pb.TP_STATE_ENABLED, hook_statuses=[pb.HookStatus(state=3, section="kprobe/x")]
    )
    assert told(answer(part, broken)) == {("files", "partially_enabled")}
    assert told(answer(part, broken, pb.TracingPolicyStatus(name="new", state=99))) == {("new", "99")}
    assert told(answer(part, broken)) == {("new", "removed")}


# -------------------------------------------------------------------- config


def test_filters_are_tetragon_s_own_and_mistakes_are_named():
    config = TetragonConfig(
        allow=({"event_set": ["PROCESS_EXEC"], "namespace": ["llm"]},),
        fields=({"fields": "process.binary", "action": "INCLUDE"},),
    )
    request = pb.GetEventsRequest.FromString(config.request())
    assert request.allow_list[0].event_set == [pb.PROCESS_EXEC]
    assert request.deny_list[0].health_check.value is True
    assert request.field_filters[0].fields.paths == ["process.binary"]
    with pytest.raises(pydantic.ValidationError, match=r'allow\[0\].*"name_space"'):
        TetragonConfig(allow=({"name_space": ["llm"]},))
    with pytest.raises(pydantic.ValidationError, match="is no http URL"):
        TetragonConfig(metrics_url="file:///etc/passwd")


# ------------------------------------------------------------------- meaning


def test_arguments_decide_where_the_hook_is_not_known():
    socket = Socket(Endpoint(address="10.0.0.1", port=4711), Endpoint(address="10.0.0.2", port=443), "tcp")
    hook = Hook("my_hook", [Argument("sock_arg", socket=socket)], "p", ())
    assert hook_body(hook, None, None) == NetworkActivity(
        action="other", source=socket.source, destination=socket.destination, protocol="tcp", observer_policy="p"
    )
    hook = Hook("my_hook", [Argument("path_arg", path="/etc/shadow")], "p", ())
    assert hook_body(hook, None, None).action == "other"


# -------------------------------------------------------------------- bounds


def test_what_a_pod_can_make_long_is_not_kept():
    long = "x" * 100_000
    decoder = WireDecoder()
    raw = pb.GetEventsResponse(process_exec=pb.ProcessExec(process=pb.Process(exec_id="a", arguments=long)))
    assert len(decoder.event(raw.SerializeToString()).body.process.arguments) == 100_000
    assert not decoder._processes
    tree = ProcessTree()
    parent = Process(exec_id="p", binary=Sensitive("/bin/sh"), arguments=Sensitive(long))
    assert len(tree.complete(event(ProcessActivity(action="exec", process=parent))).body.process.arguments) == 100_000
    child = tree.complete(event(ProcessActivity(action="exec", process=process("c", "p"))))
    assert (child.body.parent.binary, child.body.parent.arguments) == (Sensitive("/bin/sh"), "")
    folding = Folding(1.0)
    for _ in range(3):
        assert len(folding.take(read(path=long), 0.0)) == 1
    assert not folding._open


# ---------------------------------------------------------------- the metrics


class Pages:
    """A server of one page after the other, as raw answers."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/metrics"
        return self

    async def _serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()


def whole(text):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()


CUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\ntetragon_notify"


async def test_a_page_that_breaks_off_is_told_and_the_next_one_is_read():
    async with Pages(whole(page(1)), CUT, b"nonsense\r\n\r\n", whole(page(5))) as pages:
        source = TetragonSource(TetragonConfig(metrics_url=pages.url), "tetragon", "n")
        out = MemoryOutput()
        source._reporter.attach(out)
        for _ in range(4):
            await source._look_at_metrics()
    assert [(type(one.body).__name__, getattr(one.body, "state", "") or one.body.count) for one in out.events] == [
        ("StatusReport", "losses_unknown"),
        ("LossReport", 4),
    ]


async def test_a_page_that_is_too_large_is_told_and_not_cut(monkeypatch):
    from agent.sources.tetragon import source as module

    monkeypatch.setattr(module, "LARGEST_PAGE", 100)
    async with Pages(whole(page(1))) as pages:
        source = TetragonSource(TetragonConfig(metrics_url=pages.url), "tetragon", "n")
        out = MemoryOutput()
        source._reporter.attach(out)
        await source._look_at_metrics()
    assert [one.body.state for one in out.events] == ["losses_unknown"]
