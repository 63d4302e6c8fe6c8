"""One door to HTTP receivers: certificates, credentials from files, a deadline that holds, and what an answer means.

A receiver may be slow, huge, broken or hostile; each request ends within `timeout_seconds`, reads at most
`ANSWER_BYTES` of the answer, follows no redirect, and shows neither path nor credentials in a message.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import os
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import structlog
import urllib3

from agent import VERSION
from agent.model import Outcome
from agent.sinks.choice import one_line
from agent.sinks.deadline import Deadline, context_of, pool_of
from agent.sinks.receiver import FileProblem, HttpConfig, content_of, header_from

log = structlog.get_logger("reeve.sinks")

ANSWER_BYTES = 64 * 1024
# Retry-After is honoured up to here: a line gives a batch up after 300 s by default, and shall have tried again before.
LONGEST_WAIT_SECONDS = 120.0
_CONNECT_SECONDS = 5.0
_LONGEST_REST_SECONDS = 30.0
_SHOWN_CHARACTERS = 200
_LATER = frozenset({408, 425, 429})
# A receiver that takes one and refuses the next would be told of twice for each event.
_SAY_AGAIN_SECONDS = 600.0


class Unreachable(Exception):
    """No answer.  The text has place and fact."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the beginning of its text, printable and without our credentials."""

    status: int
    text: str
    location: str = ""
    retry_after_seconds: float = 0.0


ReplyKind: TypeAlias = Literal["taken", "later", "refused"]


