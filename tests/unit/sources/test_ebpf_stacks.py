"""agent.sources.ebpf.stacks, .elf: TLS in real files is found, and no file, however broken, does harm."""

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources.ebpf.elf import Elf, ElfProblem, Span
from agent.sources.ebpf.stacks import NOTHING, finding_of

LIBRARIES = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu"


def found(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        before = os.listdir("/proc/self/fd")
        made = finding_of(descriptor)
        assert os.listdir("/proc/self/fd") == before, "a descriptor was left open"
        return made
    finally:
        os.close(descriptor)


def there(path):
    if not Path(path).exists():
        pytest.skip(f"{path} is not here")
    return path


def found_bytes(tmp_path, raw):
    path = tmp_path / "libssl.so"
    path.write_bytes(raw)
    return found(path)


def section_file(*sections, body=b""):
    """An ELF of 64 bits with these sections (type, flags, size, content), the last of which holds their names."""
    names = [b"", *(one[0] for one in sections), b".shstrtab"]
    table, places = b"", []
    for name in names:
        places.append(len(table))
        table += name + b"\0"
    contents = [one[4] for one in sections] + [table]
    data, offsets = body, []
    for content in contents:
        offsets.append(64 + len(data))
        data += content
    headers = bytes(64)
    for index, (_, kind, flags, size, content) in enumerate(sections):
        place = struct.pack("<QQQQ", flags, 0, offsets[index], size if size is not None else len(content))
        headers += struct.pack("<II", places[index + 1], kind) + place + struct.pack("<IIQQ", 1, 0, 1, 24)
    last = struct.pack("<QQQQ", 0, 0, offsets[-1], len(table))
    headers += struct.pack("<II", places[-1], 3) + last + struct.pack("<IIQQ", 0, 0, 1, 0)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head = struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64 + len(data), 0, 64, 56, 0, 64, len(sections) + 2, len(sections) + 1
    )
    return ident + head + data + headers


@pytest.mark.parametrize(
    ("name", "stack", "functions"),
    [
        ("libssl.so.3", "openssl", {"ssl_call", "ssl_written", "ssl_got", "ssl_call_ex", "ssl_freed"}),
        ("libgnutls.so.30", "gnutls", {"ssl_call", "gnutls_written", "gnutls_got", "gnutls_freed"}),
    ],
)
def test_the_system_s_libraries_are_read(name, stack, functions):
    made = found(there(LIBRARIES / name))
    assert (made.stack, made.blind) == (stack, "")
    assert {point.function for point in made.points} == functions
    assert all(point.offset > 0 for point in made.points)


def test_probes_at_returns_stand_where_their_calls_do():
    made = found(there(LIBRARIES / "libssl.so.3"))
    calls = {point.offset for point in made.points if not point.is_return}
    assert {point.offset for point in made.points if point.is_return} <= calls


def test_a_program_with_openssl_inside_is_read():
    assert found(there("/usr/bin/node")).stack == "openssl"


@pytest.mark.parametrize("path", [sys.executable, "/bin/sh", LIBRARIES / "libc.so.6", __file__, "/etc/passwd"])
def test_files_without_tls_bring_nothing(path):
    assert found(there(os.path.realpath(path))) == NOTHING


