"""`reeve run` against both peers at once with the shipped policies, while they are killed, restarted and stalled.

At the end every event that the peers say they sent is delivered, put aside with a reason, or covered by a loss report.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent._pb import tetragon_pb2 as pb

PLANTED = {"mail": "jane.drill@example.com", "card": "4111 1111 1111 1111", "token": "sk-drillZk3Jq8Xw0LmN5pRt7VyB2cDf"}


def events_with_personal_data(path: Path, count: int = 400) -> None:
    """Execs whose command lines hold what must never be written."""
    with path.open("wb") as file:
        for number in range(count):
            message = pb.GetEventsResponse(node_name="node-a")
            message.time.seconds, message.time.nanos = 1_795_000_000 + number, number
            process = message.process_exec.process
            process.exec_id, process.pid.value = f"node:{number}", number + 1
            process.binary = "/usr/bin/curl"
            process.pod.namespace, process.pod.name = "apps", "notebook-0"
            process.pod.container.name = "main"
            if number % 10 == 0:
                process.arguments = f'-d "{{\\"prompt\\": \\"I am {PLANTED["mail"]}, my card is {PLANTED["card"]}\\"}}" -H "Authorization: Bearer {PLANTED["token"]}"'
            if number % 10 == 1:
                variable = process.environment_variables.add()
                variable.Key, variable.Value = "OPENAI_API_KEY", PLANTED["token"]
            if number % 10 == 2:
                message.process_kprobe.process.CopyFrom(process)  # which takes the exec's place
                message.process_kprobe.function_name = "security_file_permission"
                argument = message.process_kprobe.args.add()
                argument.file_arg.path = f"/home/{PLANTED['mail']}/notes"
                message.process_kprobe.args.add().int_arg = 4
            raw = message.SerializeToString()
            file.write(len(raw).to_bytes(4, "big") + raw)


class Running:
    """The agent as a process, and what its metrics say."""

    def __init__(self, folder: Path, config: str, port: int) -> None:
        self.folder, self.port = folder, port
        file = folder / "agent.yaml"
        file.write_text(config)
        self.out, self.err = (folder / "out.log").open("wb"), (folder / "err.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(file)], stdout=self.out, stderr=self.err
        )

    def metrics(self) -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        return {
            (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    async def until(self, holds, seconds=60.0):
        deadline = time.monotonic() + seconds
        while True:
            try:
                metrics = await asyncio.to_thread(self.metrics)
                if holds(metrics):
                    return metrics
            except OSError:
                metrics = {}
            assert self.process.poll() is None, (self.folder / "err.log").read_text()[-3000:]
            assert time.monotonic() < deadline, {
                name: value for name, value in metrics.items() if "source" in str(name)
            }
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, 30)
        self.out.close()
        self.err.close()


def of(metrics, name, source, **labels):
    wanted = (name, *(f"{key}={value}" for key, value in sorted({"source": source, **labels}.items())))
    return metrics.get(wanted, 0.0)


def summed(metrics, name, source):
    return sum(value for key, value in metrics.items() if key[0] == name and f"source={source}" in key)


def read_of(metrics, source):
    return of(metrics, "reeve_source_read_total", source) + of(metrics, "reeve_source_reported_total", source)


def became_of(metrics, source):
    return (
        of(metrics, "reeve_events_admitted_total", source)
        + summed(metrics, "reeve_decode_errors_total", source)
        + summed(metrics, "reeve_source_set_aside_total", source)
    )


@pytest.mark.parametrize("workers", [1, 2])
async def test_both_streams_through_kills_restarts_and_stalls(workers, tetragon_peer, hubble_peer, tmp_path, free_port):
    events_with_personal_data(tmp_path / "events.bin")
    tetragon = tetragon_peer(
        "-events", str(tmp_path / "events.bin"), "-listen", f"unix://{tmp_path}/t.sock", "-queue", "500"
    )
    hubble = hubble_peer("-listen", f"unix://{tmp_path}/h.sock", "-ring", "1023")
    await hubble.tell("/emit?kind=agent&n=3&direct=1")
    state = tmp_path / "state"
    agent = Running(
        tmp_path,
        f"""
