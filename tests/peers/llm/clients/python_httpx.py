"""httpx, synchronous: ssl.SSLSocket under httpcore, one pool for all threads."""

import httpx
from exchange import TIMEOUT_SECONDS, Answer, exit_after, task

todo, _ = task()
client = httpx.Client(verify=todo.context(), timeout=TIMEOUT_SECONDS)


def ask(prompt: str) -> Answer:
    with client.stream("POST", todo.endpoint, json=todo.request(prompt)) as response:
        return todo.answer(response.status_code, b"".join(response.iter_bytes()))


exit_after(todo, ask)
