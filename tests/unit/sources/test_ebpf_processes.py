"""agent.sources.ebpf.processes: who runs what, whose child it is, in whose pod; also of those that are gone already."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Resource, Sensitive
from agent.sources.ebpf import processes
from agent.sources.ebpf.layout import HEAD_BYTES, Head, Kind, head_of
from agent.sources.ebpf.processes import ProcessTable, arguments_of, normal_path, parent_of
from tests.unit.sources.ebpf_records import exec_args, head_and_record, record_of

HOST = Resource(node="n")
POD = Resource(node="n", namespace="rag", pod="api-0")
# Numbers that no process has (the largest that can be is 4 194 304).
SHELL, CHILD, GRANDCHILD, OTHER = 5_000_001, 5_000_002, 5_000_003, 5_000_004


@pytest.fixture
def owners():
    return {}


@pytest.fixture
def table(owners):
    return ProcessTable("n", owners.get, HOST)


def head(kind=Kind.EXEC, **more) -> Head:
    return head_and_record(kind, **more)[0]


def exec_(table, pid, path="/bin/sh", *, time=1, words=(), environment=(), is_cut=False):
    if words:
        record = exec_args(*words, environment=environment, tid=pid, is_cut=is_cut)
        table.asked(pid, arguments_of(head_of(record), record))
    return table.started(head(pid=pid, tid=pid, a=pid, time=time), path, time)


def fork(table, parent, child, time=2):
    table.forked(head(Kind.FORK, pid=parent, a=child, time=time))


def asked(*words, **more):
    record = exec_args(*words, **more)
    return arguments_of(head_of(record), record)


# ----------------------------------------------------------------- arguments


def test_arguments_are_those_after_the_program_s_own_name():
    assert asked("/bin/ls", "ls", "-l", "/tmp") == ("/bin/ls", "-l /tmp", {}, False)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("sh", "-c", "rm -rf /"), '-c "rm -rf /"'),
        (("sh", ""), '""'),
        (("sh", "", "x"), '"" x'),
        (("sh",), ""),
        ((), ""),
        (("sh", "a\nb"), "a\nb"),
    ],
)
def test_arguments_are_quoted_as_tetragon_does(words, shown):
    assert asked("/bin/sh", *words).arguments == shown


def test_telling_variables_are_kept_apart_and_sensitive():
    found = asked("/bin/sh", "sh", environment=("LD_PRELOAD=/tmp/x.so", "BASH_ENV=a=b", "BROKEN"))
    assert found.environment == {"LD_PRELOAD": Sensitive("/tmp/x.so"), "BASH_ENV": Sensitive("a=b")}


def test_arguments_that_were_cut_say_so():
    assert asked("/bin/sh", "sh", is_cut=True).is_cut


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_any_record_of_arguments_is_read(payload, a, b, size):
    record = record_of(Kind.EXEC_ARGS, payload, a=a, b=b, size=size)
    found = arguments_of(head_of(record), record)
    assert len(found.path) <= len(record) - HEAD_BYTES


# --------------------------------------------------------------------- lives


def test_a_program_has_the_arguments_it_was_asked_with(table):
    known = exec_(table, SHELL, "/bin/ls", words=("/bin/ls", "ls", "-l"), environment=("LD_AUDIT=/x.so",))
    assert (known.process.binary, known.process.arguments) == (Sensitive("/bin/ls"), Sensitive("-l"))
    assert known.process.environment == {"LD_AUDIT": Sensitive("/x.so")}


def test_a_call_that_failed_is_replaced_by_the_one_that_worked(table):
    record = exec_args("/usr/local/bin/ls", "ls", "first", tid=SHELL)
    table.asked(SHELL, arguments_of(head_of(record), record))
    assert exec_(table, SHELL, "/bin/ls", words=("/bin/ls", "ls", "second")).process.arguments == Sensitive("second")


def test_arguments_are_used_once(table):
    exec_(table, SHELL, words=("/bin/sh", "sh", "-i"))
    assert exec_(table, SHELL, time=9).process.arguments == ""


def test_another_thread_s_call_of_execve_is_found_by_its_number(table):
    record = exec_args("/bin/ls", "ls", "-l", tid=SHELL + 5)
    table.asked(SHELL + 5, arguments_of(head_of(record), record))
    known = table.started(head(pid=SHELL, tid=SHELL, a=SHELL + 5), "/bin/ls", 1)
    assert known.process.arguments == Sensitive("-l")


def test_a_child_has_its_parent_and_its_ancestors(table):
    exec_(table, SHELL, "/bin/sh")
    fork(table, SHELL, CHILD)
    child = exec_(table, CHILD, "/bin/bash", time=3)
    fork(table, CHILD, GRANDCHILD, time=4)
    grandchild = exec_(table, GRANDCHILD, "/bin/cat", time=5)
    assert table.parent(grandchild) == child.process
    assert table.ancestors(grandchild) == (table.get(SHELL).process,)
    assert grandchild.process.parent_exec_id == child.process.exec_id


def test_a_forked_process_runs_its_parent_s_program_until_it_starts_its_own(table):
    exec_(table, SHELL, "/bin/sh", words=("/bin/sh", "sh", "-i"))
    fork(table, SHELL, CHILD)
    known = table.get(CHILD)
    assert (known.process.pid, known.process.binary, known.is_forked) == (CHILD, Sensitive("/bin/sh"), True)
    assert known.process.exec_id != table.get(SHELL).process.exec_id
    assert not exec_(table, CHILD, "/bin/ls").is_forked


def test_an_orphan_keeps_its_ancestors(table):
    exec_(table, SHELL, "/bin/sh")
    fork(table, SHELL, CHILD)
    exec_(table, CHILD, "/bin/bash", time=3)
    fork(table, CHILD, GRANDCHILD, time=4)
    table.ended(CHILD)
    table.ended(SHELL)
    orphan = exec_(table, GRANDCHILD, "/bin/cat", time=5)
    assert table.parent(orphan).binary == Sensitive("/bin/bash")
    assert [one.binary for one in table.ancestors(orphan)] == [Sensitive("/bin/sh")]


def test_a_later_process_with_the_parent_s_number_is_not_the_parent(table):
    exec_(table, SHELL, "/bin/sh")
    fork(table, SHELL, CHILD)
    child = exec_(table, CHILD, "/bin/cat", time=3)
    table.ended(SHELL)
    fork(table, OTHER, SHELL)
    exec_(table, SHELL, "/usr/bin/innocent", time=9)
    assert table.parent(child).binary == Sensitive("/bin/sh")


def test_a_number_that_is_used_again_brings_nothing_of_the_first_process(table, owners):
    owners[SHELL] = POD
    exec_(table, SHELL, "/bin/sh", words=("/bin/sh", "sh", "-i"))
    table.ended(SHELL)
    owners[SHELL] = HOST
    again = exec_(table, SHELL, "/bin/ls", time=9)
    assert (again.owner, again.process.arguments) == (HOST, "")


def test_a_parent_that_starts_another_program_is_still_the_parent(table):
    exec_(table, SHELL, "/bin/sh")
    fork(table, SHELL, CHILD)
    exec_(table, SHELL, "/usr/bin/python3", time=3)
    child = exec_(table, CHILD, "/bin/cat", time=4)
    assert table.parent(child) is not None


def test_a_process_that_is_gone_is_in_its_parent_s_pod(table, owners):
    owners[SHELL] = POD
    exec_(table, SHELL, "/bin/sh")
    fork(table, SHELL, CHILD)
    table.hears_moves = True
    assert exec_(table, CHILD, "/bin/true", time=3).owner == POD


def test_a_process_that_is_gone_and_whose_parent_nobody_knows_is_the_node_s(table):
    assert exec_(table, SHELL).owner == HOST


def test_a_process_that_is_moved_into_a_container_is_the_container_s(table, owners):
    table.hears_moves = True
    owners[SHELL] = HOST
    exec_(table, SHELL)
    owners[SHELL] = POD
    table.moved(SHELL)
    assert exec_(table, SHELL, "/app", time=2).owner == POD


def test_a_child_of_one_that_was_moved_and_is_gone_is_the_container_s(table, owners):
    """What runtimes do: a helper is put into the group, forks the container's first process, and ends."""
    table.hears_moves = True
    owners[SHELL] = HOST
    exec_(table, SHELL, "/usr/sbin/runc")
    fork(table, SHELL, CHILD)
    table.moved(CHILD, POD)
    fork(table, CHILD, GRANDCHILD)
    table.ended(CHILD)
    assert exec_(table, GRANDCHILD, "/app", time=3).owner == POD


