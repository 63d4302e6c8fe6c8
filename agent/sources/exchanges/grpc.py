"""gRPC's length-prefixed messages of a whole body, and texts of messages whose type nobody knows."""

from __future__ import annotations

from typing import Literal, TypeAlias

from agent.sources.exchanges.encodings import decoded

_PREFIX = 5
_DEPTH = 12
_FIELDS = 20_000
_TENSOR_PREFIX = 4
_LONGEST_TEXT = 16 * 1024 * 1024
_Outcome: TypeAlias = Literal["whole", "cut", "none"]
"""All of it was a message; it was one as far as it went; it was none."""


def messages_of(body: bytes, encoding: str, limit: int) -> list[bytes]:
    """The messages; one that breaks off is given as far as it is there.  `limit` bounds what all of them grow to."""
    messages: list[bytes] = []
    at, room = 0, limit
    while at + _PREFIX <= len(body):
        is_compressed, length = body[at], int.from_bytes(body[at + 1 : at + _PREFIX], "big")
        if is_compressed > 1:
            break
        message = body[at + _PREFIX : at + _PREFIX + length]
        if is_compressed:
            message = decoded(message, encoding, room).body
            room -= len(message)
        messages.append(message)
        at += _PREFIX + length
    return messages


def texts_of(message: bytes) -> list[str]:
    """Every length-delimited field that is UTF-8 text and not itself a message, in order.

    A message that breaks off, or has more fields than anybody reads, gives what stands before that.
    """
    return _read(message, _DEPTH, [_FIELDS])[0]


def tensor_texts(data: bytes, *, is_cut: bool) -> list[str]:
    """The texts of a tensor of strings: each has its length before it (KServe's `BYTES`: four bytes, little-endian).

    Nothing if it is no such tensor.  Of one that `is_cut` the last text is told as far as it goes.
    """
    found: list[str] = []
    at = 0
    while at + _TENSOR_PREFIX <= len(data):
        length = int.from_bytes(data[at : at + _TENSOR_PREFIX], "little")
        at += _TENSOR_PREFIX
        is_short = at + length > len(data)
        text = _text(data[at : at + length], is_cut=is_short)
        if (length and text is None) or (is_short and not is_cut) or length > _LONGEST_TEXT:
            return []
        found += [text] if text else []
        at += length
    return found if is_cut or at == len(data) else []


def _read(data: bytes, depth: int, budget: list[int]) -> tuple[list[str], _Outcome]:
    """The texts of a message, and whether it was one."""
    at = 0
    found: list[str] = []
    while at < len(data):
        budget[0] -= 1
        if budget[0] < 0:
            return found, "cut"
        tag, at = _varint(data, at)
        if at < 0:
            return found, "cut"
        if not tag >> 3:
            return found, "none"
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
                if at < 0:
                    return found, "cut"
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = _varint(data, at)
                if at < 0:
                    return found, "cut"
                found += _texts_of_field(data[at : at + length], depth, budget, is_cut=at + length > len(data))
                at += length
            case _:
                return found, "none"
    return found, "whole" if at == len(data) else "cut"


def _texts_of_field(piece: bytes, depth: int, budget: list[int], *, is_cut: bool) -> list[str]:
    text = _text(piece, is_cut=is_cut)
    if text is not None and not _may_be_message(piece):
        return [text]
    if text is None and (tensor := tensor_texts(piece, is_cut=False)):
        return tensor  # no message begins so: the zeros of its length are no tags
    inner, outcome = _read(piece, depth - 1, budget) if depth else ([], "none")
    is_message = outcome == "whole" or (outcome == "cut" and (is_cut or budget[0] < 0))
    if text is not None:
        return inner if is_message and inner else [text]
    return (inner if is_message else []) or (tensor_texts(piece, is_cut=True) if is_cut else [])


def _may_be_message(piece: bytes) -> bool:
    """Whether a text begins as a message does that holds a text.

    Line feed is the tag of a first field, and the length behind it may be a letter: OTLP has all its values so.
    """
    return piece[0] & 7 == 2


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1


def _text(piece: bytes, *, is_cut: bool) -> str | None:
    """The text these bytes are; one that breaks off may end within a letter."""
    try:
        text = piece.decode()
    except UnicodeDecodeError as error:
        if not is_cut or error.start < len(piece) - 3:
            return None
        text = piece[: error.start].decode()
    return text if text and all(one.isprintable() or one in "\n\r\t" for one in text) else None
