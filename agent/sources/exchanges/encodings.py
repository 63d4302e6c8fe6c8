"""Content encodings undone, within a limit: gzip, deflate, br, zstd.

A body that breaks off gives what could be read of it: a stream that was closed early is still worth reading.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import brotli
import zstandard

# Fed in steps, so that a body that grows a thousandfold stops at the limit and not after it.
_STEP = 16 * 1024
_LAYERS = 3


class Decoded(NamedTuple):
    """The body, bytes over the limit (a lower bound), and what could not be undone."""

    body: bytes
    missing: int
    problem: str


def decoded(body: bytes, encodings: str, limit: int) -> Decoded:
    """The body without the encodings of a `content-encoding` header, the last one undone first."""
    names = [name for part in encodings.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    missing, problem = 0, ""
    if len(names) > _LAYERS:
        return Decoded(body, 0, "too_many_encodings")
    for name in reversed(names):
        undo = _UNDO.get(name)
        if undo is None:
            return Decoded(body, missing, "unknown_encoding")
        body, over, failed = undo(body, limit)
        missing += over
        problem = problem or failed
    return Decoded(body, missing, problem)


def _inflated(body: bytes, limit: int, *, bits: int) -> tuple[bytes, int, str]:
    out = bytearray()
    rest = body
    while rest:
        inflater = zlib.decompressobj(bits)
        try:
            piece = inflater.decompress(rest, limit - len(out) + 1)
        except zlib.error:
            if bits == zlib.MAX_WBITS and not out:  # "deflate" without the zlib frame, as some servers send it
                return _inflated(body, limit, bits=-zlib.MAX_WBITS)
            return bytes(out), 0, "" if out else "broken_encoding"
        out += piece
        if len(out) > limit:
            return bytes(out[:limit]), len(out) - limit, ""
        if not inflater.eof:
            break
        rest = inflater.unused_data  # a member behind this one
    return bytes(out), 0, ""


def _gzip(body: bytes, limit: int) -> tuple[bytes, int, str]:
    return _inflated(body, limit, bits=zlib.MAX_WBITS | 16)


def _deflate(body: bytes, limit: int) -> tuple[bytes, int, str]:
    return _inflated(body, limit, bits=zlib.MAX_WBITS)


def _in_steps(body: bytes, limit: int, step: Callable[[bytes], bytes]) -> tuple[bytes, int, str]:
    out = bytearray()
    for start in range(0, len(body), _STEP):
        try:
            out += step(body[start : start + _STEP])
        except (brotli.error, zstandard.ZstdError, EOFError):
            return bytes(out), 0, "" if out else "broken_encoding"
        if len(out) > limit:
            return bytes(out[:limit]), len(out) - limit, ""
    return bytes(out), 0, ""


def _brotli(body: bytes, limit: int) -> tuple[bytes, int, str]:
    decoder = brotli.Decompressor()

    def step(piece: bytes) -> bytes:
        return bytes(decoder.process(piece, output_buffer_limit=limit + 1))

    return _in_steps(body, limit, step)


def _zstd(body: bytes, limit: int) -> tuple[bytes, int, str]:
    reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body, read_across_frames=True)
    out = bytearray()
    try:
        while len(out) <= limit and (piece := reader.read(_STEP)):
            out += piece
    except zstandard.ZstdError:
        return bytes(out[:limit]), 0, "" if out else "broken_encoding"
    return bytes(out[:limit]), max(0, len(out) - limit), ""


_UNDO: dict[str, Callable[[bytes, int], tuple[bytes, int, str]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