def test_a_move_that_tells_no_container_is_asked_for(table, owners):
    table.hears_moves = True
    owners[SHELL] = HOST
    exec_(table, SHELL)
    table.moved(SHELL, None)
    assert table.get(SHELL).owner == HOST
    del owners[SHELL]
    table.moved(SHELL, None)
    assert table.get(SHELL).owner == HOST


def test_a_process_that_was_made_in_another_group_is_that_group_s(table, owners):
    """clone3 with CLONE_INTO_CGROUP moves nobody."""
    table.hears_moves = True
    owners[SHELL] = HOST
    exec_(table, SHELL, "/usr/bin/crun")
    fork(table, SHELL, CHILD)
    owners[CHILD] = POD
    started = head(pid=CHILD, tid=CHILD, a=CHILD, time=3, cgroup=77)
    assert table.started(started, "/app", 3).owner == POD
    del owners[CHILD]
    assert table.started(head(pid=CHILD, tid=CHILD, a=CHILD, time=4, cgroup=78), "/app", 4).owner == POD


def test_a_process_that_ended_is_known_once_more_for_its_sockets(table):
    known = exec_(table, SHELL)
    assert table.ended(SHELL) is known
    assert table.get(SHELL) is None
    assert table.find(SHELL) is known
    assert table.ended(SHELL) is None


