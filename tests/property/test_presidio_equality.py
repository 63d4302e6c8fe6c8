"""The profile `presidio` gives AnalyzerEngine's own findings (type, start, end, score): on recordings, on made text, and
with every recogniser that Presidio ships or that a user may add (agent.detectors.analyzer)."""

import inspect
import json
import lzma
import tarfile
from pathlib import Path

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from presidio_analyzer import EntityRecognizer, LocalRecognizer, Pattern, PatternRecognizer, RecognizerResult
from presidio_analyzer import predefined_recognizers as predefined

from agent.detectors.analyzer import Analyzer, Options
from benchmarks import reference

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WIDE = Options(budget_factor=10_000)


class Shout(LocalRecognizer):
    """A user's recogniser with code of its own, and its own way to boost."""

    def __init__(self):
        super().__init__(supported_entities=["SHOUT", "WHISPER"], name="Shout", context=["loud"])

    def load(self):
        """Nothing to load."""

    def analyze(self, text, entities, nlp_artifacts=None):
        found = [("SHOUT", match) for match in regex.finditer(r"\b[A-Z]{4,}\b", text)]
        found += [("WHISPER", match) for match in regex.finditer(r"\bpsst\w*", text)]
        return [
            RecognizerResult(
                entity_type=entity,
                start=match.start(),
                end=match.end(),
                score=0.3,
                analysis_explanation=_explained(self, 0.3),
                recognition_metadata={
                    RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
                    RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
                },
            )
            for entity, match in found
        ]


def _explained(recognizer, score):
    from presidio_analyzer import AnalysisExplanation

    return AnalysisExplanation(recognizer.name, score)


def users_own() -> list[EntityRecognizer]:
    """Recognisers as users write them: deny lists, flags, thresholds, look-arounds, letters beyond ASCII."""
    employee = PatternRecognizer(
        "EMPLOYEE_ID", name="employee", patterns=[Pattern("id", r"(?<=#)E\d{5}\b", 0.3)], context=["employee", "staff"]
    )
    employee.score_thresholds = {"EMPLOYEE_ID": 0.4}
    return [
        employee,
        PatternRecognizer("PROJECT", name="deny", deny_list=["Blue Bird", "Zürich-7", "a.b"], context=["project"]),
        PatternRecognizer(
            "TICKET",
            name="case_sensitive",
            patterns=[Pattern("t", r"^TK-\d+$", 0.6), Pattern("t2", r"\bTK\d{2,300}\b", 0.2)],
            global_regex_flags=regex.MULTILINE,
        ),
        PatternRecognizer("NAME_DE", name="umlaut", patterns=[Pattern("n", r"\b[A-ZÄÖÜ][a-zäöüß]+straße\b", 0.5)]),
        PatternRecognizer("WORDS", name="properties", patterns=[Pattern("w", r"\p{Lu}\p{Ll}+ \p{Lu}\p{Ll}+", 0.1)]),
        PatternRecognizer("TWICE", name="reference", patterns=[Pattern("r", r"\b(\w+)-\1\b", 0.4)]),
        PatternRecognizer("NOT_WORD", name="negated", patterns=[Pattern("n", r"[^\W_\d]{3}[^\w\s]{2}", 0.2)]),
        Shout(),
    ]


def all_shipped() -> list[EntityRecognizer]:
    """Every pattern recogniser that Presidio ships, of all countries, made to speak English."""
    made: list[EntityRecognizer] = []
    for candidate in vars(predefined).values():
        if (
            inspect.isclass(candidate)
            and issubclass(candidate, PatternRecognizer)
            and not inspect.isabstract(candidate)
        ):
            made.append(candidate(supported_language="en"))
    made += [predefined.ZaMobileNumberRecognizer(), predefined.ZaTelephoneNumberRecognizer()]
    made.append(predefined.PhoneRecognizer(supported_regions=("ES", "AR", "ZZ", "MX"), leniency=2, name="strict phone"))
    made.append(predefined.PhoneRecognizer(supported_regions=("US", "RU"), leniency=0, name="possible phone"))
    return made


class Pair:
    """Presidio's engine and ours, with the same recognisers."""

    def __init__(self, extra=()):
        self.engine = reference.engine(list(extra))
        nlp = self.engine.nlp_engine
        self.analyzer = Analyzer(
            self.engine.registry.recognizers, WIDE._replace(artifacts=lambda text: nlp.process_text(text, "en"))
        )

    def differences(self, texts):
        wrong = []
        for text in texts:
            ours = sorted((one.entity, one.start, one.end, one.score) for one in self.analyzer.analyze(text).matches)
            theirs = reference.findings(self.engine, text)
            if ours != theirs:
                wrong.append((text[:80], sorted(set(theirs) ^ set(ours))[:4]))
        return wrong


@pytest.fixture(scope="module")
def default():
    return Pair()


@pytest.fixture(scope="module")
def everything():
    names = {one.name for one in reference.engine().registry.recognizers}
    return Pair([one for one in all_shipped() if one.name not in names] + users_own())


def _texts(path):
    with lzma.open(path, "rt", encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in file if line.strip()]


