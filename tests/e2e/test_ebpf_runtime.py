"""agent.sources.ebpf.source on this machine's kernel: what processes do is told, once, by whom; evasions are tried."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import FileActivity
from tests.e2e.watching import Eyes, opens, python, raw, seen, skip_unless_bpf_works, started, watching, words


@pytest.fixture(scope="module")
def eyes(request: pytest.FixtureRequest) -> Iterator[Eyes]:
    skip_unless_bpf_works(request)
    with watching(fold_seconds=0) as running:
        yield running


# --------------------------------------------------------------------- lives


def test_a_program_is_told_with_its_arguments_and_what_it_is_made_to_load(eyes: Eyes) -> None:
    since = len(eyes.events)
    with subprocess.Popen(["/bin/sh", "-c", "LD_PRELOAD= X=y /bin/echo 'a b' '' c; :"]) as shell:
        shell.wait()
    told = seen(eyes, since, lambda body: started(body, '"a b" "" c'))
    assert told is not None
    assert raw(told.process.binary) == "/bin/echo"
    assert list(told.process.environment) == ["LD_PRELOAD"]
    assert told.parent is not None
    assert told.parent.pid == shell.pid


def test_a_preload_behind_many_variables_is_told(eyes: Eyes) -> None:
    """A namespace with many services gives each pod hundreds of variables; who hides needs no more."""
    since = len(eyes.events)
    many = {f"SERVICE_{number}_PORT": "1" for number in range(400)}
    subprocess.run(["/bin/echo", "many variables"], env={**many, "LD_PRELOAD": ""}, check=True)
    told = seen(
        eyes,
        since,
        lambda body: getattr(body, "action", "") == "exec" and raw(body.process.arguments) == '"many variables"',
    )
    assert told is not None
    assert "LD_PRELOAD" in told.process.environment or "environment_truncated" in told.tags


def test_arguments_that_are_too_long_are_marked(eyes: Eyes) -> None:
    since = len(eyes.events)
    subprocess.run(["/bin/echo", "x" * 3000], stdout=subprocess.DEVNULL, check=True)
    told = seen(
        eyes,
        since,
        lambda body: getattr(body, "action", "") == "exec" and raw(body.process.arguments).startswith("xxx"),
    )
    assert told is not None
    assert "arguments_truncated" in told.tags


def test_a_program_without_a_file_is_marked(eyes: Eyes) -> None:
    since = len(eyes.events)
    done = python(
        """
        import os, shutil
        fd = os.memfd_create("hidden")
        with open("/bin/echo", "rb") as source: os.write(fd, source.read())
        os.execve(fd, ["fileless", "from memory"], {})
        """
    )
    assert done.stdout == "from memory\n"
    told = seen(
        eyes,
        since,
        lambda body: getattr(body, "action", "") == "exec" and raw(body.process.arguments) == '"from memory"',
    )
    assert told is not None
    assert told.process.is_fileless
    memory = seen(eyes, since, lambda body: getattr(body, "function", "") == "memfd_create")
    assert memory is not None
    assert words(memory) == ["hidden"]


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [
        ("exit 7", 7, ""),
        ("exit 0", 0, ""),
        ("kill -KILL $$", 0, "SIGKILL"),
        ("kill -SEGV $$", 0, "SIGSEGV"),
        ("trap : TERM; kill -TERM $$; exit 3", 3, ""),
    ],
)
def test_an_end_is_told_as_it_was(eyes: Eyes, script: str, code: int, number: str) -> None:
    since = len(eyes.events)
    with subprocess.Popen(["/bin/sh", "-c", script]) as shell:
        shell.wait()
    told = seen(eyes, since, lambda body: getattr(body, "action", "") == "exit" and body.process.pid == shell.pid)
    assert told is not None
    assert (told.exit_code, told.signal) == (code, number)


def test_a_crash_in_another_thread_is_a_crash(eyes: Eyes) -> None:
    since = len(eyes.events)
    done = python(
        "import ctypes, threading, time; threading.Thread(target=lambda: ctypes.string_at(8)).start(); time.sleep(9)"
    )
    assert done.returncode == -signal.SIGSEGV
    told = seen(eyes, since, lambda body: getattr(body, "action", "") == "exit" and body.signal == "SIGSEGV")
    assert told is not None


def test_a_signal_that_was_handled_did_not_end_a_process(eyes: Eyes) -> None:
    since = len(eyes.events)
    done = python(
        """
        import ctypes, os, signal
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(os.getpid(), flush=True)
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 5)  # exit(2), not exit_group(2)
        """
    )
    assert done.returncode == 5
    pid = int(done.stdout)
    told = seen(eyes, since, lambda body: getattr(body, "action", "") == "exit" and body.process.pid == pid)
    assert told is not None
    assert (told.exit_code, told.signal) == (5, "")


def test_short_lived_grandchildren_have_their_ancestors(eyes: Eyes) -> None:
    since = len(eyes.events)
    with subprocess.Popen(["/bin/sh", "-c", "/bin/sh -c '/bin/echo grandchild; :'; :"]) as shell:
        shell.wait()
    told = seen(eyes, since, lambda body: started(body, "grandchild"))
    assert told is not None
    assert raw(told.parent.binary) == "/bin/sh"
    assert shell.pid in [one.pid for one in told.ancestors]


# --------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "path",
    [
        "shadow",
        "./shadow",
        "../etc/shadow",
        "/etc/shadow",
        "//etc/shadow",
        "/etc/./shadow",
        "/proc/self/root/etc/shadow",
    ],
)
def test_a_file_is_told_however_its_path_is_written(eyes: Eyes, path: str) -> None:
    since = len(eyes.events)
    python("import os, sys; os.chdir('/etc'); os.close(os.open(sys.argv[1], os.O_RDONLY))", path)
    told = seen(eyes, since, lambda body: isinstance(body, FileActivity) and raw(body.path).endswith("/etc/shadow"))
    assert told is not None
    assert (told.action, told.permission) == ("open", "read")


@pytest.mark.parametrize(
    "path", ["{0}/secret", "/{0}/secret", "/./{0}/secret", "/etc/..{0}/secret", "secret", "./secret"]
)
def test_a_file_of_a_watched_folder_is_told_however_its_path_is_written(eyes: Eyes, path: str) -> None:
    """A mounted secret has any name: its folder is all there is to know it by."""
    folder = Path("/dev/shm/reeve-watched")
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text("x")
    try:
        since = len(eyes.events)
        done = python(
            "import os, sys; os.chdir(sys.argv[2]); os.close(os.open(sys.argv[1], os.O_RDONLY))",
            path.format(folder),
            str(folder),
        )
        assert done.returncode == 0, done.stderr
        assert opens(eyes, since, f"{folder}/secret") is not None
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("path", ["/etc/reeve-test", "//etc/reeve-test", "/./etc/reeve-test", "/tmp/../etc/reeve-test"])
def test_a_file_that_is_made_is_told_however_its_path_is_written(eyes: Eyes, path: str) -> None:
    since = len(eyes.events)
    try:
        python("import os, sys; os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))", path)
        assert (
            seen(eyes, since, lambda body: isinstance(body, FileActivity) and "reeve-test" in raw(body.path))
            is not None
        )
    finally:
        Path("/etc/reeve-test").unlink(missing_ok=True)


def test_a_path_on_a_page_that_was_never_touched_is_told(eyes: Eyes, tmp_path: Path) -> None:
    """A probe at a call's entry cannot fault pages in; the kernel can, a moment later."""
    page = tmp_path / "page"
    page.write_bytes(b"/etc/shadow\0" + bytes(4084))
    since = len(eyes.events)
    done = python(
        """
        import ctypes, mmap, os, sys, time
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        fd = os.open(sys.argv[1], os.O_RDONLY)
        place = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
        is_open = libc.open(ctypes.c_void_p(place), 0) >= 0
        time.sleep(0.5)  # user space reads the path from its memory, while it lives
        sys.exit(0 if is_open else 1)
        """,
        str(page),
    )
    assert done.returncode == 0, done.stderr
    assert opens(eyes, since, "/etc/shadow") is not None


