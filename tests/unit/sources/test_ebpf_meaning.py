"""agent.sources.ebpf.meaning: a record to an event, a note for later, or a reason."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import FileActivity, KernelActivity, NetworkActivity, ProcessActivity, Resource, Sensitive
from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.layout import KINDS, Kind
from agent.sources.ebpf.meaning import Meaning
from agent.sources.ebpf.owners import Owners
from tests.unit.sources.ebpf_records import address_4, exec_args, mapped, record_of, state

SHELL, CHILD, OTHER = 5_000_001, 5_000_002, 5_000_003
HERE = -100 & (2**64 - 1)


class Sets:
    """The kernel's sets of processes, in memory."""

    def __init__(self, is_full=False):
        self.content, self.left_out, self.paths, self.is_full = set(), set(), {}, is_full
        self.near = set()

    def read_content_of(self, pid, *, is_wanted):
        if self.is_full and is_wanted:
            raise BpfError("the set content takes no more processes")
        (self.content.add if is_wanted else self.content.discard)(pid)

    def leave_out(self, pid):
        if self.is_full:
            raise BpfError("the set ignored takes no more processes")
        self.left_out.add(pid)

    def looks_at_relative(self, pid, *, is_wanted):
        (self.near.add if is_wanted else self.near.discard)(pid)

    def decide_path(self, path, *, is_wanted):
        self.paths[path] = is_wanted


class Pods(Owners):
    """Owners by number."""

    def __init__(self, **names):
        super().__init__("n")
        self.names = names

    def of_pid(self, pid):
        return Resource(node="n", namespace=self.names[str(pid)]) if str(pid) in self.names else None


def meaning(sets=None, owners=None, **settings):
    return Meaning(EbpfConfig(**settings), "n", owners or Pods(), sets or Sets())


def exec_(made, pid, path=b"/bin/sh\0", *words, time=1):
    if words:
        made.take(exec_args(*words, tid=pid), 1)
    return made.take(record_of(Kind.EXEC, path, pid=pid, tid=pid, a=pid, time=time), 1)


def fork(made, parent, child, flags=0):
    return made.take(record_of(Kind.FORK, pid=parent, a=child, b=flags), 1)


def body(answer):
    assert answer.event is not None, answer
    return answer.event.body


# --------------------------------------------------------------------- lives


def test_a_program_that_starts_is_one_event_with_its_arguments():
    made = meaning()
    assert made.take(exec_args("/bin/ls", "ls", "-l", tid=SHELL), 1).aside == "merged"
    told = body(made.take(record_of(Kind.EXEC, b"/bin/ls\0", pid=SHELL, a=SHELL), 1))
    assert isinstance(told, ProcessActivity)
    assert (told.action, told.process.binary, told.process.arguments) == ("exec", Sensitive("/bin/ls"), Sensitive("-l"))


def test_cut_arguments_are_marked():
    made = meaning()
    made.take(exec_args("/bin/ls", "ls", is_cut=True, tid=SHELL), 1)
    assert body(exec_(made, SHELL)).tags == ("arguments_truncated",)


def test_an_end_tells_how():
    made = meaning()
    exec_(made, SHELL)
    told = body(made.take(record_of(Kind.EXIT, pid=SHELL, a=3), 1))
    assert (told.action, told.exit_code, told.signal) == ("exit", 3, "")
    exec_(made, CHILD)
    told = body(made.take(record_of(Kind.EXIT, pid=CHILD, b=9), 1))
    assert (told.exit_code, told.signal) == (0, "SIGKILL")


def test_exit_codes_are_what_a_parent_would_see():
    made = meaning()
    exec_(made, SHELL)
    assert body(made.take(record_of(Kind.EXIT, pid=SHELL, a=0xFFFFFFFF), 1)).exit_code == 255


def test_a_forked_process_that_starts_nothing_is_no_event():
    made = meaning()
    exec_(made, SHELL)
    assert fork(made, SHELL, CHILD).aside == "merged"
    assert made.take(record_of(Kind.EXIT, pid=CHILD), 1).aside == "merged"


