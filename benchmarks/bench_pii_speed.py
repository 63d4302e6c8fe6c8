"""Speed of the PII profiles against presidio-analyzer's own engine, interleaved in blocks of texts, in CPU time.

Every text is new to both; both have seen the first third of each corpus before the clock starts.
"""

import gc
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.app.loading import load_detectors
from agent.app.running import settings_from, surroundings_of
from agent.detectors.pii import PiiConfig, PiiDetector
from agent.detectors.pii.config import ProfileName
from agent.engine import by_kind
from agent.model import Direction
from benchmarks import corpora, reference

# Turn by turn in blocks: text by text, each would mostly measure how cold the other left the processor's caches.
BLOCK = 40
COUNT = int(os.environ.get("BENCH_TEXTS", "1200"))
# The entities that Presidio's default English recognisers and the log profile share.
SHARED_ENTITIES = [
    "EMAIL_ADDRESS",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "US_ITIN",
    "PHONE_NUMBER",
    "CRYPTO",
    "UK_NHS",
    "MEDICAL_LICENSE",
    "US_BANK_NUMBER",
    "US_DRIVER_LICENSE",
    "US_PASSPORT",
]


def compared(
    texts: Sequence[str], theirs: Callable[[str], object], ours: Callable[[str], object]
) -> tuple[float, float]:
    """CPU microseconds per text of both."""
    warm = max(1, len(texts) // 3)
    for text in texts[:warm]:
        theirs(text)
        ours(text)
    clock = time.thread_time
    gc.collect()
    gc.freeze()  # a collection of everything both have loaded is nobody's text
    spent_theirs = spent_ours = 0.0
    for at in range(warm, len(texts), BLOCK):
        block = texts[at : at + BLOCK]
        start = clock()
        for text in block:
            theirs(text)
        middle = clock()
        for text in block:
            ours(text)
        spent_ours += clock() - middle
        spent_theirs += middle - start
    count = len(texts) - warm
    return spent_theirs / count * 1e6, spent_ours / count * 1e6


def row(name: str, baseline: str, bar: float, times: tuple[float, float]) -> None:
    theirs, ours = times
    print(f"{name:<34} {theirs:9.0f} {ours:9.0f} us  {theirs / ours:6.1f} x   bar {bar:>2.0f} x   {baseline}")


def main() -> None:
    presidio = reference.engine()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reeve"
    print(f"{'recorded' if corpora.is_recorded() else 'made'} texts; per text: Presidio, Reeve, ratio")
    exact = PiiDetector(PiiConfig(profiles={"other": "presidio"}), cache_dir=cache)
    short = corpora.short_prompts()[: 2 * COUNT]
    lines, json_lines = corpora.log_lines()[:COUNT], corpora.json_lines()[:COUNT]
    default = "presidio-analyzer, default English recognisers"
    everything = lambda text: presidio.analyze(text, "en")  # noqa: E731
    for name, texts, bar in (
        ("presidio profile, short prompts", short, 25),
        ("presidio profile, 8 KB prompts", corpora.long_prompts(max(20, COUNT // 6)), 10),
        ("presidio profile, log lines", lines, 12),
        ("presidio profile, JSON log lines", json_lines, 10),
    ):
        row(name, default, bar, compared(texts, everything, lambda text: exact.scan(text, "other")))
    logs: ProfileName = "logs"
    direction: Direction = "log"
    narrow = PiiDetector(PiiConfig(profiles={direction: logs}, entities=tuple(SHARED_ENTITIES)), cache_dir=cache)
    restricted = "presidio-analyzer, the same 12 entities, threshold 0.5"
    some = lambda text: presidio.analyze(text, "en", entities=SHARED_ENTITIES, score_threshold=0.5)  # noqa: E731
    for name, texts in (("logs profile, log lines", lines), ("logs profile, JSON log lines", json_lines)):
        row(name, restricted, 30, compared(texts, some, lambda text: narrow.scan(text, direction)))
    settings = settings_from()
    detectors, _ = by_kind(load_detectors(settings, surroundings_of(settings)))
    for name, texts, where in (
        ("as shipped (+ secrets), log lines", lines, direction),
        ("as shipped (+ secrets), prompts", short, "prompt"),
    ):
        whole = lambda text, where=where: [one.scan(text, where) for one in detectors]  # noqa: E731
        row(name, default, 0, compared(texts, everything, whole))


if __name__ == "__main__":
    main()
