"""Texts to measure on: recorded ones where the shared data are at hand, made ones elsewhere.  All from a fixed seed."""

import json
import lzma
import random
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SEED = 20261124


def is_recorded() -> bool:
    return (DATA / "logs").is_dir()


def _lines(path: Path) -> list[str]:
    with lzma.open(path, "rt", encoding="utf-8", errors="replace") as file:
        return [line for line in file.read().split("\n") if line]


def log_lines() -> list[str]:
    """Lines of loghub's systems (or made ones), mixed."""
    chance = random.Random(SEED)
    if not is_recorded():
        return [
            f"2026-11-23 10:{n % 60:02}:{n % 59:02},{n % 1000:03} INFO app.worker [{n}] request id={n * 7919} from "
            f"10.0.{n % 250}.{n % 99}:{40000 + n} took {n * 37 % 9999} ms, {chance.getrandbits(64):016x}"
            for n in range(4000)
        ]
    lines = [line for path in sorted((DATA / "logs" / "loghub").glob("*.xz")) for line in _lines(path) if line]
    chance.shuffle(lines)
    return lines


def json_lines() -> list[str]:
    """The same lines as structured logs: time, level, trace and span, pod, duration."""
    chance = random.Random(SEED)
    return [
        json.dumps(
            {
                "time": f"2026-11-23T10:{n % 60:02}:{n % 59:02}.{n % 1000:03}Z",
                "level": "info",
                "msg": line,
                "trace_id": f"{chance.getrandbits(128):032x}",
                "span_id": f"{chance.getrandbits(64):016x}",
                "kubernetes": {
                    "pod_name": f"app-{n:x}-abcde",
                    "namespace": "prod",
                    "pod_ip": f"10.0.{n % 250}.{n % 240}",
                },
                "duration_ms": chance.random() * 100,
            }
        )
        for n, line in enumerate(log_lines()[:4000])
    ]


def prompts() -> list[str]:
    if not is_recorded():
        return [
            f"Write a short text about topic number {n} for {n % 30} readers who know little about it. Use plain words, "
            f"and sign it with jane{n}@example.com." * (1 + n % 7)
            for n in range(1200)
        ]
    return [str(json.loads(line)["text"]) for line in _lines(DATA / "logs" / "arena_hard_prompts.jsonl.xz")]


def short_prompts() -> list[str]:
    """Prompts in pieces of 100 to 500 characters."""
    pieces = [text[start : start + 500] for text in prompts() for start in range(0, len(text), 500)]
    return [piece for piece in pieces if len(piece) >= 100]


def long_prompts(count: int = 200) -> list[str]:
    """Several prompts after each other, about 8 KB."""
    chance = random.Random(SEED)
    texts: list[str] = []
    pool = prompts()
    while len(texts) < count:
        text = ""
        while len(text) < 8192:
            text += chance.choice(pool) + "\n\n"
        texts.append(text[:9300])
    return texts


def labelled() -> list[dict[str, Any]]:
    """Sentences with labelled spans (`text`, `spans`: start, end, type); empty without the shared data."""
    path = DATA / "pii" / "presidio_synth_v2.jsonl.xz"
    return [json.loads(line) for line in _lines(path)] if path.exists() else []
