"""The server of this folder once more, smaller, on OpenSSL through Python: chat completions over HTTP/1.1.

`python -m tests.peers.llm.server --cert FILE --key FILE` (or `--plain`) prints its port, then a line per
request on standard error, as server.go does.  Its JSON is pure ASCII, unlike that of server.go.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.peers.llm.answers import DEFAULT_TOKENS, expected_answer, tokens_of

Json = dict[str, Any]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # clients open ten connections at once, and more under test

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self._context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._context is not None:
            # The handshake is for the connection's own thread, at its first read.
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sys.stderr.write(f"{self.request_version} {self.path} {self.client_address[0]}:{self.client_address[1]}\n")
        if self.path != "/v1/chat/completions":
            return self._whole(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})
        try:
            request = json.loads(body)
            prompt = [one["content"] for one in request["messages"] if one["role"] == "user"][-1]
            max_tokens = request.get("max_tokens", DEFAULT_TOKENS)
            if max_tokens < 1:
                raise ValueError(f"max_tokens: {max_tokens} is less than 1")
            answer = expected_answer(prompt, max_tokens)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return self._whole(400, {"error": {"message": str(error), "type": "invalid_request_error"}})
        completion: Json = {
            "id": "chatcmpl-test",
            "object": "chat.completion.chunk" if request.get("stream") else "chat.completion",
            "created": int(time.time()),
            "model": request.get("model", ""),
        }
        tokens = list(tokens_of(answer, prompt))
        sizes = {"prompt_tokens": 1 + len(prompt) // 4, "completion_tokens": len(tokens)}
        usage = {"usage": sizes | {"total_tokens": sum(sizes.values())}}
        if request.get("stream"):
            return self._stream(completion, tokens, usage)
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._whole(200, completion | {"choices": [choice]} | usage)

    def _whole(self, status: int, value: Json) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, completion: Json, tokens: list[str], usage: Json) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": token} for token in tokens), {}]
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}
            self._event(json.dumps(completion | {"choices": [choice]}))
        self._event(json.dumps(completion | {"choices": []} | usage))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def log_message(self, format: str, *args: Any) -> None:
        """Not http.server's lines: `do_POST` writes ours, before the answer."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--plain", action="store_true", help="HTTP without TLS")
    given = parser.parse_args()
    context = None
    if not given.plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.cert, given.key)
        context.set_alpn_protocols(["http/1.1"])
    server = Server(context)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
