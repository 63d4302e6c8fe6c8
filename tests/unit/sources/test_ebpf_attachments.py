"""agent.sources.ebpf.attachments, .filesystems, .listeners: probes in files, each file once; hostile roots."""

import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from agent.sources.ebpf import attachments as module
from agent.sources.ebpf.attachments import Attachments, mapped_libraries, root_of
from agent.sources.ebpf.bcc import BpfError
from agent.sources.ebpf.filesystems import OVERLAY, filesystem_of
from agent.sources.ebpf.listeners import listeners_of

LIBSSL = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "libssl.so.3"
NOBODY = 5_000_001  # no process has this number

pytestmark = pytest.mark.skipif(not LIBSSL.exists(), reason=f"{LIBSSL} is not here")


class Kernel:
    """The kernel's side: numbers for what stands."""

    def __init__(self, most=10_000):
        self.standing, self.made, self.most = {}, 0, most
        self.fallen = []

    def attach(self, path, point):
        if len(self.standing) >= self.most:
            raise BpfError("the kernel refused a uprobe there")
        assert os.stat(path).st_size > 0
        self.made += 1
        self.standing[self.made] = (os.path.realpath(path), point.function)
        return self.made

    def detach(self, event):
        self.fallen.append(event)
        del self.standing[event]

    @property
    def files(self):
        return {path for path, _ in self.standing.values()}


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def made(kernel):
    return Attachments(kernel.attach, kernel.detach)


def copy_of(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)
    return target


def test_usual_places_of_a_root_are_looked_at_once(made, kernel, tmp_path):
    library = copy_of(LIBSSL, tmp_path / "usr/lib/libssl.so.3")
    made.prepare(str(tmp_path))
    assert kernel.files == {str(library)}
    first = dict(kernel.standing)
    made.prepare(str(tmp_path))
    assert kernel.standing == first


def test_a_file_under_two_names_is_attached_once(made, kernel, tmp_path):
    library = copy_of(LIBSSL, tmp_path / "usr/lib/libssl.so.3")
    os.symlink("libssl.so.3", library.with_name("libssl.so"))
    os.link(library, library.with_name("libssl.so.3.1"))
    made.prepare(str(tmp_path))
    assert made.files == 1
    assert len(kernel.standing) == len({(path, function) for path, function in kernel.standing.values()}) + 4


def test_a_link_of_a_container_s_root_does_not_lead_out_of_it(made, kernel, tmp_path):
    """An image's /usr/bin/node may point at any file of the node, /dev/watchdog for one: opening it is an act."""
    outside = copy_of(LIBSSL, tmp_path / "outside" / "libssl.so.3")
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    os.symlink(outside, root / "usr/bin/node")
    made.prepare(str(root))
    assert kernel.files == set()


def test_a_link_that_is_absolute_inside_of_a_root_is_followed_there(made, kernel, tmp_path):
    library = copy_of(LIBSSL, tmp_path / "opt/ssl/libssl.so.3")
    (tmp_path / "usr/lib").mkdir(parents=True)
    os.symlink("/opt/ssl/libssl.so.3", tmp_path / "usr/lib/libssl.so.3")
    made.prepare(str(tmp_path))
    assert kernel.files == {str(library)}