apiVersion: reeve.dev/v1alpha1
kind: AgentConfig
node: node-a
state_dir: {state}
pipeline: {{workers: {workers}}}
http: {{listen: '127.0.0.1:{free_port}'}}
sources:
  tetragon:
    address: {tetragon.address}
    retry_first_seconds: 0.1
    retry_longest_seconds: 0.5
    policy_seconds: 0.5
    metrics_url: {tetragon.metrics_url}
    metrics_seconds: 0.3
  hubble:
    address: {hubble.address}
    retry_first_seconds: 0.1
    retry_longest_seconds: 0.5
sinks:
  stdout: {{format: ocsf}}
  audit: {{record: notable}}
  policyreport: {{flush_seconds: 1}}
""",
        free_port,
    )
    try:
        await agent.until(lambda metrics: of(metrics, "reeve_source_connected", "tetragon") == 1)
        await agent.until(lambda metrics: of(metrics, "reeve_source_connected", "hubble") == 1)

        # 1. Quiet operation: every event of both arrives.
        await tetragon.tell("/emit?n=400&block=1")
        await hubble.tell("/emit?kind=dns&n=5&name=api.openai.com.&address=203.0.113.7&direct=1")
        await hubble.tell("/emit?kind=synworld&n=5&address=203.0.113.7&direct=1")
        await hubble.tell(f"/emit?kind=http&n=5&token={PLANTED['token']}&direct=1")
        url = f"http://vllm.models:8000/v1/embeddings?api_key={PLANTED['token']}&user={PLANTED['mail']}"
        await hubble.tell(f"/emit?kind=http&n=2&direct=1&url={urllib.parse.quote(url, safe='')}")
        await hubble.tell("/emit?kind=denied&n=30&direct=1")
        await hubble.tell("/emit?kind=agent&n=1&direct=1")
        await agent.until(lambda metrics: of(metrics, "reeve_source_read_total", "tetragon") == 400)

        # 2. Tetragon stalls with a short queue: what it dropped is read off its counter.
        await tetragon.tell("/stall?on=1")
        await tetragon.tell("/emit?n=2000")
        await tetragon.tell("/stall?on=0")
        stats = await tetragon.until(lambda stats: stats["queued"] == 0)
        await agent.until(
            lambda metrics: (
                of(metrics, "reeve_events_lost_total", "tetragon", reason="tetragon_stream_queue")
                == stats["overflowed"]
                > 0
            )
        )
        before = await agent.until(lambda metrics: of(metrics, "reeve_source_read_total", "tetragon") == stats["sent"])
        assert stats["emitted"] == of(before, "reeve_source_read_total", "tetragon") + stats["overflowed"]

        # 3. Hubble stalls and its ring is overtaken: lost events, summed.
        await hubble.tell("/stall?on=1")
        await hubble.tell("/emit?kind=denied&n=5000&direct=1")
        await hubble.tell("/stall?on=0")
        await hubble.tell("/emit?kind=agent&n=1&direct=1")
        await agent.until(
            lambda metrics: (
                of(metrics, "reeve_events_lost_total", "hubble", reason="hubble_ring_buffer")
                >= hubble.stats()["sent_lost_sum"]
                > 0
            )
        )

        # 4. Both are killed in the middle of a burst and come back.
        killing = [
            asyncio.create_task(peer.tell(path))
            for peer, path in (
                (tetragon, "/emit?n=100000&rate=2000"),
                (hubble, "/emit?kind=mix&n=100000&rate=500&direct=1"),
            )
        ]
        await asyncio.sleep(1.5)
        before_kill = tetragon.stats()
        for peer in (tetragon, hubble):
            peer.kill()
        await asyncio.gather(*killing, return_exceptions=True)
        await asyncio.sleep(0.5)
        for peer in (tetragon, hubble):
            peer.start()
        await hubble.tell("/emit?kind=agent&n=3&direct=1")
        await tetragon.until(lambda stats: stats["streams"] == 1)
        await agent.until(
            lambda metrics: (
                of(metrics, "reeve_source_connections_total", "hubble") >= 2
                and of(metrics, "reeve_source_connections_total", "tetragon") >= 2
            )
        )
        read_before = of(await asyncio.to_thread(agent.metrics), "reeve_source_read_total", "tetragon")
        # What the killed one said it had sent and we do not have was on its way: the gap's report stands for it.
        assert before_kill["emitted"] >= read_before - 2000 * 2
        await tetragon.tell("/emit?n=300&block=1")
        await hubble.tell("/emit?kind=synworld&n=10&address=203.0.113.7&direct=1")
        await hubble.tell("/emit?kind=agent&n=1&direct=1")
        await agent.until(lambda metrics: of(metrics, "reeve_source_read_total", "tetragon") == read_before + 300)

        # 5. A policy that does not load.
        await tetragon.tell("/policies", body=b'[{"name": "files", "state": "TP_STATE_LOAD_ERROR"}]')
        await agent.until(
            lambda metrics: (
                metrics.get(
                    (
                        "reeve_policy_results_total",
                        "policy=tracing-policies",
                        "rule=every-tracing-policy-is-in-force",
                        "severity=high",
                        "status=fail",
                    ),
                    0,
                )
                >= 1
            )
        )
        # What was read a moment ago may be neither in flight nor an event yet.
        metrics = await agent.until(
            lambda metrics: all(
                of(metrics, "reeve_events_in_flight", source) == 0
                and read_of(metrics, source) == became_of(metrics, source)
                for source in ("tetragon", "hubble")
            )
        )
    finally:
        await agent.end()

    assert metrics["reeve_ledger_balanced",] == 1
    for source in ("tetragon", "hubble"):
        # Everything read became an event, an error or was put aside; folded repetitions may still wait, none here.
        assert read_of(metrics, source) == became_of(metrics, source), source
        delivered = of(metrics, "reeve_events_ended_total", source, outcome="delivered")
        assert of(metrics, "reeve_events_admitted_total", source) == delivered + summed(
            metrics, "reeve_events_dropped_total", source
        )
        assert ("reeve_events_lost_total", "reason=reconnect_gap", f"source={source}") in metrics

    # Found in command lines, environments, paths, URLs and headers ...
    for direction, entity in (
        ("process", "EMAIL_ADDRESS"),
        ("process", "CREDIT_CARD"),
        ("file", "EMAIL_ADDRESS"),
        ("network", "URL_WITH_TOKEN"),
    ):
        names = (f"direction={direction}", f"entity={entity}")
        assert any(key[0] == "reeve_findings_total" and set(names) <= set(key) for key in metrics), names

    # ... told, and written nowhere.
    written = b"".join(
        path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix != ".bin" and "peer" not in path.name
    )
    audit = b"".join(path.read_bytes() for path in (state / "audit").rglob("*") if path.is_file())
    for value in PLANTED.values():
        assert value.encode() not in written
    for policy in (
        b"unapproved-llm-provider",
        b"plaintext-llm-traffic",
        b"denied-bursts",
        b"credentials-in-requests",
        b"tracing-policies",
        b"blindness",
    ):
        assert policy in audit, policy
    assert b'"is_window_complete":false' in audit
    verify = subprocess.run(
        [sys.executable, "-m", "agent", "audit", "verify", str(state / "audit")], capture_output=True, text=True
    )
    assert verify.returncode == 0, verify.stderr
    assert json.loads((tmp_path / "out.log").read_bytes().splitlines()[0])