OUTCOMES: Mapping[ReplyKind, Outcome] = {
    "taken": Outcome.DELIVERED,
    "later": Outcome.ERRORED,
    "refused": Outcome.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.  `later`: it may be tried again; `refused`: never.  `status` is 0 without an answer."""

    kind: ReplyKind
    status: int
    why: str = ""


class Endpoint:
    """One receiver.  `send` from the event loop.

    That it is away or refuses is logged once until it takes something again, and each answer at most every ten minutes.
    """

    def __init__(self, url: str, config: HttpConfig, name: str) -> None:
        parts = urlsplit(url)
        self.shown = f"{parts.scheme}://{parts.netloc}"  # a path may hold a secret, as those of chat systems do
        self._url = url
        self._config = config
        self._name = name
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._stamp: object = None
        self._state: tuple[ReplyKind, int] | None = None
        self._told_at: dict[tuple[ReplyKind, int], float] = {}  # as many as there are statuses
        self._is_told = False
        self._failures = 0
        self._asked_until = 0.0
        self._resting_until = 0.0

    def check(self) -> None:
        """Whether all files can be used.  Blocks.  Raises FileProblem."""
        self._secrets()
        self._pool_now()

    def is_waiting(self) -> bool:
        """Whether the receiver asked for time."""
        return time.monotonic() < self._asked_until

    def is_resting(self) -> bool:
        """Whether it failed a moment ago, so that it is left alone if there are others."""
        return time.monotonic() < max(self._asked_until, self._resting_until)

    async def send(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One POST."""
        if self.is_waiting():
            left = self._asked_until - time.monotonic()
            return Reply("later", 429, f"{self.shown} asked to be left alone for {left:.0f} s more")
        try:
            answer = await asyncio.to_thread(self.post, body, headers)
        except (Unreachable, FileProblem) as error:
            return self._later(0, str(error), 0.0)
        if 200 <= answer.status < 300:
            if self._is_told:
                log.info("A receiver takes what it is sent again.", sink=self._name, receiver=self.shown)
            self._state, self._is_told, self._failures, self._resting_until = None, False, 0, 0.0
            return Reply("taken", answer.status)
        if answer.status >= 500 or answer.status in _LATER:
            why = f"{self.shown} answers {answer.status}"
            return self._later(answer.status, why, answer.retry_after_seconds)
        return self._refused(answer)

    def _later(self, status: int, why: str, retry_after_seconds: float) -> Reply:
        now = time.monotonic()
        self._asked_until = now + retry_after_seconds
        self._resting_until = now + min(_LONGEST_REST_SECONDS, 2.0 ** min(self._failures, 10))
        self._failures += 1
        if self._is_news("later", status):
            log.warning("A receiver takes nothing now.", sink=self._name, receiver=self.shown, why=why)
        return Reply("later", status, why)

    def _is_news(self, kind: ReplyKind, status: int) -> bool:
        """Whether to log it."""
        state, now = (kind, status), time.monotonic()
        if self._state == state or now < self._told_at.get(state, -_SAY_AGAIN_SECONDS) + _SAY_AGAIN_SECONDS:
            self._state = state
            return False
        self._state, self._is_told = state, True
        self._told_at[state] = now
        return True

    def _refused(self, answer: Answer) -> Reply:
        why = f"{self.shown} answers {answer.status}"
        if self._is_news("refused", answer.status):
            log.error(
                "A receiver refuses what it is sent; it is counted as rejected.",
                sink=self._name,
                receiver=self.shown,
                status=answer.status,
                answer=answer.text,
                remedy=_remedy(answer),
            )
        return Reply("refused", answer.status, why)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One request and its answer.  Blocks, at most `timeout_seconds`.  Raises Unreachable, FileProblem."""
        secret = self._secrets()
        sent = {"User-Agent": f"reeve/{VERSION}", "Accept-Encoding": "identity"}
        sent |= {**self._config.headers, **secret, **headers}
        pool = self._pool_now()
        seconds = self._config.timeout_seconds
        with Deadline(seconds) as deadline:
            try:
                response = pool.request(
                    "POST",
                    self._url,
                    body=body,
                    headers=sent,
                    timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, seconds), read=seconds),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                fact = f"no answer within {seconds:g} s" if deadline.is_over else _cause(error)
                raise Unreachable(f"{self.shown}: {fact}") from None
            if deadline.is_over:  # cut off in its headers, which look whole to the parser
                response.close()
                raise Unreachable(f"{self.shown}: no answer within {seconds:g} s")
            text = _beginning(response)
        return Answer(
            response.status,
            _shown(text, secret),
            _origin(response.headers.get("Location")),
            _seconds(response.headers.get("Retry-After")),
        )

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.clear()

    def _secrets(self) -> dict[str, str]:
        """Headers whose values are in files."""
        config = self._config
        found = {name: header_from(path) for name, path in config.header_files.items()}
        if config.token_file is not None:
            found["Authorization"] = f"Bearer {header_from(config.token_file)}"
        if config.basic_auth_file is not None:
            content = content_of(config.basic_auth_file)
            if b":" not in content:
                raise FileProblem(f"{config.basic_auth_file}: holds no user:password; write both into it, with a colon")
            found["Authorization"] = f"Basic {base64.b64encode(content).decode()}"
        return found

    def _pool_now(self) -> urllib3.PoolManager:
        """Connections with the certificates as the files have them now."""
        config = self._config
        files = [path for path in (config.ca_file, config.certificate_file, config.key_file) if path is not None]
        with self._lock:
            try:
                stamp = [(found.st_mtime_ns, found.st_ino, found.st_size) for found in map(os.stat, files)]
                if self._pool is None or stamp != self._stamp:
                    context = context_of(config)
                    before, self._pool, self._stamp = self._pool, pool_of(context), stamp
                    if before is not None:
                        before.clear()
            except OSError as error:  # ssl.SSLError is one
                if self._pool is None:
                    names = ", ".join(map(str, files))
                    fact = error.strerror or type(error).__name__
                    raise FileProblem(f"{names}: cannot be used for TLS: {fact}; are they PEM, and a pair?") from error
                # In the middle of a rotation: what was read before still holds.
            return self._pool


def _beginning(response: urllib3.BaseHTTPResponse) -> bytes:
    """At most `ANSWER_BYTES`; what breaks off does not matter, for the status has been said."""
    try:
        text = response.read(ANSWER_BYTES + 1)
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        response.close()
        return b""
    if len(text) > ANSWER_BYTES:
        response.close()
    else:
        response.release_conn()
    return text[:ANSWER_BYTES]


def _shown(text: bytes, secrets: Mapping[str, str]) -> str:
    """The beginning of an answer for a log: one printable line, without what we sent as credentials."""
    line = text.decode("utf-8", "replace")
    for value in secrets.values():
        line = line.replace(value, "***").replace(value.rpartition(" ")[2], "***")
    return one_line(line, _SHOWN_CHARACTERS)


def _origin(location: str | None) -> str:
    """Scheme and host of a redirect's target; the rest may hold a secret."""
    try:
        parts = urlsplit(location or "")
        return f"{parts.scheme}://{parts.hostname}"[:_SHOWN_CHARACTERS] if parts.hostname else ""
    except ValueError:
        return ""


def _remedy(answer: Answer) -> str:
    match answer.status:
        case status if 300 <= status < 400:
            where = f", which lies at {answer.location}" if answer.location else ""
            return f"redirects are not followed; name the last address itself{where}"
        case 401 | 403:
            return "check token_file, basic_auth_file, header_files or the client certificate, and what they may do"
        case 404 | 405:
            return "check the path of the URL"
        case 413:
            return "let the receiver take larger bodies, or send smaller batches"
    return "the receiver's log says what it wants"


def _seconds(text: str | None) -> float:
    """Retry-After (RFC 9110, 10.2.3): seconds or a date."""
    text = (text or "").strip()[:64]
    if re.fullmatch(r"[0-9]+", text):
        return min(LONGEST_WAIT_SECONDS, float(text))
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(LONGEST_WAIT_SECONDS, max(0.0, seconds))


def _cause(error: BaseException) -> str:
    """The innermost reason in words, without addresses of objects or what was sent."""
    inner = error
    for _ in range(8):
        candidates = (getattr(inner, "reason", None), *inner.args[-1:], inner.__cause__)
        following = next((one for one in candidates if isinstance(one, BaseException)), None)
        if following is None:
            break
        inner = following
    if isinstance(inner, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {inner.verify_message}"[:_SHOWN_CHARACTERS]
    if isinstance(inner, ssl.SSLError):
        return f"TLS failed: {inner.reason or type(inner).__name__}"[:_SHOWN_CHARACTERS]
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror[:_SHOWN_CHARACTERS]
    return type(inner).__name__
