"""agent.sources.ebpf.program_text: words that the programs compare as numbers are the words they are meant to be."""

import re

import pytest

from agent.sources.ebpf.program_text import PROGRAMS

TELLING = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "NODE_OPTIONS",
    "BASH_ENV",
    "GCONV_PATH",
    "PERL5LIB",
    "PYTHONHOME",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
]


def numbers(name):
    text = (PROGRAMS / name).read_text()
    return {int(one, 16) for one in re.findall(r"0x([0-9a-fA-F]{10,16})ULL", text)}


def word(text):
    return int.from_bytes(text.encode()[:8], "little")


@pytest.mark.parametrize("name", TELLING)
def test_a_variable_that_changes_what_is_loaded_is_known(name):
    assert word(name) in numbers("process.c")


@pytest.mark.parametrize("part", ["security", ".capability"])
def test_the_attribute_that_gives_capabilities_is_known(part):
    assert word(part) in numbers("files.c")


@pytest.mark.parametrize(
    "path", ["/run/containerd", "/run/docker.sock", "/run/crio", "/run/podman", "/run/k3s", "/var/run/docker.sock"]
)
def test_the_sockets_of_container_runtimes_are_known(path):
    assert word(path) in numbers("sockets.c")
