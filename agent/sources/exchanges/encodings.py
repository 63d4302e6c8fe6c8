"""Content encodings undone, within a limit: gzip, deflate, br, zstd.

A body that breaks off gives what could be read of it: a stream that was closed early is still worth reading.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import brotli
import zstandard

# Fed in steps, so that a body that grows a thousandfold stops at the limit and not after it.
_STEP = 16 * 1024
_BROKEN = (zlib.error, brotli.error, EOFError)
# Takes bytes and the most that may come of them; gives what came.
_Step: TypeAlias = Callable[[bytes, int], bytes]
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


def _in_steps(body: bytes, limit: int, begin: Callable[[], _Step]) -> tuple[bytes, int, str]:
    out = bytearray()
    step = begin()
    for start in range(0, len(body), _STEP):
        try:
            out += step(body[start : start + _STEP], limit + 1 - len(out))
        except _BROKEN:
            out = _up_to_break(body, start, limit, begin())
            return bytes(out[:limit]), max(0, len(out) - limit), "" if out else "broken_encoding"
        if len(out) > limit:
            return bytes(out[:limit]), len(out) - limit, ""
    return bytes(out), 0, ""


def _up_to_break(body: bytes, start: int, limit: int, step: _Step) -> bytearray:
    """What comes before the byte that breaks, which is in the step at `start`: that one is read again byte by byte."""
    out = bytearray()
    try:
        for at in range(0, start, _STEP):
            out += step(body[at : at + _STEP], limit + 1 - len(out))
        for at in range(start, min(start + _STEP, len(body))):
            if len(out) > limit:
                break
            out += step(body[at : at + 1], limit + 1 - len(out))
    except _BROKEN:
        pass
    return out


def _inflating(bits: int) -> _Step:
    inflater = zlib.decompressobj(bits)

    def step(piece: bytes, most: int) -> bytes:
        nonlocal inflater
        out = bytearray()
        while piece and len(out) < most:
            if inflater.eof:  # a member behind this one
                inflater = zlib.decompressobj(bits)
            out += inflater.decompress(piece, most - len(out))
            piece = inflater.unused_data
        return bytes(out)

    return step


def _gzip(body: bytes, limit: int) -> tuple[bytes, int, str]:
    return _in_steps(body, limit, lambda: _inflating(zlib.MAX_WBITS | 16))


def _deflate(body: bytes, limit: int) -> tuple[bytes, int, str]:
    found = _in_steps(body, limit, lambda: _inflating(zlib.MAX_WBITS))
    # Some servers send it without the zlib frame.
    return _in_steps(body, limit, lambda: _inflating(-zlib.MAX_WBITS)) if found[2] else found


def _brotli(body: bytes, limit: int) -> tuple[bytes, int, str]:
    def begin() -> _Step:
        decoder = brotli.Decompressor()
        return lambda piece, most: bytes(decoder.process(piece, output_buffer_limit=most))

    return _in_steps(body, limit, begin)


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
