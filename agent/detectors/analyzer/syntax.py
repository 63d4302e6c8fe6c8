r"""A Python regular expression as a tree, and what can be said of it: other engines' forms, and its safety.

Three forms are made.  `prefilter` is for Hyperscan and finds at least what the pattern finds: look-arounds are dropped,
back references widened, long bounded repeats opened.  `linear` is for RE2 and finds exactly what the pattern finds, or
is None where RE2 has no such construct.  `relaxed` is `linear` with long bounded repeats opened: exact too, in a text
without any run longer than the bound (`guards` find those), and much faster, because an automaton need not count.  All
are made for text that `fold.py` has folded to ASCII; `unsafe` names the kinds of folded characters for which the
pattern could tell the difference.

The tree comes from the standard library's own parser.  Presidio compiles with the `regex` module, whose syntax is
larger: what the parser refuses has neither form, and runs as Presidio would run it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from re import _constants as op  # type: ignore[attr-defined]  # the tree's node names; stable since 3.11
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Literal, NamedTuple, TypeAlias

from agent.detectors.analyzer.fold import EXAMPLES, TURKISH, Kind, folded

Node: TypeAlias = tuple[Any, Any]
Dialect: TypeAlias = Literal["prefilter", "linear", "relaxed"]

# A bounded repeat over more than this is opened for the prefilter: the state it would need buys nothing there.
_PREFILTER_REPEAT = 20
# One over more than this gets a guard and a relaxed form.  The URL patterns have 253.
_GUARDED_REPEAT = 100
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
_UNICODE_PROPERTY = re.compile(r"\\[pPXRKGL]|\[\[:|\(\?(?:[|&RV]|P[>&])|&&|\|\||~~|--")


class NoForm(Exception):
    """The dialect has no such construct."""


class Forms(NamedTuple):
    """What a pattern is in other engines.  `unsafe`: kinds of folded characters that it could tell from their
    stand-ins, so that the linear form is not exact; `blind`: those with which even the prefilter could miss a match."""

    prefilter: str | None
    linear: str | None
    unsafe: frozenset[Kind]
    blind: frozenset[Kind]
    relaxed: str | None = None
    guards: tuple[str, ...] = ()


ALL_KINDS: frozenset[Kind] = frozenset(EXAMPLES) | {TURKISH}


def forms_of(pattern: str, *, ignore_case: bool, multiline: bool, dot_all: bool) -> Forms:
    """The forms of a pattern that Presidio would compile with these flags.  Raises nothing."""
    flags = (re.I if ignore_case else 0) | (re.M if multiline else 0) | (re.S if dot_all else 0)
    has_letters = _LETTER_PROPERTY.search(pattern) is not None and _NEGATED_PROPERTY.search(pattern) is None
    if has_letters:
        pattern = _with_any_letter(pattern)
    if _UNICODE_PROPERTY.search(pattern):
        return Forms(None, None, ALL_KINDS, ALL_KINDS)
    try:
        tree = parser.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError):
        return Forms(None, None, ALL_KINDS, ALL_KINDS)
    unsafe = frozenset(kind for kind in EXAMPLES if _tells_apart(tree, kind, _differs)) | {TURKISH}
    blind = frozenset(kind for kind in EXAMPLES if _tells_apart(tree, kind, _is_lost))
    if _leaves_out_i(tree):
        blind |= {TURKISH}
    prefilter, _ = _written("prefilter", tree)
    linear, _ = _written("linear", tree)
    relaxed, guards = _written("relaxed", tree) if linear else (None, ())
    if has_letters:
        return Forms(prefilter, None, unsafe, blind - {"letter"})
    if not guards:
        return Forms(prefilter, linear, unsafe, blind)
    return Forms(prefilter, linear, unsafe, blind, relaxed, guards)


def _written(dialect: Dialect, tree: Any) -> tuple[str | None, tuple[str, ...]]:
    """The tree in a dialect, and the guards that this rests on; None if it has no such form."""
    case = "(?i)" if tree.state.flags & re.I else ""
    writer = _Writer(dialect, tree.state.flags)
    try:
        text = writer.sequence(tree)
    except NoForm:
        return None, ()
    return case + text, tuple(dict.fromkeys(case + guard for guard in writer.guards))


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
        self._groups: dict[int, str] = {}
        self.guards: list[str] = []

    def sequence(self, nodes: Iterable[Node]) -> str:
        return "".join(self.node(node) for node in nodes)

    def node(self, node: Node) -> str:
        kind, value = node
        if kind is op.LITERAL:
            if value > 0x7F and self._dialect == "prefilter":
                return _quoted(folded(chr(value)).octets[0])
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
            return self._groups.get(value, r"[\x00-\x7f]*")
        if kind is op.ATOMIC_GROUP:
            return f"(?:{self.sequence(value)})"
        if kind is op.POSSESSIVE_REPEAT:
            return self._repeat(value, "")
        raise NoForm

    def _group(self, value: tuple[int | None, int, int, Sequence[Node]]) -> str:
        number, add, remove, inner = value
        if (add | remove) & ~(re.I | re.M | re.S | re.U):
            raise NoForm
        before = self._flags
        self._flags = (self._flags | add) & ~remove
        case = ""
        if (before ^ self._flags) & re.I:
            case = "i" if self._flags & re.I else "-i"
        written = f"(?{case}:{self.sequence(inner)})"
        self._flags = before
        if number is not None:
            self._groups[number] = written
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
        if self._dialect == "relaxed" and most is not _INFINITE and most >= _GUARDED_REPEAT and _is_single(inner):
            self.guards.append(f"{body}{{{most + 1}}}")
            most = _INFINITE
        if self._dialect != "prefilter" and max(least, 0 if most is _INFINITE else most) > 1000:
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
            return r"\B" if self._dialect != "prefilter" else ""
        if where is op.AT_BEGINNING and is_multiline:
            return r"(?m:^)" if self._dialect != "prefilter" else ""
        if where is op.AT_END and is_multiline:
            return r"(?m:$)" if self._dialect != "prefilter" else ""
        if where in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
            return r"\A" if self._dialect != "prefilter" else ""
        if where is op.AT_END_STRING:
            return r"\z" if self._dialect != "prefilter" else ""
        if self._dialect == "prefilter":
            return ""
        raise NoForm  # `$` before a last line end, without MULTILINE

    def _set(self, items: Sequence[Node]) -> str:
        """A character class, its members counted out over ASCII: `[^\\W_]` has no form that all engines share."""
        members = _members(items, ignore_case=bool(self._flags & re.I))
        if _names_foreign(items):
            if self._dialect != "prefilter":
                raise NoForm
            members |= {ord(stand_in) for _, stand_in in EXAMPLES.values()}
        if not members:
            raise NoForm
        return "[" + "".join(_ranges(members)) + "]"


def _is_single(nodes: Sequence[Node]) -> bool:
    """Whether the repeated part is one class of characters."""
    return len(nodes) == 1 and nodes[0][0] in (op.IN, op.LITERAL, op.NOT_LITERAL)


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


def _differs(in_example: bool, in_stand_in: bool) -> bool:
    return in_example != in_stand_in


def _is_lost(in_example: bool, in_stand_in: bool) -> bool:
    return in_example and not in_stand_in


def _tells_apart(tree: Iterable[Node], kind: Kind, apart: Callable[[bool, bool], bool]) -> bool:
    """Whether some part of the tree treats a character of this kind and its stand-in differently, in the sense of
    `apart`."""
    example, stand_in = EXAMPLES[kind]
    for operator, value in tree:
        if operator is op.LITERAL:
            if (value > 0x7F and apart is _differs) or apart(False, value == ord(stand_in)):
                return True
        elif operator is op.NOT_LITERAL:
            if value > 0x7F or apart(True, value != ord(stand_in)):
                return True
        elif operator is op.IN and _names_foreign(value):
            if apart is _differs:  # the prefilter's class holds all stand-ins, then
                return True
        elif operator is op.IN:
            if apart(_is_in(value, ord(example)), _is_in(value, ord(stand_in))):
                return True
        elif any(_tells_apart(part, kind, apart) for part in _parts(operator, value)):
            return True
    return False


def _leaves_out_i(tree: Iterable[Node]) -> bool:
    """Whether some class leaves out the letter i: a dotless one, folded to it, would be lost there."""
    for operator, value in tree:
        if operator is op.NOT_LITERAL:
            if value in (ord("i"), ord("I")):
                return True
        elif operator is op.IN:
            if value and value[0][0] is op.NEGATE and not (_is_in(value, ord("i")) and _is_in(value, ord("I"))):
                return True
        elif any(_leaves_out_i(part) for part in _parts(operator, value)):
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
