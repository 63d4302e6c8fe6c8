"""One process of a node: its log, its record on disk, its end by pid.

The record has the pid and when that process began, so that a later session ends the process that was started here
and never another one that got the same number since.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


class Part:
    """A process that runs until it is stopped; `start` after `stop` runs it again."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._command = list(command)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Starts it, if it does not run."""
        if self.pid is not None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: an interrupt at the terminal ends the tests first, which then end this in order.
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
            )
        record(self._folder, self.name, self._process.pid)

    def stop(self, seconds: float = 20.0) -> None:
        """Ends it, gently at first."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        _record_file(self._folder, self.name).unlink(missing_ok=True)

    def resident_bytes(self) -> int:
        return 0 if self.pid is None else resident_bytes(self.pid)

    def tail(self, lines: int = 30) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def check(self) -> None:
        """Raises RuntimeError with the end of its log if it has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise RuntimeError(f"{self.name} ended with {code}:\n{self.tail()}")


def _record_file(folder: Path, name: str) -> Path:
    return folder / "running" / f"{name}.json"


def record(folder: Path, name: str, pid: int) -> None:
    """Notes a process that `ended_by_record` may end later."""
    file = _record_file(folder, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": pid, "began": began(pid)}), encoding="utf-8")


def ended_by_record(folder: Path) -> list[int]:
    """Ends what an earlier session left running in `folder`; gives the pids."""
    ended = []
    for file in sorted((folder / "running").glob("*.json")):
        noted = json.loads(file.read_text(encoding="utf-8") or "{}")
        pid = int(noted.get("pid", 0))
        if pid and began(pid) == noted["began"]:
            end(pid)
            ended.append(pid)
        file.unlink()
    return ended


def end(pid: int, seconds: float = 10.0) -> None:
    """Kills one process, and waits until it is gone (or only waits for its parent to take notice)."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + seconds
    while began(pid) is not None and _state(pid) != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc(5), stat, field 22); None if there is none."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def _state(pid: int) -> str | None:
    fields = _stat(pid)
    return None if fields is None else fields[0]


def _stat(pid: int) -> list[str] | None:
    """The fields after the command's name, which may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
