"""OpenAI's own SDK, synchronous, on its default transport with our CA."""

from exchange import MODEL, TIMEOUT_SECONDS, Answer, exit_after, task
from openai import DefaultHttpx2Client, OpenAI

todo, _ = task()
client = OpenAI(
    base_url=f"{todo.url}/v1",
    api_key="sk-test",
    max_retries=0,
    timeout=TIMEOUT_SECONDS,
    http_client=DefaultHttpx2Client(verify=todo.context()),
)


def ask(prompt: str) -> Answer:
    create = client.chat.completions.with_raw_response.create
    raw = create(model=MODEL, messages=todo.messages(prompt), **todo.options())
    answer = raw.parse()
    if not todo.stream:
        return answer.choices[0].message.content, raw.status_code
    return "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices), raw.status_code


exit_after(todo, ask)
