"""OpenAI's own SDK, asynchronous, on its default transport with our CA: TLS over memory BIOs."""

import asyncio

from exchange import MODEL, TIMEOUT_SECONDS, Answer, exit_after_async, task
from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

todo, _ = task()


async def main() -> None:
    async with AsyncOpenAI(
        base_url=f"{todo.url}/v1",
        api_key="sk-test",
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
        http_client=DefaultAsyncHttpx2Client(verify=todo.context()),
    ) as client:

        async def ask(prompt: str) -> Answer:
            create = client.chat.completions.with_raw_response.create
            raw = await create(model=MODEL, messages=todo.messages(prompt), **todo.options())
            answer = raw.parse()
            if not todo.stream:
                return answer.choices[0].message.content, raw.status_code
            pieces = [choice.delta.content or "" async for chunk in answer for choice in chunk.choices]
            return "".join(pieces), raw.status_code

        await exit_after_async(todo, ask)


asyncio.run(main())
