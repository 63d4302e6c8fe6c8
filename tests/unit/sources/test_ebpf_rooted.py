"""`agent.sources.ebpf.rooted`: an image's links stay in the image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.sources.ebpf.rooted import rooted


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("/opt/node", "/opt/node"),
        ("../../opt/node", "/opt/node"),
        ("../../../../../etc/shadow", "/etc/shadow"),
        ("./node20", "/usr/bin/node20"),
        ("/dev/../dev/watchdog", "/dev/watchdog"),
    ],
)
def test_a_link_is_followed_below_its_root(tmp_path: Path, target: str, meant: str) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    os.symlink(target, tmp_path / "usr/bin/node")

    assert rooted(str(tmp_path), "/usr/bin/node") == f"{tmp_path}{meant}"


def test_a_linked_directory_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    os.symlink("usr/lib", tmp_path / "lib")

    assert rooted(str(tmp_path), "/lib/libssl.so.3") == f"{tmp_path}/usr/lib/libssl.so.3"


def test_links_without_end_lead_nowhere(tmp_path: Path) -> None:
    os.symlink("/b", tmp_path / "a")
    os.symlink("/a", tmp_path / "b")

    assert rooted(str(tmp_path), "/a") == ""


def test_our_own_root_is_taken_as_it_is() -> None:
    assert rooted("", "/usr/bin/node") == "/usr/bin/node"
