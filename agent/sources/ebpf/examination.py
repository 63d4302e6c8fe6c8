"""What this node allows: kernel features, probes, TLS stacks of the processes that run; and what to do about the rest.

Nothing is kept: probes are loaded, attached for a moment and let go.
"""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from agent.sources.ebpf.attachments import mapped_libraries, root_of
from agent.sources.ebpf.bcc import BpfError, headers, version
from agent.sources.ebpf.config import EbpfConfig, PlaintextConfig, Selector
from agent.sources.ebpf.kernel import Kernel
from agent.sources.ebpf.stacks import Finding, finding_of
from agent.sources.ebpf.tracefs import mount_tracefs, tracing_directory

State: TypeAlias = Literal["ok", "off", "bad"]
"""`off`: something is not seen; `bad`: no probe can stand."""
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO
# Numbers of linux/capability.h; what is lost without each, and whether all is.
_SYS_ADMIN = 21
_CAPABILITIES = (
    ("BPF", 39, True, "no program can be loaded"),
    ("PERFMON", 38, True, "no program can be attached"),
    ("SYS_PTRACE", 19, False, "programs, libraries and files of other processes cannot be looked at: no plaintext"),
    ("DAC_READ_SEARCH", 2, False, "what other users' processes have open cannot be looked at"),
    ("SYS_ADMIN", _SYS_ADMIN, False, "most kernels allow no uprobes: no plaintext"),
    ("SYS_NICE", 23, False, "the ring's reader waits its turn, and loses events under load"),
)
_OLDEST_KERNEL = (5, 8)  # ring buffers (BPF_MAP_TYPE_RINGBUF)


class Check(NamedTuple):
    """One thing that was looked at."""

    area: str
    name: str
    state: State
    what: str
    remedy: str = ""


def kernel_checks() -> list[Check]:
    """The kernel, rights and tools."""
    checks = [_kernel_version(), _rights(), *capability_checks(), _bcc(), _headers(), _tracefs(), _lockdown()]
    return [*checks, _process_numbers(), _cgroups(), _names()]


def _kernel_version() -> Check:
    release = platform.release()
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers and numbers < _OLDEST_KERNEL:
        return Check("kernel", "version", "bad", f"Linux {release} has no BPF ring buffers", "use Linux 5.8 or newer")
    return Check("kernel", "version", "ok", f"Linux {release} on {platform.machine()}")


def _rights() -> Check:
    if os.geteuid() != 0:
        return Check("kernel", "rights", "bad", "not root", "run as root (runAsUser: 0 in a pod)")
    return Check("kernel", "rights", "ok", "root")


def capability_checks(status: Path = Path("/proc/self/status")) -> list[Check]:
    """What the agent lacks of the capabilities that the eBPF component of the manifests gives."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
    held = int(found[1], 16) if found else 0
    is_admin = bool(held >> _SYS_ADMIN & 1)
    missing = [
        Check(
            "kernel",
            "capabilities",
            "bad" if is_vital else "off",
            f"{name} is missing: {loss}",
            f"add {name} to the container's capabilities",
        )
        for name, number, is_vital, loss in _CAPABILITIES
        if not held >> number & 1 and not (is_vital and is_admin)
    ]
    return missing or [Check("kernel", "capabilities", "ok", "all that probes need")]


def _bcc() -> Check:
    try:
        return Check("kernel", "bcc", "ok", f"bcc {version()}")
    except BpfError as error:
        return Check("kernel", "bcc", "bad", str(error), "install python3-bpfcc; the image brings it")


def _headers() -> Check:
    folder = Path("/lib/modules") / platform.release() / "build"
    found = headers()
    if found is not None:
        return Check("kernel", "headers", "ok", f"{found.resolve()}")
    if Path("/sys/kernel/kheaders.tar.xz").exists():
        return Check("kernel", "headers", "ok", "the kernel brings its own (kheaders)")
    return Check(
        "kernel",
        "headers",
        "bad",
        f"none at {folder}",
        "any version will do, no kernel structure is read: install linux-headers-amd64 and link its folders as "
        f"{folder} and {folder.parent}/source, or set BCC_KERNEL_SOURCE as the image does",
    )


def _tracefs() -> Check:
    if mount_tracefs():
        return Check("kernel", "tracefs", "ok", str(tracing_directory()))
    return Check(
        "kernel", "tracefs", "bad", "not mounted", "mount -t tracefs nodev /sys/kernel/tracing, as root on the node"
    )


def _lockdown() -> Check:
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return Check("kernel", "lockdown", "ok", "none")
    mode = text[text.find("[") + 1 : text.find("]")] if "[" in text else text.strip()
    if mode == "confidentiality":
        return Check(
            "kernel", "lockdown", "bad", "confidentiality mode forbids reading memory by BPF", "use integrity or none"
        )
    return Check("kernel", "lockdown", "ok", mode)


def _process_numbers() -> Check:
    """Probes tell the node's process numbers; in a namespace of one's own they are somebody else's."""
    try:
        is_host = os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        is_host = False
    if is_host:
        return Check("identity", "process numbers", "ok", "the node's")
    what = "a namespace of its own: names, pods and TLS of processes cannot be looked up"
    return Check("identity", "process numbers", "off", what, "set hostPID: true")


