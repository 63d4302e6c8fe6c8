"""agent.sources.ebpf.probes, .program_text, .tracefs: texts that are composed of what is wanted, and nothing else."""

import re

import pytest

from agent.sources.ebpf import program_text, tracefs
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.layout import Kind
from agent.sources.ebpf.probes import PLAIN_PROBES, PROBES, READ_BY_OFFSET, TEXTS
from agent.sources.ebpf.program_text import PROGRAMS, Wanted, text_of
from agent.sources.ebpf.stacks import _GNUTLS, _OPENSSL

TEXT = {path.name: path.read_text() for path in PROGRAMS.glob("*.c")}
ENTRIES = {name: set(re.findall(r"^int (\w+)\(", text, re.M)) for name, text in TEXT.items()}
GO = {"go_write", "go_wrote", "go_read", "go_got", "go_closed"}
IN_FILES = {one for pair in (*_OPENSSL.values(), *_GNUTLS.values()) for one in pair if one} | GO


def wanted(*groups, **more):
    return Wanted(groups, 1024 * 1024, EbpfConfig().paths, **more)


@pytest.mark.parametrize("probe", [*PROBES, *PLAIN_PROBES], ids=lambda probe: f"{probe.tracepoint}")
def test_every_probe_has_its_program_in_a_text_of_its_group(probe):
    texts = [name for name, groups in TEXTS.items() if probe.group in groups] or ["plain.c"]
    assert any(probe.function in ENTRIES[name] for name in texts)


def test_every_program_is_used():
    used = {probe.function for probe in (*PROBES, *PLAIN_PROBES)} | IN_FILES
    assert {one for entries in ENTRIES.values() for one in entries} - used == set()


def test_every_program_of_a_file_is_there():
    assert ENTRIES["tls.c"] >= IN_FILES


def test_no_tracepoint_runs_the_same_program_twice():
    pairs = [(probe.tracepoint, probe.function) for probe in (*PROBES, *PLAIN_PROBES)]
    assert len(pairs) == len(set(pairs))


def test_every_kind_is_written_by_some_program():
    texts = "\n".join(TEXT.values())
    assert [kind.name for kind in Kind if not re.search(rf"\b{kind.name}\b", texts)] == []


def test_every_offset_that_is_read_is_of_a_tracepoint_whose_format_is_read():
    used = set(re.findall(r"OFF_(\w+)", "\n".join(TEXT.values())))
    names = {tracepoint.partition(":")[2] for tracepoint in READ_BY_OFFSET}
    assert [one for one in used if not any(one.startswith(f"{name}_") for name in names) and one != "*"] == []


@pytest.mark.parametrize(
    "name",
    [
        "cgroup:cgroup_attach_task",
        "sock:inet_sock_set_state",
        "sock:sock_send_length",
        "signal:signal_generate",
        "task:task_newtask",
    ],
)
def test_a_program_whose_tracepoint_is_missing_does_not_break_the_others(name):
    """Without its offsets the text has to compile, or one missing tracepoint puts all probes out."""
    short = name.partition(":")[2]
    for text in TEXT.values():
        depth = 0
        for line in text.splitlines():
            if line.startswith(("#ifdef", "#if ")):
                depth += 1
            elif line.startswith("#endif"):
                depth -= 1
            assert f"OFF_{short}_" not in line or depth > 0 or line.startswith(("//", "#")), line


# --------------------------------------------------------------------- texts


def test_only_what_is_wanted_is_in_the_text():
    text = text_of(wanted("process"))
    assert "sched_exec" in text
    assert "enter_openat(" not in text
    assert "enter_connect(" not in text
    assert "ssl_call(" not in text
    assert "enter_ptrace(" not in text


@pytest.mark.parametrize(
    ("group", "function"),
    [
        ("files", "enter_openat("),
        ("calls", "enter_ptrace("),
        ("sockets", "enter_connect("),
        ("volumes", "send_length("),
    ],
)
def test_a_group_brings_its_programs(group, function):
    assert function in text_of(wanted(group))


