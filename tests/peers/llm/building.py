"""What of this folder has to be built: programs in Go, and an environment with Python libraries of clients.

Both are kept outside of the checkout, beside the other peers' (tests/e2e/conftest.py), under names that
follow from what they were made of.  What cannot be had here is a `Missing` with its reason, never an exception.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
CLIENTS = FOLDER / "clients"
CACHE = Path.home() / ".cache" / "reeve" / "peers"


@dataclass(frozen=True)
class Missing:
    """Why something is not available on this machine."""

    reason: str


def go_program(name: str, package: str, *, stripped: bool = False) -> Path | Missing:
    """A program of this module; stripped has neither symbol table nor DWARF, as most shipped programs in Go."""
    digest = hashlib.sha256(f"{package} {stripped}".encode())
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in (".go", ".mod", ".sum"):
            digest.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes())
    program = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        return Missing("needs Go (1.24 or newer) to be built")
    CACHE.mkdir(parents=True, exist_ok=True)
    new = program.with_name(f"{program.name}.{os.getpid()}")
    command = ["go", "build", "-trimpath", "-buildvcs=false", *(["-ldflags", "-s -w"] if stripped else [])]
    failure = _failure([*command, "-o", str(new), package], FOLDER)
    if failure is not None:
        return failure
    os.rename(new, program)
    return program


def client_python() -> Path | Missing:
    """The Python that has httpx and requests, in the versions of clients/requirements.txt."""
    return _environment(["requirements.txt"])


def openai_python() -> Path | Missing:
    """The same Python, if OpenAI's SDK could be installed as well."""
    python = client_python()
    return python if isinstance(python, Missing) else _environment(["requirements.txt", "requirements-openai.txt"])


def _environment(lists: Sequence[str]) -> Path | Missing:
    """The one environment, with each list of requirements that it does not have yet put in."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "llm-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one session makes it, another one waits
        return _made(CACHE / "llm-venv", lists)


def _made(folder: Path, lists: Sequence[str]) -> Path | Missing:
    python = folder / "bin" / "python"
    pins = {name: (CLIENTS / name).read_text(encoding="utf-8") for name in lists}
    # Beside the pins: an environment made by another Python, or for another, is made again.
    maker = f"{sys.version} {sys.base_prefix}"
    if not python.exists() or _noted(folder, "maker") != maker or _noted(folder, lists[0]) != pins[lists[0]]:
        shutil.rmtree(folder, ignore_errors=True)
        failure = _failure([sys.executable, "-m", "venv", str(folder)], CACHE)
        if failure is not None:
            return failure
        _note(folder, "maker", maker)
    for name, wanted in pins.items():
        if _noted(folder, name) == wanted:
            continue
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        failure = _failure([*install, "--requirement", str(CLIENTS / name)], CACHE)
        if failure is not None:
            return failure
        _note(folder, name, wanted)
    return python


def _noted(folder: Path, name: str) -> str | None:
    note = folder / f"installed-{name}"
    return note.read_text(encoding="utf-8") if note.exists() else None


def _note(folder: Path, name: str, text: str) -> None:
    (folder / f"installed-{name}").write_text(text, encoding="utf-8")


def _failure(command: Sequence[str], folder: Path) -> Missing | None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return Missing(f"`{' '.join(command[:4])} ...` failed: {(done.stderr or done.stdout)[-2000:].strip()}")


def version_of(command: Sequence[str]) -> str:
    """The first line that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0].strip()
