"""The images that the Dockerfile makes: how large, whose, what is in them, and that they work with a read-only root."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.image_room import Image
from tests.e2e.saying import said_in
from tests.peers.kubernetes.building import Unavailable

pytestmark = pytest.mark.timeout(1200)
MEGABYTE = 1_000_000
COMPILERS = re.compile(r"(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|clang|cpp|ld|as|make|rustc|go)(?:-?[\d.]+)?")
FORBIDDEN_PACKAGES = (
    "pip",
    "setuptools",
    "pytest",
    "mypy",
    "ruff",
    "hypothesis",
    "grpcio-tools",
    "apt",
    "perl-base",
    "gcc",
)


def built(target: str, request: pytest.FixtureRequest) -> Iterator[Image]:
    try:
        image = Image(target)
    except Unavailable as reason:
        give_up = pytest.fail if request.config.getoption("--require-peers") else pytest.skip
        give_up(f"PEER SKIPPED: {reason}")
    yield image
    image.close()


@pytest.fixture(scope="module")
def agent_image(request: pytest.FixtureRequest) -> Iterator[Image]:
    yield from built("agent", request)


@pytest.fixture(scope="module")
def ebpf_image(request: pytest.FixtureRequest) -> Iterator[Image]:
    yield from built("agent-ebpf", request)


@pytest.fixture(params=["agent_image", "ebpf_image"])
def image(request: pytest.FixtureRequest) -> Image:
    chosen: Image = request.getfixturevalue(request.param)
    return chosen


def materials(image: Image) -> dict[str, Any]:
    text = (image.root / "usr/share/sbom/reeve.spdx.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@pytest.mark.parametrize(("name", "megabytes"), [("agent_image", 250), ("ebpf_image", 450)])
def test_the_image_is_small(name: str, megabytes: int, request: pytest.FixtureRequest) -> None:
    image: Image = request.getfixturevalue(name)
    size = image.layer_bytes()
    said_in(request.config, f"image {image.target}", [f"{size / MEGABYTE:.0f} MB unpacked; at most {megabytes} MB"])
    assert size < megabytes * MEGABYTE


def test_only_the_image_with_probes_is_root(agent_image: Image, ebpf_image: Image) -> None:
    assert (agent_image.config["User"], ebpf_image.config["User"]) == ("65532:65532", "0:0")


def test_a_pod_needs_no_command(image: Image) -> None:
    assert image.config["Entrypoint"] == ["reeve"]
    assert image.config["Cmd"] == ["run", "--config", "/etc/reeve/agent.yaml"]


def test_labels_say_what_it_is(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()}
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == "1.2.3"
    assert labels["revision"] == "abc"
    assert labels["created"] == "2026-11-23T10:00:00Z"
    assert {"title", "description", "source"} <= labels.keys()


def test_materials_are_told_and_no_tool_is_among_them(image: Image) -> None:
    names = {one["name"] for one in materials(image)["packages"]}
    assert {"reeve-agent", "presidio-analyzer", "libc6", "python3.11-minimal"} <= names
    assert not names & set(FORBIDDEN_PACKAGES)


def test_materials_name_bcc_and_the_headers_it_reads(ebpf_image: Image) -> None:
    names = {one["name"] for one in materials(ebpf_image)["packages"]}
    assert {"python3-bpfcc", "libbpfcc", "libllvm14"} <= names
    assert [name for name in names if name.startswith("linux-headers-") and name.endswith("-common")]


def test_materials_are_linked_to_the_image(image: Image) -> None:
    document = materials(image)
    identifiers = [one["SPDXID"] for one in document["packages"]]
    related = {one["relatedSpdxElement"] for one in document["relationships"]}
    assert len(set(identifiers)) == len(identifiers)
    assert set(identifiers) == related


def test_there_is_no_compiler_and_no_program_that_changes_users(image: Image) -> None:
    programs = [path for path in image.paths() if path.parent.name in ("bin", "sbin")]
    assert not [path for path in programs if COMPILERS.fullmatch(path.name)]
    assert not [path for path in programs if (image.root / path.relative_to("/")).lstat().st_mode & 0o6000]


def test_every_module_is_compiled_beforehand(image: Image) -> None:
    site = next((image.root / "opt/reeve/lib").iterdir()) / "site-packages"
    sources = list(site.rglob("*.py"))
    assert sources
    assert not [path for path in sources if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]


def test_the_root_cannot_be_written(image: Image) -> None:
    assert image.run(["touch", "/opt/reeve/x"]).returncode != 0


def test_the_shipped_rules_and_policies_are_found_and_good(image: Image) -> None:
    done = image.run(["reeve", "check"])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("good: ")


@pytest.mark.parametrize("what", ["rules", "policies"])
def test_their_cases_pass_inside(image: Image, what: str) -> None:
    done = image.run(["reeve", what, "test"])
    assert done.returncode == 0, done.stderr
    assert " 0 failed" in done.stdout


def test_a_text_is_scanned(image: Image) -> None:
    done = image.run(["reeve", "scan", "--format", "lines", "-"], "write to anna.berger@example.com\n")
    assert "EMAIL_ADDRESS" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_whole_agent_runs_without_a_network(agent_image: Image) -> None:
    done = agent_image.run(["reeve", "demo"])
    assert done.returncode == 0, done.stderr
    assert "ledger adds up" in done.stderr


def test_every_extension_loads_after_it_was_stripped(image: Image) -> None:
    program = """
import importlib, pathlib, re, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
names = [".".join(path.relative_to(site).parts) for path in site.rglob("*.so")]
modules = [re.split(r"[.](?:cpython-|abi3)", name)[0] for name in names if re.search(r"[.](?:cpython-|abi3)", name)]
for module in modules: importlib.import_module(module)
import capstone, elftools; capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
print(len(modules))
"""
    done = image.run(["python", "-c", program])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15


def test_probes_compile_load_and_stand(ebpf_image: Image) -> None:
    done = ebpf_image.run(["reeve", "doctor", "--json"])
    checks = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"process", "files", "sockets"} <= {
        one["name"] for one in checks if one["area"] == "probes" and one["state"] == "ok"
    }


def test_a_program_of_ones_own_is_loaded_with_the_headers_of_the_image(ebpf_image: Image) -> None:
    program = """
from agent.sources.ebpf.bcc import Programs
text = "#include <linux/sched.h>\\nTRACEPOINT_PROBE(sched, sched_process_exec) { return 0; }"
programs = Programs(text)
programs.close()
print("stands")
"""
    done = ebpf_image.run(["python", "-c", program])
    assert done.stdout == "stands\n", done.stderr
