"""Does the eBPF source grow?  Exec, open, connect and TLS churn while its memory, maps and descriptors are watched.

`BENCH_SOAK` seconds (60; the bar is 900).  Baseline: the source itself after the first third of the time.  Needs root,
bcc, gcc; TLS needs Go.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.source import EbpfSource
from benchmarks.bench_ebpf import LOOPS, Counting

SECONDS = float(os.environ.get("BENCH_SOAK", "60"))
MAPS = ("ignored", "content", "exit_codes", "last_signals", "volumes", "streams", "calls", "go_calls", "accepting")


def sample(source: EbpfSource) -> dict[str, float]:
    """Resident megabytes, open descriptors, entries of the maps, things remembered."""
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    told: dict[str, float] = {"resident MB": resident, "descriptors": len(os.listdir("/proc/self/fd"))}
    told |= {f"map {name}": source.kernel.programs.entries(name) for name in MAPS}
    told["processes"] = len(source.meaning.table)
    told["connections"] = len(source.meaning.plaintext)
    told["files with probes"] = source.meaning.coverage.attachments.files if source.meaning.coverage else 0
    return told


@contextlib.contextmanager
def churn(folder: Path) -> Iterator[None]:
    """Processes that exec, open, connect and speak TLS until the block ends."""
    (folder / "loops.c").write_text(LOOPS)
    program = folder / "loops"
    subprocess.run(["gcc", "-O2", "-w", "-o", str(program), str(folder / "loops.c")], check=True)
    stop = threading.Event()
    running: list[subprocess.Popen[bytes]] = []
    untold = folder / "untold"
    untold.write_text("x")
    for what, path, rate in (
        ("exec", "-", 100),
        ("open", str(untold), 20_000),
        ("told", "-", 2_000),
        ("connect", "-", 500),
    ):
        count = str(int(rate * (SECONDS + 120)))
        running.append(subprocess.Popen([str(program), what, count, path, str(rate)], stdout=subprocess.DEVNULL))

    def speak() -> None:
        matrix: Any = importlib.import_module("tests.peers.llm.matrix")
        stacks = matrix.build()
        with matrix.start_server("go") as server:
            number = 0
            while not stop.is_set():
                for name in ("curl", "http.client", "go-http2", "wget"):
                    if not isinstance(stacks[name], matrix.Missing) and not stop.is_set():
                        number += 1
                        sent = matrix.prompts(10, 4096, number)
                        with contextlib.suppress(RuntimeError):
                            matrix.run(stacks[name], server.url, sent, 5, False, ca_file=server.ca_file)

    speaking = threading.Thread(target=speak, daemon=True)
    if shutil.which("go"):
        speaking.start()
    try:
        yield
    finally:
        stop.set()
        if speaking.is_alive():
            speaking.join(60)
        for process in running:
            process.terminate()
            process.wait()


async def watch() -> None:
    settings = {"plaintext": {"select": [{"binaries": ["*python*", "*/curl", "*/wget", "*gochat*"]}]}}
    source, out = EbpfSource(EbpfConfig.model_validate(settings), "ebpf", "soak"), Counting()
    running = asyncio.create_task(source.run(out))
    while not out.is_connected and not running.done():
        await asyncio.sleep(0.05)
    if running.done():
        running.result()
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="reeve-soak-", dir="/var/lib") as name:
        context = churn(Path(name))
        await asyncio.to_thread(context.__enter__)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            await asyncio.sleep(min(10.0, SECONDS / 12))
            samples.append(await asyncio.to_thread(sample, source))
        await asyncio.to_thread(context.__exit__, None, None, None)
    await asyncio.sleep(2)
    left = source.kernel.accounting.unaccounted()
    after = sample(source)
    produced, dropped = (
        sum(one().values()) for one in (source.kernel.accounting.produced, source.kernel.accounting.dropped)
    )
    exchanges, troubles = source.meaning.plaintext.exchanges, dict(source.meaning.plaintext.troubles)
    await source.stop()
    await running
    third = max(1, len(samples) // 3)
    print(
        f"  {SECONDS:.0f} s: {produced:,} records, {dropped} dropped, unaccounted {left or 0}; {exchanges} exchanges, troubles {troubles}"
    )
    for key in samples[0]:
        early = max(one[key] for one in samples[:third])
        late = max(one[key] for one in samples[-third:])
        print(
            f"  {key:20} first third {early:9.1f}  last third {late:9.1f}  {late / max(early, 1e-9):5.2f} x  after {after[key]:9.1f}"
        )


def main() -> None:
    if os.geteuid() != 0 or shutil.which("gcc") is None:
        print("  skipped: needs root and gcc")
        return
    try:
        asyncio.run(watch())
    except BpfError as error:
        print(f"  skipped: {error}")
    shutil.rmtree("/tmp/reeve-bench", ignore_errors=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
