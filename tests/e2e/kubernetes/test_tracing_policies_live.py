"""daemonset/tracing-policies before Tetragon's own code: its definition in a real API server, its compiler of selectors,
and its comparison with the functions and types of the kernel at hand."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import built
from tests.peers.kubernetes.control_plane import ControlPlane, KubectlFailed
from tests.unit.daemonset.tracing import DAEMONSET, FILES, FOLDER, hooks, policies, policy_of

PEER = Path(__file__).resolve().parents[2] / "peers" / "tracingpolicies"
CRDS = "install/kubernetes/tetragon/crds-yaml"
TYPES = Path("/sys/kernel/btf/vmlinux")
# The first build compiles Tetragon's packages: a minute on two cores.
pytestmark = pytest.mark.timeout(900)

Compile = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def compiler(request: pytest.FixtureRequest) -> Compile:
    """Runs Tetragon's compiler of selectors on files."""
    program = built("tracingpolicies", bool(request.config.getoption("--require-peers")))

    def run(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def definitions(request: pytest.FixtureRequest) -> list[Path]:
    """Tetragon's definitions of TracingPolicy, of the version in the peer's go.mod."""
    words = "PEER SKIPPED: tracingpolicies: Tetragon's module"
    give_up = pytest.fail if request.config.getoption("--require-peers") else pytest.skip
    if shutil.which("go") is None:
        give_up(f"{words} needs Go to be fetched")
    command = ["go", "mod", "download", "-json", "github.com/cilium/tetragon"]
    done = subprocess.run(command, cwd=PEER, capture_output=True, text=True, check=False)
    if done.returncode:
        give_up(f"{words} cannot be fetched: {(done.stderr or done.stdout)[-2000:]}")
    folder = Path(json.loads(done.stdout)["Dir"]) / CRDS
    return [folder / f"cilium.io_{name}.yaml" for name in ("tracingpolicies", "tracingpoliciesnamespaced")]


@pytest.fixture
def plane(control_plane: ControlPlane, definitions: list[Path]) -> Iterator[ControlPlane]:
    """An API server that knows TracingPolicies."""
    names = [yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]["name"] for path in definitions]
    for path in definitions:
        control_plane.kubectl("apply", "--server-side", "-f", str(path))
    control_plane.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in names), "--timeout=30s")
    yield control_plane
    control_plane.kubectl("delete", "crd", *names)


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """A policy with other values in its first hook."""
    found = policy_of(FOLDER / f"{name}.yaml")
    found["spec"]["kprobes"][0] |= changes
    return found


# ------------------------------------------------------------------ API server


def test_all_are_taken_strictly_and_without_a_warning(plane: ControlPlane) -> None:
    told = plane.kubectl("apply", "--validate=strict", "-k", str(FOLDER), check=False).splitlines()
    assert told == [f"tracingpolicy.cilium.io/{found['metadata']['name']} created" for found in policies()]


def test_nothing_of_them_is_lost_in_the_server(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "-k", str(FOLDER))
    for found in policies():
        kept = plane.get("tracingpolicies.cilium.io", found["metadata"]["name"])["spec"]
        assert is_in(found["spec"], kept)


def is_in(wanted: Any, kept: Any) -> bool:
    """Whether all of it is there, beside what the server filled in."""
    if isinstance(wanted, dict):
        return isinstance(kept, dict) and all(name in kept and is_in(one, kept[name]) for name, one in wanted.items())
    if isinstance(wanted, list):
        return len(wanted) == len(kept) and all(is_in(one, other) for one, other in zip(wanted, kept, strict=True))
    return bool(wanted == kept)


def test_the_same_hooks_may_be_a_teams_own(plane: ControlPlane) -> None:
    found = policy_of(FOLDER / "credentials.yaml")
    found |= {"kind": "TracingPolicyNamespaced"}
    found["metadata"] |= {"namespace": "default"}
    told = plane.kubectl("apply", "--validate=strict", "-f", "-", input=json.dumps(found), check=False)
    assert told == "tracingpolicynamespaced.cilium.io/reeve-credentials created\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rateLimit": "1m"}, "unknown field"),
        ({"args": [{"index": 0, "type": "socks"}]}, "Unsupported value"),
        ({"tags": [f"tag-{number}" for number in range(17)]}, "must have at most 16 items"),
    ],
)
def test_a_mistake_is_refused(changes: dict[str, Any], words: str, plane: ControlPlane) -> None:
    with pytest.raises(KubectlFailed, match=words):
        plane.apply(json.dumps(changed("egress", **changes)), "--validate=strict")


# -------------------------------------------------------- compiler of selectors