def _cgroups() -> Check:
    text = Path("/proc/self/mounts").read_text()
    is_v2 = " /sys/fs/cgroup cgroup2 " in text
    has_v1 = " cgroup " in text
    form = "v2" if is_v2 else ("hybrid" if " cgroup2 " in text and has_v1 else "v1")
    return Check("identity", "control groups", "ok", form)


def _names() -> Check:
    places = ("/var/log/pods", "/run/containerd/io.containerd.runtime.v2.task", "/run/containers/storage")
    found = [place for place in places if Path(place).is_dir()]
    if found:
        return Check("identity", "names of pods", "ok", ", ".join(found))
    return Check(
        "identity",
        "names of pods",
        "off",
        "no folder of the kubelet or a container runtime is here",
        "on a Kubernetes node mount /var/log/pods and /run/containerd; elsewhere processes are told by their binary",
    )


def probe_checks() -> list[Check]:
    """Every probe, loaded and attached for a moment."""
    select = Selector(binaries=("\0nothing",))
    config = EbpfConfig(scope=("\0nowhere",), plaintext=PlaintextConfig(select=(select,), ring_bytes=1024 * 1024))
    kernel = Kernel(config)
    try:
        kernel.load()
        on: dict[str, list[str]] = {}
        for probe in kernel.on:
            on.setdefault(probe.group, []).append(probe.tracepoint.removeprefix("syscalls:sys_enter_"))
        checks = [Check("probes", group, "ok", f"{len(names)}: {', '.join(names)}") for group, names in on.items()]
        for probe, reason in kernel.off:
            name = probe.tracepoint.removeprefix("syscalls:sys_enter_")
            checks.append(Check("probes", name, "off", reason, f"{probe.what} are not seen; Tetragon may see them"))
        return checks
    except BpfError as error:
        return [Check("probes", "all", "bad", str(error), "see the lines above")]
    finally:
        kernel.close()


def stack_checks() -> list[Check]:
    """TLS stacks of the processes that run now: which are read where plaintext is switched on, which never."""
    known: dict[tuple[int, int], Finding] = {}
    users: Counter[tuple[str, str]] = Counter()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        root = root_of(int(name))
        for path in dict.fromkeys([f"/proc/{name}/exe", *(root + one for one in mapped_libraries(int(name)))]):
            found = _finding(path, known)
            if found.stack:
                users[found.stack, ""] += 1
            elif found.blind:
                users["blind", found.blind] += 1
    checks = [
        Check("tls", stack, "ok", f"{count} processes or libraries: prompts can be read")
        for (stack, reason), count in users.items()
        if not reason
    ]
    for (_, reason), count in users.items():
        if reason:
            remedy = "its plaintext is not seen: scan this service's telemetry or logs instead"
            checks.append(Check("tls", "blind", "off", f"{reason}, in {count} processes", remedy))
    return checks or [Check("tls", "none", "ok", "no process here speaks TLS now")]


def _finding(path: str, known: dict[tuple[int, int], Finding]) -> Finding:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return Finding(None)
    try:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        if key not in known:
            known[key] = finding_of(descriptor)
        return known[key]
    finally:
        os.close(descriptor)


def examine() -> list[Check]:
    """Everything.  Probes are tried only where the kernel's side is in order."""
    checks = kernel_checks()
    if any(check.state == "bad" for check in checks):
        return checks
    return [*checks, *probe_checks(), *stack_checks()]
