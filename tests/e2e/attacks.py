"""Attacks run as they are written, and what a source told of each, held against what a kernel saw.

An attack is a test of Atomic Red Team with a shell's text before, the command, and a text after.  Each runs in network
and mount namespaces of its own: /tmp and /var/tmp are its own too, so nothing of it stays.  Told apart are what nobody
told, what was told under another program's name, and what cannot be seen here because the program is not installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import msgspec

from agent.model import Event, FileActivity, KernelActivity, NetworkActivity, Process, ProcessActivity, Text
from agent.sources.ebpf.config import EbpfConfig
from agent.sources.ebpf.source import EbpfSource
from agent.testing import MemoryOutput


class Observed(msgspec.Struct, frozen=True):
    """What a kernel saw: paths of programs, `program:path`, `program->address:port`, `chmod chmod 0oMODE path`."""

    exec: tuple[str, ...] = ()
    sensitive_open: tuple[str, ...] = ()
    connect: tuple[str, ...] = ()
    other: tuple[str, ...] = ()


class Atomic(msgspec.Struct, frozen=True):
    """A test as the file has it."""

    id: str
    name: str
    executor: str
    prereq: str
    command: str
    cleanup: str
    timeout_s: float
    env: dict[str, str]
    cwd: str
    net_isolation: str
    expected_observable: str
    observed: Observed


def atomics_of(path: Path) -> list[Atomic]:
    return msgspec.json.decode(path.read_bytes(), type=list[Atomic])


# ------------------------------------------------------------------- running

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the tests look for in a home, none of it real; `sudo` as root needs no more than this.
_STAGE = r"""
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /var/tmp && chmod 1777 /tmp /var/tmp || exit 1
mkdir -p "$CWD" "$HOME/.ssh" "$HOME/.aws" "$HOME/.azure" "$HOME/.config/gcloud" "$HOME/.oci" /tmp/art-shims
ln -s .config/gcloud "$HOME/gcloud.link"
printf 'mysql -u root -p example\nssh root@192.0.2.7\nls\n' > "$HOME/.bash_history"
printf 'not a key\n' > "$HOME/.ssh/id_rsa"
printf 'machine example.com login nobody password none\n' > "$HOME/.netrc"
printf '[default]\naws_access_key_id = EXAMPLE\n' > "$HOME/.aws/credentials"
if ! command -v sudo > /dev/null; then
  printf '#!/bin/sh\nexec "$@"\n' > /tmp/art-shims/sudo
  chmod 755 /tmp/art-shims/sudo
fi
echo staged
exec sleep 600
"""


class Stage:
    """The namespaces of one test, and a way to run a text in them."""

    def __init__(self, atomic: Atomic, holder: asyncio.subprocess.Process) -> None:
        self._atomic = atomic
        self._holder = holder

    async def run(self, text: str) -> int:
        """Run a text to its end, or to the test's time limit; the number its shell had."""
        shell = shutil.which(self._atomic.executor) or "/bin/sh"
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--net", "--mount", f"--target={self._holder.pid}", f"--wdns={self._atomic.cwd}"),
            *(f"/bin/{Path(shell).name}", "-c", text),
            env=environment_of(self._atomic),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self._atomic.timeout_s)
        # What the text left in the background is in its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return process.pid


def environment_of(atomic: Atomic) -> dict[str, str]:
    return {
        "PATH": f"/tmp/art-shims:{_PATH}",
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "USER": "root",
        "CWD": atomic.cwd,
        **atomic.env,
    }


@contextlib.asynccontextmanager
async def staged(atomic: Atomic) -> AsyncIterator[Stage]:
    setting_up = atomic.net_isolation.removeprefix("unshare -n;")
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "--mount", "/bin/sh", "-c", setting_up + _STAGE),
        env=environment_of(atomic),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        line = await asyncio.wait_for(holder.stdout.readline(), 20)
        assert line == b"staged\n", f"{atomic.id}: its namespaces could not be made"
        yield Stage(atomic, holder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()


async def run_all(atomics: Iterable[Atomic], config: EbpfConfig | None = None) -> list[Finding]:
    """Run each test beside a source, one after the other, and say what was told of it."""
    source, out = EbpfSource(config or EbpfConfig(), "ebpf", "node-1"), MemoryOutput()
    task = asyncio.create_task(source.run(out))
    try:
        await _until(lambda: out.is_connected or task.done(), 60)
        if task.done():
            task.result()
        return [await _run(atomic, out) for atomic in atomics]
    finally:
        await source.stop()
        await asyncio.wait_for(task, 30)


async def _run(atomic: Atomic, out: MemoryOutput) -> Finding:
    async with staged(atomic) as stage:
        if atomic.prereq:
            await stage.run(atomic.prereq)
        start = len(out.batches)
        root = await stage.run(atomic.command)

        def events() -> list[Event]:
            return [event for batch in out.batches[start:] for event in batch]

        # The ring is in order: when the end of its shell is told, so is all that the test did before.
        await _until(lambda: any(_is_end_of(root, event) for event in events()), 10)
        told = told_of(root, events())
        if atomic.cleanup:
            await stage.run(atomic.cleanup)
    return Finding(atomic, told)


def _is_end_of(pid: int, event: Event) -> bool:
    body = event.body
    return isinstance(body, ProcessActivity) and body.action == "exit" and body.process.pid == pid


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until it holds, or give up: what is missing is told by the comparison."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)


# ---------------------------------------------------------------------- told


@dataclasses.dataclass
class Told:
    """Of one test: programs with arguments; files, connections and calls with the program that did it."""

    execs: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    files: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)  # binary function permission path
    connects: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)  # binary function arguments


