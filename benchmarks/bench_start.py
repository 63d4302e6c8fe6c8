"""Start to ready and resident memory of `reeve run`, against a process that imports Presidio the documented way."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

READY_SECONDS, RESIDENT_MB = 3.0, 150.0
ROUNDS = 5
BASELINE = """
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NoOpNlpEngine
registry = RecognizerRegistry()
registry.load_predefined_recognizers(languages=["en"])
registry.remove_recognizer("SpacyRecognizer")
engine = NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "no_op"}])
AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"]).analyze("my SSN is 536-22-8714", "en")
import time; print("ready", flush=True); time.sleep(60)
"""


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def agent(directory: Path) -> tuple[float, float, float]:
    """Seconds to ready, resident MB when ready, and after 2 000 log lines."""
    pods = directory / "pods" / "ns_pod_uid" / "app"
    pods.mkdir(parents=True)
    config = directory / "config.json"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "reeve.dev/v1alpha1",
                "kind": "AgentConfig",
                "state_dir": str(directory / "state"),
                "http": {"listen": "127.0.0.1:0"},
                "sources": {"containerlogs": {"paths": [str(directory / "pods")]}},
                "sinks": {"audit": {}, "policyreport": {}},
            }
        )
    )
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "-c", str(config)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    port = json.loads(process.stderr.readline())["port"]

    def metrics(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as not_ready:
            with not_ready:
                return str(not_ready.code)

    while '"ready": true' not in metrics("/readyz"):
        time.sleep(0.01)
    seconds, ready = time.monotonic() - started, resident_mb(process.pid)
    with (pods / "0.log").open("w") as log:
        for number in range(2000):
            stamp = f"2026-11-23T10:00:00.{number:09}Z"
            log.write(f"{stamp} stdout F request {number} of user{number}@acme.com took {number} ms from 10.0.0.1\n")
    while 'reeve_events_ended_total{outcome="delivered",source="containerlogs"} 2000.0' not in metrics("/metrics"):
        time.sleep(0.1)
    worked = resident_mb(process.pid)
    process.terminate()
    process.wait(30)
    return seconds, ready, worked


def presidio() -> tuple[float, float]:
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", BASELINE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    seconds, size = time.monotonic() - started, resident_mb(process.pid)
    process.kill()
    process.wait()
    return seconds, size


ours, theirs = [], []
for _ in range(ROUNDS):
    with tempfile.TemporaryDirectory() as directory:
        ours.append(agent(Path(directory)))
    theirs.append(presidio())
seconds, ready, worked = (statistics.median(column) for column in zip(*ours, strict=True))
base_seconds, base_size = (statistics.median(column) for column in zip(*theirs, strict=True))
print(
    f"start to ready (wall)      {seconds:6.2f} s   {base_seconds / seconds:5.2f} x faster than importing Presidio ({base_seconds:.2f} s)"
)
print(
    f"resident when ready        {ready:6.1f} MB  {base_size / ready:5.2f} x smaller than Presidio alone ({base_size:.1f} MB)"
)
print(f"resident after 2000 lines  {worked:6.1f} MB")
print(
    f"bars: ready under {READY_SECONDS} s: {'yes' if seconds < READY_SECONDS else 'NO'}; "
    f"resident under {RESIDENT_MB} MB: {'yes' if max(ready, worked) < RESIDENT_MB else 'NO'}"
)
