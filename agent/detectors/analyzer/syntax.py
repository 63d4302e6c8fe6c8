r"""A Python regular expression as a tree, and what can be said of it: other engines' forms, and its safety.

Two forms are made.  `prefilter` is for Hyperscan and finds at least what the pattern finds: look-arounds and back
references are dropped, long bounded repeats opened.  `linear` is for RE2 and finds exactly what the pattern finds, or
is None where RE2 has no such construct.  Both are made for text that `fold.py` has folded to ASCII; `unsafe` names the
kinds of folded characters for which the pattern could tell the difference.

The tree comes from the standard library's own parser.  Presidio compiles with the `regex` module, whose syntax is
larger: what the parser refuses has neither form, and runs as Presidio would run it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from re import _constants as op  # type: ignore[attr-defined]  # the tree's node names; stable since 3.11
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Literal, NamedTuple, TypeAlias

from agent.detectors.analyzer.fold import EXAMPLES, Kind

Node: TypeAlias = tuple[Any, Any]
Dialect: TypeAlias = Literal["prefilter", "linear"]

# A bounded repeat over more than this is opened for the prefilter: the state it would need buys nothing there.
_PREFILTER_REPEAT = 40
_INFINITE = op.MAXREPEAT
_CATEGORIES = {
    op.CATEGORY_DIGIT: "0-9",
    op.CATEGORY_SPACE: r"\t\n\x0b\x0c\r\x1c-\x20",
    op.CATEGORY_WORD: "A-Za-z0-9_",
}
_NEGATED = {
    op.CATEGORY_NOT_DIGIT: op.CATEGORY_DIGIT,
    op.CATEGORY_NOT_SPACE: op.CATEGORY_SPACE,
    op.CATEGORY_NOT_WORD: op.CATEGORY_WORD,
}
# Letters by property: to the prefilter any letter, or the stand-in of one beyond ASCII.
_LETTER_PROPERTY = re.compile(r"\\p\{(?:L|Lu|Ll|Lt|Lo)\}")
_NEGATED_PROPERTY = re.compile(r"\[\^[^]]*\\p")
_UNICODE_PROPERTY = re.compile(r"\\[pPXRKGL]|\[\[:|\(\?[|&P>RV]|&&|\|\||~~|--")


class NoForm(Exception):
    """The dialect has no such construct."""


class Forms(NamedTuple):
    """What a pattern is in other engines; `unsafe`: folded characters that it could tell from their stand-ins."""

    prefilter: str | None
    linear: str | None
    unsafe: frozenset[Kind]


ALL_KINDS: frozenset[Kind] = frozenset(EXAMPLES)


def forms_of(pattern: str, *, ignore_case: bool, multiline: bool, dot_all: bool) -> Forms:
    """The forms of a pattern that Presidio would compile with these flags.  Raises nothing."""
    flags = (re.I if ignore_case else 0) | (re.M if multiline else 0) | (re.S if dot_all else 0)
    has_letters = _LETTER_PROPERTY.search(pattern) is not None and _NEGATED_PROPERTY.search(pattern) is None
    if has_letters:
        pattern = _with_any_letter(pattern)
    if _UNICODE_PROPERTY.search(pattern):
        return Forms(None, None, ALL_KINDS)
    try:
        tree = parser.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError):
        return Forms(None, None, ALL_KINDS)
    unsafe = frozenset(kind for kind in ALL_KINDS if _tells_apart(tree, kind))
    found: dict[Dialect, str | None] = {}
    dialects: tuple[Dialect, Dialect] = ("prefilter", "linear")
    for dialect in dialects:
        state = _Writer(dialect, tree.state.flags)
        try:
            case = "(?i)" if tree.state.flags & re.I else ""
            found[dialect] = case + state.sequence(tree)
        except NoForm:
            found[dialect] = None
    if has_letters:
        return Forms(found["prefilter"], None, unsafe - {"letter"})
    return Forms(found["prefilter"], found["linear"], unsafe)


def _with_any_letter(pattern: str) -> str:
    """The pattern with every letter property widened."""
    parts: list[str] = []
    done, is_in_class = 0, False
    for match in re.finditer(r"\\p\{[A-Za-z]+\}|\\.|\[\^?\]?|\]", pattern, re.DOTALL):
        piece = match.group()
        if piece[0] == "[":
            is_in_class = True
        elif piece == "]":
            is_in_class = False
        elif _LETTER_PROPERTY.fullmatch(piece):
            parts += (pattern[done : match.start()], "A-Za-z_" if is_in_class else "[A-Za-z_]")
            done = match.end()
    parts.append(pattern[done:])
    return "".join(parts)


def _quoted(code: int) -> str:
    if code > 0x7F:
        raise NoForm
    character = chr(code)
    return character if character.isalnum() or character == "_" else f"\\x{code:02x}"


class _Writer:
    """One tree to one dialect's text."""

    def __init__(self, dialect: Dialect, flags: int) -> None:
        self._dialect = dialect
        self._flags = flags

    def sequence(self, nodes: Iterable[Node]) -> str:
        return "".join(self.node(node) for node in nodes)

    def node(self, node: Node) -> str:
        kind, value = node
        if kind is op.LITERAL:
            return _quoted(value)
        if kind is op.NOT_LITERAL:
            return f"[^{_quoted(value)}]"
        if kind is op.ANY:
            return r"[\x00-\x7f]" if self._flags & re.S else r"[^\n]"
        if kind is op.IN:
            return self._set(value)
        if kind is op.BRANCH:
            return "(?:" + "|".join(self.sequence(branch) for branch in value[1]) + ")"
        if kind is op.SUBPATTERN:
            return self._group(value)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            return self._repeat(value, "?" if kind is op.MIN_REPEAT else "")
        if kind is op.AT:
            return self._anchor(value)
        if self._dialect == "prefilter":
            return self._superset(kind, value)
        raise NoForm

    def _superset(self, kind: Any, value: Any) -> str:
        """Something that is there wherever the construct is."""
        if kind in (op.ASSERT, op.ASSERT_NOT):
            return ""
        if kind is op.GROUPREF:
            return r"[\x00-\x7f]*"
        if kind is op.ATOMIC_GROUP:
            return f"(?:{self.sequence(value)})"
        if kind is op.POSSESSIVE_REPEAT:
            return self._repeat(value, "")
        raise NoForm

    def _group(self, value: tuple[int | None, int, int, Sequence[Node]]) -> str:
        _, add, remove, inner = value
        if (add | remove) & ~(re.I | re.M | re.S | re.U):
            raise NoForm
        before = self._flags
        self._flags = (self._flags | add) & ~remove
        case = ""
        if (before ^ self._flags) & re.I:
            case = "i" if self._flags & re.I else "-i"
        written = f"(?{case}:{self.sequence(inner)})"
        self._flags = before
        return written

    def _repeat(self, value: tuple[int, int, Sequence[Node]], lazy: str) -> str:
        least, most, inner = value
        body = self.sequence(inner)
        if not body:
            return ""
        if self._dialect == "prefilter" and most is not _INFINITE and most > _PREFILTER_REPEAT:
            most = _INFINITE
        if self._dialect == "prefilter" and least > _PREFILTER_REPEAT:
            least = _PREFILTER_REPEAT
        if self._dialect == "linear" and max(least, 0 if most is _INFINITE else most) > 1000:
            raise NoForm  # RE2's own limit
        bounds = {(0, _INFINITE): "*", (1, _INFINITE): "+", (0, 1): "?"}.get((least, most))
        if bounds is None:
            bounds = f"{{{least},{'' if most is _INFINITE else most}}}"
        if self._dialect == "prefilter":
            lazy = ""
        return f"(?:{body}){bounds}{lazy}"

    def _anchor(self, where: Any) -> str:
        is_multiline = bool(self._flags & re.M)
        if where is op.AT_BOUNDARY:
            return r"\b"
        if where is op.AT_NON_BOUNDARY:
            return r"\B" if self._dialect == "linear" else ""
        if where is op.AT_BEGINNING and is_multiline:
            return r"(?m:^)" if self._dialect == "linear" else ""
        if where is op.AT_END and is_multiline:
            return r"(?m:$)" if self._dialect == "linear" else ""
        if where in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
            return r"\A" if self._dialect == "linear" else ""
        if where is op.AT_END_STRING:
            return r"\z" if self._dialect == "linear" else ""
        if self._dialect == "prefilter":
            return ""
        raise NoForm  # `$` before a last line end, without MULTILINE

    def _set(self, items: Sequence[Node]) -> str:
        """A character class, its members counted out over ASCII: `[^\\W_]` has no form that all engines share."""
        members = _members(items, ignore_case=bool(self._flags & re.I))
        if not members:
            raise NoForm
        return "[" + "".join(_ranges(members)) + "]"


