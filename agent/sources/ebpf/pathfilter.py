"""Which files are told, as comparisons in C: beginnings of up to sixteen bytes, endings of up to sixteen.

A path that is not told costs a few comparisons of registers: no map is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 16


def _word(text: bytes, *, is_end: bool) -> tuple[int, int]:
    """A mask and a value for a 64-bit word that holds up to eight bytes at its beginning (or end)."""
    pad = 8 - len(text)
    padded = bytes(pad) + text if is_end else text + bytes(pad)
    mask = bytes(pad) + b"\xff" * len(text) if is_end else b"\xff" * len(text) + bytes(pad)
    return int.from_bytes(mask, "little"), int.from_bytes(padded, "little")


def _compared(name: str, text: bytes, *, is_end: bool) -> str:
    mask, value = _word(text, is_end=is_end)
    if mask == 2**64 - 1:
        return f"{name} == 0x{value:x}ULL"
    return f"({name} & 0x{mask:x}ULL) == 0x{value:x}ULL"


def _check(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= LONGEST:
        raise ValueError(f"{text!r} has {len(raw)} bytes; a beginning or ending of a path has 1 to {LONGEST}")
    if b"\0" in raw:
        raise ValueError("a path holds no NUL")
    return raw


def beginning(text: str) -> str:
    """C: the path begins with the text.  Raises ValueError if it is too long."""
    raw = _check(text)
    parts = [_compared("first", raw[:8], is_end=False)]
    if len(raw) > 8:
        parts.append(_compared("second", raw[8:], is_end=False))
    return "(" + " && ".join(parts) + ")"


def ending(text: str) -> str:
    """C: the path ends with the text.  Raises ValueError if it is too long."""
    raw = _check(text)
    parts = [_compared("last", raw[-8:], is_end=True)]
    if len(raw) > 8:
        parts.append(_compared("before", raw[:-8], is_end=True))
    return "(" + " && ".join(parts) + ")"


class PathFilter:
    """The settings' lists, for both sides: C text for the kernel, `is_told` for paths that were made absolute here."""

    def __init__(self, beginnings: Sequence[str], written: Sequence[str], endings: Sequence[str]) -> None:
        self.beginnings, self.written, self.endings = tuple(beginnings), tuple(written), tuple(endings)

    def defines(self) -> str:
        first = " || ".join(beginning(one) for one in self.beginnings) or "0"
        written = " || ".join(beginning(one) for one in self.written) or "0"
        last = " || ".join(self._by_last_letter()) or "0"
        return f"#define FILTER_FIRST ({first})\n#define FILTER_WRITTEN ({written})\n#define FILTER_LAST ({last})\n"

    def _by_last_letter(self) -> list[str]:
        """Endings behind a comparison of the last letter, so that most paths are compared with a few of them."""
        groups: dict[int, list[str]] = {}
        for one in self.endings:
            groups.setdefault(one.encode()[-1], []).append(ending(one))
        return [f"((last >> 56) == 0x{letter:x} && ({' || '.join(group)}))" for letter, group in groups.items()]

    def is_near(self, directory: str) -> bool:
        """Whether a path relative to a directory may be told although its own text does not say so."""
        below = f"{directory}/"
        folders = {one.rpartition("/")[0] for one in self.endings if one.rpartition("/")[0]}
        return below.startswith(self.beginnings) or directory.endswith(tuple(folders))

    def is_told(self, path: str, *, is_write: bool) -> bool:
        """Whether an absolute path is one of those that are told."""
        return (
            path.startswith(self.beginnings)
            or (is_write and path.startswith(self.written))
            or path.endswith(self.endings)
        )
