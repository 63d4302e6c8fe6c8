"""agent.resolve.twins: what two sources tell is judged once, and what only one told is judged in any case."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.model import (
    Endpoint,
    Event,
    FileActivity,
    KernelActivity,
    LogRecord,
    NetworkActivity,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
)
from agent.resolve import Resolver
from agent.resolve.twins import Twins

SECOND = 1_000_000_000


def process(pid=7, binary="/bin/sh", **more):
    return Process(pid=pid, binary=Sensitive(binary), **more)


def event(body, source, when=0, node="n"):
    return Event(id=f"{source}{when}", source=source, body=body, resource=Resource(node=node), time_unix_nano=when)


def exec_(pid=7, binary="/bin/sh"):
    return ProcessActivity(action="exec", process=process(pid, binary))


def called(function, *arguments, action="credentials", pid=7):
    words = tuple(Sensitive(one) for one in arguments)
    return ProcessActivity(action=action, function=function, arguments=words, process=process(pid))


def told(*events):
    twins = Twins()
    return [twins.is_told(one) for one in events]


def both(first, second=None):
    return told(event(first, "tetragon"), event(second if second is not None else first, "ebpf"))


def test_whoever_comes_first_is_heard():
    assert told(event(exec_(), "tetragon"), event(exec_(), "ebpf")) == [False, True]
    assert told(event(exec_(), "ebpf"), event(exec_(), "tetragon")) == [False, True]


def test_what_one_source_tells_twice_happened_twice():
    assert told(event(exec_(), "ebpf"), event(exec_(), "ebpf")) == [False, False]


def test_two_facts_of_one_kind_are_judged_twice():
    a, b = event(exec_(), "tetragon"), event(exec_(), "ebpf")
    assert told(a, a, b, b) == [False, False, True, True]
    assert told(a, b, a, b) == [False, True, False, True]
    assert told(a, b, b) == [False, True, False]


def test_a_folded_event_stands_for_all_it_counts():
    body = FileActivity(action="open", path=Sensitive("/etc/shadow"), process=process(), count=3)
    single = msgspec.structs.replace(body, count=1)
    one = event(single, "tetragon")
    assert told(one, one, event(body, "ebpf")) == [False, False, False]
    assert told(one, one, one, event(body, "ebpf")) == [False, False, False, True]


def test_the_same_thing_later_is_another_fact():
    assert told(event(exec_(), "tetragon"), event(exec_(), "ebpf", when=11 * SECOND)) == [False, False]
    assert told(event(exec_(), "tetragon"), event(exec_(), "ebpf", when=9 * SECOND)) == [False, True]


def test_other_processes_and_programs_are_other_facts():
    assert both(exec_(7), exec_(8)) == [False, False]
    assert both(exec_(), exec_(binary="/bin/ls")) == [False, False]


def test_the_same_number_on_another_node_is_another_process():
    assert told(event(exec_(), "tetragon", node="a"), event(exec_(), "ebpf", node="b")) == [False, False]


def test_sources_of_other_kinds_have_no_twins():
    assert told(event(exec_(), "replay"), event(exec_(), "ebpf"), event(exec_(), "replay")) == [False, False, False]
    assert told(event(LogRecord(text="x"), "tetragon"), event(LogRecord(text="x"), "ebpf")) == [False, False]


def test_a_process_without_a_number_has_no_twin():
    assert both(ProcessActivity(action="exec", process=Process())) == [False, False]
    assert both(FileActivity(action="open", path=Sensitive("/x"), process=None)) == [False, False]


def test_an_end_is_told_once():
    end = ProcessActivity(action="exit", process=process(), exit_code=1)
    assert both(end, msgspec.structs.replace(end, signal="SIGKILL")) == [False, True]


def test_one_call_under_its_kernel_s_names():
    assert both(called("__x64_sys_setuid", "0"), called("setuid", "0")) == [False, True]
    kernel = KernelActivity(function="sys_mount", arguments=(Sensitive("/mnt"),), process=process())
    assert both(kernel, msgspec.structs.replace(kernel, function="mount")) == [False, True]


def test_an_open_is_not_a_read():
    opened = FileActivity(action="open", path=Sensitive("/etc/shadow"), process=process())
    assert both(opened) == [False, True]
    assert both(msgspec.structs.replace(opened, action="read"), opened) == [False, False]
    assert both(opened, msgspec.structs.replace(opened, path=Sensitive("/etc/passwd"))) == [False, False]


def test_a_connection_is_told_once_for_each_destination():
    def connect(address="1.1.1.1", port=443):
        return NetworkActivity(
            action="connect", source=Endpoint(), destination=Endpoint(address=address, port=port), process=process()
        )

    assert both(connect()) == [False, True]
    assert both(connect(), connect(port=80)) == [False, False]
    assert both(connect(), connect("1.1.1.2")) == [False, False]


def test_a_call_with_other_arguments_is_another_fact():
    """Tetragon's policies often tell one argument only: what they leave out must not be taken for what they told."""
    assert both(called("setuid", "0"), called("setuid", "1000")) == [False, False]
    assert both(
        called("ptrace", "PTRACE_ATTACH", "8", action="trace"), called("ptrace", "PTRACE_ATTACH", "9", action="trace")
    ) == [False, False]


def test_a_call_that_one_source_leaves_out_does_not_hide_the_next_one():
    told_by_policy = event(called("setuid", "0"), "tetragon")
    assert told(event(called("setuid", "1000"), "ebpf"), told_by_policy, event(called("setuid", "0"), "ebpf")) == [
        False,
        False,
        True,
    ]


def test_memory_is_bounded():
    twins = Twins(remembered=10)
    for number in range(1, 500):
        twins.is_told(event(exec_(number), "ebpf"))
    assert len(twins._told) <= 20


def test_a_resolver_gives_nothing_for_a_twin():
    resolver = Resolver()
    first = event(exec_(), "tetragon")
    assert resolver(first) is first
    assert resolver(event(exec_(), "ebpf")) is None


@given(st.lists(st.sampled_from(["tetragon", "ebpf"]), max_size=40))
def test_as_many_are_judged_as_the_busier_source_told(sources):
    judged = told(*(event(exec_(), source) for source in sources)).count(False)
    assert judged == max(sources.count("tetragon"), sources.count("ebpf"))
