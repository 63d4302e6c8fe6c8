"""What comes out of a conversation: exchanges, and troubles that hid some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Way: TypeAlias = Literal["sent", "received"]
"""Which way bytes went, as the watched process saw it."""

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names in lower case, in order; values as Latin-1."""

# RFC 9112, 3.2.2: what is asked of a proxy names the server in its target.  Not `urlsplit`: it raises at odd brackets.
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://([^/?#]*)(.*)", re.DOTALL)


def split_target(target: str) -> tuple[str, str]:
    """The `host[:port]` a target names, or nothing, and what is asked of it: a path with its query."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return "", target
    rest = found[2] if found[2].startswith("/") else "/" + found[2]
    return found[1].rpartition("@")[2], rest


def path_of(target: str) -> str:
    """A target's path, without host and query."""
    return split_target(target)[1].partition("#")[0].partition("?")[0]


class Limits(NamedTuple):
    """Sizes in bytes.  `body` is what is kept of a message's body, before and after decompression each."""

    head: int = 64 * 1024
    body: int = 1024 * 1024
    streams: int = 256  # HTTP/2 streams of a connection that are open at once
    pipelined: int = 64  # HTTP/1.1 requests that wait for their answer


class Heard(NamedTuple):
    """How much of a text was told, and what it was: a text that changed before that place is another one."""

    characters: int
    digest: bytes


class Memory(msgspec.Struct):
    """What is remembered of an exchange that is told in more than one piece; all its copies share it.

    `heard` is what was told of the answer's texts, by their number; `name` is whatever its teller calls it; `is_echo`
    is whether another end of it tells its answer, once that is decided.
    """

    heard: dict[int, Heard] = {}
    name: str = ""
    is_echo: bool | None = None


class Turn(msgspec.Struct, frozen=True):
    """One WebSocket message."""

    is_from_client: bool
    payload: bytes


class Exchange(msgspec.Struct, kw_only=True):
    """One request and its answer.  Bodies are without transfer and content encoding.

    `is_complete` is false while the answer still comes (`is_part`), or if the connection ended before it did.
    `missing` counts bytes of either body that were not seen or not kept.  `turns` are a WebSocket's messages since the
    last exchange.
    """

    protocol: str
    is_client: bool  # the watched process asked
    method: str = ""
    target: str = ""
    host: str = ""
    headers: Headers = ()
    body: bytes = b""
    status: int = 0
    answer_headers: Headers = ()
    answer: bytes = b""
    turns: Sequence[Turn] = ()
    is_request_whole: bool = False
    is_complete: bool = False
    missing: int = 0
    undecoded: str = ""  # a content encoding that was not undone, or is broken
    is_prompt_told: bool = False  # the request was handed on before its answer
    is_part: bool = False  # its answer as far as it came; more comes
    memory: Memory = msgspec.field(default_factory=Memory)
    told_body: bytes = b""  # its body then: to understand the answer by, not to be told again

    def header(self, name: str) -> str:
        """A request header's first value, or nothing."""
        return next((value for key, value in self.headers if key == name), "")

    def answer_header(self, name: str) -> str:
        """An answer header's first value, or nothing."""
        return next((value for key, value in self.answer_headers if key == name), "")


class Trouble(msgspec.Struct, frozen=True):
    """Something that could not be read.  `name` is from a short list (a metric label)."""

    name: str


Told: TypeAlias = Exchange | Trouble


class Body:
    """A body that grows up to a limit; what is over it is counted."""

    __slots__ = ("_limit", "_parts", "_size", "missing")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.missing = 0

    @property
    def seen(self) -> int:
        """Bytes that came or are known to be missing."""
        return self._size + self.missing

    def add(self, data: bytes) -> None:
        room = self._limit - self._size
        if len(data) > room:
            self.missing += len(data) - room
            data = data[:room]
        if data:
            self._parts.append(bytes(data))
            self._size += len(data)

    def value(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""
