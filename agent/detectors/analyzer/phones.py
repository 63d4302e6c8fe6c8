"""Presidio's phone numbers: one walk over the text's candidates for all regions, with the same results.

Presidio runs the phonenumbers library's matcher over the text once for each of eight regions; two thirds of its time
on logs go there.  The matcher's walk depends on the region only where a number is found: the candidates, their inner
parts and the checks of what stands around are the same.  So the walk is done once, for a set of regions that parts
only there, and a candidate's verdict is a bit for each region, remembered by its text.  Before a candidate is parsed,
its digits must end in some number that the region's metadata allow: one Hyperscan look-up for all regions.

The walk follows phonenumbers.PhoneNumberMatcher step by step and uses that module's own expressions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import phonenumbers
from phonenumbers import phonenumbermatcher as matcher
from phonenumbers import phonenumberutil as util
from phonenumbers.phonemetadata import PhoneMetadata
from phonenumbers.re_util import fullmatch

from agent.detectors.analyzer.budget import CANDIDATE, GROUP, PARSE, Budget, Exhausted
from agent.detectors.analyzer.prefilter import Prefilter

_CACHED_CANDIDATES = 8192
# The matcher gives up on a text after as many tries.
MAX_TRIES = 65535
_NON_DIGIT = re.compile(r"[^0-9]+")
# Candidates that parse in the plain way: no plus, no extension, no letters, no digits beyond ASCII.
_SIMPLE = re.compile(r"[0-9 ()\[\].\-/]+")
_TYPES = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)
_SUFFIX_RULE = re.compile(r"[$\\][0-9]")
# What a match of the library's candidate pattern begins with, and what its inner patterns part at.
_START = re.compile("[+([\\d\uff0b\uff08\uff3b]")
_PARTED = re.compile("[/(.\\s\u2012-\u2015\uff0d]")
# The library's patterns that part a candidate, each with the ASCII signs without which it finds nothing.
_INNER = tuple(zip(matcher._INNER_MATCHES, ("/", "(", "-", "", ".", " "), strict=True))
_PLUS = "+\uff0b"


def _national_patterns(country_code: int) -> list[str]:
    patterns = []
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(country_code, ()):
        metadata = PhoneMetadata.metadata_for_region(region, None)
        if metadata is None:
            metadata = PhoneMetadata.metadata_for_nongeo_region(country_code, None)
        for name in _TYPES:
            kind = getattr(metadata, name, None)
            if kind is not None and kind.national_number_pattern:
                patterns.append(kind.national_number_pattern)
    return patterns


def _shortest(country_code: int) -> int:
    """The fewest digits of a whole national number."""
    lengths = [100]
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(country_code, ()):
        metadata = PhoneMetadata.metadata_for_region(region, None)
        for name in _TYPES:
            kind = getattr(metadata, name, None)
            lengths += [length for length in (kind.possible_length if kind else ()) if length > 0]
    return min(lengths)


def _without_group(pattern: str, number: int) -> str:
    """The expression without what its group of that number matches."""
    opened: list[tuple[int, int]] = []
    count = 0
    for match in re.finditer(r"\\.|\[[^]]*\]|\(\??|\)", pattern):
        piece = match.group()
        if piece[0] == "(":
            count += piece == "("
            opened.append((match.start(), count if piece == "(" else 0))
        elif piece == ")":
            start, group = opened.pop()
            if group == number:
                return pattern[:start] + pattern[match.end() :]
    return pattern


class _Region:
    """One region of the recogniser: its bit, and how its metadata say that numbers begin."""

    def __init__(self, name: str, bit: int) -> None:
        self.name = name
        self.bit = bit
        self.country_code: int = phonenumbers.country_code_for_region(name)
        metadata = PhoneMetadata.metadata_for_region(name, None)
        rule = metadata.national_prefix_transform_rule if metadata else None
        # A rule that puts digits in would make a number that the written digits do not end in.
        self.is_suffix = metadata is not None and (rule is None or _SUFFIX_RULE.fullmatch(rule) is not None)
        general = metadata.general_desc if metadata else None
        # All that parsing reads of a region: two with the same are asked once (the United States and Canada).
        self.signature = (
            self.country_code,
            metadata and (metadata.international_prefix, metadata.national_prefix_for_parsing, rule),
            general and general.national_number_pattern,
            general and tuple(general.possible_length),
            general and tuple(general.possible_length_local_only),
        )
        self.international: str = (metadata.international_prefix if metadata else None) or ""
        self.national: str = (metadata.national_prefix_for_parsing if metadata else None) or ""
        # A rule such as `$2` says which group of the expression is the number; what is before it is the prefix.
        self._prefix = _without_group(self.national, int(rule[1:])) if rule and self.is_suffix else self.national
        self._removable = re.compile("|".join(filter(None, (str(self.country_code), self.national))))
        main = phonenumbers.region_code_for_country_code(self.country_code)
        main_metadata = PhoneMetadata.metadata_for_region(main, None)
        self._formats = main_metadata.number_format if main_metadata else []

    @property
    def loose(self) -> str:
        """Before a national number: what of country code, national prefix and carrier code may stand there."""
        # The library takes the prefix off where it looks for a country code, and again behind it: `49 00 948...`.
        return f"(?:{self.country_code})?(?:{self._prefix}){{0,3}}"

    def is_bare(self, digits: str) -> bool:
        """Whether nothing can be taken off the digits' beginning, so that they are the national number."""
        return self._removable.match(digits) is None

    def wants_prefix(self, digits: str) -> bool:
        """Whether a national number is written only with the national prefix before it."""
        chosen = util._choose_formatting_pattern_for_number(self._formats, digits)
        if chosen is None or not chosen.national_prefix_formatting_rule:
            return False
        if chosen.national_prefix_optional_when_formatting:
            return False
        return not util._formatting_rule_has_first_group_only(chosen.national_prefix_formatting_rule)


