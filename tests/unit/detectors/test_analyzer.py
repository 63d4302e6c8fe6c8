"""agent.detectors.analyzer: .syntax, .fold, .prefilter, .linear, .merging, .program, .tokens, .window, .phones, .foreign,
.budget, .analyzer.  That the whole equals Presidio is tests/property/test_presidio_equality.py's claim."""

import os
import re
import stat

import phonenumbers
import pytest
import regex
from presidio_analyzer import EntityRecognizer, Pattern, PatternRecognizer, RecognizerResult
from presidio_analyzer import predefined_recognizers as predefined

from agent.detectors.analyzer import Analyzer, Options
from agent.detectors.analyzer import prefilter as prefilter_module
from agent.detectors.analyzer.budget import BASE_STEPS, Budget, Exhausted
from agent.detectors.analyzer.fold import EXAMPLES, folded
from agent.detectors.analyzer.foreign import Foreign
from agent.detectors.analyzer.linear import linear
from agent.detectors.analyzer.merging import merged
from agent.detectors.analyzer.phones import Phones
from agent.detectors.analyzer.prefilter import Prefilter
from agent.detectors.analyzer.program import program_of, words_pattern
from agent.detectors.analyzer.syntax import forms_of
from agent.detectors.analyzer.tokens import SpacyTokens, plain_tokens
from agent.detectors.analyzer.window import Windows, with_bonus

PLENTY = 1_000_000


def forms(pattern, ignore_case=True):
    return forms_of(pattern, ignore_case=ignore_case, multiline=True, dot_all=True)


def pattern_recognizer(pattern, score=0.5, entity="X", context=(), **options):
    return PatternRecognizer(entity, patterns=[Pattern("p", pattern, score)], context=list(context), **options)


def found(recognizers, text, options=Options()):  # noqa: B008
    return sorted(
        (one.entity, one.start, one.end, one.score) for one in Analyzer(recognizers, options).analyze(text).matches
    )


@pytest.mark.parametrize(
    "pattern",
    [
        r"\b\d{3}-\d{2}\b",
        r"[^\W_]+@[a-z]+",
        r"[^a-f]{2}",
        r"(?:a|bc)+?d",
        r"^x.*y$",
        r"\Bz|\Aq|w\Z",
        r"(?i:ab)C",
        r"[\s\d]x",
        r"a{2,}b{0,3}",
    ],
)
@pytest.mark.parametrize("ignore_case", [True, False])
def test_a_linear_form_finds_what_the_pattern_finds(pattern, ignore_case):
    made = forms(pattern, ignore_case)
    spans = linear(made.linear)
    flags = regex.M | regex.S | (regex.I if ignore_case else 0)
    for text in ("aa-1 123-45 xy\nx y\tdx ABC abc aabbb", "zq q w", "A@B a_@b É@x 1 x", "", "aaaabbb x\x0by \x1cx"):
        fold = folded(text)
        if fold.kinds & made.unsafe:
            continue
        assert list(spans(fold.octets)) == [one.span() for one in regex.finditer(pattern, text, flags)], text


@pytest.mark.parametrize("pattern", [r"(?<=a)b", r"(a)\1", r"a(?!b)", r"x{1,2000}", r"[à-ü]", r"(?>a+)b"])
def test_what_re2_lacks_has_no_linear_form_but_a_prefilter(pattern):
    made = forms(pattern)
    assert made.linear is None
    assert made.prefilter is not None


