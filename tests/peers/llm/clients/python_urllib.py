"""urllib.request: a connection per request, closed after it."""

import json
import urllib.request

from exchange import TIMEOUT_SECONDS, Answer, exit_after, task

todo, _ = task()
handlers = [urllib.request.HTTPSHandler(context=todo.context())] if todo.url.startswith("https:") else []
opener = urllib.request.build_opener(*handlers)


def ask(prompt: str) -> Answer:
    body = json.dumps(todo.request(prompt)).encode()
    request = urllib.request.Request(todo.endpoint, data=body, headers={"Content-Type": "application/json"})
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        body = b"".join(iter(lambda: response.read1(65536), b"")) if todo.stream else response.read()
        return todo.answer(response.status, body)


exit_after(todo, ask)