def test_a_pipe_in_a_root_does_not_hold_anybody_up(made, kernel, tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    os.mkfifo(tmp_path / "usr/bin/node")
    os.mkfifo(tmp_path / "usr/bin/nodejs")
    made.prepare(str(tmp_path))
    assert kernel.standing == {}


def test_a_root_that_is_gone_is_no_root(made, tmp_path):
    made.prepare(str(tmp_path / "nowhere"))
    assert made.files == 0


def test_a_process_with_a_library_is_covered(made):
    assert ssl.OPENSSL_VERSION
    coverage = made.cover(os.getpid())
    assert coverage.stacks == ("openssl",)
    assert not coverage.is_gone
    assert not made.cover(os.getpid()).is_new


def test_a_library_that_a_running_process_has_mapped_is_new_to_it_wherever_it_lies(made):
    """What the process said before its probes stood is lost, also where the library is at a usual place."""
    assert any("libssl" in path for path in mapped_libraries(os.getpid()))
    assert made.cover(os.getpid()).is_new


def test_a_process_that_is_gone_is_said_so(made):
    assert made.cover(NOBODY) == ((), (), False, True)


def test_the_program_of_a_process_that_is_gone_is_covered_for_the_next_one(made, kernel, tmp_path):
    program = copy_of(LIBSSL, tmp_path / "program")
    coverage = made.cover(NOBODY, str(program))
    assert (coverage.stacks, coverage.is_gone) == (("openssl",), True)
    assert str(program) in kernel.files
    assert not made.cover(NOBODY, str(program)).is_gone


def test_probes_that_the_kernel_refuses_are_taken_back_and_told(tmp_path):
    kernel = Kernel(most=3)
    made = Attachments(kernel.attach, kernel.detach)
    program = copy_of(LIBSSL, tmp_path / "program")
    coverage = made.cover(NOBODY, str(program))
    assert any("its probes were refused" in one for one in coverage.blind)
    assert kernel.standing == {}
    assert kernel.made == len(kernel.fallen)


def test_a_file_that_is_replaced_is_attached_again(made, kernel, tmp_path):
    program = copy_of(LIBSSL, tmp_path / "program")
    made.cover(NOBODY, str(program))
    before = made.files
    copy_of(LIBSSL, tmp_path / "new")
    os.rename(tmp_path / "new", program)
    made.cover(NOBODY, str(program))
    assert made.files == before + 1


@pytest.fixture
def overlays(tmp_path):
    """Two containers of one image: overlays of their own over the same layer."""
    lower = tmp_path / "image"
    copy_of(LIBSSL, lower / "usr/lib/libssl.so.3")
    roots = []
    try:
        for name in ("a", "b"):
            for part in ("", "upper", "work"):
                (tmp_path / name / part).mkdir()
            root = tmp_path / f"root-{name}"
            root.mkdir()
            options = f"lowerdir={lower},upperdir={tmp_path / name / 'upper'},workdir={tmp_path / name / 'work'}"
            done = subprocess.run(
                ["mount", "-t", "overlay", "overlay", "-o", options, str(root)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()}")
            roots.append(root)
        yield roots
    finally:
        for root in roots:
            subprocess.run(["umount", str(root)], check=True)


def test_a_file_of_an_image_is_attached_once_for_all_its_containers(made, kernel, overlays):
    for root in overlays:
        made.prepare(str(root))
    assert made.files == 1
    with (overlays[0] / "usr/lib/libssl.so.3").open("rb") as file:
        assert filesystem_of(file.fileno()) == OVERLAY


def test_a_file_that_a_container_copied_up_is_another_one(made, kernel, overlays):
    made.prepare(str(overlays[0]))
    library = overlays[1] / "usr/lib/libssl.so.3"
    number = library.stat().st_ino
    os.chmod(library, 0o700)
    assert library.stat().st_ino == number
    made.prepare(str(overlays[1]))
    assert made.files == 2


def test_of_a_descriptor_that_is_closed_nothing_is_known():
    with pytest.raises(OSError, match="Bad file descriptor"):
        filesystem_of(-1)


def test_files_are_forgotten_when_there_are_too_many_and_their_probes_fall(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_MOST_FILES", 4)
    kernel = Kernel()
    made = Attachments(kernel.attach, kernel.detach)
    for number in range(12):
        made.cover(NOBODY, str(copy_of(LIBSSL, tmp_path / f"program-{number}")))
    assert made.files <= 4
    assert len(kernel.files) == made.files


def test_closing_lets_go_of_everything_once(made, kernel, tmp_path):
    made.cover(NOBODY, str(copy_of(LIBSSL, tmp_path / "program")))
    made.close()
    made.close()
    assert kernel.standing == {}
    assert len(kernel.fallen) == len(set(kernel.fallen)) == kernel.made


def test_no_descriptor_stays_open(made, tmp_path):
    program = copy_of(LIBSSL, tmp_path / "program")
    before = os.listdir("/proc/self/fd")
    made.cover(NOBODY, str(program))
    made.cover(os.getpid())
    assert os.listdir("/proc/self/fd") == before


def test_our_own_root_needs_no_way_through_a_process():
    assert root_of(os.getpid()) == ""
    assert root_of(NOBODY) == f"/proc/{NOBODY}/root"


def test_what_a_gone_process_mapped_is_nothing():
    assert mapped_libraries(NOBODY) == []


# ----------------------------------------------------------------- listeners


def test_a_listener_that_is_there_already_is_found_by_its_port():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        assert listeners_of(os.getpid(), {port}) == [server.fileno()]
        assert other.fileno() not in listeners_of(os.getpid(), {port})


def test_a_listener_of_ipv6_is_found():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert listeners_of(os.getpid(), {server.getsockname()[1]}) == [server.fileno()]


def test_a_connection_on_the_port_is_no_listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.fileno() not in listeners_of(os.getpid(), {port, client.getsockname()[1]})


def test_nobody_listens_on_no_port():
    assert listeners_of(os.getpid(), ()) == []
    assert listeners_of(NOBODY, {80}) == []


def test_a_process_that_may_not_be_looked_at_is_told_as_blind(made, monkeypatch):
    def closed(path, *arguments):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(module.os, "open", closed)
    coverage = made.cover(os.getpid())
    assert not coverage.is_gone
    assert not coverage.stacks
    (reason,) = coverage.blind
    assert "SYS_PTRACE" in reason