def test_unknown_syntax_has_no_form_and_blinds_nobody():
    made = forms(r"\p{Greek}+|[[a-z]--[b]]")
    assert (made.prefilter, made.linear) == (None, None)
    assert found([pattern_recognizer(r"\p{Greek}{3}")], "abc αβγ") == [("X", 4, 7, 0.5)]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"(?<=id )\d{3}", "id 123"),
        (r"\b(\d\d)-\1\b", "12-12"),
        (r"straße \d", "STRASSE 1 straße 2"),
        (r"\d{3}", "x٣٤٥"),
        (r"[^0-9]{2}!", "٣٤!"),
        (r"\w+é\b", "café!"),
        (r"k{2}", "K\u212a"),
        (r"a\sb", "a\u2003b"),
        (r"[^\s]{30,400}z", "y" * 60 + "z"),
        (r"\p{Lu}\p{Ll}+", "Ünder"),
    ],
)
def test_the_prefilter_misses_nothing_that_the_pattern_finds(pattern, text):
    expected = [one.span() for one in regex.finditer(pattern, text, regex.I | regex.M | regex.S)]
    assert expected
    assert [(start, end) for _, start, end, _ in found([pattern_recognizer(pattern)], text)] == expected


def test_folding_keeps_length_and_kind():
    text = "aé٣\u00a0†\u017f\u212a\x0b🙂"
    fold = folded(text)
    assert len(fold.octets) == len(text)
    assert fold.octets == b"a_0\x0c\x7fsk\x0c\x7f"
    assert fold.kinds == {"letter", "digit", "blank", "other"}
    assert folded("plain text 1") == (b"plain text 1", frozenset())
    assert folded("a\x1fb").kinds == {"blank"}
    assert all(len(example) == len(stand_in) == 1 for example, stand_in in EXAMPLES.values())


