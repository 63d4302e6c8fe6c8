"""Kubernetes in the version that a test wants, built from its Go module and kept outside of the checkout.

The default version is pinned by go.mod and go.sum beside this file.  For another version both are written anew:
k8s.io/kubernetes requires its staging modules as v0.0.0, and each needs a `replace` to the version that belongs to it.
What cannot be had on a machine is `Unavailable`, with its reason.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "reeve" / "peers" / "kubernetes"
DEFAULT_VERSION = "1.37.2"
OLDEST_VERSION = "1.30.14"
PARTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
# Beside Kubernetes; `.ci/install-kubernetes` installs them.
CONTROL_PLANE_PROGRAMS = ("etcd",)
NODE_PROGRAMS = ("etcd", "containerd", "ctr", "runc", "iptables", "iptables-save", "nft", "conntrack", "ip", "nsenter")
PLUGINS = Path("/usr/lib/cni")


class Unavailable(Exception):
    """Something that this machine does not have, and what would help."""


def require_programs(programs: Sequence[str], *, as_root: bool) -> None:
    """Raises Unavailable if programs of the system are missing, or root is needed and somebody else is here."""
    if as_root and os.geteuid() != 0:
        raise Unavailable("a node needs root")
    missing = [program for program in programs if found(program) is None]
    if as_root and not (PLUGINS / "ptp").exists():
        missing.append(str(PLUGINS / "ptp"))
    if missing:
        raise Unavailable(f"not installed: {', '.join(missing)}; `.ci/install-kubernetes` installs them on Debian")


def found(program: str) -> str | None:
    """The path of a program of the system; Debian's own PATH for users lacks /usr/sbin."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def node_programs(version: str = DEFAULT_VERSION) -> Path:
    """A folder with all of `PARTS`; the first time four to six minutes on two cores."""
    return _built("node", version, PARTS)


def api_server_programs(version: str = DEFAULT_VERSION) -> Path:
    """A folder with kube-apiserver; of the default version that is the whole node's, as that is built anyway."""
    return node_programs() if version == DEFAULT_VERSION else _built("apiserver", version, ("kube-apiserver",))


def pause_program() -> Path:
    """A static program that does nothing, for the first container of pods."""
    return _built("pause", DEFAULT_VERSION, ("pause",)) / "pause"


def build_seconds(programs: Path) -> int:
    """How long the build of a folder of programs took; little if Go's own cache had most of it."""
    return int((programs / "made").read_text(encoding="utf-8") or "0")


def _built(name: str, version: str, links: Sequence[str]) -> Path:
    package = FOLDER if name == "node" else FOLDER / name
    sources = [package / "main.go"]
    if version == DEFAULT_VERSION and name != "pause":
        sources += [FOLDER / "go.mod", FOLDER / "go.sum"]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = CACHE / f"{name}-{version}-{digest.hexdigest()[:16]}"
    with locked(f"build-{name}-{version}"):
        if not (folder / "made").exists():
            begun = time.monotonic()
            _build(package, version, folder / name)
            for link in links:
                _link(folder / link, name)
            (folder / "made").write_text(f"{time.monotonic() - begun:.0f}", encoding="utf-8")
    return folder


def _link(link: Path, target: str) -> None:
    if link.name != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _build(package: Path, version: str, program: Path) -> None:
    if shutil.which("go") is None:
        raise Unavailable("needs Go (1.26 or newer) to be built")
    program.parent.mkdir(parents=True, exist_ok=True)
    major, minor, _ = version.split(".")
    names = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{key}={names[key]}" for key in names)])
    if version != DEFAULT_VERSION:
        package = _module(version, package)
    run(["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(program), "."], package)


def _module(version: str, package: Path) -> Path:
    """A module of its own around a package of ours, for a version that is not pinned here."""
    folder = CACHE / "modules" / f"{package.name}-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(package / "main.go", folder)
    told = json.loads(run(["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"], folder))
    (folder / "go.mod").write_text(module_text(Path(told["GoMod"]).read_text(encoding="utf-8"), version))
    run(["go", "mod", "tidy"], folder)
    return folder


def module_text(upstream: str, version: str) -> str:
    """A go.mod around k8s.io/kubernetes of a version, from that one's own go.mod."""
    kept = re.findall(r"^(?:go |godebug default=).*$", upstream, re.MULTILINE)
    staging = sorted(set(re.findall(r"(k8s\.io/[a-z0-9-]+) => \./staging", upstream)))
    # Replaced folders in a module's own go.mod do not hold for those who use it; v0.N.P is what v1.N.P belongs to.
    replaced = [f"replace {name} => {name} v0.{version.split('.', 1)[1]}" for name in staging]
    return "\n".join(["module kubernetes", *kept, f"require k8s.io/kubernetes v{version}", *replaced, ""])


def run(command: Sequence[str], folder: Path) -> str:
    """What a command printed; raises Unavailable with its words if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise Unavailable(f"`{' '.join(command[:4])} ...` failed: {words[-3000:]}")
    return done.stdout


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One at a time, over all sessions of this user."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
