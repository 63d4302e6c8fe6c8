"""What our own probes cost the workloads they watch, and how much they carry.  Needs root, bcc, gcc; HTTPS needs Go.

Each cost is the time of the same loop with and without probes, in turn in one run (the source runs in a process of its
own and is stopped in between); the least of the rounds counts, since other work only adds.  Bars beside the ratios.
`BENCH_ROUNDS` rounds (5), `BENCH_SUSTAINED` seconds of 50 000 records a second at the end (20; the bar is 300).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.source import EbpfSource
from agent.testing import MemoryOutput

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SUSTAINED = float(os.environ.get("BENCH_SUSTAINED", "20"))
RATE = 50_000

LOOPS = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
int main(int argc, char **argv) {
    const char *what = argv[1];
    int count = atoi(argv[2]), rate = argc > 4 ? atoi(argv[4]) : 0;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (void *)&at, sizeof at); listen(listener, 512); getsockname(listener, (void *)&at, &size);
    double best = 1e18;
    /* The least of short pieces: what interrupts a loop makes one piece slow, not all. */
    int piece = rate ? rate / 100 : count / 20 ? count / 20 : 1;
    double begin = now();
    for (int done = 0; done < count; done += piece) {
        double start = now();
        for (int i = 0; i < piece; i++) {
            if (!strcmp(what, "open")) { int f = open(argv[3], O_RDONLY); close(f); }
            else if (!strcmp(what, "read")) { char b[256]; int f = open(argv[3], O_RDONLY); (void)!read(f, b, sizeof b); close(f); }
            else if (!strcmp(what, "exec")) { pid_t p; char *a[] = {"true", 0}; posix_spawn(&p, "/bin/true", 0, 0, a, environ); waitpid(p, 0, 0); }
            else if (!strcmp(what, "connect")) {
                int c = socket(AF_INET, SOCK_STREAM, 0); connect(c, (void *)&at, sizeof at);
                int s = accept(listener, 0, 0);
                struct linger l = {1, 0}; setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
                close(c); close(s);
            }
            else if (!strcmp(what, "told")) { char path[64]; snprintf(path, sizeof path, "/tmp/reeve-bench/%d.pem", (done + i) % 512); int f = open(path, O_RDONLY); if (f >= 0) close(f); }
        }
        double took = (now() - start) / piece;
        if (took < best) best = took;
        if (rate) { double due = begin + (done + piece) * 1e9 / rate - now(); if (due > 0) usleep(due / 1e3); }
    }
    printf("%.1f\n", best);
    return 0;
}
"""

CLIENT = r"""
import http.client, json, ssl, sys, time
host, port, ca, count, keeps = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5] == "keep"
context = ssl.create_default_context(cafile=ca)
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a word " * 585}]})
connection, best = None, 1e18
for number in range(count):
    start = time.perf_counter_ns()
    if connection is None:
        connection = http.client.HTTPSConnection(host, port, context=context)
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    connection.getresponse().read()
    if not keeps:
        connection.close()
        connection = None
    if number > 5:
        best = min(best, time.perf_counter_ns() - start)
print(best)
"""


def serve() -> None:
    """The source in this process until standard input ends; its books on standard output."""
    settings = json.loads(sys.argv[2])

    async def run() -> None:
        source, out = EbpfSource(EbpfConfig(**settings), "ebpf", "bench"), Counting()
        running = asyncio.create_task(source.run(out))
        while not out.is_connected and not running.done():
            await asyncio.sleep(0.05)
        print("up", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        before = source.kernel.accounting
        await asyncio.sleep(0.5)
        produced, dropped = sum(before.produced().values()), sum(before.dropped().values())
        left = before.unaccounted()
        backlog = source.kernel.ring.largest_backlog
        pause = source.reader.longest_pause if source.reader else 0.0
        await source.stop()
        await running
        books = out.lines_read + out.events_reported - out.count - out.aside.total() - out.decode_errors.total()
        told = {"produced": produced, "dropped": dropped, "unaccounted": sum(map(abs, left.values())), "books": books}
        print(json.dumps({**told, "backlog": backlog, "pause": pause, "cpu": time.process_time()}), flush=True)

    asyncio.run(run())


class Counting(MemoryOutput):
    """Counts events and keeps none."""

    count = 0

    async def send(self, events, *, must_wait=False):  # type: ignore[no-untyped-def]
        self.count += len(events)
        return await super().send([], must_wait=must_wait)


class Watcher:
    """A source in a process of its own."""

    def __init__(self, settings: dict[str, object]) -> None:
        command = [sys.executable, "-m", "benchmarks.bench_ebpf", "serve", json.dumps(settings)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        if not any(line.strip() == "up" for line in self._process.stdout):
            raise BpfError("the source does not start; `reeve doctor` says why")
        time.sleep(0.5)

    def stop(self) -> dict[str, float]:
        told, _ = self._process.communicate(timeout=120)
        books: dict[str, float] = json.loads(told.strip().splitlines()[-1])
        return books


@contextmanager
def watched(settings: dict[str, object] | None) -> Iterator[None]:
    watcher = Watcher(settings) if settings is not None else None
    try:
        yield
    finally:
        if watcher is not None:
            watcher.stop()


def least(command: list[str], repeats: int = 3) -> float:
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repeats)
    )


