"""Live streams: what an event costs from the socket on, against grpcio and against a Go client that prints events.

CPU time of the reading process for each event, everything in one run and in turn.  `BENCH_SUSTAINED` is for how many
seconds 5 000 events/s are offered at the end (20; the bar is 300).

    receive and parse   our reader with FromString against grpcio's synchronous client with FromString: bar 5 x
    whole way           socket, decode, tree, detectors, 50 policies of which 3 concern each event, audit log
                        against a Go client that receives and prints JSON to /dev/null, and Tetragon's own CLI as measured
                        elsewhere (78 and 305 us CPU for the two sizes): bar 1 x of the CLI, stretch 2 x
    sustained           5 000 events/s: drops, time from sending to the verdict, memory
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent._pb import tetragon_pb2
from agent.app.loading import load_detectors, load_judge, make_engine
from agent.app.running import freeze_what_stays, resolver_of, settings_from, surroundings_of
from agent.model import Evaluation, Outcome
from agent.pipeline import Ledger, Line, LineSettings
from agent.sinks.audit.config import AuditConfig
from agent.sinks.audit.sink import build as build_audit
from agent.sources.rpc import ConnectionConfig, transport_for
from agent.sources.tetragon.config import TetragonConfig
from agent.sources.tetragon.source import TetragonSource
from benchmarks.peers import Peer, program, serving, write_events

METHOD = "/tetragon.FineGuidanceSensors/GetEvents"
# facts of Tetragon's own CLI, printing JSON to /dev/null on the same kind of machine, microseconds of CPU for each event.
CLI = {"small": 78.0, "large": 305.0}
COUNT = {"small": 60_000, "large": 30_000}
parse = tetragon_pb2.GetEventsResponse.FromString


def policies(folder: Path, *, fail: bool) -> Path:
    """50 policies; 3 concern every event of the recording's kinds, the others other namespaces."""
    folder.mkdir()
    conditions = (
        'process.binary != "/bin/none"',
        "process.uid >= -1",
        '!process.arguments.contains("nothing like it")',
    )
    for number in range(50):
        match = "kinds: [Process, File, Network, Kernel]"
        if number >= 3:
            match = f"kinds: [Process, File, Network, Kernel], namespaces: [team-{number}]"
        condition = "process.pid == -5" if fail else conditions[number % 3]
        (folder / f"policy-{number}.yaml").write_text(
            "apiVersion: reeve.dev/v1alpha1\nkind: RuntimePolicy\n"
            f"metadata: {{name: policy-{number}}}\n"
            "spec:\n  rules:\n    - name: rule\n"
            f"      match: {{any: [{{resources: {{{match}}}}}]}}\n"
            "      validate:\n        message: '{{ process.binary }} in {{ resource.namespace }}'\n"
            f"        cel: {{expressions: [{{expression: '{condition}'}}]}}\n"
        )
    return folder


def start_emitting(peer: Peer, count: int, rest: str = "") -> threading.Thread:
    while peer.ask("/stats", "GET")["streams"] < 1:
        time.sleep(0.02)
    thread = threading.Thread(target=peer.ask, args=(f"/emit?n={count}&block=1{rest}",))
    thread.start()
    return thread


def ours(peer: Peer, count: int) -> float:
    """Microseconds of CPU for each event received and parsed by our reader."""

    async def run() -> float:
        transport = transport_for(ConnectionConfig(address=peer.address))
        stream = await transport.stream(METHOD, b"")
        emitting = await asyncio.to_thread(start_emitting, peer, count)
        got, began = 0, time.process_time()
        while got < count:
            for message in await stream.batch() or ():
                parse(message)
                got += 1
        seconds = time.process_time() - began
        await asyncio.to_thread(emitting.join)
        await stream.close()
        await transport.close()
        return seconds / count * 1e6

    return asyncio.run(run())


