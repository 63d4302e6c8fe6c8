"""Images without a registry: Debian's base made with mmdebstrap, others from Dockerfiles by buildah, each an archive.

`FROM debian:bookworm-slim` in an unchanged Dockerfile finds the base that was made here.  All is kept in the cache; what
buildah has is in a store of its own, so nobody's images are changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.kubernetes.building import CACHE, FOLDER, Unavailable, locked, pause_program, require_programs, run
from tests.peers.kubernetes.settings import PAUSE_IMAGE

IMAGES = CACHE / "images"
SUITE = "bookworm"
BASE_IMAGE = f"docker.io/library/debian:{SUITE}-slim"
CLIENT_IMAGE = "localhost/client:1"
IMAGE_PROGRAMS = ("mmdebstrap", "buildah")
# Documentation is half of a small system, and nobody reads it in a container.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")


def pause_archive() -> Path:
    """The image of the first container of every pod."""
    program = pause_program()
    archive = IMAGES / f"{program.parent.name}.tar"
    if not archive.exists():
        _write_archive(archive, PAUSE_IMAGE, {"pause": program.read_bytes()}, ["/pause"])
    return archive


def base() -> str:
    """The name of Debian's base image, which is made the first time (half a minute)."""
    require_programs(IMAGE_PROGRAMS, as_root=True)
    with locked("images"):
        if _buildah("images", "--quiet", "--filter", f"reference={BASE_IMAGE}").strip():
            return BASE_IMAGE
        tree = IMAGES / f"debian-{SUITE}.tar"
        if not tree.exists():
            IMAGES.mkdir(parents=True, exist_ok=True)
            left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
            new = f"{tree}.new.tar"
            run(["mmdebstrap", "--variant=minbase", "--quiet", *left_out, SUITE, new], IMAGES)
            os.rename(new, tree)
        text = f'FROM scratch\nADD {tree.name} /\nCMD ["bash"]\n'
        _buildah("bud", "--isolation", "chroot", "--tag", BASE_IMAGE, "--file", "-", str(_alone(tree)), input=text)
    return BASE_IMAGE


def build_image(dockerfile: Path | str, context: Path, tag: str, build_args: Mapping[str, str] | None = None) -> Path:
    """An archive of the image that a Dockerfile (a file, or its text) makes; unchanged steps are taken from before.

    `tag` is its whole name, such as `localhost/reeve:test`.  Raises Unavailable with buildah's words if it fails.
    """
    base()
    arguments = [f"--build-arg={name}={value}" for name, value in (build_args or {}).items()]
    # chroot: runs where no container could be started, in a container for instance.
    command = ["bud", "--isolation", "chroot", "--layers", "--pull-never", *arguments, "--tag", tag]
    with locked("images"):
        if isinstance(dockerfile, Path):
            _buildah(*command, "--file", str(dockerfile), str(context))
        else:
            _buildah(*command, "--file", "-", str(context), input=dockerfile)
    return archive_of(tag)


def archive_of(tag: str) -> Path:
    """An archive of an image that is in the store of the tests, for `Node.import_image`."""
    with locked("images"):
        identity = _buildah("images", "--quiet", "--no-trunc", tag).split()[0].removeprefix("sha256:")
        archive = IMAGES / f"{hashlib.sha256(tag.encode()).hexdigest()[:8]}-{identity[:16]}.tar"
        if not archive.exists():
            for older in IMAGES.glob(f"{archive.name[:9]}*.tar"):
                older.unlink()
            new = archive.with_suffix(".new")
            new.unlink(missing_ok=True)
            _buildah("push", "--quiet", tag, f"docker-archive:{new}:{tag}")
            os.rename(new, archive)
    return archive


def client_archive() -> Path:
    """An image for pods that talk: Debian with Python, OpenSSL and curl, named `CLIENT_IMAGE`."""
    return build_image(FOLDER / "client" / "Dockerfile", FOLDER / "client", CLIENT_IMAGE)


def _alone(tree: Path) -> Path:
    """A context that has the tree and nothing else: buildah copies no context, but looks through it."""
    folder = IMAGES / "base-context"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / tree.name
    link.unlink(missing_ok=True)
    os.link(tree, link)
    return folder


def _buildah(*arguments: str, input: str | None = None) -> str:
    store = ["--root", str(IMAGES / "store"), "--runroot", str(IMAGES / "store-run")]
    command = ["buildah", *store, *arguments]
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        words = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}".strip()
        raise Unavailable(f"`buildah {' '.join(arguments[:3])} ...` failed: {words}")
    return done.stdout


def _write_archive(archive: Path, name: str, files: Mapping[str, bytes], command: Sequence[str]) -> None:
    """An image of a few files, in the format of `docker save`; the same bytes for the same content."""
    layer = _tar(files, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    configuration = json.dumps(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Cmd": list(command)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]).encode()
    archive.parent.mkdir(parents=True, exist_ok=True)
    contents = {config_name: configuration, f"{digest}/layer.tar": layer, "manifest.json": manifest}
    new = archive.with_suffix(f".{os.getpid()}")
    new.write_bytes(_tar(contents, mode=0o644))
    os.rename(new, archive)


def _tar(files: Mapping[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