def reveal(text: Text) -> str:
    return text if isinstance(text, str) else text.reveal()


def told_of(root: int, events: Iterable[Event]) -> Told:
    """What was told of a process and those below it, from the shell on (`nsenter` before it is ours)."""
    tree, families, told = {root}, set[str](), Told()
    has_begun = False
    for event in events:
        body = event.body
        process = getattr(body, "process", None)
        if not isinstance(process, Process):
            continue
        line = [process, getattr(body, "parent", None), *getattr(body, "ancestors", ())]
        pids = [one.pid for one in line if one is not None]
        # A connection names no parent; the process names its parent's run.
        if tree.isdisjoint(pids) and process.parent_exec_id not in families:
            continue
        below = min((pids.index(pid) for pid in tree.intersection(pids)), default=1)
        tree.update(pids[:below])
        families.add(process.exec_id)
        binary = reveal(process.binary)
        match body:
            case ProcessActivity(action="exec"):
                arguments = reveal(process.arguments)
                has_begun = has_begun or not arguments.startswith("--net --mount --target")
                if has_begun:
                    told.execs.append((binary, arguments))
            case _ if not has_begun:
                continue
            case FileActivity():
                told.files.append((binary, body.function, body.permission, reveal(body.path)))
            case NetworkActivity(action="connect"):
                peer = body.destination
                told.connects.append((binary, f"{peer.address}:{peer.port}"))
            case ProcessActivity(action="exit"):
                pass
            case ProcessActivity() | KernelActivity():
                told.calls.append((binary, body.function, " ".join(map(reveal, body.arguments))))
    return told


# ---------------------------------------------------------------- comparing

_NUMBERED = re.compile(r"^/proc/(\d+|self|thread-self)/")
_MADE = re.compile(r"^/tmp/tmp\.\w+$")


def plain(path: str) -> str:
    """A path without what differs from one run to the next."""
    return _MADE.sub("/tmp/tmp.*", _NUMBERED.sub("/proc/*/", path))


def is_program(wanted: str, binary: str) -> bool:
    """Whether a program's name or path means this binary: by name, or by what the name leads to here."""
    if wanted == binary or Path(binary).name == Path(wanted).name:
        return True
    place = wanted if wanted.startswith("/") else shutil.which(wanted, path=_PATH) or ""
    return bool(place) and os.path.realpath(place) == os.path.realpath(binary)


def is_here(program: str) -> bool:
    return os.path.exists(program) or shutil.which(Path(program).name, path=_PATH) is not None


def is_path(wanted: str, path: str) -> bool:
    """Whether both mean one file; what was seen below a directory's descriptor is the end of a whole path."""
    wanted, path = plain(wanted), plain(path)
    return path == wanted or (not wanted.startswith("/") and path.endswith(f"/{wanted}"))


@dataclasses.dataclass
class Entry:
    """One line of `observed`: what it says, and what became of it."""

    kind: str
    text: str
    became: str  # found, other_program, not_installed, missing


