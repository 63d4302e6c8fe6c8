"""agent.detectors.presidio.gates: a recogniser that is not woken would have found nothing that is kept."""

import lzma

import pytest

from agent.detectors.pii.config import PiiConfig
from agent.detectors.pii.detector import PiiDetector
from agent.detectors.presidio.gates import Gate, Gates
from agent.detectors.presidio.loading import recognizers_from


@pytest.mark.parametrize(
    ("text", "woken"),
    [
        ("nothing", ["always"]),
        ("7", ["always", "digit"]),
        ("NHS", ["always", "word"]),
        ("nhs 7", ["always", "digit", "word", "both"]),
    ],
)
def test_gates(text, woken):
    gates = Gates(
        [
            ("always", Gate()),
            ("digit", Gate(needs_digit=True)),
            ("word", Gate(("nhs", "national"))),
            ("both", Gate(("nhs",), needs_digit=True)),
        ]
    )
    assert gates.woken(text) == woken


def test_gates_change_no_finding(shared, rules, monkeypatch):
    """The same findings on real logs and prompts, with every recogniser awake."""
    documents = recognizers_from([rules], "pii")
    gated = PiiDetector(PiiConfig(), documents)
    with monkeypatch.context() as patch:
        patch.setattr(Gates, "woken", lambda self, text: list(self._order))
        awake = PiiDetector(PiiConfig(), documents)
        texts = lzma.open(shared / "logs" / "loghub" / "OpenSSH_2k.log.xz", "rt").read().splitlines()[:60]
        texts += [
            "NHS number 943 476 5919",
            "Steuer-ID 86 095 742 719",
            "passport A04938216",
            "x@y.de",
            "date of birth 1974-03-09",
        ]
        wanted = [[awake.scan(text, direction).matches for direction in ("log", "prompt")] for text in texts]
    assert [[gated.scan(text, direction).matches for direction in ("log", "prompt")] for text in texts] == wanted
