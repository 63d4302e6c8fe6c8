"""`/metrics`, `/healthz`, `/readyz` and `/canary` on one port, on loopback unless configured otherwise.

Served by threads, so that a busy event loop cannot hide that the agent lives.  Reads only; no request body is read.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

# A scraper that stops reading must not hold a thread for ever.
TIMEOUT_SECONDS = 10

Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Whether all is well, and the detail to show."""


class Runs(Protocol):
    """What stands behind `/canary`."""

    def detail(self) -> tuple[bool, Mapping[str, Any]]: ...

    def run_now(self) -> tuple[bool, Mapping[str, Any]]: ...


class HttpServer:
    """Serves until `close`; port 0 takes a free one, told by `port`."""

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        *,
        alive: Health,
        ready: Health,
        canary: Runs | None = None,
    ) -> None:
        server = self

        class _Requests(BaseHTTPRequestHandler):
            timeout = TIMEOUT_SECONDS

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                match path:
                    case "/metrics":
                        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                        self._answer(200, encode(registry), content_type)
                    case "/healthz":
                        self._health(alive)
                    case "/readyz":
                        self._health(ready)
                    case "/canary" if canary is not None:
                        self._health(canary.run_now if query == "run=1" else canary.detail)
                    case "/canary":
                        self._answer(404, b'{"problem": "no canary is configured"}\n', "application/json")
                    case _:
                        known = b"/metrics, /healthz, /readyz, /canary\n"
                        self._answer(404, known, "text/plain; charset=utf-8")

            def _health(self, ask: Health) -> None:
                is_good, detail = ask()
                self._answer(200 if is_good else 503, json.dumps(detail).encode() + b"\n", "application/json")

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """No line per request."""

        class _Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        server._server = _Server(address, _Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, name="reeve-http", daemon=True)
        self._thread.start()

    _server: ThreadingHTTPServer

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
