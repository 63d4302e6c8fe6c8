"""What the profiles find and what they report by mistake: F1 on labelled sentences, findings per 1 000 log lines.

A span counts if its type is right and it covers its label by half (intersection over union); Presidio's own default
engine at threshold 0.4 is the baseline.  Without the shared data there is nothing to measure, and it says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from agent.app.loading import load_detectors, make_engine
from agent.app.running import settings_from, surroundings_of
from agent.app.scanning import engine_scanner
from agent.model import Direction
from benchmarks import corpora, reference

BARS = {
    "EMAIL_ADDRESS": 0.99,
    "IBAN_CODE": 0.99,
    "US_SSN": 0.99,
    "IP_ADDRESS": 0.99,
    "CREDIT_CARD": 0.95,
    "PHONE_NUMBER": 0.85,
}
SHOWN = (*BARS, "US_DRIVER_LICENSE", "PERSON", "LOCATION")
SAME = {"ADDRESS": "LOCATION", "STREET_ADDRESS": "LOCATION", "GPE": "LOCATION"}
DIRECTIONS: dict[str, Direction] = {"logs": "log", "prompts": "prompt"}
Span = tuple[str, int, int]
Find = Callable[[str], Iterable[Span]]


def finder(profile: str, entities: Iterable[str] = ()) -> Find:
    direction = DIRECTIONS[profile]
    settings = settings_from(detectors={"pii": {"profiles": {direction: profile}, "entities": list(entities)}})
    engine = make_engine(settings, load_detectors(settings, surroundings_of(settings)), None, b"k" * 32)
    scan = engine_scanner(engine, direction)
    return lambda text: [(SAME.get(one.entity, one.entity), one.start, one.end) for one in scan(text)[0]]


def scores(find: Find) -> dict[str, tuple[int, float, float, float]]:
    """Number of labels, precision, recall and F1, by type."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for row in corpora.labelled():
        labels = [(SAME.get(span["type"], span["type"]), span["start"], span["end"]) for span in row["spans"]]
        for entity, start, end in find(row["text"]):
            hit = next((one for one in labels if one[0] == entity and overlap(one, start, end) >= 0.5), None)
            if hit:
                labels.remove(hit)
                right[entity] += 1
            else:
                wrong[entity] += 1
        missed.update(entity for entity, _, _ in labels)
    result = {}
    for entity in SHOWN:
        count = right[entity] + missed[entity]
        precision = right[entity] / max(1, right[entity] + wrong[entity])
        recall = right[entity] / max(1, count)
        result[entity] = (count, precision, recall, 2 * precision * recall / max(1e-9, precision + recall))
    return result


def overlap(label: Span, start: int, end: int) -> float:
    both = min(end, label[2]) - max(start, label[1])
    return max(0, both) / (max(end, label[2]) - min(start, label[1]))


def main() -> None:
    if not corpora.is_recorded():
        print("nothing to measure: the labelled and recorded texts are not at hand")
        return
    presidio = reference.engine()
    plain = scores(
        lambda text: [(one[0], one[1], one[2]) for one in reference.findings(presidio, text, score_threshold=0.4)]
    )
    asked = (*BARS, "US_DRIVER_LICENSE", "PERSON", "ADDRESS")
    logs, prompts = scores(finder("logs", asked)), scores(finder("prompts"))
    print(
        f"{len(corpora.labelled())} labelled sentences: P / R / F1, bar for logs; baseline presidio-analyzer, threshold 0.4"
    )
    for entity in SHOWN:
        cells = "   ".join("{1:.2f} {2:.2f} {3:.3f}".format(*one[entity]) for one in (logs, prompts, plain))
        print(f"{entity:<18} n={logs[entity][0]:<4} {cells}   bar {BARS.get(entity, '-')}")
    lines = corpora.log_lines()
    for name, find in (("logs", finder("logs")), ("prompts, less IP_ADDRESS", finder("prompts"))):
        counts = Counter(one[0] for line in lines for one in find(line) if one[0] != "IP_ADDRESS")
        print(
            f"findings per 1000 log lines, profile {name}: {counts.total() * 1000 / len(lines):.2f}  bar 5  {dict(counts)}"
        )
    some = lines[:: max(1, len(lines) // 1000)]
    default = sum(len(reference.findings(presidio, line, score_threshold=0.4)) for line in some)
    print(f"findings per 1000 log lines, presidio-analyzer at 0.4: {default * 1000 / len(some):.0f}")


if __name__ == "__main__":
    main()
