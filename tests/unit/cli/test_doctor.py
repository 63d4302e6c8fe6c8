"""agent.cli.doctor, agent.sources.ebpf.examination: what a node allows is told in words and in JSON."""

import json
import platform

import pytest
from click.testing import CliRunner

from agent.cli.root import main
from agent.sources.ebpf import examination
from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.examination import Check
from agent.sources.ebpf.probes import PROBES
from agent.sources.ebpf.stacks import Finding

GOOD = [Check("kernel", "version", "ok", "Linux 6.1"), Check("probes", "files", "ok", "3: openat")]
OFF = Check("tls", "blind", "off", "rustls, in 2 processes", "scan its logs instead")
BAD = Check("kernel", "rights", "bad", "not root", "run as root (runAsUser: 0 in a pod)")


def doctor(monkeypatch, checks, *words):
    monkeypatch.setattr(examination, "examine", lambda: checks)
    return CliRunner().invoke(main, ["doctor", *words])


def test_each_check_is_a_line_under_its_area(monkeypatch):
    result = doctor(monkeypatch, GOOD)
    assert result.output.splitlines() == [
        "kernel",
        "  ok  version          Linux 6.1",
        "probes",
        "  ok  files            3: openat",
    ]
    assert result.exit_code == 0


def test_what_is_not_seen_is_told_with_a_remedy_and_is_no_fault(monkeypatch):
    result = doctor(monkeypatch, [*GOOD, OFF])
    assert "  off blind            rustls, in 2 processes" in result.output
    assert "scan its logs instead" in result.output
    assert result.exit_code == 0


def test_a_node_where_no_probe_can_stand_is_a_fault(monkeypatch):
    result = doctor(monkeypatch, [BAD])
    assert "  BAD rights           not root\n" in result.output
    assert "run as root" in result.output
    assert result.exit_code == 1


def test_machines_get_an_object_a_line(monkeypatch):
    result = doctor(monkeypatch, [*GOOD, OFF, BAD], "--json")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [line["state"] for line in lines] == ["ok", "ok", "off", "bad"]
    assert lines[3] == BAD._asdict()
    assert result.exit_code == 1


# --------------------------------------------------------------- examination


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.18.44-fc", "ok"),
        ("5.8.0", "ok"),
        ("5.15.0-91-generic", "ok"),
        ("5.7.19", "bad"),
        ("4.19.0", "bad"),
        ("odd", "ok"),
        ("6.1-rc3", "ok"),
        ("5.15-rc3", "ok"),
    ],
)
def test_a_kernel_without_ring_buffers_is_too_old(monkeypatch, release, state):
    monkeypatch.setattr(platform, "release", lambda: release)
    assert examination._kernel_version().state == state


def test_who_is_not_root_sees_nothing(monkeypatch):
    monkeypatch.setattr(examination.os, "geteuid", lambda: 1000)
    check = examination._rights()
    assert (check.state, check.remedy) == ("bad", "run as root (runAsUser: 0 in a pod)")


def test_without_bcc_the_package_is_named(monkeypatch):
    def missing():
        raise BpfError("bcc is not installed. Install the package python3-bpfcc (Debian, Ubuntu)")

    monkeypatch.setattr(examination, "version", missing)
    check = examination._bcc()
    assert (check.state, check.what[:20]) == ("bad", "bcc is not installed")


def test_nothing_is_loaded_where_the_kernel_s_side_is_not_in_order(monkeypatch):
    monkeypatch.setattr(examination, "kernel_checks", lambda: [BAD])
    monkeypatch.setattr(examination, "probe_checks", lambda: pytest.fail("probes were tried"))
    assert examination.examine() == [BAD]


class Loaded:
    """A kernel whose probes stand, but for one."""

    error = None

    def __init__(self, config):
        self.on, self.off, self.closed = list(PROBES[1:]), [(PROBES[0], "Operation not permitted")], 0
        Loaded.last = self

    def load(self):
        if self.error is not None:
            raise self.error

    def close(self):
        self.closed += 1


def test_probes_are_told_by_group_and_those_that_are_off_with_what_is_not_seen(monkeypatch):
    monkeypatch.setattr(examination, "Kernel", Loaded)
    checks = examination.probe_checks()
    assert {check.name for check in checks if check.state == "ok"} == {
        "process",
        "scope",
        "files",
        "calls",
        "sockets",
        "volumes",
    }
    (off,) = [check for check in checks if check.state == "off"]
    assert (off.name, off.what) == ("execve", "Operation not permitted")
    assert "arguments of programs are not seen" in off.remedy
    assert Loaded.last.closed == 1


def test_what_was_loaded_before_a_failure_is_let_go(monkeypatch):
    monkeypatch.setattr(examination, "Kernel", Loaded)
    monkeypatch.setattr(Loaded, "error", BpfError("the probe of programs that start cannot stand"))
    (check,) = examination.probe_checks()
    assert (check.state, check.what) == ("bad", "the probe of programs that start cannot stand")
    assert Loaded.last.closed == 1


def test_a_namespace_of_processes_of_one_s_own_is_told():
    """Numbers that probes tell are the node's: without hostPID they are somebody else's here."""
    assert any("pid" in check.name or "process" in check.name for check in examination.kernel_checks())


def test_stacks_are_counted_and_blind_ones_named(monkeypatch):
    findings = {"/proc/1/exe": Finding("openssl"), "/proc/2/exe": Finding(None, blind="rustls")}
    monkeypatch.setattr(examination.os, "listdir", lambda place: ["1", "2", "3", "self"])
    monkeypatch.setattr(examination, "mapped_libraries", lambda pid: [])
    monkeypatch.setattr(examination, "_finding", lambda path, known: findings.get(path, Finding(None)))
    checks = {check.name: check for check in examination.stack_checks()}
    assert checks["openssl"].what == "1 processes or libraries: prompts can be read"
    assert (checks["blind"].state, checks["blind"].what) == ("off", "rustls, in 1 processes")