@pytest.fixture(scope="module")
def go_program(tmp_path_factory):
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not here")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text('package main\nimport "net/http"\nfunc main() { http.Get("https://a.example") }\n')
    (folder / "go.mod").write_text("module speaks\n\ngo 1.21\n")
    command = [go, "build", "-ldflags", "-s -w", "-o", "speaks", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Go does not build: {done.stderr[-300:]}")
    return folder / "speaks"


def test_a_stripped_go_program_is_read_by_its_own_table(go_program):
    made = found(go_program)
    assert made.stack == "go"
    assert {point.function for point in made.points} == {"go_write", "go_wrote", "go_read", "go_got", "go_closed"}
    assert not any(point.is_return for point in made.points)  # a return probe would break Go's stacks


def test_go_s_returns_are_return_instructions(go_program):
    raw = go_program.read_bytes()
    points = [point for point in found(go_program).points if point.function in ("go_wrote", "go_got")]
    assert points
    if os.uname().machine == "x86_64":
        assert {raw[point.offset] for point in points} <= {0xC3, 0xC2}


def test_a_broken_go_table_is_blind_and_named(go_program, tmp_path):
    raw = bytearray(go_program.read_bytes())
    place = raw.find(struct.pack("<I", 0xFFFFFFF1) + b"\0\0")
    raw[place : place + 4] = b"\0\0\0\0"
    made = found_bytes(tmp_path, bytes(raw))
    assert made.stack is None
    assert "unknown_pclntab" in made.blind


@pytest.mark.parametrize(
    ("trace", "blind"),
    [
        (b"rustls::client", "rustls"),
        (b"BoringSSL", "BoringSSL without symbols"),
        (b"ssl/ssl_lib.c", "OpenSSL without symbols"),
        (b"NSS_NoDB_Init", "NSS"),
        (b"mbedtls_ssl_write", "mbedTLS"),
        (b"wolfSSL_write", "wolfSSL"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, trace, blind):
    assert found_bytes(tmp_path, section_file(body=trace + b"\0")).blind == blind


def test_a_mere_mention_of_a_stack_is_not_one_that_is_read(tmp_path):
    assert found_bytes(tmp_path, section_file(body=b"SSL_write\0SSL_read\0")).stack is None


@pytest.mark.parametrize("size", [0, 1, 64, 65, 200])
def test_a_file_that_is_cut_anywhere_brings_nothing(tmp_path, size):
    raw = Path(there(LIBRARIES / "libssl.so.3")).read_bytes()
    assert found_bytes(tmp_path, raw[:size]) == NOTHING


def test_half_a_library_cannot_be_read(tmp_path):
    raw = Path(there(LIBRARIES / "libssl.so.3")).read_bytes()
    made = found_bytes(tmp_path, raw[: len(raw) // 2])
    assert made.stack is None


GO_NAME = b"\0crypto/tls.(*Conn).Write\0"


def test_a_section_that_claims_more_than_any_memory_does_no_harm(tmp_path):
    """A container's file says how large a section without content (NOBITS) is: 2^40 zeros would end the agent."""
    made = found_bytes(tmp_path, section_file((b".gopclntab", 8, 0, 1 << 40, b""), body=GO_NAME))
    assert made.stack is None


def test_a_section_that_is_larger_than_its_file_takes_no_memory(tmp_path):
    tracemalloc.start()
    found_bytes(tmp_path, section_file((b".gopclntab", 8, 0, 1 << 28, b""), body=GO_NAME))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 * 1024 * 1024


def test_a_compressed_section_is_not_blown_up(tmp_path):
    zeros = 1 << 28
    packed = struct.pack("<IIQQ", 1, 0, zeros, 1) + zlib.compress(bytes(zeros), 1)
    tracemalloc.start()
    found_bytes(tmp_path, section_file((b".gopclntab", 1, 0x800, None, packed), body=GO_NAME))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) < 4 * 1024 * 1024
    assert most < 64 * 1024 * 1024


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_library_with_any_bytes_changed_never_raises(tmp_path_factory, changes):
    strings = (b".dynstr", 3, 0, None, b"\0SSL_write\0SSL_read\0")
    entry = struct.pack("<IBBHQQ", 1, 2, 0, 1, 0x100, 16) + struct.pack("<IBBHQQ", 11, 2, 0, 1, 0x200, 16)
    symbols = (b".dynsym", 11, 0, None, entry)
    # A size of more than 16 MB is another test's: it would take this machine's memory.
    raw = bytearray(section_file(strings, symbols, (b".gopclntab", 1, 0, None, bytes(range(64)))))
    for place, value in changes:
        raw[place % len(raw)] = value
    path = tmp_path_factory.mktemp("elf") / "x.so"
    path.write_bytes(bytes(raw))
    if not any(size > 1 << 24 for size in sizes_of(bytes(raw))):
        found(path)


def sizes_of(raw):
    """The sizes that its section headers claim."""
    (place,) = struct.unpack_from("<Q", raw, 40)
    size, count = struct.unpack_from("<HH", raw, 58)
    places = [place + index * size for index in range(min(count, 100)) if place + index * size + 40 <= len(raw)]
    return [struct.unpack_from("<Q", raw, one + 32)[0] for one in places]


def test_a_file_of_32_bits_is_a_problem(tmp_path):
    raw = bytearray(section_file())
    raw[4] = 1
    path = tmp_path / "x"
    path.write_bytes(bytes(raw))
    with path.open("rb") as file, pytest.raises(ElfProblem):
        Elf(file)


def test_an_address_outside_of_all_segments_is_nowhere():
    with open(there(LIBRARIES / "libssl.so.3"), "rb") as file:
        elf = Elf(file)
        assert elf.place_of(1 << 60) == -1
        assert elf.functions(["no_such_function"]) == {}
        assert elf.returns_of(Span(0, 0)) == []
        assert elf.returns_of(Span(0, 1 << 30)) == []
        assert elf.go_functions(["main.main"]) == {}


def test_a_closed_descriptor_brings_nothing():
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    assert finding_of(read) == NOTHING


def test_a_pipe_and_a_directory_bring_nothing(tmp_path):
    read, write = os.pipe()
    assert finding_of(read) == NOTHING
    os.close(read)
    os.close(write)
    assert found(tmp_path) == NOTHING
