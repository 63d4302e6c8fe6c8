"""The images built as a user builds them, and programs run in one as in a pod: its user, its environment, a root that is
read-only, nothing to write but /tmp and the directory of state, and no network but its own loopback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.peers.kubernetes.building import Unavailable
from tests.peers.kubernetes.images import IMAGES, archive_of, base

ROOT = Path(__file__).resolve().parents[2]
_STORE = ("--root", str(IMAGES / "store"), "--runroot", str(IMAGES / "store-run"))
# As a container runtime does it; the host's process numbers and tracefs are seen, as with hostPID and privileged.
_ENTER = """
set -e
ip link set lo up
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount -t tmpfs -o mode=0700,uid="${2%%:*}",gid="${2##*:}" tmpfs "$1/var/lib/reeve"
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount -t sysfs sysfs "$1/sys"
if [ "${2%%:*}" = 0 ]; then mount -t tracefs tracefs "$1/sys/kernel/tracing"; fi
root="$1" user="$2"
shift 2
exec env -i "$@" /usr/sbin/chroot --userspec="$user" "$root" /bin/sh -c "$REEVE_TEST_COMMAND"
"""


class Image:
    """A built image: what it says of itself, its files, and programs in it."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.name = f"localhost/reeve-test-{target}:1"
        self._build()
        told = json.loads(buildah("inspect", "--type", "image", self.name))
        self.config: dict[str, Any] = told["OCIv1"]["config"]
        self._container = buildah("from", "--pull-never", self.name).strip()
        self.root = Path(buildah("mount", self._container).strip())

    def _build(self) -> None:
        base()
        certificates = os.environ.get("PIP_CERT")
        secret = [f"--secret=id=authorities,src={certificates}", "--build-arg=PIP_CERT=/run/authorities.crt"]
        buildah(
            *("bud", "--isolation", "chroot", "--layers", "--pull-never", "--target", self.target, "--tag", self.name),
            *(secret if certificates else ()),
            *("--build-arg=VERSION=1.2.3", "--build-arg=REVISION=abc", "--build-arg=CREATED=2026-11-23T10:00:00Z"),
            *("--file", str(ROOT / "daemonset" / "Dockerfile")),
            *("--ignorefile", str(ROOT / "daemonset" / "Dockerfile.dockerignore"), str(ROOT)),
        )

    def layer_bytes(self) -> int:
        """The size of all layers, unpacked as a node keeps them."""
        with tarfile.open(archive_of(self.name)) as tar:
            return sum(one.size for one in tar.getmembers() if one.isfile() and one.name.endswith(".tar"))

    def run(self, command: Sequence[str], input: str = "") -> subprocess.CompletedProcess[str]:
        """A program in the image, to its end."""
        enter = ["unshare", "--mount", "--net", "sh", "-c", _ENTER, "sh", str(self.root), self.config["User"]]
        environment = {**os.environ, "REEVE_TEST_COMMAND": shlex.join(command)}
        # `env -i` leaves the image's own; the command is expanded by the shell before.
        return subprocess.run(
            [*enter, *self.config["Env"]],
            input=input,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def paths(self) -> Iterator[Path]:
        """All files, as absolute paths in the image."""
        for folder, _, names in os.walk(self.root):
            inside = Path("/") / Path(folder).relative_to(self.root)
            yield from (inside / name for name in names)

    def close(self) -> None:
        buildah("rm", self._container)


def buildah(*arguments: str) -> str:
    """buildah's answer, with the store of the tests' images.  Raises Unavailable with its words."""
    done = subprocess.run(["buildah", *_STORE, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(
            f"`buildah {' '.join(arguments[:3])} ...` failed: {done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        )
    return done.stdout
