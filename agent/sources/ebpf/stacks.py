"""Which TLS implementation a file brings, and where its probes go.

What cannot be read is named, too: a static OpenSSL or BoringSSL without symbols, rustls, NSS, Go of an unknown form.
"""

from __future__ import annotations

import mmap
import os
import stat
from typing import Literal, NamedTuple, TypeAlias

from agent.sources.ebpf.elf import Elf, ElfProblem, Span

Stack: TypeAlias = Literal["openssl", "gnutls", "go"]


class Point(NamedTuple):
    """A place in a file and the program that runs there."""

    offset: int
    function: str
    is_return: bool = False


class Finding(NamedTuple):
    """What a file brings: a stack that can be read, or the reason why one cannot."""

    stack: Stack | None
    points: tuple[Point, ...] = ()
    blind: str = ""


NOTHING = Finding(None)

# name: (program at the call, program at its return)
_OPENSSL: dict[str, tuple[str, str]] = {
    "SSL_write": ("ssl_call", "ssl_written"),
    "SSL_write_ex": ("ssl_call_ex", "ssl_written"),
    "SSL_read": ("ssl_call", "ssl_got"),
    "SSL_read_ex": ("ssl_call_ex", "ssl_got"),
    "SSL_free": ("ssl_freed", ""),
}
_GNUTLS: dict[str, tuple[str, str]] = {
    "gnutls_record_send": ("ssl_call", "gnutls_written"),
    "gnutls_record_send2": ("ssl_call", "gnutls_written"),
    "gnutls_record_recv": ("ssl_call", "gnutls_got"),
    "gnutls_record_recv_seq": ("ssl_call", "gnutls_got"),
    "gnutls_deinit": ("gnutls_freed", ""),
}
_GO_WRITE, _GO_READ, _GO_CLOSE = "crypto/tls.(*Conn).Write", "crypto/tls.(*Conn).Read", "crypto/tls.(*Conn).Close"
# What the implementations leave behind in a file without symbols.
_TRACES = (
    (b"rustls::", "rustls"),
    (b"rustls-0.", "rustls"),
    (b"BoringSSL", "BoringSSL without symbols"),
    (b"ssl/ssl_lib.c", "OpenSSL without symbols"),
    (b"NSS_NoDB_Init", "NSS"),
    (b"mbedtls_ssl_write", "mbedTLS"),
    (b"wolfSSL_write", "wolfSSL"),
    (b"JNI_CreateJavaVM", "Java"),
)
# Larger files are models' and GPUs' libraries, which speak no TLS; reading one would take seconds.
_LARGEST_FILE = 768 * 1024 * 1024


def finding_of(descriptor: int) -> Finding:
    """What an open file brings.  Never raises: a file that cannot be read brings nothing, or is blind."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return NOTHING
        with os.fdopen(os.dup(descriptor), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not 64 < size <= _LARGEST_FILE:
                return NOTHING
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
                if raw[:4] != b"\x7fELF":
                    return NOTHING
                has_ssl, has_gnutls = _has(raw, b"SSL_write\0"), _has(raw, b"gnutls_record_send\0")
                has_go = _has(raw, _GO_WRITE.encode())
                if has_ssl or has_gnutls or has_go:
                    found = _readable(Elf(file), has_ssl=has_ssl, has_gnutls=has_gnutls, has_go=has_go)
                    if found.stack or found.blind:
                        return found
                return _blind(raw)
    except ElfProblem as problem:
        return Finding(None, blind=f"the file cannot be read ({problem})")
    except (OSError, ValueError):
        return NOTHING


def _has(raw: mmap.mmap, text: bytes) -> bool:
    return raw.find(text) >= 0


def _blind(raw: mmap.mmap) -> Finding:
    return next((Finding(None, blind=name) for trace, name in _TRACES if _has(raw, trace)), NOTHING)


def _readable(elf: Elf, *, has_ssl: bool, has_gnutls: bool, has_go: bool) -> Finding:
    if has_go:
        return _go(elf)
    if has_ssl and (points := _points(elf.functions(_OPENSSL), _OPENSSL, {"SSL_write", "SSL_read"})):
        return Finding("openssl", points)
    if has_gnutls:
        wanted = {"gnutls_record_send", "gnutls_record_recv"}
        if points := _points(elf.functions(_GNUTLS), _GNUTLS, wanted):
            return Finding("gnutls", points)
    return NOTHING


def _points(found: dict[str, Span], programs: dict[str, tuple[str, str]], needed: set[str]) -> tuple[Point, ...]:
    if not needed <= found.keys():
        return ()
    points: list[Point] = []
    for name, span in found.items():
        at_call, at_return = programs[name]
        points.append(Point(span.offset, at_call))
        if at_return:
            points.append(Point(span.offset, at_return, is_return=True))
    return tuple(points)


def _go(elf: Elf) -> Finding:
    try:
        found = elf.go_functions((_GO_WRITE, _GO_READ, _GO_CLOSE))
    except ElfProblem as problem:
        return Finding(None, blind=f"Go's crypto/tls ({problem})")
    if not {_GO_WRITE, _GO_READ} <= found.keys():
        return NOTHING
    points: list[Point] = []
    for name, at_call, at_return in ((_GO_WRITE, "go_write", "go_wrote"), (_GO_READ, "go_read", "go_got")):
        returns = elf.returns_of(found[name])
        if not returns:
            return Finding(None, blind=f"Go's crypto/tls on {elf.machine}")
        points.append(Point(found[name].offset, at_call))
        points += [Point(offset, at_return) for offset in returns]
    if _GO_CLOSE in found:
        points.append(Point(found[_GO_CLOSE].offset, "go_closed"))
    return Finding("go", tuple(points))
