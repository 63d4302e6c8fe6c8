"""agent.sources.ebpf.config, .kernel, .bcc: settings, mistakes in them, and a node without BPF."""

import sys

import pydantic
import pytest

from agent.model import Resource
from agent.sources.ebpf import SPEC, bcc, kernel
from agent.sources.ebpf.bcc import BpfError, Programs
from agent.sources.ebpf.config import EbpfConfig, Selector
from agent.sources.ebpf.kernel import Kernel, fnv1a

MIB = 1024 * 1024
RAG = Resource(namespace="rag", pod="api-0", container="app", labels={"app": "api"})


def mistakes(**settings):
    with pytest.raises(pydantic.ValidationError) as caught:
        EbpfConfig(**settings)
    return [(".".join(str(one) for one in error["loc"]), error["msg"]) for error in caught.value.errors()]


def test_nothing_of_plaintext_is_read_unless_it_is_asked_for():
    assert not EbpfConfig().reads_plaintext
    assert EbpfConfig(plaintext={"select": [{"namespaces": ["rag"]}]}).reads_plaintext


def test_the_source_has_its_name_and_settings():
    assert (SPEC.name, SPEC.config) == ("ebpf", EbpfConfig)


@pytest.mark.parametrize(
    ("settings", "place", "fact"),
    [
        ({"ring_bytes": 3 * MIB}, "ring_bytes", "is no power of two, as the kernel wants it; 16777216 is one"),
        ({"ring_bytes": 1024}, "ring_bytes", "65536"),
        ({"groups": ["file"]}, "groups.0", "'files'"),
        ({"path_endings": ["x" * 17]}, "path_endings", "has 17 bytes; a beginning or ending of a path has 1 to 16"),
        ({"path_beginnings": [""]}, "path_beginnings", "has 0 bytes"),
        ({"path_written": ["a\0"]}, "path_written", "NUL"),
        ({"poll_seconds": 0}, "poll_seconds", "0.001"),
        ({"fold_seconds": -1}, "fold_seconds", "0"),
        ({"plaintext": {"select": [{}]}}, "plaintext.select.0", "an empty selector would read everything; name"),
        ({"plaintext": {"http_ports": [0]}}, "plaintext.http_ports.0", "1"),
        ({"plaintext": {"http_ports": [65536]}}, "plaintext.http_ports.0", "65535"),
        ({"plaintext": {"http_ports": list(range(1, 34))}}, "plaintext.http_ports", "32"),
        ({"plaintext": {"ring_bytes": 3 * MIB}}, "plaintext.ring_bytes", "is no power of two"),
        ({"unknown": 1}, "unknown", "not permitted"),
        ({"plaintext": {"selectors": []}}, "plaintext.selectors", "not permitted"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_fits(settings, place, fact):
    ((where, what),) = mistakes(**settings)
    assert where == place
    assert fact in what


def test_no_probes_can_be_chosen_that_are_never_attached():
    """`plain` is a group of the programs', switched on by ports: as a setting it would watch nothing, silently."""
    assert mistakes(groups=["plain"])


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (Selector(namespaces=("rag",)), True),
        (Selector(namespaces=("r*",)), True),
        (Selector(namespaces=("shop",)), False),
        (Selector(namespaces=("RAG",)), False),
        (Selector(namespaces=("shop", "rag")), True),
        (Selector(namespaces=("rag",), pods=("web-*",)), False),
        (Selector(pods=("api-?",)), True),
        (Selector(pods=("api",)), False),
        (Selector(containers=("app",)), True),
        (Selector(labels={"app": "api"}), True),
        (Selector(labels={"app": "web"}), False),
        (Selector(labels={"tier": "x"}), False),
        (Selector(binaries=("*/python3",)), True),
        (Selector(binaries=("python3",)), False),
        (Selector(binaries=("/app/run.py",)), True),
    ],
)
def test_selectors(selector, fits):
    assert selector.fits(RAG, ("/app/run.py", "/usr/bin/python3")) is fits


def test_a_selector_of_labels_does_not_fit_where_labels_are_unknown():
    assert not Selector(labels={"app": "*"}).fits(Resource(node="n"), ("/bin/sh",))


def test_a_selector_of_namespaces_does_not_fit_the_host():
    assert not Selector(namespaces=("*",)).fits(Resource(node="n"), ("/bin/sh",))


@pytest.mark.parametrize(
    ("selector", "is_alone"), [({"binaries": ["*"]}, True), ({"binaries": ["*"], "pods": ["a"]}, False)]
)
def test_whether_the_program_decides_alone(selector, is_alone):
    assert Selector(**selector).is_by_binary is is_alone


# -------------------------------------------------------------------- kernel


def test_the_larger_ring_is_made_where_plaintext_is_read():
    plain = {"select": [{"binaries": ["*"]}], "ring_bytes": 64 * MIB}
    assert Kernel(EbpfConfig(ring_bytes=MIB)).ring_bytes == MIB
    assert Kernel(EbpfConfig(ring_bytes=MIB, plaintext=plain)).ring_bytes == 64 * MIB
    assert Kernel(EbpfConfig(ring_bytes=128 * MIB, plaintext=plain)).ring_bytes == 128 * MIB


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)],  # Noll's test vectors
)
def test_paths_are_hashed_as_the_programs_do(text, value):
    assert fnv1a(text) == value