@dataclasses.dataclass
class Finding:
    """A test, and what was told of it."""

    atomic: Atomic
    told: Told

    @property
    def entries(self) -> list[Entry]:
        seen, observed = self.told, self.atomic.observed
        lines: dict[tuple[str, str], str] = {}
        for program in observed.exec:
            is_told = any(is_program(program, binary) for binary, _ in seen.execs)
            lines["exec", program] = "found" if is_told else "missing" if is_here(program) else "not_installed"
        for text in observed.sensitive_open:
            program, _, path = text.partition(":")
            doers = [binary for binary, _, _, other in seen.files if is_path(path, other)]
            lines["open", f"{program}:{plain(path)}"] = self._became(program, doers)
        for text in observed.connect:
            program, _, peer = text.partition("->")
            doers = [binary for binary, other in seen.connects if other == peer]
            lines["connect", text] = self._became(program, doers)
        for text in observed.other:
            program, function, mode, path = text.split(" ", 3)
            permission = f"0{int(mode, 8):o}"
            doers = [
                binary
                for binary, by, right, other in seen.files
                if (by, right) == (function, permission) and is_path(path, other)
            ]
            lines["other", text] = self._became(program, doers)
        return [Entry(kind, text, became) for (kind, text), became in lines.items()]

    @staticmethod
    def _became(program: str, doers: list[str]) -> str:
        if not doers:
            # A script's own name is a task's, never a program's.
            return "missing" if is_here(program) or "." in program else "not_installed"
        return "found" if any(is_program(program, binary) for binary in doers) else "other_program"

    @property
    def is_seen(self) -> bool:
        """Whether what the test is about left events."""
        return EXPECTED[self.atomic.expected_observable](self)

    # What `expected_observable` names, as questions.

    def has_all_execs(self) -> bool:
        """Each observed program that is installed here, the shell that runs the text too."""
        became = [entry.became for entry in self.entries if entry.kind == "exec"]
        return "found" in became and "missing" not in became

    def has_exec(self, *names: str) -> bool:
        return any(is_program(name, binary) for name in names for binary, _ in self.told.execs)

    def has_file(self, *functions: str, change: bool = False, under: str = "", like: str = "") -> bool:
        """A file of those observed (or that fits `like`) was touched in one of these ways."""
        wanted = [text.partition(":")[2] for text in self.atomic.observed.sensitive_open]
        return any(
            by in functions
            and path.startswith(under)
            and (not change or by != "openat" or "write" in permission)
            and (re.search(like, path) is not None if like else any(is_path(one, path) for one in wanted))
            for _, by, permission, path in self.told.files
        )

    def has_mode(self, mask: int) -> bool:
        return any(by == "chmod" and int(right, 8) & mask for _, by, right, _ in self.told.files)

    def runs_disguised(self) -> bool:
        """A program or script that lies in /tmp was run, or read by the shell that runs it."""
        from_tmp = any(binary.startswith("/tmp/") or "/tmp/" in arguments for binary, arguments in self.told.execs)
        return from_tmp or any(
            by == "openat" and permission == "read" and path.startswith("/tmp/") and re.search(r"/(ba|da)?sh$", binary)
            for binary, by, permission, path in self.told.files
        )


_ARCHIVE = r"\.(tar\.gz|bz2|zip)$"
_CREDENTIAL = r"(_history|\.aws|\.ssh|id_rsa|\.netrc|credentials|gcloud|\.azure)$"

EXPECTED: dict[str, Callable[[Finding], bool]] = {
    "exec of the discovery binaries listed in observed.exec": Finding.has_all_execs,
    "unlink/truncate/touch of history/log/file": lambda one: one.has_file(
        "unlink", "truncate", "utimensat", "link", "rename", "openat", change=True
    ),
    "exec of binary copied to hidden/tmp path or misleading name/extension": Finding.runs_disguised,
    "tar/gzip/python archive exec + write of archive": lambda one: (
        one.has_exec("tar", "gzip", "python3", "python") and one.has_file("openat", change=True, like=_ARCHIVE)
    ),
    "shell exec (comm sh/bash, parent python/server) incl. scripts under /tmp": lambda one: (
        one.has_exec("sh", "bash") and one.has_all_execs()
    ),
    "find/grep/cat exec + openat of credential/history/key files": lambda one: (
        one.has_exec("find", "grep", "cat") and one.has_file("openat", like=_CREDENTIAL)
    ),
    "chmod u+s/g+s, setcap exec; fchmodat mode & 06000": lambda one: one.has_exec("setcap") or one.has_mode(0o6000),
    "python/perl/base64 decode exec": lambda one: one.has_exec("python3", "perl", "base64") and one.has_all_execs(),
    "openat /proc/<pid>/mem|maps by non-debugger; exec python/dd from shell": lambda one: (
        one.has_exec("dd") and one.has_file("openat", like=r"^/proc/\d+/mem$")
    ),
    "create dotfile in /var/tmp": lambda one: one.has_file("openat", change=True, under="/var/tmp/."),
    "chmod exec": lambda one: one.has_exec("chmod"),
    "base64 -d | sh chain; exec from /tmp": lambda one: one.has_exec("base64") and one.runs_disguised(),
    "connect 169.254.169.254:80 by curl": lambda one: any(
        is_program("curl", binary) and peer == "169.254.169.254:80" for binary, peer in one.told.connects
    ),
}


def table(findings: Iterable[Finding]) -> str:
    """A line for each test, and one for each thing that was not found as it was observed."""
    lines = []
    for finding in findings:
        entries = finding.entries
        found = sum(entry.became == "found" for entry in entries)
        seen = "seen  " if finding.is_seen else "UNSEEN"
        lines.append(f"{seen} {finding.atomic.id:<18} {found:>2}/{len(entries):<2} {finding.atomic.name}")
        lines += [f"         {one.became:<14} {one.kind:<8} {one.text}" for one in entries if one.became != "found"]
    return "\n".join(lines)


def share(findings: Iterable[Finding]) -> tuple[int, int]:
    """Of all that was observed and can be here: how much was told, by whatever program's name; and how much there is."""
    became = [entry.became for finding in findings for entry in finding.entries]
    possible = [one for one in became if one != "not_installed"]
    return sum(one != "missing" for one in possible), len(possible)


if __name__ == "__main__":
    results = asyncio.run(run_all(atomics_of(Path(sys.argv[1]))))
    print(table(results))
    print("seen", sum(one.is_seen for one in results), "of", len(results), "- observed entries", *share(results))