def _members(items: Sequence[Node], *, ignore_case: bool) -> frozenset[int]:
    """The ASCII characters in a class; a negated class without regard to case lacks both cases of its members."""
    is_negated = bool(items) and items[0][0] is op.NEGATE
    members: set[int] = set()
    for kind, value in items:
        if kind is op.LITERAL:
            members.add(value)
        elif kind is op.RANGE:
            members.update(range(value[0], min(value[1], 0x7F) + 1))
        elif kind is op.CATEGORY:
            members |= _category(value)
    members = {code for code in members if code < 0x80}
    if ignore_case:
        members |= {ord(twin) for code in members for twin in chr(code).swapcase()}
    return frozenset(range(0x80)) - members if is_negated else frozenset(members)


def _category(name: Any) -> set[int]:
    if name in _NEGATED:
        return set(range(0x80)) - _category(_NEGATED[name])
    if name not in _CATEGORIES:
        raise NoForm
    return {ord(one) for one in re.findall(f"[{_CATEGORIES[name]}]", "".join(map(chr, range(0x80))))}


def _ranges(members: frozenset[int]) -> Iterable[str]:
    codes = sorted(members)
    first = last = codes[0]
    for code in [*codes[1:], 0x1000]:
        if code == last + 1:
            last = code
            continue
        yield f"\\x{first:02x}" if first == last else f"\\x{first:02x}-\\x{last:02x}"
        first = last = code