def test_the_end_of_an_unknown_process_is_set_aside():
    assert meaning().take(record_of(Kind.EXIT, pid=SHELL), 1).aside == "unknown_exit"


def test_a_clone_into_new_namespaces_is_an_event():
    made = meaning()
    exec_(made, SHELL)
    told = body(fork(made, SHELL, CHILD, 0x20000000))
    assert isinstance(told, KernelActivity)
    assert told.arguments == (Sensitive("pid"),)


# ---------------------------------------------------------------- activities


def opened(made, path, pid=SHELL, flags=os.O_RDONLY, directory=HERE, count=1):
    return made.take(record_of(Kind.OPEN, path + b"\0", pid=pid, a=flags, b=directory), count)


def test_a_file_that_is_opened_is_told_with_its_process():
    made = meaning()
    exec_(made, SHELL, b"/bin/cat\0")
    told = body(opened(made, b"/etc/shadow", count=7))
    assert isinstance(told, FileActivity)
    assert (told.path, told.process.binary, told.count) == (Sensitive("/etc/shadow"), Sensitive("/bin/cat"), 7)


def test_a_relative_path_is_made_absolute_by_the_directory_of_its_process():
    made = meaning()
    exec_(made, SHELL)
    made.take(record_of(Kind.CHDIR, b"/etc\0", pid=SHELL), 1)
    assert body(opened(made, b"shadow")).path == Sensitive("/etc/shadow")
    made.take(record_of(Kind.CHDIR, b"../tmp\0", pid=SHELL), 1)
    assert body(opened(made, b"./x", flags=os.O_WRONLY)).path == Sensitive("/tmp/x")


def test_a_child_stands_where_its_parent_stood():
    made = meaning()
    exec_(made, SHELL)
    made.take(record_of(Kind.CHDIR, b"/etc\0", pid=SHELL), 1)
    fork(made, SHELL, CHILD)
    assert body(opened(made, b"shadow", pid=CHILD)).path == Sensitive("/etc/shadow")


def test_a_relative_path_that_is_none_of_those_told_is_set_aside():
    made = meaning()
    exec_(made, SHELL)
    made.take(record_of(Kind.CHDIR, b"/srv\0", pid=SHELL), 1)
    assert opened(made, b"notes", flags=os.O_WRONLY).aside == "path_not_told"


def test_a_path_whose_directory_nobody_knows_is_told_as_it_is():
    assert body(opened(meaning(), b"shadow", directory=5)).path == Sensitive("shadow")


def test_what_a_gone_process_did_is_told_all_the_same():
    told = meaning().take(record_of(Kind.CONNECT, address_4(b"\1\2\3\4", 443), pid=SHELL, uid=33), 1)
    assert isinstance(body(told), NetworkActivity)
    assert (body(told).process.pid, body(told).process.uid) == (SHELL, 33)


def test_a_socket_s_end_belongs_to_its_process():
    made = meaning()
    exec_(made, SHELL, b"/bin/curl\0")
    record = record_of(Kind.CLOSE, state(mapped(b"\1\1\1\1"), 1, mapped(b"\2\2\2\2"), 443, SHELL), pid=0)
    assert body(made.take(record, 1)).process.binary == Sensitive("/bin/curl")


@pytest.mark.parametrize("size", [0, 1, 71])
def test_a_short_record_is_an_error(size):
    assert meaning().take(bytes(size), 1).error == "short_record"


def test_an_unknown_kind_is_an_error():
    assert meaning().take(record_of(KINDS), 1).error == "unknown_record"
    assert meaning().take(record_of(2**32 - 1), 1).error == "unknown_record"


@given(
    st.lists(
        st.tuples(
            st.integers(0, KINDS + 1),
            st.binary(max_size=120),
            st.integers(SHELL, SHELL + 3),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
        ),
        max_size=20,
    )
)
def test_any_records_in_any_order_have_an_answer(records):
    made = meaning(plaintext={"select": [{"binaries": ["*"]}]})
    for kind, payload, pid, a, b in records:
        answer = made.take(record_of(kind, payload, pid=pid, a=a, b=b), 1)
        assert bool(answer.event) + bool(answer.aside) + bool(answer.error) == 1
        list(answer.made)
    made.end()


