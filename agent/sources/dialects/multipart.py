"""Parts of a multipart body (RFC 2046, 5.1), one level deep.

Not the standard library's `email`: it parses parts within parts without end, and all of them before any can be
counted.  A last part that breaks off is given as far as it is there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

# More than any observer's client sends at once; LangSmith's sends up to 100 runs of up to 4 parts.
_PARTS = 512
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n|\A\r?\n")
_HEAD_BYTES = 16 * 1024


class FormPart(NamedTuple):
    """A part: its header's fields, names in lower case, and its content without transfer encoding."""

    headers: dict[str, str]
    content: bytes


def parts_of(body: bytes, content_type: str) -> Iterator[FormPart]:
    """The parts of a body in order; none if the content type names no boundary or the body has none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return
    mark = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    start = _next_mark(body, mark, 0)
    for _ in range(_PARTS):
        if start < 0 or body.startswith(b"--", start + len(mark)):
            return
        line_end = body.find(b"\n", start + len(mark))
        if line_end < 0:
            return
        end = _next_mark(body, mark, line_end)
        whole = body[line_end + 1 :] if end < 0 else body[line_end + 1 : end]
        yield _part(whole if end < 0 else whole.removesuffix(b"\n").removesuffix(b"\r"))
        start = end


def _next_mark(body: bytes, mark: bytes, at: int) -> int:
    """Where the next boundary stands, which is at the beginning of a line."""
    while (at := body.find(mark, at)) > 0 and body[at - 1] != 0x0A:
        at += 1
    return at


def _part(whole: bytes) -> FormPart:
    end = _HEAD_END.search(whole, 0, _HEAD_BYTES)
    if end is None:
        return FormPart({}, whole)
    lines = whole[: end.start()].decode("latin-1").splitlines()
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return FormPart(headers, _decoded(whole[end.end() :], headers.get("content-transfer-encoding", "").lower()))


def _decoded(content: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return binascii.a2b_qp(content)
    if encoding != "base64":
        return content
    try:
        return base64.b64decode(content)
    except binascii.Error:
        return content
