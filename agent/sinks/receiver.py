"""Settings of a receiver that is reached over HTTP, and the files of its credentials."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import pydantic
from pydantic import Field

_FILE_BYTES = 64 * 1024
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OUR_HEADERS = frozenset(
    {"host", "content-type", "content-length", "transfer-encoding", "connection", "user-agent", "accept-encoding"}
    | {"webhook-id", "webhook-timestamp", "webhook-signature"}
)


def checked_url(url: str, *, allow_plaintext: bool) -> str:
    """The URL without a slash at its end.  Raises ValueError with fact and remedy."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ValueError("is no URL; write https://host:port/path") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("is no http or https URL; write https://host:port/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or a password; put them into a file and name it as basic_auth_file")
    if parts.fragment or re.search(r"[\x00-\x20\x7f-\x9f]", url):
        raise ValueError("holds a fragment, a space or a control character; write https://host:port/path")
    if parts.scheme == "http" and not allow_plaintext and not _is_loopback(host):
        raise ValueError(f"{host} would be reached without TLS; use https, or set allow_plaintext: true")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class HttpConfig(pydantic.BaseModel):
    """How a receiver is reached.  Files are read again when they change: tokens and certificates rotate.

    `basic_auth_file` holds `user:password`.  `headers` are in the open; those of `header_files` are the files' content.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    basic_auth_file: Path | None = None
    headers: dict[str, str] = {}
    header_files: dict[str, Path] = {}
    allow_plaintext: bool = False
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> HttpConfig:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file stands without certificate_file; name both")
        if self.token_file is not None and self.basic_auth_file is not None:
            raise ValueError("token_file and basic_auth_file are both named; keep one")
        seen: set[str] = set()
        for name in (*self.headers, *self.header_files):
            lowered = name.lower()
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
            if lowered in _OUR_HEADERS:
                raise ValueError(f"the header {name} is the agent's own; leave it out")
            if lowered == "authorization" and (self.token_file or self.basic_auth_file):
                raise ValueError("the header Authorization and a file for it are both named; keep one")
            if lowered in seen:
                raise ValueError(f"the header {name} stands twice; keep one")
            seen.add(lowered)
        for name, value in self.headers.items():
            if not _is_header_value(value):
                raise ValueError(f"the header {name} holds what no header may hold; use printable ASCII")
        return self


def _is_header_value(text: str) -> bool:
    return bool(text) and all(" " <= character <= "~" for character in text)


class FileProblem(OSError):
    """A file of credentials or certificates cannot be used; the text has place, fact and remedy, never content."""


def content_of(path: Path) -> bytes:
    """A small file without the white space around it.  Raises FileProblem."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}; is the Secret mounted there?") from error
    content = content.strip()
    if not content or len(content) > _FILE_BYTES:
        raise FileProblem(f"{path}: is empty or larger than {_FILE_BYTES} bytes; write the bare value into it")
    return content


def header_from(path: Path) -> str:
    text = content_of(path).decode("latin-1")
    if not _is_header_value(text):
        raise FileProblem(f"{path}: holds what no header may hold; write one line of printable ASCII into it")
    return text