def costs(program: Path, folder: Path) -> None:
    """Loops with and without probes."""
    untold = folder / "untold.txt"
    untold.write_text("a small file\n" * 8)
    loops = {
        "open, filtered out in the kernel": (["open", "200000", str(untold)], 1.25),
        "open, read, close of a small file": (["read", "200000", str(untold)], 1.25),
        "exec": (["exec", "2000", "-"], 1.05),
        "connect, accept, close": (["connect", "20000", "-"], 1.10),
    }
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in loops}
    choices: tuple[dict[str, object] | None, ...] = (None, {})
    for _ in range(ROUNDS):
        for side, settings in enumerate(choices):
            with watched(settings):
                for name, (arguments, _) in loops.items():
                    times[name][side].append(least([str(program), *arguments]))
    for name, (_, bar) in loops.items():
        off, on = min(times[name][0]), min(times[name][1])
        print(f"  {name:36} {off / 1e3:9.2f} us  with probes {on / 1e3:9.2f} us  {on / off:5.3f} x (bar {bar:.2f} x)")


def https(folder: Path) -> None:
    """A request with a prompt of 4 KB, by Python's own client, against a server that is not watched."""
    matrix: Any = importlib.import_module("tests.peers.llm.matrix")
    if isinstance(matrix.build()["go"], matrix.Missing):
        print("  HTTPS: skipped, the server needs Go")
        return
    client = folder / "client.py"
    client.write_text(CLIENT)
    settings: dict[str, object] = {"plaintext": {"select": [{"binaries": ["*python*"]}]}}
    with matrix.start_server("go") as server:
        port = server.url.rpartition(":")[2].strip("/")
        times: dict[str, tuple[list[float], list[float]]] = {"keep": ([], []), "close": ([], [])}
        for _ in range(ROUNDS):
            for side, one in enumerate((None, settings)):
                with watched(one):
                    for form, both in times.items():
                        count = "400" if form == "keep" else "100"
                        command = [sys.executable, str(client), "localhost", port, str(server.ca_file), count, form]
                        both[side].append(least(command, 2))
    names = {"keep": "HTTPS request, connection kept", "close": "HTTPS request, connection of its own"}
    for form, (off, on) in times.items():
        base, probed = min(off), min(on)
        print(
            f"  {names[form]:36} {base / 1e3:9.2f} us  with probes {probed / 1e3:9.2f} us  {probed / base:5.3f} x (bar 1.05 x)"
        )


def sustained(program: Path) -> None:
    """50 000 records a second by two processes."""
    folder = Path("/tmp/reeve-bench")  # told by default
    folder.mkdir(exist_ok=True)
    watcher = Watcher({"fold_seconds": 1.0})
    each = RATE // 2
    command = [str(program), "told", str(int(each * SUSTAINED)), "-", str(each)]
    started = time.monotonic()
    producers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    for producer in producers:
        producer.wait()
    seconds = time.monotonic() - started
    books = watcher.stop()
    shutil.rmtree(folder)
    produced, dropped = books["produced"], books["dropped"]
    print(
        f"  sustained: {produced / seconds:,.0f} records/s for {seconds:.0f} s (bar {RATE:,}); dropped {dropped:.0f} = "
        f"{dropped / max(1, produced):.4%}; unaccounted {books['unaccounted']:.0f}; books differ by {books['books']:.0f};\n"
        f"    source's CPU {books['cpu'] / seconds:.1%} of one, backlog at most {books['backlog'] / 1024:.0f} KB, "
        f"longest pause {books['pause'] * 1e3:.0f} ms"
    )


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "serve":
        serve()
        return
    if os.geteuid() != 0 or shutil.which("gcc") is None:
        print("  skipped: needs root and gcc")
        return
    with tempfile.TemporaryDirectory(prefix="reeve-ebpf-", dir="/var/lib") as name:
        folder = Path(name)
        (folder / "loops.c").write_text(LOOPS)
        program = folder / "loops"
        subprocess.run(["gcc", "-O2", "-w", "-o", str(program), str(folder / "loops.c")], check=True)
        try:
            costs(program, folder)
            with suppress(ImportError):
                https(folder)
            sustained(program)
        except BpfError as error:
            print(f"  skipped: {error}")


if __name__ == "__main__":
    main()