def _tells_apart(tree: Iterable[Node], kind: Kind) -> bool:
    """Whether some part of the tree treats a character of this kind and its stand-in differently."""
    example, stand_in = EXAMPLES[kind]
    for operator, value in tree:
        if operator is op.LITERAL:
            if value in (ord(stand_in),) or value > 0x7F:
                return True
        elif operator is op.NOT_LITERAL:
            if value == ord(stand_in) or value > 0x7F:
                return True
        elif operator is op.IN:
            if _is_in(value, ord(example)) != _is_in(value, ord(stand_in)) or _names_foreign(value):
                return True
        elif any(_tells_apart(part, kind) for part in _parts(operator, value)):
            return True
    return False


def _parts(operator: Any, value: Any) -> Iterable[Iterable[Node]]:
    if operator is op.BRANCH:
        return list(value[1])
    if operator is op.SUBPATTERN:
        return [value[3]]
    if operator in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        return [value[2]]
    if operator in (op.ASSERT, op.ASSERT_NOT):
        return [value[1]]
    if operator is op.ATOMIC_GROUP:
        return [value]
    if operator is op.GROUPREF_EXISTS:
        return [part for part in value[1:] if part is not None]
    return []


def _is_in(items: Sequence[Node], code: int) -> bool:
    is_negated = bool(items) and items[0][0] is op.NEGATE
    found = False
    for kind, value in items:
        if kind is op.LITERAL:
            found = found or value == code
        elif kind is op.RANGE:
            found = found or value[0] <= code <= value[1]
        elif kind is op.CATEGORY:
            found = found or _has_category(value, chr(code))
    return found != is_negated


def _has_category(name: Any, character: str) -> bool:
    if name in _NEGATED:
        return not _has_category(_NEGATED[name], character)
    if name is op.CATEGORY_DIGIT:
        return character.isdecimal()
    if name is op.CATEGORY_SPACE:
        return character.isspace()
    return character.isalnum() or character == "_"


def _names_foreign(items: Sequence[Node]) -> bool:
    """Whether a class names single characters beyond ASCII."""
    return any((kind is op.LITERAL and value > 0x7F) or (kind is op.RANGE and value[1] > 0x7F) for kind, value in items)
