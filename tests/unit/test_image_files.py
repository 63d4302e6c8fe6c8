"""What the files that make the images say, without making one (tests/e2e/test_image.py makes them)."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAEMONSET = ROOT / "daemonset"
DOCKERFILE = (DAEMONSET / "Dockerfile").read_text(encoding="utf-8")
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==(\S+)")


def instructions(word: str) -> list[str]:
    """The rest of each line of the Dockerfile that begins with a word, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return [line.removeprefix(f"{word} ") for line in joined.splitlines() if line.startswith(f"{word} ")]


def copied_from_the_repository() -> list[str]:
    sources = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from=")]
    return [source for row in sources for source in row]


def pins(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each distribution of a lock."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=\S)", (ROOT / name).read_text(encoding="utf-8")):
        if pinned := _PINNED.match(block):
            found[pinned[1]] = (pinned[2], frozenset(re.findall(r"--hash=(\S+)", block)))
    return found


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"daemonset_{name}", DAEMONSET / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", copied_from_the_repository())
def test_what_the_dockerfile_copies_is_there_and_may_be_seen(source: str) -> None:
    allowed = [line[1:] for line in (DAEMONSET / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert (ROOT / source).exists()
    assert source in allowed


def test_the_build_sees_nothing_that_it_does_not_copy() -> None:
    lines = (DAEMONSET / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line[:1] == "!"} == set(copied_from_the_repository())


def test_every_stage_comes_from_debian_or_another_stage() -> None:
    stages = [re.fullmatch(r"(\S+) AS (\S+)", line) for line in instructions("FROM")]
    pairs = [(stage[1], stage[2]) for stage in stages if stage]
    assert len(pairs) == len(stages)
    assert {base for base, _ in pairs} - {name for _, name in pairs} == {"debian:bookworm-slim", "scratch"}


def test_the_image_without_probes_has_a_user_by_number_and_the_other_is_root() -> None:
    assert instructions("USER") == ["65532:65532", "0:0"]


def test_packages_are_installed_by_hash_only() -> None:
    pip = [line for line in instructions("RUN") if "/bin/pip install" in line]
    commands = [command for line in pip for command in re.findall(r"pip install [^&]*", line)]
    assert commands
    assert all("--require-hashes" in command or "--no-deps --no-build-isolation ." in command for command in commands)


def test_the_runtime_lock_is_a_part_of_the_lock() -> None:
    whole, part = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert {name: pin for name, pin in part.items() if whole.get(name) != pin} == {}


def test_the_runtime_lock_holds_every_dependency_and_no_tool() -> None:
    part = pins("requirements-runtime.lock").keys()
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.findall(r'^  "([\w-]+)[>=\[]', text.split("dependencies = [", 1)[1].split("\n]", 1)[0], re.M)
    tools = re.findall(r'^  "([\w-]+)', text.split("dev = [", 1)[1].split("\n]", 1)[0], re.M)
    assert len(dependencies) > 20
    assert set(dependencies) <= part
    assert {"pytest", "mypy", "ruff"} <= set(tools)
    assert not {name.lower() for name in tools} & part


@pytest.mark.parametrize("path", ["strip-system", "unpack-headers", "stub-icu"])
def test_shell_scripts_are_programs_that_parse(path: str) -> None:
    assert (DAEMONSET / path).stat().st_mode & 0o111
    assert subprocess.run(["sh", "-n", str(DAEMONSET / path)], check=False).returncode == 0


def test_no_part_that_is_left_out_is_imported_by_the_agent() -> None:
    prune = script("prune")
    imported = set()
    for path in (ROOT / "agent").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(encoding="utf-8"), re.M))
    files = {name.replace(".", "/") + ending for name in imported for ending in ("", ".py")}
    left_out = {name for name in files for pattern in prune.PARTS if fnmatch.fnmatch(name, pattern)}
    assert left_out - prune.KEPT == set()


def test_a_bill_of_materials_names_each_package_once_by_its_url() -> None:
    sbom = script("sbom")
    parts = [
        sbom.debian("libc6", "2.36-9+deb12u13", "amd64"),
        sbom.Part("pypi", "click", "8.5.1", "pkg:pypi/click@8.5.1"),
    ]
    document = sbom.document_of("agent", "2026-11-23T10:00:00Z", [*parts, *parts])
    urls = [one["externalRefs"][0]["referenceLocator"] for one in document["packages"]]
    assert urls == [
        "pkg:oci/agent",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12",
        "pkg:pypi/click@8.5.1",
    ]
    assert json.dumps(document) == json.dumps(sbom.document_of("agent", "2026-11-23T10:00:00Z", parts[::-1]))