@pytest.mark.xfail(reason="calls of 32 bits have no tracepoint of their own; the README says so", strict=True)
def test_a_call_of_32_bits_is_told(eyes: Eyes, tmp_path: Path) -> None:
    """`int 0x80` reaches the kernel past the tracepoints of 64-bit system calls."""
    compiler = shutil.which("gcc")
    if compiler is None or os.uname().machine != "x86_64":
        pytest.skip("no C compiler for x86-64")
    (tmp_path / "old.c").write_text(
        'static const char path[] = "/etc/shadow";\n'
        'int main() { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(5), "b"(path), "c"(0), "d"(0) : "memory"); return r < 0; }\n'
    )
    subprocess.run([compiler, "-static", "-no-pie", "-o", str(tmp_path / "old"), str(tmp_path / "old.c")], check=True)
    since = len(eyes.events)
    done = subprocess.run([str(tmp_path / "old")], check=False)
    if done.returncode:
        pytest.skip("this kernel takes no calls of 32 bits")
    assert opens(eyes, since, "/etc/shadow") is not None


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("os.chmod(path, 0o4755)", "04755"),
        ("os.fchmod(os.open(path, os.O_RDONLY), 0o6755); time.sleep(1)", "06755"),
        pytest.param(
            "os.fchmod(os.open(path, os.O_RDONLY), 0o2755)",
            "02755",
            marks=pytest.mark.xfail(reason="a descriptor of a process that is gone has no name; it is told without"),
        ),
    ],
)
def test_rights_that_are_given_are_told(eyes: Eyes, tmp_path: Path, text: str, mode: str) -> None:
    target = tmp_path / "tool"
    target.write_text("x")
    since = len(eyes.events)
    python(f"import os, sys, time; path = sys.argv[1]; {text}", str(target))
    told = seen(eyes, since, lambda body: isinstance(body, FileActivity) and body.permission == mode)
    assert told is not None
    assert raw(told.path) == str(target)


@pytest.mark.parametrize(("call", "number"), [("setxattr", 0), ("setxattrat", 463)])
def test_capabilities_of_a_file_are_told(eyes: Eyes, tmp_path: Path, call: str, number: int) -> None:
    """setxattrat(2) came with Linux 6.13."""
    target = tmp_path / "tool"
    target.write_text("x")
    since = len(eyes.events)
    done = python(
        """
        import ctypes, os, struct, sys
        value = bytes.fromhex("0100000200040000000000000000000000000000")
        if sys.argv[2] == "0":
            os.setxattr(sys.argv[1], "security.capability", value)
        else:
            held = ctypes.create_string_buffer(value, len(value))
            arguments = ctypes.create_string_buffer(struct.pack("<QII", ctypes.addressof(held), len(value), 0))
            path, name = os.fsencode(sys.argv[1]), b"security.capability"
            sys.exit(ctypes.CDLL(None).syscall(463, -100, path, 0, name, arguments, ctypes.c_size_t(16)) and 1)
        """,
        str(target),
        str(number),
    )
    if done.returncode:
        pytest.skip(f"{call} does not work here: {done.stderr[-200:]}")
    told = seen(eyes, since, lambda body: "setxattr" in getattr(body, "function", ""))
    assert told is not None
    assert raw(told.path) == str(target)
