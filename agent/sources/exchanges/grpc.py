"""gRPC's length-prefixed messages of a whole body, and texts of messages whose type nobody knows."""

from __future__ import annotations

from agent.sources.exchanges.encodings import decoded

_PREFIX = 5
_DEPTH = 12
_FIELDS = 20_000


def messages_of(body: bytes, encoding: str, limit: int) -> list[bytes]:
    """The messages; one that breaks off is given as far as it is there."""
    messages: list[bytes] = []
    at = 0
    while at + _PREFIX <= len(body):
        is_compressed, length = body[at], int.from_bytes(body[at + 1 : at + _PREFIX], "big")
        if is_compressed > 1:
            break
        message = body[at + _PREFIX : at + _PREFIX + length]
        messages.append(decoded(message, encoding, limit).body if is_compressed else message)
        at += _PREFIX + length
    return messages


def texts_of(message: bytes) -> list[str]:
    """Every length-delimited field that is UTF-8 text and not itself a message, in order."""
    found: list[str] = []
    _walk(message, found, _DEPTH, [_FIELDS])
    return found


def _walk(data: bytes, found: list[str], depth: int, budget: list[int]) -> bool:
    """Note the texts; whether all of it was a message."""
    at = 0
    mine: list[str] = []
    while at < len(data):
        budget[0] -= 1
        tag, at = _varint(data, at)
        if at < 0 or budget[0] < 0 or not tag >> 3:
            return False
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
                if at < 0:
                    return False
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = _varint(data, at)
                if at < 0 or at + length > len(data):
                    return False
                piece = data[at : at + length]
                at += length
                inner: list[str] = []
                if _is_text(piece):
                    mine.append(piece.decode())
                elif depth and _walk(piece, inner, depth - 1, budget):
                    mine += inner
            case _:
                return False
    found += mine
    return at == len(data)


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


def _is_text(piece: bytes) -> bool:
    if not piece:
        return False
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return False
    return all(one.isprintable() or one in "\n\r\t" for one in text)
