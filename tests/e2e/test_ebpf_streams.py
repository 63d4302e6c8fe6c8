"""A long answer over real TLS: a leak in its beginning is told while the rest still comes."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificates import Authority
from tests.e2e.watching import raw, skip_unless_bpf_works, watching

WORDS = [f"word{number}" for number in range(600)]
PLANTED = "536-90-4399"
CLIENT = """
import json, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
body = json.dumps({"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "go on"}]}).encode()
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
with urllib.request.urlopen(request, context=context) as answer:
    while line := answer.readline():
        pass
print("read", flush=True)
"""


class Slow(http.server.BaseHTTPRequestHandler):
    """A word each hundredth of a second; the planted number is the third."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in [*WORDS[:2], f"SSN {PLANTED}", *WORDS[2:]]:
            delta = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
            event = f"data: {json.dumps(delta)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(0.01)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Path]]:
    authority = Authority(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}/v1/chat/completions", authority.file
    server.shutdown()
    server.server_close()


def test_a_leak_is_told_before_the_stream_ends(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    skip_unless_bpf_works(request)
    script = tmp_path / "streaming-client.py"
    script.write_text(CLIENT)
    with serving(tmp_path / "ca") as (url, ca), watching(plaintext={"select": [{"binaries": ["*python*"]}]}) as eyes:
        since = len(eyes.events)
        command = [sys.executable, str(script), url, str(ca)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None

            def leaked() -> bool:
                return any(role == "assistant" and PLANTED in text for role, text in eyes.texts(since))

            assert eyes.wait(leaked, 30)
            assert client.poll() is None, "told only when the answer was over"
            assert client.stdout.read() == b"read\n"
        whole = " ".join([*WORDS[:2], f"SSN {PLANTED}", *WORDS[2:]])
        eyes.wait(lambda: any(text.strip() == whole for role, text in eyes.texts(since) if role == "assistant"))
        answers = [text.strip() for role, text in eyes.texts(since) if role == "assistant"]
        parts = [one for one in eyes.operations(since) if any(message.role == "assistant" for message in one.messages)]
    assert answers == [whole]
    assert len(parts) >= 3
    assert len({one.exchange_id for one in parts}) == 1
    assert [
        PLANTED in raw(one.messages[0].text)[one.messages[0].new_from : one.messages[0].new_until] for one in parts
    ][1:] == [False] * (len(parts) - 1)
