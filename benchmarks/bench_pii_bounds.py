"""Bounds: 64 KB of hostile text in CPU time, and memory over many lines that are all new.

Hostile texts are those known to stall presidio-analyzer, others of their kind, and the worst of a seeded search over
repeated fragments.  Each is measured on detectors that never saw it.  The baseline, Presidio itself, gets 2 KB.
"""

import os
import random
import time

from agent.app.loading import load_detectors
from agent.app.running import settings_from, surroundings_of
from agent.detectors.pii import PiiConfig, PiiDetector
from agent.model import Direction
from benchmarks import corpora, reference

SIZE = 64 * 1024
LINES = int(os.environ.get("BENCH_LINES", "200000"))
FRAGMENTS = [
    "a.",
    "1-",
    "a@",
    "1 ",
    "1.",
    "::",
    "a:",
    "(1)",
    "+1 ",
    "00 ",
    "1/",
    "xn--",
    "www.",
    ".com",
    "AB12 ",
    "-----BEGIN ",
]
FRAGMENTS += [
    "name: A",
    "Mr. A",
    "12 Aa ",
    '{"a":',
    "\\u0041",
    "%41",
    "ssn ",
    "card 4",
    "phone ",
    "!",
    "\u0130d1",
    "é1",
    "1\u00a0",
]
KNOWN = {
    "a. repeated (URL)": "a." * SIZE,
    "a.a.a.@ (e-mail)": "a." * (SIZE // 2 - 1) + "@",
    "digits": "1234567890" * SIZE,
    "1- repeated (phones)": "1-" * SIZE,
    "a@ repeated": "a@" * SIZE,
    "addresses, dense": "1.2.3.4 " * SIZE,
    "cards, dense": "4111111111111111 " * SIZE,
    "phone numbers, all new": "".join(f"212-555-{n:04} " for n in range(10_000)),
    "exclamation marks": "ssn " + "!" * SIZE,
}


def clock(detectors: list[tuple[object, Direction]], text: str) -> tuple[float, str]:
    start = time.process_time()
    told = ""
    for detector, direction in detectors:
        told = detector.scan(text, direction).unscanned or told  # type: ignore[attr-defined]
    return (time.process_time() - start) * 1e3, told


def main() -> None:
    settings = settings_from()
    pii, secrets = sorted(load_detectors(settings, surroundings_of(settings)), key=lambda one: one.name)
    exact = PiiDetector(PiiConfig(profiles={"other": "presidio"}), cache_dir=surroundings_of(settings).cache_dir)
    profiles: dict[str, list[tuple[object, Direction]]] = {
        "logs": [(pii, "log"), (secrets, "log")],
        "prompts": [(pii, "prompt"), (secrets, "prompt")],
        "presidio": [(exact, "other")],
    }
    for detectors in profiles.values():
        clock(detectors, "mail jane@example.com, card 4111 1111 1111 1111, call 212-555-0187 \u0663 www.a.com \u0130")
    presidio = reference.engine()
    reference.findings(presidio, "mail jane@example.com")
    print(f"{'64 KB of':<26}{'logs':>9}{'prompts':>9}{'presidio':>10}  ms CPU; bar 50    plain Presidio on 2 KB of it")
    for name, text in KNOWN.items():
        spent = [clock(detectors, text[:SIZE]) for detectors in profiles.values()]
        start = time.process_time()
        reference.findings(presidio, text[:2048])
        theirs = (time.process_time() - start) * 1e3
        cells = "".join(f"{one:9.1f}" for one, _ in spent)
        print(f"{name:<26}{cells}   {'told as ' + spent[0][1] if spent[0][1] else '':<20} {theirs:9.0f} ms")
    chance = random.Random(corpora.SEED)
    worst = dict.fromkeys(profiles, (0.0, ""))
    for _ in range(150):
        unit = "".join(chance.choice(FRAGMENTS) for _ in range(chance.randint(1, 5)))
        text = (unit * SIZE)[:SIZE]
        for profile, detectors in profiles.items():
            worst[profile] = max(worst[profile], (clock(detectors, text)[0], unit))
    for profile, (spent_ms, unit) in worst.items():
        print(f"worst of 150 searched, {profile:<9} {spent_ms:6.1f} ms   unit {unit!r}")
    memory(pii, exact)


def resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(pii: object, exact: PiiDetector) -> None:
    """Lines of which each is new: identifiers, times, addresses, words."""
    chance = random.Random(corpora.SEED)
    for name, detector, direction in (("logs", pii, "log"), ("presidio", exact, "other")):
        sizes = [resident()]
        for number in range(LINES):
            line = f"2026-11-24 {number} id={chance.getrandbits(128):032x} w{chance.getrandbits(40):x}.q took {number * 7} account 10.{number % 250}.1.{number % 99}"
            detector.scan(line, direction)  # type: ignore[attr-defined]
            if number in (LINES // 10, LINES // 2):
                sizes.append(resident())
        sizes.append(resident())
        shown = ", ".join(f"{size:.0f}" for size in sizes)
        print(f"resident MB at the start, a tenth, the middle and the end of {LINES} new lines, {name}: {shown}")


if __name__ == "__main__":
    main()
