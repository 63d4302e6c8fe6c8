"""What a node leaves on a machine, and its removal: processes, mounts, links, rules, control groups, kernel settings.

Works without the parts of the node, for a session that was killed leaves no part that could be asked.  Only what
belongs to the node's folder, or carries its names, is touched.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.peers.kubernetes import part
from tests.peers.kubernetes.building import found
from tests.peers.kubernetes.settings import BRIDGE, NETWORK_NAME, POD_RANGE, Paths

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
NOTE = "kernel-settings.json"
# Of each container's links, as libcni keeps it for the plug-ins.
REMEMBERED = Path("/var/lib/cni/results")
POD_LOGS = Path("/var/log/pods")
LINKED_LOGS = Path("/var/log/containers")
# What the kubelet and the network plug-in `ptp` set without being asked.
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
)


def keep_kernel_settings(folder: Path) -> None:
    """Notes the settings as they are now.  The note also says that a node of ours is, or was, in `folder`."""
    noted = {name: _setting(name) for name in KERNEL_SETTINGS}
    (folder / NOTE).write_text(json.dumps(noted), encoding="utf-8")


def remove(folder: Path) -> None:
    """Removes all that a node in `folder` left; its logs stay.  Twice is as good as once."""
    if (folder / NOTE).exists():
        paths = Paths(folder)
        part.ended_by_record(folder)
        end_containers(paths)
        _unmount(folder)
        for device in (BRIDGE, *_devices()):
            _quiet("ip", "link", "delete", device)
        _remove_rules()
        _remove_pod_logs(paths)
        _remove_cgroups()
        _restore_kernel_settings(folder)
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name == "logs":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def foreign_kubelet() -> int | None:
    """A kubelet that runs on this machine, with which a node would share too much."""
    for entry in PROC.iterdir():
        # One that was killed, and that its parent did not take notice of yet, has no command line any more.
        program = _command_line(int(entry.name))[:1] if entry.name.isdigit() else []
        if program and program[0].rpartition(b"/")[2] == b"kubelet":
            return int(entry.name)
    return None


def end_containers(paths: Paths) -> None:
    """Ends each shim of this node's containerd with all that it runs, pid by pid."""
    for _ in range(3):  # what was forked meanwhile is found by the next turn
        doomed = _shims(paths)
        if not doomed:
            return
        family = _family(doomed)
        for pid in [*(pid for pid in family if pid not in doomed), *doomed]:
            part.end(pid, 5)


def _shims(paths: Paths) -> list[int]:
    address = str(paths.containerd_socket).encode()
    shims = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            arguments = _command_line(int(entry.name))
            if arguments and b"containerd-shim" in arguments[0] and address in arguments:
                shims.append(int(entry.name))
    return shims


def _command_line(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _family(ancestors: Sequence[int]) -> list[int]:
    """These processes and all descendants.  A shim is a subreaper: what its containers orphan becomes its child."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (parent := part.parent(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    family, waiting = [], list(ancestors)
    while waiting:
        pid = waiting.pop()
        family.append(pid)
        waiting += children.get(pid, [])
    return family


def _unmount(folder: Path) -> None:
    for _ in range(3):  # one place can be mounted over more than once
        mounted = [line.split(" ")[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        below = [point.replace("\\040", " ") for point in mounted if point.startswith(f"{folder}/")]
        if not below:
            return
        for point in sorted(below, reverse=True):
            _quiet("umount", "--lazy", point)


def _devices() -> list[str]:
    """The node's ends of the links to its pods, by what the network plug-ins remember; most go with their pods."""
    names: set[str] = set()
    for file in REMEMBERED.glob(f"{NETWORK_NAME}-*"):
        names.update(re.findall(r"veth[0-9a-f]{8}", file.read_text(encoding="utf-8", errors="replace")))
        container = file.name.removeprefix(f"{NETWORK_NAME}-").partition("-")[0]
        for one in (file, REMEMBERED / f"cni-loopback-{container}-lo"):
            one.unlink(missing_ok=True)
    return sorted(names)


def _remove_rules() -> None:
    """Takes kube-proxy's tables away, and the plug-ins' rules for our pods; their empty chains stay, as with others."""
    for family in ("ip", "ip6"):
        _quiet("nft", "delete", "table", family, "kube-proxy")
    pod_address = POD_RANGE.rpartition(".")[0] + "."
    for table, mark in (("nat", NETWORK_NAME), ("filter", f" {pod_address}")):
        for rule in _quiet("iptables-save", "-t", table).splitlines():
            if rule.startswith("-A CNI-") and mark in rule and "-A CNI-DN-" not in rule:
                _remove_rule(table, shlex.split(rule)[1:])


def _remove_rule(table: str, rule: Sequence[str]) -> None:
    _quiet("iptables", "-w", "-t", table, "-D", *rule)
    target = rule[rule.index("-j") + 1]
    if target.startswith("CNI-DN-"):  # portmap's chain of one pod
        _quiet("iptables", "-w", "-t", table, "-F", target)
        _quiet("iptables", "-w", "-t", table, "-X", target)


def _remove_pod_logs(paths: Paths) -> None:
    """Removes the logs of the node's pods, which the kubelet keeps at places that are the machine's."""
    pods = paths.kubelet / "pods"
    uids = {path.name for path in pods.iterdir()} if pods.is_dir() else set()
    for folder in POD_LOGS.glob("*_*_*"):
        if folder.name.rpartition("_")[2] in uids:
            shutil.rmtree(folder, ignore_errors=True)
    for link in LINKED_LOGS.glob("*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)


def _remove_cgroups() -> None:
    """Removes the control groups of pods; the kernel refuses for those that still hold a process."""
    for top in (CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")):
        for folder, _, _ in os.walk(top, topdown=False):
            for _ in range(20):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError:
                    time.sleep(0.02)  # a process that was just killed still counts
                    continue
                break


def _setting(name: str) -> str:
    path = PROC / "sys" / name
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _restore_kernel_settings(folder: Path) -> None:
    for name, value in json.loads((folder / NOTE).read_text(encoding="utf-8")).items():
        if value and value != _setting(name):
            (PROC / "sys" / name).write_text(value, encoding="utf-8")
    (folder / NOTE).unlink()


def _quiet(program: str, *arguments: str) -> str:
    path = found(program)
    if path is None:
        return ""
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout
