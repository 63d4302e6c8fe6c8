"""The program that says the canary's prompt: a client and a server of its own, over TLS on loopback.

Run as a script of its own, so that it can be selected by its name; needs nothing but Python.  The prompt comes by
standard input.  The connection is anonymous, without certificates: it is about what passes through the TLS library.
"""

import json
import socket
import ssl
import sys
import threading
import time

# No certificate and no parameters to make; both ends are this process.
_CIPHERS = "AECDH-AES256-SHA:@SECLEVEL=0"
# The probes are told of a process when it is started, and look for its library then.
_FIRST_WAIT_SECONDS = 1.0


def _context(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context


def _serve(listener: socket.socket) -> None:
    answer = json.dumps(
        {
            "object": "chat.completion",
            "model": "canary",
            "choices": [{"message": {"role": "assistant", "content": "ok"}}],
        }
    ).encode()
    connection, _ = listener.accept()
    with _context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(connection, server_side=True) as tls:
        received = b""
        while b"\r\n\r\n" not in received:
            received += tls.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += tls.recv(65536)
        tls.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
        )


def main() -> None:
    """Say the prompt on standard input once."""
    prompt = sys.stdin.read()
    time.sleep(_FIRST_WAIT_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=(listener,), daemon=True)
        serving.start()
        body = json.dumps({"model": "canary", "messages": [{"role": "user", "content": prompt}]}).encode()
        with (
            socket.create_connection(listener.getsockname(), timeout=10) as raw,
            _context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw) as tls,
        ):
            tls.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: canary.reeve.invalid\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            while tls.recv(65536):
                pass
        serving.join(10)


if __name__ == "__main__":
    main()
