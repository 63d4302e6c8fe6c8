"""The door to bcc: compile a text, load and attach its programs one by one, read its maps.

bcc is a system package without a wheel.  It is found in this interpreter or in the system's `dist-packages`, of which
nothing else is taken.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import platform
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_SYSTEM_PACKAGES = (Path("/usr/lib/python3/dist-packages"), Path("/usr/lib/python3.12/site-packages"))
_EVERY_PROCESS = -1
_FLAGS = ["-w", "-Wno-macro-redefined"]


class BpfError(Exception):
    """Why BPF cannot be used, or a program was refused; the text is for people."""


def _module() -> types.ModuleType:
    """bcc.  Raises BpfError with what to install."""
    if "bcc" in sys.modules:
        return sys.modules["bcc"]
    found = importlib.util.find_spec("bcc")
    places = [path for path in _SYSTEM_PACKAGES if (path / "bcc" / "__init__.py").exists()]
    if found is None and not places:
        raise BpfError(
            "bcc is not installed. Install the package python3-bpfcc (Debian, Ubuntu) or python3-bcc (Fedora)."
        )
    try:
        if found is not None:
            return importlib.import_module("bcc")
        # The folder of system packages is looked into for this import only.
        with _extended_path(str(places[0])):
            return importlib.import_module("bcc")
    except (ImportError, OSError, AttributeError) as error:
        raise BpfError(f"bcc cannot be loaded ({type(error).__name__}: {error}). Is libbpfcc installed?") from error


@contextlib.contextmanager
def _extended_path(folder: str) -> Iterator[None]:
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def version() -> str:
    """bcc's version.  Raises BpfError if there is no bcc."""
    return str(getattr(_module(), "__version__", "unknown"))


def headers() -> Path | None:
    """The kernel headers that bcc will take: where its own variable points to, else where the kernel's modules are."""
    named = os.environ.get("BCC_KERNEL_SOURCE")
    folder = Path(named) if named else Path("/lib/modules") / platform.release() / "build"
    return folder if (folder / "include").is_dir() else None


class Programs:
    """One compiled text.  `close` detaches everything; the kernel does the same if this process dies."""

    def __init__(self, text: str) -> None:
        module = _module()
        self._kernel_types = module.BPF
        self._events: list[int] = []
        try:
            with _quiet_stderr() as said:
                self._bpf: Any = module.BPF(text=text.encode(), cflags=_FLAGS)
        except Exception as error:
            detail = said() or str(error)
            raise BpfError(f"the BPF programs do not compile: {_last_line(detail)}") from error

    def attach_tracepoint(self, tracepoint: str, function: str) -> None:
        """Load a program and run it at a tracepoint.  Raises BpfError with the kernel's reason."""
        try:
            with _quiet_stderr() as said:
                self._bpf.load_func(function.encode(), self._kernel_types.TRACEPOINT)
                self._bpf.attach_tracepoint(tp=tracepoint.encode(), fn_name=function.encode())
                # bcc keeps one for each tracepoint and forgets the first of two.
                self._events.append(self._bpf.tracepoint_fds.pop(tracepoint.encode()))
        except Exception as error:
            raise BpfError(_reason(said(), error)) from error

    def attach_uprobe(self, path: str, function: str, *, offset: int, is_return: bool = False) -> int:
        """Run a program when code at a file's offset is reached (or its function returns).  Raises BpfError."""
        try:
            with _quiet_stderr() as said:
                program = self._bpf.load_func(function.encode(), self._kernel_types.KPROBE)
        except Exception as error:
            raise BpfError(_reason(said(), error)) from error
        name = f"{'r' if is_return else 'p'}_{os.stat(path).st_ino}_{offset:x}_{function}".encode()
        library = sys.modules["bcc.libbcc"].lib
        event = library.bpf_attach_uprobe(
            program.fd, 1 if is_return else 0, name, path.encode(), offset, _EVERY_PROCESS, 0
        )
        if event < 0:
            raise BpfError("the kernel refused a uprobe there")
        return int(event)

    @staticmethod
    def detach_uprobe(event: int) -> None:
        """End an attachment that `attach_uprobe` gave."""
        os.close(event)

    def map_descriptor(self, name: str) -> int:
        return int(self._bpf[name.encode()].map_fd)

    def mark(self, name: str, pid: int) -> None:
        """Put a process into one of the sets of processes.  A full set is told as BpfError."""
        table = self._bpf[name.encode()]
        try:
            table[table.Key(pid)] = table.Leaf(1)
        except Exception as error:
            raise BpfError(f"the set {name} takes no more processes") from error

    def unmark(self, name: str, pid: int) -> None:
        table = self._bpf[name.encode()]
        with contextlib.suppress(KeyError):
            del table[table.Key(pid)]

    def mark_descriptor(self, name: str, pid: int, descriptor: int) -> None:
        """Put a process's file descriptor into a set of them."""
        table = self._bpf[name.encode()]
        with contextlib.suppress(Exception):
            table[table.Key(pid, descriptor)] = table.Leaf(1)

    def decide(self, name: str, key: int, *, is_wanted: bool) -> None:
        """Note a decision in a set of hashes.  A full set takes no more: later processes are decided one by one."""
        table = self._bpf[name.encode()]
        with contextlib.suppress(Exception):
            table[table.Key(key)] = table.Leaf(int(is_wanted))

    def slot(self, name: str, slot: int) -> list[int]:
        """A slot of a per-CPU array: a value for each possible CPU."""
        table = self._bpf[name.encode()]
        return [int(value) for value in table[table.Key(slot)]]

    def entries(self, name: str) -> int:
        """How many entries a map holds now."""
        return len(list(self._bpf[name.encode()].keys()))

    def detach(self) -> None:
        """End all tracepoints' programs.  The kernel lets each wait for a tenth of a second, so they wait together."""
        events, self._events = self._events, []
        with ThreadPoolExecutor(max_workers=32) as pool:
            list(pool.map(os.close, events))

    def close(self) -> None:
        self.detach()
        with _quiet_stderr():
            self._bpf.cleanup()


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[Any]:
    """bcc and clang write to the process's standard error; it is kept, and told with an error."""
    kept = ""
    if _has_no_stderr():
        yield lambda: kept
        return
    reading = io.FileIO(os.memfd_create("bcc-said"), "r+")
    before = os.dup(2)
    os.dup2(reading.fileno(), 2)

    def said() -> str:
        return kept

    try:
        yield said
    finally:
        os.dup2(before, 2)
        os.close(before)
        reading.seek(0)
        kept = reading.read(256 * 1024).decode("utf-8", "replace")
        reading.close()


def _has_no_stderr() -> bool:
    """Whether standard error cannot be set aside (there is none)."""
    try:
        os.fstat(2)
    except OSError:
        return True
    return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    return telling[0][:300] if telling else "no reason was given"


def _reason(said: str, error: Exception) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("processed", "verification"))]
    return f"{error}"[:200] + (f" ({telling[-1][:200]})" if telling else "")