@pytest.mark.parametrize(
    ("path", "is_fileless"),
    [
        ("/dev/fd/3", True),
        ("/proc/self/fd/3", True),
        ("memfd:x", True),
        (f"/proc/{SHELL}/fd/3", True),
        ("/proc/thread-self/fd/3", True),
        ("/bin/sh", False),
        ("/dev/fdisk", False),
    ],
)
def test_a_program_without_a_file_is_marked(table, path, is_fileless):
    assert exec_(table, SHELL, path).process.is_fileless is is_fileless


def test_a_relative_program_is_told_from_its_directory(table):
    exec_(table, SHELL)
    table.get(SHELL).cwd = "/srv/app"
    assert exec_(table, SHELL, "./run.sh", time=2).process.binary == Sensitive("/srv/app/run.sh")


def test_processes_that_nobody_told_of_are_found(table, owners):
    owners[os.getpid()] = HOST
    known = table.find(os.getpid())
    assert known.process.pid == os.getpid()
    assert known.file == os.path.realpath("/proc/self/exe")
    assert known.parent == os.getppid()
    assert os.getpid() in table.scan()


def test_a_process_that_never_was_is_nobody(table):
    assert table.find(SHELL) is None
    assert parent_of(SHELL) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["exec", "fork", "exit", "ask", "move"]), st.integers(0, 5), st.integers(0, 5)),
        max_size=60,
    )
)
def test_lives_in_any_order_never_break_the_table(steps):
    table = ProcessTable("n", lambda pid: None, HOST)
    for time, (what, one, two) in enumerate(steps):
        pid, other = SHELL + one, SHELL + two
        match what:
            case "exec":
                exec_(table, pid, time=time)
            case "fork":
                fork(table, pid, other, time=time)
            case "exit":
                table.ended(pid)
            case "ask":
                table.asked(pid, asked("/bin/x", "x"))
            case "move":
                table.moved(pid)
        for number in range(SHELL, SHELL + 6):
            if (known := table.find(number)) is not None:
                assert len(table.ancestors(known)) <= 8


def test_the_table_stays_bounded(table, monkeypatch):
    monkeypatch.setattr(processes, "_MOST", 10)
    for number in range(50):
        exec_(table, SHELL + number)
        table.asked(SHELL + number, asked("/bin/x", "x"))
    assert len(table) == 10


@pytest.mark.parametrize(
    ("path", "directory", "normal"),
    [
        ("/etc/shadow", "", "/etc/shadow"),
        ("shadow", "/etc", "/etc/shadow"),
        ("../etc/shadow", "/tmp", "/etc/shadow"),
        ("//etc//shadow", "", "/etc/shadow"),
        ("/etc/./x/../shadow", "", "/etc/shadow"),
        ("../../../../etc/shadow", "/", "/etc/shadow"),
        ("shadow", "", "shadow"),
    ],
)
def test_a_path_is_told_as_one_would_write_it(path, directory, normal):
    assert normal_path(path, directory) == normal