class Phones:
    """Spans of the numbers that Presidio's phone recogniser finds with these regions and this leniency."""

    def __init__(self, regions: Sequence[str], leniency: int, directory: Path | None = None) -> None:
        self._regions = [_Region(name, 1 << number) for number, name in enumerate(regions)]
        self._all = (1 << len(self._regions)) - 1
        self._leniency = leniency
        self._budget = Budget(0)
        self._paid: set[str] = set()
        self._codes = sorted({region.country_code for region in self._regions if region.country_code})
        loose = {region.country_code: region.loose for region in self._regions}
        # One look-up tells which countries' numbers the digits may be, and in which regions they begin with the
        # prefix of an international call (which no country code with a leading zero follows).
        self._possible = Prefilter(
            [f"^{loose[code]}(?:{'|'.join(_national_patterns(code))})$" for code in self._codes]
            + [f"^(?:{region.international or '[^0-9]'})[1-9][0-9]{{2}}" for region in self._regions],
            directory,
        )
        self._always = sum(region.bit for region in self._regions if not region.country_code or not region.is_suffix)
        # Leniency 0 asks only for a possible length.
        alike: dict[object, list[_Region]] = {}
        for region in self._regions:
            alike.setdefault(region.signature, []).append(region)
        self._classes = [(sum(region.bit for region in group), group[0].name) for group in alike.values()]
        self._is_checked = leniency >= matcher.Leniency.VALID
        self.fewest_digits = min([_shortest(code) for code in self._codes] or [1]) if self._is_checked else 2
        self._verified = lru_cache(_CACHED_CANDIDATES)(self._verify)
        self._verified_digits = lru_cache(_CACHED_CANDIDATES)(self._verify_digits)
        self._groups = lru_cache(_CACHED_CANDIDATES)(self._split)

    @property
    def gate(self) -> str:
        """A prefilter pattern that is there wherever a number can be: enough digits close together, or a plus."""
        # The library counts `x` and a Katakana dash (folded to `_`) as punctuation, and a wide plus (a DEL) as a plus.
        sign = "[^0-9A-WYZa-wyz]"
        more = max(self.fewest_digits - 1, 1)
        return rf"(?:[0-9](?:{sign}{{0,4}}[0-9]){{{more}}}|[+\x7f]{sign}{{0,8}}[0-9])"

    def spans(self, text: str, budget: Budget, found: set[tuple[int, int]] | None = None) -> set[tuple[int, int]]:
        """All numbers of a text, each once.  Raises Exhausted; what was found by then is in `found`."""
        self._budget = budget
        self._paid.clear()
        found = set() if found is None else found
        waiting = {0: self._all}
        while waiting:
            budget.spend(CANDIDATE)
            index = min(waiting)
            self._walk(text, index, waiting.pop(index), waiting, found)
        return found

    def _walk(self, text: str, index: int, regions: int, waiting: dict[int, int], found: set[tuple[int, int]]) -> None:
        """From one place on, until the regions part or others wait to be taken along."""
        shortest = self.fewest_digits
        tries = 0
        while begin := _START.search(text, index):
            start = begin.start()
            match = matcher._PATTERN.match(text, start)
            if match is None:
                index = start + 1
                continue
            if waiting and min(waiting) <= start:
                waiting[start] = waiting.get(start, 0) | regions  # nothing lies between
                return
            index = end = match.end()
            if end - start < shortest and text[start] not in _PLUS:
                continue
            tries += 1
            if tries > MAX_TRIES:
                raise Exhausted
            self._budget.spend(CANDIDATE)
            candidate = match.group()
            second = util._SECOND_NUMBER_START_PATTERN.search(candidate)
            if second:
                candidate = candidate[: second.start()]
            for first, stop, mask in self._matches(text, candidate, start):
                hit = mask & regions
                if hit:
                    found.add((first, stop))
                    regions &= ~hit
                    waiting[stop] = waiting.get(stop, 0) | hit
                    if not regions:
                        return
            if second:
                after = start + len(candidate)
                waiting[after] = waiting.get(after, 0) | regions
                return

    def _matches(self, text: str, candidate: str, start: int) -> list[tuple[int, int, int]]:
        """(start, end, regions) of the candidate and its parts, in the order in which the matcher tries them."""
        if _PARTED.search(candidate) is None:
            if not self._stands_alone(text, candidate, start):
                return []
            mask, steps = self._verified(candidate)
            self._pay(((candidate, steps),))
            return [(start, start + len(candidate), mask)] if mask else []
        groups, costs = self._groups(candidate)
        self._pay(costs)
        if not groups:
            return []
        if (
            " " in candidate
            and matcher._TIME_STAMPS.search(candidate)
            and matcher._TIME_STAMPS_SUFFIX.match(text, start + len(candidate))
        ):
            return []
        return [
            (start + offset, start + offset + len(group), mask)
            for group, offset, mask in groups
            if self._stands_alone(text, group, start + offset)
        ]

    def _stands_alone(self, text: str, group: str, start: int) -> bool:
        """Whether no Latin letter, per cent or currency sign stands right beside."""
        if not self._is_checked:
            return True
        if start > 0 and _is_disturbing(text[start - 1]) and not matcher._LEAD_PATTERN.match(group):
            return False
        end = start + len(group)
        return end >= len(text) or not _is_disturbing(text[end])

    def _pay(self, costs: Sequence[tuple[str, int]]) -> None:
        """Spend steps for what was looked at, once for a text.  What is remembered from other texts comes with the
        steps it took: a text costs the same whether it was seen before or not."""
        steps = GROUP * len(costs)
        for group, cost in costs:
            if cost and group not in self._paid:
                self._paid.add(group)
                steps += cost
        self._budget.spend(steps)

    def _split(self, candidate: str) -> tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, int], ...]]:
        """The candidate and its parts that are a number in some region: (text, offset, regions); and what each cost."""
        is_simple = _SIMPLE.fullmatch(candidate) is not None
        if is_simple and len(_NON_DIGIT.sub("", candidate)) < self.fewest_digits:
            return (), ()
        if "/" in candidate and matcher._SLASH_SEPARATED_DATES.search(candidate):
            return (), ()
        groups = [(candidate, 0)]
        for pattern, signs in _INNER:
            if is_simple and not any(sign in candidate for sign in signs):
                continue
            part = pattern.search(candidate)
            is_first = True
            while part:
                if is_first:
                    groups.append((_trimmed(candidate[: part.start()]), 0))
                    is_first = False
                groups.append((_trimmed(part.group(1)), part.start(1)))
                part = pattern.search(candidate, part.start() + 1)
        kept, costs = [], []
        for group, offset in groups:
            mask, steps = self._verified(group) if group else (0, 0)
            costs.append((group, steps))
            if mask:
                kept.append((group, offset, mask))
        return tuple(kept), tuple(costs)

    def _verify(self, group: str) -> tuple[int, int]:
        """The regions in which the text by itself is a number, one bit each; and the steps."""
        if _SIMPLE.fullmatch(group):
            digits = _NON_DIGIT.sub("", group)
            if len(digits) < self.fewest_digits or not _is_well_formed(group):
                return 0, 0
            if self._is_checked and self._leniency < matcher.Leniency.STRICT_GROUPING:
                return self._verified_digits(digits)  # here only digits count, not how they stand
        elif not _is_well_formed(group):
            return 0, 0
        return self._parsed(group, self._all)

    def _verify_digits(self, digits: str) -> tuple[int, int]:
        """The same for digits: only regions whose metadata do not rule them out are asked."""
        asked = self._always
        for hit in tuple(self._possible.hits(digits.encode())):
            if hit >= len(self._codes):
                asked |= self._regions[hit - len(self._codes)].bit
                continue
            for region in self._regions:
                if region.country_code != self._codes[hit]:
                    continue
                if not region.is_bare(digits) or not region.wants_prefix(digits):
                    asked |= region.bit
        return self._parsed(digits, asked) if asked else (0, 0)

    def _parsed(self, group: str, asked: int) -> tuple[int, int]:
        """The regions, of those asked, in which the library itself says that the text is a number; and the steps."""
        found = steps = 0
        for mask, name in self._classes:
            if asked & mask:
                steps += PARSE
                if self._is_number(group, name):
                    found |= mask
        return found & asked, steps

    def _is_number(self, group: str, region: str) -> bool:
        try:
            number = util.parse(group, region, keep_raw_input=True)
            own = matcher.PhoneNumberMatcher(group, region, leniency=self._leniency)
            return bool(matcher._verify(self._leniency, number, group, own))
        except util.NumberParseException:
            return False


def _is_well_formed(group: str) -> bool:
    """Whether brackets match, and it is no page reference."""
    if "(" not in group and ")" not in group and "[" not in group and "]" not in group and group.isascii():
        return bool(group)
    return bool(fullmatch(matcher._MATCHING_BRACKETS, group)) and not matcher._PUB_PAGES.search(group)


@lru_cache(4096)
def _is_disturbing(character: str) -> bool:
    """Whether a number right beside this character is none to the matcher."""
    own = matcher.PhoneNumberMatcher
    return bool(own._is_invalid_punctuation_symbol(character) or own._is_latin_letter(character))


def _trimmed(group: str) -> str:
    end = util._UNWANTED_END_CHAR_PATTERN.search(group)
    return group[: end.start()] if end else group
