"""agent.sources.ebpf.source on this machine's kernel: what processes do is told, once, by whom; evasions are tried."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model import FileActivity, KernelActivity, NetworkActivity, ProcessActivity
from tests.e2e.watching import Eyes, raw, skip_unless_bpf_works, watching

LIBC = ctypes.CDLL(None, use_errno=True)
AUDIT = {"aarch64": {"readv": 270}, "x86_64": {"readv": 310}}


@pytest.fixture(scope="module")
def eyes(request: pytest.FixtureRequest) -> Iterator[Eyes]:
    skip_unless_bpf_works(request)
    with watching(fold_seconds=0) as running:
        yield running


def processes(eyes: Eyes, since: int, action: str = "exec") -> list[ProcessActivity]:
    bodies = [event.body for event in eyes.events[since:]]
    return [body for body in bodies if isinstance(body, ProcessActivity) and body.action == action]


def seen(eyes: Eyes, since: int, is_it) -> object | None:
    """The first body that is it, when it comes."""
    found = []

    def look() -> bool:
        found[:] = [event.body for event in eyes.events[since:] if is_it(event.body)]
        return bool(found)

    eyes.wait(look, 5)
    return found[0] if found else None


def python(text: str, *words: str, **more) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-c", textwrap.dedent(text), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **more)


def opens(eyes: Eyes, since: int, path: str) -> object | None:
    return seen(eyes, since, lambda body: isinstance(body, FileActivity) and raw(body.path) == path)


def words(body) -> list[str]:
    return [raw(one) for one in body.arguments]


# --------------------------------------------------------------------- lives


def test_a_program_is_told_with_its_arguments_and_what_it_is_made_to_load(eyes: Eyes) -> None:
    since = len(eyes.events)
    subprocess.run(["/bin/echo", "a b", "", "c"], env={"LD_PRELOAD": "", "PATH": "/bin", "X": "y"}, check=True)
    told = seen(
        eyes, since, lambda body: getattr(body, "action", "") == "exec" and raw(body.process.arguments) == '"a b" "" c'
    )
    assert told is not None
    assert raw(told.process.binary) == "/bin/echo"
    assert list(told.process.environment) == ["LD_PRELOAD"]
    assert told.parent is not None
    assert told.parent.pid == os.getpid()


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
    subprocess.run(
        ["/bin/sh", "-c", "(/bin/sh -c '/bin/echo grandchild; :'; :)"], stdout=subprocess.DEVNULL, check=True
    )
    told = seen(
        eyes, since, lambda body: getattr(body, "action", "") == "exec" and raw(body.process.arguments) == "grandchild"
    )
    assert told is not None
    assert raw(told.parent.binary) == "/bin/sh"
    assert os.getpid() in [one.pid for one in told.ancestors]


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
        import ctypes, mmap, os, sys
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        fd = os.open(sys.argv[1], os.O_RDONLY)
        place = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, ctypes.c_long(0))
        sys.exit(0 if libc.open(ctypes.c_void_p(place), 0) >= 0 else 1)
        """,
        str(page),
    )
    assert done.returncode == 0, done.stderr
    assert opens(eyes, since, "/etc/shadow") is not None


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


def test_rights_that_are_given_are_told(eyes: Eyes, tmp_path: Path) -> None:
    since = len(eyes.events)
    target = tmp_path / "tool"
    target.write_text("x")
    os.chmod(target, 0o4755)
    told = seen(eyes, since, lambda body: isinstance(body, FileActivity) and body.permission == "04755")
    assert told is not None
    assert raw(told.path) == str(target)
    descriptor = os.open(target, os.O_RDONLY)
    since = len(eyes.events)
    os.fchmod(descriptor, 0o6755)
    told = seen(eyes, since, lambda body: isinstance(body, FileActivity) and body.permission == "06755")
    os.close(descriptor)
    assert told is not None
    assert raw(told.path) == str(target)


def test_capabilities_of_a_file_are_told(eyes: Eyes, tmp_path: Path) -> None:
    target = tmp_path / "tool"
    target.write_text("x")
    since = len(eyes.events)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        os.setxattr(target, "security.capability", capability)
    except OSError:
        os.setxattr  # noqa: B018 - the attempt is what is told
    told = seen(eyes, since, lambda body: getattr(body, "function", "") == "setxattr")
    assert told is not None
    assert raw(told.path) == str(target)


# ------------------------------------------------------------------- network