def test_plaintext_brings_the_programs_of_libraries_and_nothing_of_ports():
    text = text_of(wanted("process", plaintext=True))
    assert "int ssl_call(" in text
    assert "int plain_sent(" not in text
    assert "#define WAKES" in text


def test_ports_bring_the_programs_of_plain_sockets():
    text = text_of(wanted("process", plaintext=True, plain_ports=(8000, 11434)))
    assert "#define PLAIN_PORTS (port == 8000 || port == 11434)" in text
    assert "int plain_sent(" in text


def test_ports_without_plaintext_read_nothing():
    assert "int plain_sent(" not in text_of(wanted("process", plain_ports=(8000,)))


def test_settings_stand_before_the_programs():
    text = text_of(wanted("process", is_scoped=True, plaintext=True, message_bytes=65536))
    assert "#define SCOPED" in text
    assert "#define CHUNKS 4" in text
    assert text.index("#define KINDS") < text.index("struct head {") < text.index("_Static_assert")


def test_a_small_message_is_one_piece_at_least():
    assert "#define CHUNKS 1\n" in text_of(wanted("process", message_bytes=1))


def test_the_ring_is_given_in_pages(monkeypatch):
    monkeypatch.setattr(program_text.os, "sysconf", lambda name: 4096)
    assert "#define RING_PAGES 256\n" in text_of(wanted("process"))


# ------------------------------------------------------------------- tracefs

FORMAT = """name: sched_process_exec
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:__data_loc char[] filename;\toffset:8;\tsize:4;\tsigned:0;
\tfield:pid_t pid;\toffset:12;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:16;\tsize:16;\tsigned:0;
\tfield:const void * skaddr;\toffset:32;\tsize:8;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:unsigned long clone_flags;\toffset:56;\tsize:8;\tsigned:0;

print fmt: "field:pid=%d;", REC->pid
"""


def test_fields_of_a_format_are_found_with_their_places():
    assert tracefs.fields_of(FORMAT) == {
        "common_type": 0,
        "common_pid": 4,
        "filename": 8,
        "pid": 12,
        "comm": 16,
        "skaddr": 32,
        "saddr_v6": 40,
        "clone_flags": 56,
    }


def test_an_array_whose_length_is_a_name_is_a_field_too():
    assert tracefs.fields_of("\tfield:char comm[TASK_COMM_LEN];\toffset:8;\tsize:16;\tsigned:0;\n") == {"comm": 8}


@pytest.mark.parametrize("text", ["", "nonsense", "field:", "field:int a;", "field:int a;\toffset:x;\tsize:4;"])
def test_what_is_no_format_has_no_fields(text):
    assert tracefs.fields_of(text) == {}


def test_only_tracepoints_that_are_there_have_offsets(tmp_path, monkeypatch):
    folder = tmp_path / "events" / "sched" / "sched_process_exec"
    folder.mkdir(parents=True)
    (folder / "format").write_text(FORMAT)
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path / "nowhere", tmp_path))
    assert tracefs.has("sched:sched_process_exec")
    assert not tracefs.has("sched:sched_process_exit")
    text = tracefs.offsets(["sched:sched_process_exec", "sched:sched_process_exit"])
    assert "#define OFF_sched_process_exec_filename 8\n" in text
    assert "sched_process_exit" not in text


def test_without_tracefs_there_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path / "nowhere",))
    assert tracefs.tracing_directory() is None
    assert not tracefs.has("sched:sched_process_exec")
    assert tracefs.offsets(["sched:sched_process_exec"]).strip() == ""


def test_a_tracefs_that_cannot_be_mounted_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path / "nowhere",))
    ran = []
    monkeypatch.setattr(tracefs.subprocess, "run", lambda command, **more: ran.append(command))
    assert not tracefs.mount_tracefs()
    assert ran[0][:3] == ["/bin/mount", "-t", "tracefs"]


def test_an_image_without_mount_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tracefs, "_PLACES", (tmp_path / "nowhere",))

    def missing(command, **more):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(tracefs.subprocess, "run", missing)
    assert not tracefs.mount_tracefs()
