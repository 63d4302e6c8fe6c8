"""curl, one process per prompt; this program only starts them.  `--http2`, else HTTP/1.1 (curl itself prefers 2)."""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from exchange import TIMEOUT_SECONDS, Answer, exit_after, task

flags = argparse.ArgumentParser(add_help=False)
flags.add_argument("--http2", action="store_true")
todo, given = task(flags)


def ask(prompt: str) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        body, answer = Path(folder, "body"), Path(folder, "answer")
        body.write_text(json.dumps(todo.request(prompt), ensure_ascii=False), encoding="utf-8", newline="")
        command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", str(TIMEOUT_SECONDS)]
        command += ["--http2" if given.http2 else "--http1.1", "--header", "Content-Type: application/json"]
        command += ["--cacert", todo.ca] if todo.ca else []
        command += ["--data-binary", f"@{body}", "--output", str(answer), "--write-out", "%{http_code}"]
        done = subprocess.run([*command, todo.endpoint], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"curl ended with {done.returncode}: {done.stderr.strip()}")
        return todo.answer(int(done.stdout), answer.read_bytes())


exit_after(todo, ask)
