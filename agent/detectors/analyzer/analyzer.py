"""The analyzer: Presidio's findings for a text, by one prefilter scan and work only where something was hit.

Order of work, as in `AnalyzerEngine.analyze`: patterns and their checks, duplicates of a recogniser, context words,
thresholds, duplicates of an entity.  Each step gives what Presidio's gives; the tests compare them on everything at
hand.  A text is given a budget; what could not be done in it is named, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from agent.detectors.analyzer.budget import MATCH, Budget, Exhausted
from agent.detectors.analyzer.fold import Folded, folded
from agent.detectors.analyzer.foreign import Foreign
from agent.detectors.analyzer.merging import Found, merged
from agent.detectors.analyzer.phones import Phones
from agent.detectors.analyzer.prefilter import Prefilter
from agent.detectors.analyzer.program import PatternRow, Row, Unbounded, program_of, words_pattern
from agent.detectors.analyzer.tokens import SpacyTokens, Split, plain_tokens
from agent.detectors.analyzer.window import Windows, boosted, with_bonus
from agent.model import Match

Meaning: TypeAlias = tuple[str, int]
"""What a hit of the prefilter says: its kind, and the number of the pattern, row, entity or guard."""


class Analysis(NamedTuple):
    """`matches` in no order; `unscanned` names why a part was not looked at, empty if all was; `steps_left` of the
    text's budget are for what is done with the matches."""

    matches: list[Match]
    unscanned: str = ""
    steps_left: int = 0


class Options(NamedTuple):
    """`threshold`: the engine's.  `is_exact`: context words by spaCy's tokens, as Presidio has them.
    `needs_word`: entities that are looked for only in a text that has one of these words, in any case.
    `budget_factor` stretches the budget.  `directory` keeps the prefilter's database.  `artifacts`: a text's NLP
    artifacts, for recognisers that want them."""

    threshold: float = 0.0
    is_exact: bool = True
    needs_word: Mapping[str, Sequence[str]] = MappingProxyType({})
    budget_factor: float = 1.0
    directory: Path | None = None
    artifacts: Callable[[str], Any] | None = None


DEFAULTS = Options()


