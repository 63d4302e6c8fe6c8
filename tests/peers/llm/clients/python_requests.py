"""requests, that is urllib3: one session whose pool has a connection per thread."""

import requests
from exchange import TIMEOUT_SECONDS, Answer, exit_after, task
from requests.adapters import HTTPAdapter

todo, _ = task()
session = requests.Session()
session.mount(todo.url, HTTPAdapter(pool_maxsize=todo.concurrency))


def ask(prompt: str) -> Answer:
    # `verify` per request: REQUESTS_CA_BUNDLE of the environment goes before the session's.
    response = session.post(
        todo.endpoint, json=todo.request(prompt), verify=todo.ca, timeout=TIMEOUT_SECONDS, stream=todo.stream
    )
    return todo.answer(response.status_code, b"".join(response.iter_content(chunk_size=None)))


exit_after(todo, ask)
