"""A receiver over HTTP or TLS, real and on loopback, that keeps what it gets and answers as it is told, also badly."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        receiver = self.server.receiver
        with receiver.lock:
            receiver.requests.append(Request(self.path, dict(self.headers), body, time.monotonic()))
            answer = receiver.answers.pop(0) if receiver.answers else receiver.usual
        answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


class Request:
    def __init__(self, path: str, headers: dict[str, str], body: bytes, at: float) -> None:
        self.path, self.headers, self.body, self.at = path, headers, body, at

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def raw(self) -> bytes:
        return repr((self.path, self.headers)).encode() + self.body


class Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no failure of a test."""


class Receiver:
    """`answers` are given first, in order; then always `usual`."""

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] = []
        self.usual: Answer = status(200)
        self.lock = threading.Lock()
        self._context, self._port, self._server = context, port, None
        self.start()

    def start(self) -> None:
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._server.receiver = self
        self._port = self._server.server_address[1]
        if self._context is not None:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}" if self._context else f"http://127.0.0.1:{self._port}"

    @property
    def raw(self) -> bytes:
        return b"\n".join(request.raw for request in self.requests)


@contextlib.contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    made = Receiver(context)
    try:
        yield made
    finally:
        made.stop()


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: Handler) -> None:
    """The connection breaks off instead of an answer."""
    import socket
    import struct

    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def _drip(handler: Handler, piece: bytes) -> None:
    with contextlib.suppress(OSError):
        for _ in range(200):
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(0.05)
    handler.close_connection = True


def silent(handler: Handler) -> None:
    """No answer for long."""
    with contextlib.suppress(OSError):
        handler.connection.settimeout(10)
        handler.connection.recv(1)
    handler.close_connection = True


def dripping_headers(handler: Handler) -> None:
    """A byte of a header now and then: no read ever times out."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _drip(handler, b"a")


def dripping_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    _drip(handler, b"a")


def huge(handler: Handler) -> None:
    """An answer without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 65536)
            handler.server.receiver.written = getattr(handler.server.receiver, "written", 0) + 65536
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff this is no HTTP\r\n\r\n")
    handler.close_connection = True


def many_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n")
    handler.close_connection = True
