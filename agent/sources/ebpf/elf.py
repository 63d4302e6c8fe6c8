"""Symbols of a program or library, and Go's own table of functions, to places in the file where probes can stand.

Pure but for the file given.  pyelftools reads the headers; tables with a hundred thousand entries are walked with
`struct`, since an object for each would take seconds.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import capstone
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

_SYMBOL = struct.Struct("<IBBHQQ")
_FUNCTION = 2
_COMPRESSED = 0x800  # SHF_COMPRESSED
_LARGEST_FUNCTION = 64 * 1024
# Go 1.18 and 1.20: the head of .gopclntab (debug/gosym/pclntab.go).
_MAGICS = (0xFFFFFFF0, 0xFFFFFFF1)
_MOST_FUNCTIONS = 2_000_000


class ElfProblem(Exception):
    """Why a file cannot be read as ELF; for a reason, not for people."""


class Span(NamedTuple):
    """A function: its first byte's place in the file, and its size in bytes (0 if unknown)."""

    offset: int
    size: int


class Elf:
    """One file, opened."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._elf = ELFFile(file)
            self.machine = str(self._elf["e_machine"])
            self._loads = [
                (int(one["p_vaddr"]), int(one["p_memsz"]), int(one["p_offset"]))
                for one in self._elf.iter_segments()
                if one["p_type"] == "PT_LOAD"
            ]
        except (ELFError, ValueError, KeyError, struct.error, OSError) as error:
            raise ElfProblem(type(error).__name__) from error
        if self._elf.elfclass != 64 or not self._elf.little_endian:
            raise ElfProblem("not_64_bit")
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def place_of(self, address: int) -> int:
        """A virtual address to its place in the file; -1 if it is in no segment."""
        for start, size, offset in self._loads:
            if start <= address < start + size:
                return address - start + offset
        return -1

    def section(self, name: str) -> bytes:
        """A section's bytes; none if there is no such section."""
        try:
            found = self._elf.get_section_by_name(name)
            if found is None or found["sh_type"] == "SHT_NOBITS" or found["sh_flags"] & _COMPRESSED:
                return b""
            # Read here and not by the library: what a file claims of its sections may be more than any memory.
            if not 0 <= found["sh_size"] <= self._size:
                raise ElfProblem("broken_section")
            self._file.seek(found["sh_offset"])
            return self._file.read(found["sh_size"])
        except (ELFError, ValueError, KeyError, struct.error, OSError) as error:
            raise ElfProblem(type(error).__name__) from error

    def address_of_section(self, name: str) -> int:
        found = self._elf.get_section_by_name(name)
        return int(found["sh_addr"]) if found is not None else 0

    def functions(self, names: Iterable[str]) -> dict[str, Span]:
        """The functions of these names that the file exports or still has symbols of."""
        found: dict[str, Span] = {}
        wanted = set(names)
        for table, texts in ((".dynsym", ".dynstr"), (".symtab", ".strtab")):
            if missing := wanted - found.keys():
                found |= self._from_table(table, texts, missing)
        return found

    def _from_table(self, table: str, texts: str, names: set[str]) -> dict[str, Span]:
        strings = self.section(texts)
        places: dict[int, str] = {}
        for name in names:
            at = strings.find(b"\0" + name.encode() + b"\0")
            if at >= 0:
                places[at + 1] = name
        if not places:
            return {}
        found: dict[str, Span] = {}
        raw = self.section(table)
        for place, info, _, section, address, size in _SYMBOL.iter_unpack(raw[: len(raw) // 24 * 24]):
            if place in places and info & 15 == _FUNCTION and section and (offset := self.place_of(address)) >= 0:
                found[places[place]] = Span(offset, size)
        return found

    # ------------------------------------------------------------------- Go

    def go_functions(self, names: Iterable[str]) -> dict[str, Span]:
        """Functions by Go's table, which stripping leaves in place.  Raises ElfProblem if it is of an unknown form."""
        table = self.section(".gopclntab") or self.section(".data.rel.ro.gopclntab")
        if not table:
            return {}
        try:
            return self._from_go_table(table, set(names))
        except (struct.error, IndexError) as error:
            raise ElfProblem("broken_pclntab") from error

    def _from_go_table(self, table: bytes, names: set[str]) -> dict[str, Span]:
        (magic,) = struct.unpack_from("<I", table)
        if magic not in _MAGICS or table[7] != 8:
            raise ElfProblem("unknown_pclntab")
        count, _, text_start, name_offset, _, _, _, functions = struct.unpack_from("<8Q", table, 8)
        text_start = text_start or self.address_of_section(".text")
        if count > _MOST_FUNCTIONS:
            raise ElfProblem("broken_pclntab")
        wanted: dict[int, str] = {}
        for name in names:
            at = table.find(b"\0" + name.encode() + b"\0", name_offset)
            if at >= 0:
                wanted[at + 1 - name_offset] = name
        found: dict[str, Span] = {}
        entries = table[functions : functions + 8 * count + 4]
        for index in range(count):
            entry, place = struct.unpack_from("<II", entries, 8 * index)
            (named,) = struct.unpack_from("<i", table, functions + place + 4)
            if (name := wanted.get(named, "")) and name not in found:
                (following,) = struct.unpack_from("<I", entries, 8 * (index + 1))
                offset = self.place_of(text_start + entry)
                if offset >= 0:
                    found[name] = Span(offset, following - entry)
        return found

    def returns_of(self, span: Span) -> list[int]:
        """Places in the file of a function's return instructions.

        A uretprobe would rewrite a return address on a stack that Go moves; probes at the returns do not.
        """
        modes = {"EM_X86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64)}
        modes["EM_AARCH64"] = (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        if self.machine not in modes or not 0 < span.size <= _LARGEST_FUNCTION:
            return []
        self._file.seek(span.offset)
        code = self._file.read(span.size)
        disassembler = capstone.Cs(*modes[self.machine])
        disassembler.skipdata = True
        return [
            span.offset + address
            for address, _, name, _ in disassembler.disasm_lite(code, 0)
            if name in ("ret", "retq")
        ]