def grpcio(peer: Peer, count: int) -> float:
    """The same through grpcio's synchronous client."""
    import grpc

    with grpc.insecure_channel(peer.address, options=[("grpc.default_authority", "localhost")]) as channel:
        call = channel.unary_stream(METHOD, response_deserializer=parse)(b"")
        emitting = start_emitting(peer, count)
        began = time.process_time()
        for got, _ in enumerate(call, 1):
            if got == count:
                break
        seconds = time.process_time() - began
        emitting.join()
        call.cancel()
    return seconds / count * 1e6


def printing(binary: Path, peer: Peer, count: int) -> float:
    """A Go client that receives events and prints them as JSON to /dev/null."""
    command = [str(binary), "print", "-connect", peer.address, "-n", str(count), "-out", "/dev/null", "-json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    emitting = start_emitting(peer, count)
    out, _ = process.communicate()
    emitting.join()
    return float(json.loads(out)["cpu_seconds"]) / count * 1e6


class Last:
    """A sink that sees the verdicts: how many, and how long each took from the peer's stamp."""

    def __init__(self, *, is_timed: bool = False) -> None:
        self.name = "last"
        self.count = 0
        self.latencies = [0] * 100_000  # counts by tenths of a millisecond: what it keeps does not grow
        self._is_timed = is_timed

    async def open(self) -> None:
        """Nothing to get ready."""

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        now = time.time_ns()
        for evaluation in evaluations:
            body = evaluation.event.body
            self.count += getattr(body, "count", 1)
            if self._is_timed:
                tenths = (now - evaluation.event.time_unix_nano) // 100_000
                self.latencies[min(max(tenths, 0), len(self.latencies) - 1)] += 1
        return [Outcome.DELIVERED] * len(evaluations)

    async def close(self) -> None:
        """Nothing to let go."""


class Whole:
    """Everything from the socket to the audit log, in this process."""

    def __init__(
        self, peer: Peer, folder: Path, *, fail: bool, is_timed: bool = False, when_full: str = "block"
    ) -> None:
        settings = settings_from(policies=(policies(folder / "policies", fail=fail),), state_dir=folder)
        surroundings = surroundings_of(settings)
        self.peer = peer
        self.ledger = Ledger()
        self.last = Last(is_timed=is_timed)
        config = TetragonConfig(address=peer.address, policy_seconds=0.0, fold_seconds=0.0)
        self.source = TetragonSource(config, "tetragon", "bench")
        audit = build_audit(AuditConfig(record="notable"), "audit", surroundings)
        engine = make_engine(settings, load_detectors(settings, surroundings), load_judge(settings.policies), bytes(32))
        self.line = Line(
            sources=[self.source],
            sinks=[audit, self.last],
            evaluator=engine,
            ledger=self.ledger,
            resolve=resolver_of(settings),
            settings=LineSettings(when_full={"tetragon": "drop_newest" if when_full == "drop_newest" else "block"}),
        )

    async def run(self, count: int, warm: int) -> float:
        """Microseconds of CPU for each event after `warm` first ones."""
        freeze_what_stays()
        stop = asyncio.Event()
        running = asyncio.create_task(self.line.run(stop))
        emitting = await asyncio.to_thread(start_emitting, self.peer, warm + count)
        while self.last.count < warm:
            await asyncio.sleep(0.005)
        began, seen = time.process_time(), self.last.count
        while self.last.count < warm + count:
            await asyncio.sleep(0.005)
        seconds = time.process_time() - began
        await asyncio.to_thread(emitting.join)
        stop.set()
        await running
        return seconds / (warm + count - seen) * 1e6


def whole(peer: Peer, count: int, *, fail: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(Whole(peer, Path(folder), fail=fail).run(count, count // 5))


def median(measure: Callable[[], float], times: int = 3) -> float:
    return statistics.median(measure() for _ in range(times))


def sustained(binary: Path, events: Path, seconds: float) -> None:
    """5 000 events/s for a while: what was dropped, how late verdicts are, whether memory grows."""
    rate = 5_000
    with serving(binary, events) as peer, tempfile.TemporaryDirectory() as folder:

        async def run() -> None:
            one = Whole(peer, Path(folder), fail=False, is_timed=True, when_full="drop_newest")
            freeze_what_stays()
            stop = asyncio.Event()
            running = asyncio.create_task(one.line.run(stop))
            emitting = await asyncio.to_thread(_emit_at, peer, int(rate * seconds), rate)
            memory: list[float] = []
            began, wall = time.process_time(), time.perf_counter()
            while emitting.is_alive():
                await asyncio.sleep(1.0)
                memory.append(_resident())
            await asyncio.sleep(1.0)
            cpu = (time.process_time() - began) / (time.perf_counter() - wall)
            stop.set()
            await running
            stats = peer.ask("/stats", "GET")
            account = one.ledger.source("tetragon")
            counts = one.last.latencies
            total = sum(counts)

            def at(share: float) -> float:
                seen = 0
                for tenths, count in enumerate(counts):
                    seen += count
                    if seen >= total * share:
                        return tenths / 10
                return float("nan")

            print(
                f"  {seconds:.0f} s at {rate}/s: offered {stats['emitted']}, overflowed in the peer {stats['overflowed']}, "
                f"read {account.read}, dropped {account.dropped.total()}, delivered {account.delivered}, {cpu:.2f} cores"
            )
            print(
                f"  from sending to verdict: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, p99.9 {at(0.999):.1f} ms, "
                f"worst {at(1.0):.1f} ms (bar: p99 under 100 ms)"
            )
            quarter = max(1, len(memory) // 4)
            print(
                f"  resident: {memory[0]:.0f} MB at the start, {statistics.mean(memory[quarter : 2 * quarter]):.0f} in the "
                f"second quarter, {statistics.mean(memory[-quarter:]):.0f} in the last, {memory[-1]:.0f} at the end"
            )

        asyncio.run(run())


def _emit_at(peer: Peer, count: int, rate: int) -> threading.Thread:
    while peer.ask("/stats", "GET")["streams"] < 1:
        time.sleep(0.02)
    thread = threading.Thread(target=peer.ask, args=(f"/emit?n={count}&rate={rate}&retime=1",))
    thread.start()
    return thread


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    binary = program()
    if binary is None:
        print("SKIPPED: the peer needs Go to be built")
        return
    seconds = float(os.environ.get("BENCH_SUSTAINED", "20"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in ("small", "large"):
            events = write_events(size, folder)
            if events is None:
                print("SKIPPED: the recorded events are not at hand")
                return
            count = COUNT[size]
            with serving(binary, events) as peer:
                reader, other = median(lambda: ours(peer, count)), median(lambda: grpcio(peer, count // 3))
                go = median(lambda: printing(binary, peer, count))
                passing = median(lambda: whole(peer, count, fail=False))
                failing = median(lambda: whole(peer, count // 3, fail=True))
            print(
                f"{size} events ({peer.told['events']} different, mean {events.stat().st_size // peer.told['events'] - 4} B)"
            )
            print(
                f"  receive and parse {reader:6.1f} us   grpcio sync {other:6.1f} us   {other / reader:5.1f} x (bar 5)"
            )
            for what, cost in (("3 policies pass", passing), ("3 policies fail, each event audited", failing)):
                print(
                    f"  whole way, {what}: {cost:6.1f} us = {1e6 / cost:6.0f} events/CPU-s   Go client printing {go:6.1f} us"
                    f" ({go / cost:4.2f} x)   Tetragon's CLI {CLI[size]:5.0f} us ({CLI[size] / cost:4.2f} x, bar 1, stretch 2)"
                )
        sys.stdout.flush()
        large = write_events("large", folder)
        assert large is not None
        sustained(binary, large, seconds)


if __name__ == "__main__":
    main()
