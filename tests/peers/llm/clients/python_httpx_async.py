"""httpx, asynchronous: TLS over memory BIOs, where no file descriptor is known to OpenSSL; `--http2` for HTTP/2."""

import argparse
import asyncio

import httpx
from exchange import TIMEOUT_SECONDS, Answer, exit_after_async, task

flags = argparse.ArgumentParser(add_help=False)
flags.add_argument("--http2", action="store_true")
todo, given = task(flags)


async def main() -> None:
    async with httpx.AsyncClient(verify=todo.context(), timeout=TIMEOUT_SECONDS, http2=given.http2) as client:

        async def ask(prompt: str) -> Answer:
            async with client.stream("POST", todo.endpoint, json=todo.request(prompt)) as response:
                return todo.answer(response.status_code, b"".join([piece async for piece in response.aiter_bytes()]))

        await exit_after_async(todo, ask)


asyncio.run(main())