def test_a_kernel_that_was_never_loaded_closes():
    made = Kernel(EbpfConfig())
    made.close()
    made.close()


def test_without_tracefs_the_reason_and_the_remedy_are_told(monkeypatch):
    monkeypatch.setattr(kernel, "mount_tracefs", lambda: False)
    with pytest.raises(BpfError, match=r"tracefs is not mounted .*Run as root"):
        Kernel(EbpfConfig()).load()


class Loaded:
    """Programs that a kernel takes, but for some."""

    refused = ()

    def __init__(self, text):
        self.attached, self.is_closed = [], False
        Loaded.last = self

    def attach_tracepoint(self, tracepoint, function):
        if tracepoint in self.refused:
            raise BpfError("Operation not permitted")
        self.attached.append(tracepoint)

    def map_descriptor(self, name):
        raise AssertionError("no ring here")

    def close(self):
        self.is_closed = True


def test_a_program_that_the_kernel_refuses_is_off_and_the_others_stand(monkeypatch):
    monkeypatch.setattr(kernel, "mount_tracefs", lambda: True)
    monkeypatch.setattr(kernel, "has", lambda tracepoint: tracepoint != "syscalls:sys_enter_openat2")
    monkeypatch.setattr(kernel, "Programs", Loaded)
    monkeypatch.setattr(Loaded, "refused", ("syscalls:sys_enter_bpf",))
    monkeypatch.setattr(kernel, "Ring", lambda descriptor, size: None)
    monkeypatch.setattr(Loaded, "map_descriptor", lambda self, name: 0)
    made = Kernel(EbpfConfig())
    made.load()
    assert {probe.tracepoint: reason for probe, reason in made.off} == {
        "syscalls:sys_enter_bpf": "Operation not permitted",
        "syscalls:sys_enter_openat2": "this kernel has no such tracepoint",
    }
    assert len(made.on) == len(Loaded.last.attached)


def test_without_the_probe_of_programs_nothing_stands(monkeypatch):
    monkeypatch.setattr(kernel, "mount_tracefs", lambda: True)
    monkeypatch.setattr(kernel, "has", lambda tracepoint: True)
    monkeypatch.setattr(kernel, "Programs", Loaded)
    monkeypatch.setattr(Loaded, "refused", ("sched:sched_process_exec",))
    made = Kernel(EbpfConfig())
    with pytest.raises(BpfError, match=r"cannot stand \(Operation not permitted\)\. Is this process privileged"):
        made.load()
    made.close()
    assert Loaded.last.is_closed


# ----------------------------------------------------------------------- bcc


def test_without_bcc_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bcc", None)
    monkeypatch.delitem(sys.modules, "bcc")
    monkeypatch.setattr(bcc, "_SYSTEM_PACKAGES", ())
    monkeypatch.setattr(bcc.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BpfError, match=r"bcc is not installed\. Install the package python3-bpfcc"):
        bcc.version()
    with pytest.raises(BpfError, match="python3-bpfcc"):
        Programs("int x;")


def test_a_bcc_whose_library_is_missing_is_told(monkeypatch, tmp_path):
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise OSError('libbcc.so.0: cannot open shared object file')\n")
    monkeypatch.setitem(sys.modules, "bcc", None)
    monkeypatch.delitem(sys.modules, "bcc")
    monkeypatch.setattr(bcc, "_SYSTEM_PACKAGES", (tmp_path,))
    monkeypatch.setattr(bcc.importlib.util, "find_spec", lambda name: None)
    before = list(sys.path)
    with pytest.raises(BpfError, match=r"cannot open shared object file.*Is libbpfcc installed"):
        bcc.version()
    assert sys.path == before


def test_nothing_else_is_taken_from_the_system_s_packages(tmp_path):
    before = list(sys.path)
    with bcc._extended_path(str(tmp_path)):
        assert sys.path == [*before, str(tmp_path)]
    assert sys.path == before


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "no reason was given"),
        ("note: x\n/virtual/main.c:3: error: unknown type name 'foo'\n1 error generated.", "unknown type name"),
        ("something odd", "something odd"),
    ],
)
def test_of_a_compiler_s_words_the_error_is_told(said, told):
    assert told in bcc._last_line(said)


def test_of_the_verifier_s_words_the_last_telling_one_is_told():
    said = "0: (b7) r0 = 0\nR1 invalid mem access 'scalar'\nprocessed 5 insns (limit 1000000)\n"
    assert bcc._reason(said, ValueError("Failed to load")) == "Failed to load (R1 invalid mem access 'scalar')"
