"""http.client: a connection per thread, kept alive."""

import http.client
import json
import threading
import urllib.parse

from exchange import PATH, TIMEOUT_SECONDS, Answer, exit_after, task

todo, _ = task()
place = urllib.parse.urlsplit(todo.url)
context = todo.context()
of_thread = threading.local()


def connection() -> http.client.HTTPConnection:
    if not hasattr(of_thread, "connection"):
        if place.scheme == "https":
            of_thread.connection = http.client.HTTPSConnection(place.netloc, timeout=TIMEOUT_SECONDS, context=context)
        else:
            of_thread.connection = http.client.HTTPConnection(place.netloc, timeout=TIMEOUT_SECONDS)
    return of_thread.connection


def ask(prompt: str) -> Answer:
    wire = connection()
    wire.request("POST", PATH, json.dumps(todo.request(prompt)).encode(), {"Content-Type": "application/json"})
    response = wire.getresponse()
    body = b"".join(iter(lambda: response.read1(65536), b"")) if todo.stream else response.read()
    return todo.answer(response.status, body)


exit_after(todo, ask)