def test_two_records_are_two_events_and_the_same_record_is_the_same():
    made = meaning()
    one, two = record_of(Kind.SETUID, pid=SHELL, time=1), record_of(Kind.SETUID, pid=SHELL, time=2)
    assert made.take(one, 1).event.id == made.take(one, 1).event.id != made.take(two, 1).event.id


# ------------------------------------------------------------ scope, content


def test_a_process_out_of_scope_is_left_out_and_not_told():
    sets = Sets()
    made = meaning(sets, Pods(**{str(SHELL): "rag", str(OTHER): "shop"}), scope=["ra*"])
    assert exec_(made, SHELL).event is not None
    assert exec_(made, OTHER).aside == "out_of_scope"
    assert sets.left_out == {OTHER}
    assert opened(made, b"/etc/shadow", pid=OTHER).aside == "out_of_scope"


def test_the_host_is_in_no_scope_of_namespaces():
    made = meaning(Sets(), Pods(), scope=["*"])
    assert exec_(made, SHELL).aside == "out_of_scope"


@pytest.mark.parametrize("settings", [{"scope": ["rag"]}, {"plaintext": {"select": [{"binaries": ["*"]}]}}])
def test_a_full_set_of_the_kernel_s_does_not_end_the_source(settings):
    """A fork bomb fills a set of 65 536; an exception here would end the node's only eyes."""
    made = meaning(Sets(is_full=True), Pods(**{str(SHELL): "shop"}), **settings)
    exec_(made, SHELL)


def test_only_selected_programs_are_read():
    sets = Sets()
    made = meaning(sets, plaintext={"select": [{"binaries": ["*/python3"]}]})
    exec_(made, SHELL, b"/usr/bin/python3\0")
    exec_(made, OTHER, b"/usr/bin/curl\0")
    assert sets.content == made.content == {SHELL}
    assert sets.paths == {b"/usr/bin/python3": True, b"/usr/bin/curl": False}


def test_a_program_that_starts_another_one_is_not_read_any_more():
    sets = Sets()
    made = meaning(sets, plaintext={"select": [{"binaries": ["*/python3"]}]})
    exec_(made, SHELL, b"/usr/bin/python3\0")
    exec_(made, SHELL, b"/usr/bin/curl\0", time=2)
    assert sets.content == made.content == set()


def test_children_are_read_until_they_start_something_else():
    made = meaning(Sets(), plaintext={"select": [{"binaries": ["*/python3"]}]})
    exec_(made, SHELL, b"/usr/bin/python3\0")
    fork(made, SHELL, CHILD)
    assert made.content == {SHELL, CHILD}
    made.take(record_of(Kind.EXIT, pid=CHILD), 1)
    assert made.content == {SHELL}


def test_paths_are_decided_only_where_the_path_decides_alone():
    sets = Sets()
    made = meaning(sets, plaintext={"select": [{"binaries": ["*"], "namespaces": ["rag"]}]})
    exec_(made, SHELL, b"/usr/bin/python3\0")
    assert sets.paths == {}


def test_a_relative_path_is_not_decided_on():
    sets = Sets()
    made = meaning(sets, plaintext={"select": [{"binaries": ["*"]}]})
    exec_(made, SHELL, b"./python3\0")
    assert sets.paths == {}


def test_nothing_is_read_without_a_selection():
    sets = Sets()
    exec_(meaning(sets), SHELL, b"/usr/bin/python3\0")
    assert sets.content == set()


def test_a_process_that_ended_before_it_was_chosen_stays_in_no_set():
    """Found by a soak: the start of a short process was understood after its end."""
    sets = Sets()
    made = meaning(sets, plaintext={"select": [{"binaries": ["*"]}]})
    exec_(made, SHELL)
    assert sets.content == {SHELL}
    made.take(record_of(Kind.EXIT, pid=SHELL, tid=SHELL), 1)
    assert sets.content == made.content == set()