def test_tetragon_compiles_the_selectors_of_every_hook(compiler: Compile) -> None:
    done = compiler(*FILES)
    assert (done.returncode, done.stderr) == (0, "")
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["policy"], one["call"], one["arguments"], one["selectors"]) for one in compiled] == [
        (one.policy, one.call, len(one.spec["args"]), len(one.spec["selectors"])) for one in hooks()
    ]


def matching(**wanted: Any) -> list[dict[str, Any]]:
    return [{"matchArgs": [{"index": 0, **wanted}], "matchActions": [{"action": "Post"}]}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"args": [{"index": 0, "type": "file"}]}, "non-sock"),
        ({"selectors": matching(operator="NotDAddr", values=["10.0.0.0/33"])}, "CIDR is invalid"),
        ({"selectors": matching(operator="Protocol", values=["IPPROTO_UDPP"])}, "invalid"),
        ({"selectors": [{"matchActions": [{"action": "Post", "rateLimit": "often"}]}]}, "rateLimit"),
        ({"selectors": [{"matchActions": [{"action": "Post", "rateLimit": "1m", "rateLimitScope": "pod"}]}]}, "Scope"),
        ({"args": [{"index": 1, "type": "sock"}]}, "unknown index"),
        ({"args": [{"index": 5, "type": "sock"}]}, "argument 5"),
        ({"sysccall": True}, "sysccall"),
    ],
)
def test_and_refuses_mistakes(changes: dict[str, Any], words: str, compiler: Compile, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(changed("egress", **changes)), encoding="utf-8")
    done = compiler(file)
    assert done.returncode == 1
    assert words in done.stderr


def test_a_function_twice_in_a_policy_is_refused(compiler: Compile, tmp_path: Path) -> None:
    found = policy_of(FOLDER / "egress.yaml")
    found["spec"]["kprobes"] *= 2
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(found), encoding="utf-8")
    assert "tcp_connect: twice" in compiler(file).stderr


# ---------------------------------------------------------- the kernel at hand


@pytest.fixture
def types() -> Path:
    """What this kernel says of its own functions and types."""
    if not TYPES.exists():
        pytest.skip(f"this kernel does not describe its types: no {TYPES}")
    return TYPES


def test_this_kernel_has_the_functions_with_the_arguments_that_are_read(compiler: Compile, types: Path) -> None:
    done = compiler("-btf", types, *FILES)
    assert (done.returncode, done.stderr) == (0, "")
    told = {one["call"]: one["kernel"] for one in map(json.loads, done.stdout.splitlines())}
    assert told.keys() == {one.call for one in hooks()}
    missing = {call for call, word in told.items() if word == "missing"}
    assert missing <= {one.call for one in hooks() if "ignore" in one.spec}
    # Tetragon has no word for pid_t, says so in its log, and reads the number all the same.
    assert {call: word for call, word in told.items() if word not in ("fits", "missing")} == {
        "sys_process_vm_writev": "type (pid_t) of syscall argument 0 does not match spec type (int)"
    }


def data(**changes: str) -> list[dict[str, Any]]:
    return [{"index": 0, "type": "uint32", "source": "current_task", "resolve": "cred.uid.val"} | changes]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"call": "tcp_connects"}, "not found"),
        ({"args": [{"index": 1, "type": "sock"}], "selectors": []}, "invalid index"),
        ({"data": data(resolve="cred.uuid.val")}, "uuid"),
        ({"data": data(resolve="cred.uid")}, "no uint32"),
        ({"data": data(source="pt_regs")}, "pt_regs"),
    ],
)
def test_and_a_hook_that_it_does_not_have_is_refused(
    changes: dict[str, Any], words: str, compiler: Compile, types: Path, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(changed("egress", **changes)), encoding="utf-8")
    done = compiler("-btf", types, file)
    assert done.returncode == 1
    assert words in done.stderr


def test_an_argument_of_another_type_is_told(compiler: Compile, types: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(changed("egress", call="ip_local_out")), encoding="utf-8")
    done = compiler("-btf", types, file)
    assert "does not match spec type (sock)" in json.loads(done.stdout.splitlines()[0])["kernel"]


# ------------------------------------------------------------------- judgements


def test_the_judgements_among_the_examples_are_taken(plane: ControlPlane) -> None:
    plane.kubectl("apply", "--server-side", "-f", str(DAEMONSET / "crds" / "runtimepolicies.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "crd/runtimepolicies.reeve.dev", "--timeout=30s")
    file = DAEMONSET / "examples" / "tracing-verdicts.yaml"
    told = plane.kubectl("apply", "--validate=strict", "-f", str(file), check=False).splitlines()
    plane.kubectl("delete", "crd", "runtimepolicies.reeve.dev")
    assert len(told) == 6
    assert all(line.endswith(" created") for line in told)