class Analyzer:
    """A set of recognisers, ready to run.  Not for two threads at once."""

    def __init__(self, recognizers: Iterable[Any], options: Options = DEFAULTS) -> None:
        self._rows, self._patterns = program_of(recognizers)
        self._options = options
        self._spacy: SpacyTokens | None = None
        self._phones = {
            row.number: Phones(row.recognizer.supported_regions, row.recognizer.leniency, options.directory)
            for row in self._rows
            if row.kind == "phone"
        }
        self._foreign = {row.number: Foreign(row, options.artifacts) for row in self._rows if row.kind == "foreign"}
        self._layout()

    def _layout(self) -> None:
        """The prefilter, and what each of its numbers means."""
        forms: list[str] = []
        self._meaning: list[Meaning] = []
        entities = [entity for entity, words in self._options.needs_word.items() if words]
        self._always_patterns = [one.number for one in self._patterns if one.prefilter is None]
        self._always_rows: list[int] = []  # rows with code of their own and nothing to wait for
        self._foldable = [one for one in self._patterns if one.prefilter is not None and one.blind]

        def add(form: str, kind: str, number: int) -> None:
            forms.append(form)
            self._meaning.append((kind, number))

        guards: dict[str, int] = {}
        for pattern in self._patterns:
            if pattern.prefilter is not None:
                add(pattern.prefilter, "pattern", pattern.number)
            for guard in pattern.guards:
                if guard not in guards:
                    guards[guard] = len(guards)
                    add(guard, "guard", guards[guard])
        self._guards = [frozenset(("guard", guards[one]) for one in pattern.guards) for pattern in self._patterns]
        for row in self._rows:
            if row.kind == "phone":
                add(self._phones[row.number].gate, "row", row.number)
            elif row.kind == "foreign" and row.gate:
                add(row.gate, "row", row.number)
            elif row.kind == "foreign":
                self._always_rows.append(row.number)
            if row.context:
                add(words_pattern(row.context), "context", row.number)
            if row.words:
                add(words_pattern(row.words), "keyword", row.number)
        for number, entity in enumerate(entities):
            add(words_pattern(self._options.needs_word[entity]), "entity", number)
        self._entities = {entity: number for number, entity in enumerate(entities)}
        self._prefilter = Prefilter(forms, self._options.directory)
        self._waits = [self._condition_of(pattern) for pattern in self._patterns]

    def _condition_of(self, pattern: PatternRow) -> Meaning | None:
        """What must be in a text besides the pattern's own hit: a word of its entity, a keyword of the recogniser, or
        a context word, because without one the score stays under the threshold.  ("never", 0): not even with one."""
        row = self._rows[pattern.owner]
        threshold = row.threshold or self._options.threshold
        if row.words:
            return "keyword", row.number
        if row.entity in self._entities:
            return "entity", self._entities[row.entity]
        if row.validate is None and pattern.score < threshold:
            if row.context and with_bonus(pattern.score) >= threshold:
                return "context", row.number
            return "never", 0
        return None

    def analyze(self, text: str) -> Analysis:
        """What Presidio finds in a text."""
        fold = folded(text)
        patterns, rows, words = self._hits(fold)
        budget = Budget(len(text), self._options.budget_factor)
        found: dict[int, list[Found]] = {}
        unscanned = ""
        try:
            for number in patterns:
                try:
                    self._run(text, fold, self._patterns[number], found, words, budget)
                except Unbounded:
                    unscanned = "regex_timeout"  # the others still run, as with Presidio
            for number in rows:
                if number in self._phones:
                    self._run_phones(text, number, found, budget)
        except Exhausted:
            unscanned = "work_limit"
        # Code that knows no budget is not run on a text that has none left.
        foreign = [self._foreign[number] for number in rows if number in self._foreign and unscanned != "work_limit"]
        if not any(found.values()) and not foreign:
            return Analysis([], unscanned)
        try:
            of_entity = self._boosted(text, found, words, budget)
        except Exhausted:
            of_entity, unscanned = self._plain(found), "work_limit"
        try:
            for one in foreign:
                one.run(text, of_entity, self._options.threshold, lambda: Windows(text, self._splitter(), budget))
        except Exhausted:
            unscanned = "work_limit"
        return Analysis(
            [
                Match(entity, start, end, score)
                for entity, results in of_entity.items()
                for start, end, score in merged(results)
            ],
            unscanned,
            budget.left,
        )

    def _hits(self, fold: Folded) -> tuple[list[int], list[int], set[Meaning]]:
        """Numbers of the patterns to run, of the rows with own code to run, and what else the prefilter saw."""
        patterns = set(self._always_patterns)
        rows = set(self._always_rows)
        words: set[Meaning] = set()
        for hit in self._prefilter.hits(fold.octets):
            meaning = self._meaning[hit]
            kind, number = meaning
            if kind == "pattern":
                patterns.add(number)
            elif kind == "row":
                rows.add(number)
            else:
                words.add(meaning)
        if fold.kinds:
            patterns.update(one.number for one in self._foldable if one.blind & fold.kinds)
        waits = self._waits
        awake = [number for number in sorted(patterns) if waits[number] is None or waits[number] in words]
        return awake, sorted(rows), words

    def _run(
        self,
        text: str,
        fold: Folded,
        pattern: PatternRow,
        found: dict[int, list[Found]],
        words: set[Meaning],
        budget: Budget,
    ) -> None:
        row = self._rows[pattern.owner]
        if row.kind == "iban":
            found.setdefault(row.number, []).extend(iban_results(row, pattern, text, budget))
            return
        validate, invalidate, score = row.validate, row.invalidate, pattern.score
        kept = found.setdefault(pattern.owner, [])  # filled as it goes: what is found before a limit counts
        is_guarded = not pattern.guards or not self._guards[pattern.number] & words
        for start, end in pattern.spans(text, fold, budget, is_guarded=is_guarded):
            if start == end:
                continue
            budget.spend(MATCH)
            points = score
            if validate is not None or invalidate is not None:
                value = text[start:end]
                if validate is not None:
                    verdict = validate(value)
                    if verdict is not None:
                        if not verdict:
                            continue
                        points = 1.0
                if invalidate is not None and invalidate(value):
                    continue
            if points > 0:
                kept.append((start, end, points))

    def _run_phones(self, text: str, number: int, found: dict[int, list[Found]], budget: Budget) -> None:
        score = self._rows[number].recognizer.SCORE
        spans: set[tuple[int, int]] = set()
        try:
            self._phones[number].spans(text, budget, spans)
        finally:
            found[number] = [(start, end, score) for start, end in spans]

    def _boosted(
        self, text: str, found: dict[int, list[Found]], words: set[Meaning], budget: Budget
    ) -> dict[str, list[Found]]:
        """Results by entity, after duplicates of a recogniser, context words and thresholds."""
        of_entity: dict[str, list[Found]] = {}
        windows: Windows | None = None
        for number in sorted(number for number, results in found.items() if results):
            row = self._rows[number]
            results = found[number] if row.kind == "iban" else merged(found[number])
            if ("context", number) in words:
                if windows is None:
                    windows = Windows(text, self._splitter(), budget)
                results = [boosted(windows, one, row.context) for one in results]
            threshold = row.threshold or self._options.threshold
            if threshold:
                results = [one for one in results if one[2] >= threshold]
            if results:
                of_entity.setdefault(row.entity, []).extend(results)
        return of_entity

    def _plain(self, found: dict[int, list[Found]]) -> dict[str, list[Found]]:
        """Results by entity without context: the text used up its budget."""
        of_entity: dict[str, list[Found]] = {}
        for number, results in found.items():
            of_entity.setdefault(self._rows[number].entity, []).extend(results)
        return of_entity

    def _splitter(self) -> Split:
        if not self._options.is_exact:
            return plain_tokens
        if self._spacy is None:
            self._spacy = SpacyTokens()
        return self._spacy.tokens


def iban_results(row: Row, pattern: PatternRow, text: str, budget: Budget) -> list[Found]:
    """What Presidio's IBAN recogniser makes of its matches: each is tried whole, then without its last groups."""
    results: list[Found] = []
    for match in pattern.matches(text, budget):
        budget.spend(MATCH)
        for group in range(len(match.groups()), 0, -1):
            end = match.end(group) if match.end(group) > 0 else match.end()
            value = text[match.start() : end]
            verdict = row.validate(value) if value and row.validate else None
            points = pattern.score if verdict is None else float(verdict)
            if value and points > 0:
                results.append((match.start(), end, points))
                break
    return results
