"""Values out of protobuf's JSON form, whatever stands there.

protojson writes 64-bit integers as strings, leaves zero values out, and gives enums by name; other writers differ.  A
decoder must survive all of it, so every accessor gives a default instead of raising.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

Json: TypeAlias = "dict[str, object]"

_EMPTY: Json = {}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|z|[+-]\d\d:?\d\d)?$")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Deeper nesting than any event has; msgspec itself stops at the recursion limit with an error, not a crash.
_LIMIT_BYTES = 16 * 1024 * 1024


def object_from(line: bytes | str) -> Json | str:
    """The JSON object in a line, or the name of what is wrong with it."""
    if not line.strip():
        return "empty_line"
    if len(line) > _LIMIT_BYTES:
        return "line_too_long"
    try:
        value = decoded(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not_json"
    return value if isinstance(value, dict) else "not_an_object"


def decoded(line: bytes | str) -> object:
    """JSON to plain values.  Half a surrogate pair, which many writers let through, becomes U+FFFD.

    Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError.
    """
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        return msgspec.json.decode(_SURROGATE.sub("\\\\ufffd", text))


def text(value: Json, key: str) -> str:
    found = value.get(key)
    if isinstance(found, str):
        return found
    if isinstance(found, bool) or found is None or isinstance(found, (dict, list)):
        return ""
    return str(found)


def integer(value: Json, key: str, default: int = 0) -> int:
    found = value.get(key)
    if isinstance(found, bool):
        return int(found)
    if isinstance(found, int):
        return found
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str):
        try:
            return int(found)
        except ValueError:
            return default
    return default


def boolean(value: Json, key: str) -> bool | None:
    found = value.get(key)
    return found if isinstance(found, bool) else None


def mapping(value: Json, key: str) -> Json:
    found = value.get(key)
    return found if isinstance(found, dict) else _EMPTY


def mappings(value: Json, key: str) -> list[Json]:
    found = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def texts(value: Json, key: str) -> tuple[str, ...]:
    found = value.get(key)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else ()


def string_map(value: Json, key: str) -> dict[str, str]:
    return {name: item for name, item in mapping(value, key).items() if isinstance(item, str)}


def time_unix_nano(stamp: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time; 0 if it is none.  Keeps all nine fraction digits."""
    match = _TIME.match(stamp)
    if match is None:
        return 0
    whole, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(whole.replace("t", "T") + ("+00:00" if zone in (None, "Z", "z") else zone))
    except ValueError:
        return 0
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