def test_a_database_is_kept_and_read_again(tmp_path, monkeypatch):
    patterns = ["(?i)abc", r"\b[0-9]{3}\b"]
    assert sorted(Prefilter(patterns, tmp_path / "cache").hits(b"x ABC 123")) == [0, 1]
    (kept,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    monkeypatch.setattr(prefilter_module, "_compiled", None)  # building again would fail
    assert sorted(Prefilter(patterns, tmp_path / "cache").hits(b"x 123")) == [1]


@pytest.mark.parametrize("harm", ["cut", "flipped", "group_writable", "link"])
def test_a_database_file_that_cannot_be_trusted_is_built_again(tmp_path, harm):
    Prefilter(["abc"], tmp_path)
    (kept,) = tmp_path.iterdir()
    content = bytearray(kept.read_bytes())
    if harm == "cut":
        kept.write_bytes(bytes(content[:-9]))
    elif harm == "flipped":
        content[len(content) // 2] ^= 1
        kept.write_bytes(bytes(content))
    elif harm == "group_writable":
        kept.chmod(0o620)
    else:
        other = tmp_path / "other"
        kept.rename(other)
        kept.symlink_to(other)
    assert prefilter_module._loaded(kept) is None
    assert Prefilter(["abc"], tmp_path).hits(b"abc") == [0]


def test_a_pattern_too_large_is_always_on(tmp_path):
    assert Prefilter(["abc", "(?:a{500}b{500}){300}"], tmp_path).hits(b"zzz") == [1]


def test_an_unwritable_cache_costs_only_time():
    assert Prefilter(["abc"], prefilter_module.Path("/proc/nonsense")).hits(b"abc") == [0]
    assert os.path.exists("/proc")


@pytest.mark.parametrize("length", [100, 253, 254, 400])
def test_long_bounded_repeats_are_exact_with_and_without_a_long_run(length):
    text = "x " + "a" * length + ".com y"
    pattern = r"[a-z0-9.\-]{1,253}[.](?:com|org)"
    expected = [one.span() for one in regex.finditer(pattern, text, regex.I)]
    assert [(start, end) for _, start, end, _ in found([pattern_recognizer(pattern)], text)] == expected


def test_merging_keeps_what_is_not_inside_a_surer_one():
    assert merged([(0, 5, 0.5), (0, 5, 0.5), (1, 4, 0.4), (1, 4, 0.9), (4, 8, 0.1), (9, 9, 0.0)]) == [
        (0, 5, 0.5),
        (1, 4, 0.9),
        (4, 8, 0.1),
    ]
    assert merged([(0, 1, 0.0)]) == []


def test_scores_follow_validators_context_and_thresholds():
    class Even(PatternRecognizer):
        def validate_result(self, pattern_text):
            return {"0": True, "1": False}.get(pattern_text[-1])

    even = Even("EVEN", patterns=[Pattern("e", r"\d{3}", 0.2)], context=["pair"])
    assert found([even], "pair 110 111 112") == [("EVEN", 5, 8, 1.0), ("EVEN", 13, 16, pytest.approx(0.55))]
    even.score_thresholds = {"EVEN": 0.9}
    assert found([even], "pair 110 112") == [("EVEN", 5, 8, 1.0)]
    assert with_bonus(0.01) == 0.4
    assert with_bonus(0.9) == 1.0


def test_a_pattern_under_the_threshold_runs_only_with_a_word(monkeypatch):
    analyzer = Analyzer([pattern_recognizer(r"\d{3}", 0.2, context=["code"])], Options(threshold=0.5))
    ran = []
    original = analyzer._run
    monkeypatch.setattr(analyzer, "_run", lambda *of: (ran.append(1), original(*of)))
    assert analyzer.analyze("number 123").matches == []
    assert not ran
    assert [one.score for one in analyzer.analyze("code 123").matches] == [pytest.approx(0.55)]


def test_entities_can_want_a_word():
    options = Options(needs_word={"X": ("token", "clé")})
    assert found([pattern_recognizer(r"\d{3}")], "number 123", options) == []
    assert found([pattern_recognizer(r"\d{3}")], "TOKEN 123", options) == [("X", 6, 9, 0.5)]
    assert found([pattern_recognizer(r"\d{3}")], "la clé: 123", options) == [("X", 8, 11, 0.5)]
    assert words_pattern(()) == ""


def test_a_named_group_is_the_value():
    row = pattern_recognizer(r"(?:name is )(?P<value>\w+)")
    assert found([row], "my name is Jane") == [("X", 11, 15, 0.5)]


def test_own_code_is_run_as_it_is():
    class Own(EntityRecognizer):
        def load(self):
            self.is_ready = True

        def analyze(self, text, entities, nlp_artifacts):
            assert self.is_ready
            return [RecognizerResult("OWN", 0, 2, 0.3), RecognizerResult("OWN", 0, 2, 0.1)]

    own = Own(supported_entities=["OWN"], name="own", context=["help"])
    assert program_of([own]).rows[0].kind == "foreign"
    assert found([own], "ab help") == [("OWN", 0, 2, 0.3)]
    assert found([own], "help me") == [("OWN", 0, 2, pytest.approx(0.65))]
    assert isinstance(Foreign(program_of([own]).rows[0], None), Foreign)


def test_a_budget_runs_out_the_same_way_every_time():
    budget = Budget(100)
    budget.spend(BASE_STEPS)
    with pytest.raises(Exhausted):
        budget.spend(1)
    assert Budget(1 << 20).left > BASE_STEPS
    assert Budget(0, 2).left == 2 * BASE_STEPS
    assert Budget(0).seconds > 0


def test_a_text_that_used_up_its_budget_is_told_as_unscanned():
    analyzer = Analyzer([pattern_recognizer(r"\d", 0.5, context=["x"])])
    analysis = analyzer.analyze("1 " * 40_000)
    assert analysis.unscanned == "work_limit"
    assert Analyzer([pattern_recognizer(r"\d")], Options(budget_factor=100)).analyze("1 " * 40_000).unscanned == ""


def test_tokens_are_spacys():
    tokens = SpacyTokens()
    budget = Budget(0, PLENTY)
    spacy = tokens._nlp.tokenizer
    for chunk in (
        "don't", "U.S.", "10am", "<33", "a1b2c3d4e5f6.", "(see", "x:y", "id=12345", "12:34:56", "£500", "end.", "The",
        "550e8400-e29b-41d4-a716-446655440000,", "7fcb", "5km", "Mr.", "word", "words,", "cannot,", "1.2.3.4-5", "'s",
    ):  # fmt: skip
        ends = [token.end for token in tokens.tokens(chunk, budget)]
        assert ends == [one.idx + len(one) for one in spacy(chunk)], chunk


def test_the_vocabulary_does_not_grow_for_ever(monkeypatch):
    from agent.detectors.analyzer import tokens as module

    monkeypatch.setattr(module, "_CHUNKS_PER_TOKENIZER", 50)
    tokens = SpacyTokens()
    first = tokens._nlp
    for number in range(200):
        letters = "".join("abcdefghij"[int(digit)] for digit in f"{number:03}")
        tokens.tokens(f"x-{letters}", Budget(0, PLENTY))
    assert tokens._nlp is not first
    assert tokens._seen <= 50


def test_long_runs_of_signs_spend_the_budget():
    with pytest.raises(Exhausted):
        SpacyTokens().tokens("!" * 2048, Budget(0))


def test_windows_take_five_words_before_and_one_behind():
    def split(chunk, budget):
        return plain_tokens(chunk, budget)

    text = "one two three four five six seven, eight 12 nine ten"
    words = Windows(text, split, Budget(0)).words(text.index("12"))
    assert words.split("\n") == ["12", "eight", "seven", "six", "five", "four", "12"]
    assert Windows("   ", split, Budget(0)).words(0) == "   "


def test_phones_are_walked_once_for_all_regions():
    phones = Phones(("US", "GB", "DE", "BR"), 1)
    text = "call 212-555-0187 or 020 7946 0958, ref 1.2.3.4, +55 11 91234-5678, a2125550187b, on 12/03/2020 at 2012-01-02 08:00"
    assert sorted(text[start:end] for start, end in phones.spans(text, Budget(0))) == [
        "+55 11 91234-5678",
        "020 7946 0958",
        "212-555-0187",
    ]
    assert re.search(phones.gate.replace("\\x7f", "\x7f"), "12x34") is not None


@pytest.mark.parametrize("text", ["6/040594//x0", "84.(/7240-55(09)0 83468-/x77.54877(5 / 7 ", "1234567 /x 040594/x"])
def test_a_number_with_a_second_one_behind_it_ends(text):
    regions = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR")
    expected = {
        (match.start, match.end)
        for region in regions
        for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=1)
    }
    assert Phones(regions, 1).spans(text, Budget(0)) == expected


def test_a_text_costs_the_same_when_it_was_seen_before():
    phones = Phones(("US", "DE", "IN"), 1)
    text = "".join(f"212-555-{number:04} " for number in range(150))
    spent = []
    for _ in range(3):
        budget = Budget(0, 100)
        before = budget.left
        phones.spans(text, budget)
        spent.append(before - budget.left)
    assert spent[0] == spent[1] == spent[2] > 0


def test_what_was_found_before_the_budget_ran_out_is_kept():
    text = "".join(f"212-555-{number:04} " for number in range(3000))
    analysis = Analyzer([predefined.PhoneRecognizer()]).analyze(text)
    assert analysis.unscanned == "work_limit"
    assert len(analysis.matches) > 50


def test_a_pattern_out_of_time_does_not_stop_the_others():
    slow = pattern_recognizer("(?<!c)(a|aa)+$", entity="SLOW")
    analysis = Analyzer([slow, pattern_recognizer(r"\d{3}", entity="FAST")]).analyze("a" * 60 + "b 123")
    assert analysis.unscanned == "regex_timeout"
    assert [one.entity for one in analysis.matches] == ["FAST"]


def test_what_a_pattern_found_before_the_budget_ran_out_is_kept():
    analysis = Analyzer([pattern_recognizer(r"\d")]).analyze("1 " * 40_000)
    assert analysis.unscanned == "work_limit"
    assert len(analysis.matches) > 1000


def test_half_characters_are_no_obstacle():
    found = Analyzer([predefined.PhoneRecognizer()]).analyze("phone \ud800x 212-555-0187").matches
    assert [(one.start, one.score) for one in found] == [(9, 0.75)]


def test_a_text_of_many_candidates_spends_the_budget():
    with pytest.raises(Exhausted):
        Phones(("US",), 1).spans("1234 5678 " * 20_000, Budget(0, 0.01))
