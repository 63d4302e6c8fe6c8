"""agent.sources.ebpf.kernel, .source, .reader, .accounting on a real kernel: books add up, and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.model import Event, ProcessActivity
from agent.resolve import Resolver
from agent.sources.tetragon import event_from_json
from tests.e2e.watching import Eyes, raw, skip_unless_bpf_works, watching

STORM = [
    "/bin/sh",
    "-c",
    "i=0; while [ $i -lt 3000 ]; do : > /dev/shm/storm-$((i % 7)); i=$((i+1)); done; rm -f /dev/shm/storm-*",
]


@pytest.fixture(autouse=True)
def _needs_bpf(request: pytest.FixtureRequest) -> None:
    skip_unless_bpf_works(request)


def programs() -> set[int]:
    """The BPF programs that this machine has now; others may use BPF meanwhile."""
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not here")
    done = subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, text=True, check=True)
    return {one["id"] for one in json.loads(done.stdout)}


def held(pid: int) -> set[int]:
    """The BPF programs that a process holds by descriptors."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("prog_id:")}
    return found


def storm() -> None:
    running = [subprocess.Popen(STORM) for _ in range(3)]
    for one in running:
        one.wait()


def rested(eyes: Eyes) -> dict[tuple[int, int], int]:
    eyes.wait(lambda: eyes.source.kernel.ring.waiting == 0 and not eyes.source.kernel.accounting.unaccounted(), 10)
    return eyes.source.kernel.accounting.unaccounted()


def test_the_books_add_up_after_a_storm() -> None:
    with watching(groups=["process", "files"]) as eyes:
        storm()
        assert rested(eyes) == {}
        assert eyes.losses() == []
        assert eyes.source.reader is not None
        read = eyes.source.reader.read
        assert read >= 9000
    handed = eyes.out.lines_read
    assert handed >= read
    assert (
        handed == len(eyes.events) - eyes.out.events_reported + eyes.out.aside.total() + eyes.out.decode_errors.total()
    )


def test_what_finds_no_room_is_dropped_and_told() -> None:
    with watching(groups=["process", "files"], ring_bytes=64 * 1024, fold_seconds=0, is_realtime=False) as eyes:
        ring, held = eyes.source.kernel.ring, threading.Event()
        take = ring.take

        def later(most_bytes: int = 0) -> list[bytes]:
            held.wait(60)
            return take(most_bytes)

        ring.take = later  # type: ignore[method-assign]
        storm()
        held.set()
        assert rested(eyes) == {}
        accounting = eyes.source.kernel.accounting
        dropped = sum(accounting.dropped().values())
        assert dropped > 0
        assert sum(accounting.produced().values()) == accounting.consumed.total() + dropped
        assert eyes.wait(lambda: sum(one.count for one in eyes.losses()) == dropped)
        assert {one.reason for one in eyes.losses()} == {"ring_full"}


def test_a_source_that_stops_leaves_no_program() -> None:
    with watching(plaintext={"select": [{"binaries": ["*/no-such-program"]}], "http_ports": [65000]}):
        made = held(os.getpid())
        assert made
    assert Eyes.wait(lambda: not made & programs(), 20)


def test_a_source_that_stops_leaves_no_descriptor_and_no_mapping() -> None:
    with watching(groups=["process"]):
        pass
    before = len(os.listdir("/proc/self/fd"))
    with open("/proc/self/maps") as maps:
        rings = maps.read().count("bpf-map")
    with watching(groups=["process"]):
        pass
    assert len(os.listdir("/proc/self/fd")) <= before
    with open("/proc/self/maps") as maps:
        assert maps.read().count("bpf-map") == rings


KILLED = """
import sys, time
from tests.e2e.watching import watching
with watching(groups=["process"]):
    print("on", file=sys.stderr, flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_leaves_no_program() -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any(line == "on\n" for line in running.stderr)
        made = held(running.pid)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert made
    assert Eyes.wait(lambda: not made & programs(), 20)


def test_a_source_stops_while_a_storm_goes_on() -> None:
    with watching(groups=["process", "files"], fold_seconds=0) as eyes:
        running = [subprocess.Popen(["/bin/sh", "-c", "while :; do : > /dev/shm/storm; done"]) for _ in range(3)]
        try:
            assert eyes.wait(lambda: len(eyes.events) > 2000)
            started = time.monotonic()
            eyes.stop()
            print(f"stopped after {time.monotonic() - started:.1f} s")
        finally:
            for one in running:
                one.kill()
                one.wait()
        eyes.stop = lambda: None  # type: ignore[method-assign]


def test_a_storm_of_calls_that_fail_does_not_keep_others_of_the_loop_from_running() -> None:
    """execve of what is not there makes records that are no events: who handles them must let others run."""
    text = "import ctypes, time\nlibc = ctypes.CDLL(None)\nend = time.monotonic() + 6\nwhile time.monotonic() < end: libc.execve(b'/nowhere', None, None)\n"
    with watching(groups=["process"]) as eyes:
        longest, last, stop = [0.0], [time.monotonic()], threading.Event()

        async def beat() -> None:
            import asyncio

            while not stop.is_set():
                await asyncio.sleep(0.01)
                now = time.monotonic()
                longest[0], last[0] = max(longest[0], now - last[0]), now

        import asyncio

        beating = asyncio.run_coroutine_threadsafe(beat(), eyes._loop)
        running = [subprocess.Popen([sys.executable, "-S", "-c", text]) for _ in range(3)]
        for one in running:
            one.wait()
        stop.set()
        beating.result(60)
    print(f"the loop stood still for {longest[0]:.2f} s")
    assert longest[0] < 2.0, f"the loop stood still for {longest[0]:.2f} s"


def test_what_tetragon_told_too_is_judged_once() -> None:
    with watching(groups=["process"]) as eyes:
        with subprocess.Popen(["/bin/echo", "told twice"], stdout=subprocess.DEVNULL) as echo:
            echo.wait()

        def told() -> list[Event]:
            return [
                one
                for one in eyes.events
                if isinstance(one.body, ProcessActivity)
                and one.body.process.pid == echo.pid
                and one.body.action == "exec"
            ]

        assert eyes.wait(lambda: bool(told()))
    (ours,) = told()
    assert raw(ours.body.process.binary) == "/bin/echo"
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ours.time_unix_nano // 10**9))
    process = {"exec_id": "x", "pid": echo.pid, "binary": "/bin/echo", "arguments": '"told twice"'}
    line = json.dumps({"process_exec": {"process": process}, "node_name": "node-1", "time": f"{when}.000000000Z"})
    theirs = event_from_json(line.encode())
    assert isinstance(theirs, Event)
    resolver = Resolver()
    assert [resolver(one) is None for one in (theirs, ours)] == [False, True]
    resolver = Resolver()
    assert [resolver(one) is None for one in (ours, theirs)] == [False, True]
