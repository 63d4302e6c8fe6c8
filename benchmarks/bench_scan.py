"""Scanning speed of the profiles against Presidio's own engine, interleaved text by text, in CPU time."""

import lzma
import time
from pathlib import Path

from agent.app.loading import load_detectors
from agent.app.running import settings_from, surroundings_of
from agent.detectors.pii import PiiConfig, PiiDetector
from agent.model import Direction

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "logs"
MADE_LOGS = [
    f"2026-11-23 10:00:{n % 60:02},123 INFO app.worker [{n}] request id={n * 7919} from 10.0.{n % 250}.{n % 99} took {n} ms"
    for n in range(400)
]
MADE_PROMPTS = [
    f"Write a short text about topic number {n}, for {n % 30} readers who know little about it." for n in range(400)
]


def logs() -> list[str]:
    files = sorted((SHARED / "loghub").glob("*.xz")) if SHARED.is_dir() else []
    return [
        line for path in files for line in lzma.open(path, "rt", errors="replace").read().splitlines()[:60]
    ] or MADE_LOGS


def prompts() -> list[str]:
    path = SHARED / "arena_hard_prompts.jsonl.xz"
    if not path.exists():
        return MADE_PROMPTS
    import json

    return [json.loads(line)["text"][:2000] for line in lzma.open(path, "rt").read().splitlines()[:300]]


settings = settings_from()
detectors = load_detectors(settings, surroundings_of(settings))
plain = PiiDetector(PiiConfig(profiles={"other": "presidio"}))
CORPORA: list[tuple[str, list[str], Direction]] = [("log lines", logs(), "log"), ("prompts", prompts(), "prompt")]
for name, texts, direction in CORPORA:
    ours = theirs = 0.0
    found = found_plain = 0
    for text in texts:
        start = time.process_time()
        for detector in detectors:
            found += len(detector.scan(text, direction).matches)
        middle = time.process_time()
        found_plain += len(plain.scan(text, "other").matches)
        theirs += time.process_time() - middle
        ours += middle - start
    count = len(texts)
    print(
        f"{name:<10} {ours / count * 1e6:8.0f} us per text (pii and secrets), Presidio's default {theirs / count * 1e6:8.0f} us: "
        f"{theirs / ours:5.1f} x faster; findings per 1000: {found * 1000 / count:.0f} against {found_plain * 1000 / count:.0f}"
    )