def connects(eyes: Eyes, since: int, address: str, port: int, action: str = "connect") -> NetworkActivity | None:
    def is_it(body: object) -> bool:
        end = getattr(body, "destination", None) if action != "accept" else getattr(body, "source", None)
        return (
            isinstance(body, NetworkActivity) and body.action == action and (end.address, end.port) == (address, port)
        )

    return seen(eyes, since, is_it)


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_connection_is_told_at_both_ends_with_its_bytes(eyes: Eyes, family: int, host: str, shown: str) -> None:
    since = len(eyes.events)
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        text = """
            import socket, sys
            s = socket.socket(int(sys.argv[3])); s.connect((sys.argv[1], int(sys.argv[2])))
            print(s.getsockname()[1], flush=True)
            s.sendall(b"x" * 1000); s.recv(500, socket.MSG_WAITALL); s.close()
        """
        client = threading.Thread(target=lambda: done.append(python(text, host, str(port), str(int(family)))))
        done: list[subprocess.CompletedProcess[str]] = []
        client.start()
        taken, peer = server.accept()
        taken.recv(1000, socket.MSG_WAITALL)
        taken.sendall(b"y" * 500)
        client.join()
        taken.close()
    told = connects(eyes, since, shown, port)
    assert told is not None
    assert told.process.pid != os.getpid()
    accepted = connects(eyes, since, shown, peer[1], "accept")
    assert accepted is not None
    assert accepted.process.pid == os.getpid()
    closed = connects(eyes, since, shown, port, "close")
    assert closed is not None
    assert (closed.bytes_sent, closed.bytes_received) == (1000, 500)
    assert (
        seen(
            eyes,
            since,
            lambda body: isinstance(body, NetworkActivity) and body.action == "listen" and body.source.port == port,
        )
        is not None
    )


def test_a_connection_that_is_taken_without_asking_by_whom_is_told(eyes: Eyes) -> None:
    """accept(fd, NULL, NULL): the way of most shells that wait for a caller."""
    since = len(eyes.events)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        taken = LIBC.accept(server.fileno(), None, None)
        assert taken >= 0
        os.close(taken)
        del client
    assert seen(eyes, since, lambda body: isinstance(body, NetworkActivity) and body.action == "accept") is not None


def test_a_runtime_s_socket_is_told(eyes: Eyes) -> None:
    since = len(eyes.events)
    python("import socket; socket.socket(socket.AF_UNIX).connect_ex('/var/run/docker.sock')")
    told = opens(eyes, since, "/var/run/docker.sock")
    assert told is not None
    assert told.permission == "connect"


def test_a_local_socket_that_is_accepted_is_no_connection_to_a_runtime(eyes: Eyes, tmp_path: Path) -> None:
    since = len(eyes.events)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.bind(str(tmp_path / "docker.sock"))
        client.connect(str(tmp_path / "s"))
        server.accept()[0].close()
    os.setgid(os.getgid())
    assert seen(eyes, since, lambda body: getattr(body, "function", "") == "setgid") is not None
    wrong = [event.body for event in eyes.events[since:] if getattr(event.body, "permission", "") == "connect"]
    wrong += [event.body for event in eyes.events[since:] if getattr(event.body, "action", "") == "accept"]
    assert wrong == []


# --------------------------------------------------------------------- calls


@pytest.mark.parametrize(
    ("text", "function", "arguments"),
    [
        ("libc.ptrace(16, 1, 0, 0)", "ptrace", ["PTRACE_ATTACH", "1"]),
        ("libc.process_vm_readv(1, None, 0, None, 0, 0)", "process_vm_readv", ["1"]),
        ("libc.setuid(65534)", "setuid", ["65534"]),
        ("libc.unshare(0x04000000)", "unshare", ["uts"]),
        ("libc.setns(os.open('/proc/self/ns/uts', 0), 0x04000000)", "setns", ["uts"]),
        ("libc.unshare(0x20000); libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)", "mount", ["/mnt"]),
        ("libc.chroot(b'/')", "chroot", ["/"]),
        ("libc.memfd_create(b'made', 0)", "memfd_create", ["made"]),
        ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "socket", ["AF_PACKET"]),
        ("os.kill(os.fork() or (signal.pause() or 0), 9)", "kill", None),
    ],
)
def test_a_telling_call_is_told(eyes: Eyes, text: str, function: str, arguments: list[str] | None) -> None:
    since = len(eyes.events)
    done = python(
        f"import ctypes, os, signal, socket; libc = ctypes.CDLL(None); print(os.getpid(), flush=True); {text}"
    )
    pid = int(done.stdout.split()[0])
    told = seen(
        eyes,
        since,
        lambda body: (
            isinstance(body, (ProcessActivity, KernelActivity))
            and body.function == function
            and body.process.pid == pid
        ),
    )
    assert told is not None, done.stderr
    assert arguments is None or words(told) == arguments


def test_nothing_of_the_agent_itself_is_told_as_a_load_of_bpf(eyes: Eyes) -> None:
    assert mmap.PAGESIZE
    own = [event.body for event in eyes.events if getattr(event.body, "function", "") == "bpf"]
    assert [body for body in own if body.process.pid == os.getpid()] == []