def needs(path):
    return pytest.mark.skipif(not path.exists(), reason=f"{path} is not at hand")


@needs(DATA / "logs")
@pytest.mark.timeout(900)
def test_recorded_log_lines(default):
    assert (
        default.differences(line for path in sorted((DATA / "logs" / "loghub").glob("*.xz")) for line in _texts(path))
        == []
    )


@needs(DATA / "logs")
@pytest.mark.timeout(900)
def test_recorded_prompts(default):
    assert (
        default.differences(json.loads(line)["text"] for line in _texts(DATA / "logs/arena_hard_prompts.jsonl.xz"))
        == []
    )


@needs(DATA / "pii")
def test_labelled_sentences(default):
    files = ("presidio_synth_v2.jsonl.xz", "wnut17_dev.jsonl.xz")
    assert default.differences(json.loads(line)["text"] for name in files for line in _texts(DATA / "pii" / name)) == []


@needs(DATA / "llm")
@pytest.mark.timeout(900)
def test_recorded_telemetry(default):
    with tarfile.open(DATA / "llm" / "recordings.tar.xz") as archive:
        octets = [file.read() for one in archive if one.isfile() and (file := archive.extractfile(one)) is not None]
    assert default.differences(one.decode("utf-8", "replace")[:40_000] for one in octets) == []


@needs(DATA / "logs")
@pytest.mark.timeout(900)
def test_every_recogniser_on_recordings(everything):
    texts = [line for path in sorted((DATA / "logs" / "loghub").glob("*.xz")) for line in _texts(path)[::100]]
    texts += [json.loads(line)["text"][:3000] for line in _texts(DATA / "logs/arena_hard_prompts.jsonl.xz")[::12]]
    texts += [json.loads(line)["text"] for line in _texts(DATA / "pii/presidio_synth_v2.jsonl.xz")[::8]]
    assert everything.differences(texts) == []


VALUES = [
    "4111 1111 1111 1111", "4111111111111111", "378282246310005", "219-09-9999", "078-05-1120", "219099999",
    "jane.roe@example.com", "a@b.co", "x@münchen.de", "DE89370400440532013000", "DE89 3704 0044 0532 0130 00 2",
    "GB82 WEST 1234 5698 7654 32", "10.0.0.1", "::ffff:192.168.0.1/24", "fe80::1", "::", "00:1B:44:11:3A:B7",
    "123e4567-e89b-12d3-a456-426614174000", "+1 (415) 555-0132", "212-555-0187 x12", "(06) 39 98 14 52", "0049 89 123456",
    "020 7946 0958", "943 476 5919", "3/10/2011", "2012-01-02 08:00", "651-234-2345/332-445-1234", "٠٢٠٧٩٤٦٠٩٥٨",
    "https://example.com/a?b=c", "www.a-b.co.uk", "os.system", "'http://x.io'", "1A2zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "AB1234563", "F9123456", "D1234567", "912-70-1234", "31 Jan", "05-MAR-2020", "12/2024", "2020-05-01T10:00:00.123Z",
    "KB3133977", "#E12345", "TK-12", "Blue Bird", "Zürich-7", "Hauptstraße", "12345678Z", "44051401359", "psst", "LOUD",
    "aa-aa", "é́è", "１２３-４５-６７８９", "₹500", "5555x1234", "1131566815", "KKKK", "ſsn", "İd",
]  # fmt: skip
WORDS = [
    "card", "visa", "ssn", "social security", "SSN:", "my", "is", "the", "be", "account#", "lic", "public", "phone", "Call",
    "number", "ip", "date", "birthday", "url", "passport", "us", "iban", "bank", "mac address", "wallet", "email", "nhs",
    "a:b", "be:the", "x:,", "key:value", "don't", "U.S.", ":)", "( ͡° ͜ʖ ͡°)", "10am", "<33", "5km", "employee", "staff",
    "project", "loud", "DEA", "medical", "ſocial", "PHONE", "Kreditkarte", "名前", "e\u0301", "🙂", "(", ")", "[", "]", "--",
    "\"", "'", "...", "!!", "%", "$", "#", "/", "\\n", "=", "{", "}", "<b>", "x", "ext.", "Strasse", "STRAẞE",
]  # fmt: skip
GAPS = [
    " ",
    " ",
    " ",
    "",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\x0b",
    "\x1c",
    ", ",
    ": ",
    ":",
    "=",
    ".",
    "-",
    "\u200b",
]

made_text = st.lists(
    st.tuples(st.sampled_from(VALUES) | st.sampled_from(WORDS) | st.text(max_size=6), st.sampled_from(GAPS)),
    max_size=14,
).map(lambda parts: "".join(part + gap for part, gap in parts))
MANY = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@MANY
@given(made_text)
def test_made_text(default, text):
    assert default.differences([text]) == []


@settings(MANY, max_examples=150)
@given(made_text)
def test_made_text_with_every_recogniser(everything, text):
    assert everything.differences([text]) == []


@settings(MANY, max_examples=300)
@given(st.text(alphabet="0123456789 -()+./\\x\u2012\u3000٣aé%$", min_size=4, max_size=40))
def test_made_digits(default, text):
    assert default.differences([text]) == []
