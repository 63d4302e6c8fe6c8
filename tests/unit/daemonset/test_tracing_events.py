"""What Tetragon sends for each hook of daemonset/tracing-policies: decoded by the agent's own decoder, and judged."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from agent._pb import tetragon_pb2 as pb
from agent.config import read
from agent.detectors import traffic
from agent.detectors.traffic.catalogue import Catalogue, catalogue_files, entries_of
from agent.engine import Engine
from agent.model import Event, FileActivity, KernelActivity, NetworkActivity, ProcessActivity
from agent.policy import Compiler, PolicyJudge
from agent.resolve import Resolver
from agent.sources.hubble import event_from_json as flow_from_json
from agent.sources.tetragon import event_from_json
from agent.sources.tetragon.wire import WireDecoder
from tests.unit.daemonset.manifests import DAEMONSET
from tests.unit.daemonset.tracing import VERDICTS, event_of, hooks, is_let_through, the_hook

ROOT = DAEMONSET.parent
POD = {"namespace": "llm-prod", "name": "vllm-0", "container": {"name": "vllm", "image": {"name": "vllm:1"}}}
PROCESS = {"exec_id": "e1", "binary": "/usr/bin/cat", "pod": POD, "docker": "abc"}

OUT = {"family": "AF_INET", "protocol": "IPPROTO_TCP", "saddr": "10.0.0.5", "sport": 40000}
DATAGRAM = {"protocol": "IPPROTO_UDP", "saddr": "10.0.0.5", "sport": 40000, "dport": 443, "len": 1200}
TOKEN = "/run/secrets/kubernetes.io/serviceaccount/..2026_11_27/token"
WEIGHTS = "/models/llama/model-00001-of-00004.safetensors"
SHADOW = "/host/etc/shadow"
KEY = "/home/agent/.aws/credentials"
RELEASE_AGENT = "/sys/fs/cgroup/rdma/release_agent"
CORE_PATTERN = "/host/proc/sys/kernel/core_pattern"
FROM_MEMORY = "no-program-from-memory"
MEMORY = "no-memory-is-written-and-executed"

# Policy, hook, values of the declared arguments; class and action (function, for the kernel's) of the body, what it
# says (path, destination or arguments), and the rules that fail.
CASES: list[tuple[str, str, tuple[Any, ...], str, str, Any, set[str]]] = [
    ("credentials", "security_file_open", (TOKEN,), "file", "open", TOKEN, {"only-clients-read-the-token"}),
    ("credentials", "security_file_open", (SHADOW,), "file", "open", SHADOW, {"only-logins-open-passwords"}),
    ("credentials", "security_file_open", (KEY,), "file", "open", KEY, {"only-clients-open-keys"}),
    (
        "credentials",
        "security_socket_connect",
        ({"family": "AF_UNIX", "path": "/run/containerd/containerd.sock"},),
        "kernel",
        "security_socket_connect",
        ("/run/containerd/containerd.sock",),
        {"no-pod-talks-to-the-runtime"},
    ),
    ("egress", "tcp_connect", (OUT | {"daddr": "10.9.9.9", "dport": 80},), "network", "connect", "10.9.9.9:80", set()),
    (
        "egress",
        "tcp_connect",
        (OUT | {"daddr": "169.254.169.254", "dport": 80},),
        "network",
        "connect",
        "169.254.169.254:80",
        {"nobody-asks-for-the-nodes-credentials"},
    ),
    ("egress", "ip_send_skb", (DATAGRAM | {"daddr": "192.0.2.7"},), "network", "send", "192.0.2.7:443", set()),
    ("egress", "ip6_send_skb", (DATAGRAM | {"daddr": "2001:db8::7"},), "network", "send", "2001:db8::7:443", set()),
    ("memory", "sys_memfd_create", ("x", 1), "process", "memory", ("x", "1"), set()),
    ("memory", "sys_mmap", (7, 34), "process", "memory", ("7", "34"), {MEMORY}),
    ("memory", "sys_mprotect", (7,), "process", "memory", ("7",), {MEMORY}),
    ("memory", "sys_pkey_mprotect", (6,), "process", "memory", ("6",), {MEMORY}),
    ("memory", "sys_execve", ("/proc/self/fd/3",), "file", "execute", "/proc/self/fd/3", {FROM_MEMORY}),
    ("memory", "sys_execveat", ("", 0x1000), "file", "execute", "", {FROM_MEMORY}),
    ("memory", "security_bprm_check", ("/dev/shm/x",), "file", "execute", "/dev/shm/x", {FROM_MEMORY}),
    ("model-files", "security_file_open", (WEIGHTS,), "file", "open", WEIGHTS, set()),
    ("model-files", "security_file_permission", (WEIGHTS, 2), "file", "write", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_mmap_file", (WEIGHTS, 3, 1), "file", "map", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_file_truncate", (WEIGHTS,), "file", "truncate", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_path_truncate", (WEIGHTS,), "file", "truncate", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_path_rename", (WEIGHTS,), "file", "rename", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_inode_rename", (WEIGHTS,), "file", "rename", WEIGHTS, {"models-are-only-read"}),
    ("model-files", "security_inode_unlink", (WEIGHTS,), "file", "remove", WEIGHTS, {"models-are-only-read"}),
]
# All of the escapes: hook, values, class, action or function, and what it says.
WAYS_OUT: list[tuple[str, tuple[Any, ...], str, str, Any]] = [
    ("sys_mount", ("/dev/sda1", "/mnt", "ext4", 4096), "kernel", "", ("/dev/sda1", "/mnt", "ext4", "4096")),
    ("sys_move_mount", ("", "/mnt"), "kernel", "", ("", "/mnt")),
    ("sys_open_by_handle_at", (3, 0), "kernel", "", ("3", "0")),
    ("sys_pivot_root", (".", "old"), "kernel", "", (".", "old")),
    ("security_file_permission", (RELEASE_AGENT, 2), "file", "write", RELEASE_AGENT),
    ("security_file_permission", (CORE_PATTERN, 8), "file", "write", CORE_PATTERN),
    ("sys_setns", (3, 0x20000000), "process", "namespace", ("3", str(0x20000000))),
    ("sys_unshare", (0x10000000,), "process", "namespace", (str(0x10000000),)),
    ("create_user_ns", (None,), "process", "namespace", ()),
    ("sys_ptrace", (16, 36), "process", "trace", ("16", "36")),
    ("sys_process_vm_writev", (36,), "process", "trace", ("36",)),
    ("sys_init_module", (4096, "debug=1"), "kernel", "", ("4096", "debug=1")),
    ("sys_finit_module", (3, ""), "kernel", "", ("3", "")),
    ("do_init_module", ({"name": "evil"},), "kernel", "", ("name=evil",)),
    ("security_bpf", (5,), "kernel", "", ("BPF_PROG_LOAD",)),
    ("__sys_setuid", (0,), "process", "credentials", ("0",)),
    ("__sys_setgid", (0,), "process", "credentials", ("0",)),
    ("__sys_setreuid", (1000, 0), "process", "credentials", ("1000", "0")),
    ("__sys_setregid", (1000, 0), "process", "credentials", ("1000", "0")),
    ("__sys_setresgid", (1000, 0, 1000), "process", "credentials", ("1000", "0", "1000")),
    ("__sys_setresuid", (1000, 0, 1000), "process", "credentials", ("1000", "0", "1000")),
]
for call, values, kind, action, says in WAYS_OUT:
    function = the_hook("reeve-escape", call).function
    CASES.append(("escape", call, values, kind, action or function, says, {"no-way-out-is-tried"}))


@cache
def engine() -> Engine:
    """Policies of the image and the examples', with the detector of providers."""
    files = [path for path in sorted((ROOT / "policies").rglob("*.yaml")) if not path.name.endswith(".test.yaml")]
    compiler = Compiler()
    rules = compiler.compile([one for path in (*files, VERDICTS) for one in read(path)])
    catalogue = Catalogue(entries_of(catalogue_files([ROOT / "rules"])))
    return Engine(
        text_detectors=(),
        event_detectors=(traffic.TrafficDetector(traffic.TrafficConfig(), catalogue),),
        judge=PolicyJudge(compiler, rules, "test"),
        fingerprint_key=bytes(32),
    )


def told(
    policy: str, call: str, *values: Any, process: dict[str, Any] = PROCESS, parent: dict[str, Any] | None = None
) -> Event:
    message = event_of(the_hook(f"reeve-{policy}", call), values, process)
    if parent:
        message.process_kprobe.parent.MergeFrom(pb.Process(**parent))
    event = WireDecoder().event(message.SerializeToString())
    assert isinstance(event, Event)
    return event


def failures(event: Event, resolver: Resolver | None = None) -> set[str]:
    known = (resolver or Resolver())(event) or event
    return {result.rule for result in engine().evaluate(known).results if result.status in ("fail", "error")}


def plain(value: Any) -> str:
    """A text of a workload; nothing is never hidden."""
    return value if isinstance(value, str) else str(value.reveal())


def summary(event: Event) -> tuple[str, str, Any]:
    match event.body:
        case FileActivity() as body:
            return "file", body.action, plain(body.path)
        case NetworkActivity() as body:
            return "network", body.action, f"{body.destination.address}:{body.destination.port}"
        case ProcessActivity() as body:
            return "process", body.action, tuple(plain(one) for one in body.arguments)
        case KernelActivity() as body:
            return "kernel", body.function, tuple(plain(one) for one in body.arguments)
    raise AssertionError(event.body)


@pytest.mark.parametrize(
    ("policy", "call", "values", "kind", "action", "says", "rules"),
    CASES,
    ids=[f"{one[0]}-{one[1]}-{number}" for number, one in enumerate(CASES)],
)
def test_a_hook_is_understood_and_judged(
    policy: str, call: str, values: tuple[Any, ...], kind: str, action: str, says: Any, rules: set[str]
) -> None:
    event = told(policy, call, *values)
    assert summary(event) == (kind, action, says)
    assert failures(event) == rules


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one[0]}-{one[1]}")
def test_who_did_it_and_which_policy_told_it_are_kept(case: tuple[Any, ...]) -> None:
    event = told(case[0], case[1], *case[2])
    body: Any = event.body
    assert (event.resource.namespace, event.resource.pod, event.resource.container) == ("llm-prod", "vllm-0", "vllm")
    assert plain(body.process.binary) == "/usr/bin/cat"
    assert body.observer_policy == f"reeve-{case[0]}"
    assert body.tags == tuple(the_hook(f"reeve-{case[0]}", case[1]).spec["tags"])


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one[0]}-{one[1]}")
def test_the_export_file_says_the_same_as_the_stream(case: tuple[Any, ...]) -> None:
    message = event_of(the_hook(f"reeve-{case[0]}", case[1]), case[2], PROCESS)
    line = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None).encode()
    from_file, from_stream = event_from_json(line), WireDecoder().event(message.SerializeToString())
    assert from_file == from_stream


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one[0]}-{one[1]}")
def test_the_selectors_let_it_through(case: tuple[Any, ...]) -> None:
    assert is_let_through(the_hook(f"reeve-{case[0]}", case[1]), case[2])


def test_every_hook_has_a_case() -> None:
    assert {(f"reeve-{one[0]}", one[1]) for one in CASES} == {(one.policy, one.call) for one in hooks()}


# ------------------------------------------------------------------ near misses

LOCAL = OUT | {"dport": 8000}
QUESTION = DATAGRAM | {"dport": 53}


@pytest.mark.parametrize(
    ("policy", "call", "values"),
    [
        ("credentials", "security_file_open", ("/etc/passwd",)),
        ("credentials", "security_file_open", ("/run/secrets/database/password",)),
        ("credentials", "security_file_open", ("/home/agent/.ssh/id_rsa.pub",)),
        ("credentials", "security_file_open", ("/models/llama/tokenizer.json",)),
        ("credentials", "security_socket_connect", ({"family": "AF_UNIX", "path": "/run/postgresql/.s.PGSQL.5432"},)),
        ("egress", "tcp_connect", (LOCAL | {"daddr": "127.0.0.1"},)),
        ("egress", "tcp_connect", (LOCAL | {"daddr": "::1"},)),
        ("egress", "tcp_connect", (LOCAL | {"daddr": "::ffff:127.0.0.1"},)),
        ("egress", "ip_send_skb", (QUESTION | {"daddr": "10.96.0.10"},)),
        ("egress", "ip_send_skb", (DATAGRAM | {"daddr": "192.0.2.7", "protocol": "IPPROTO_TCP"},)),
        ("egress", "ip6_send_skb", (QUESTION | {"daddr": "fd00::10"},)),
        ("escape", "security_file_permission", (CORE_PATTERN, 4)),
        ("escape", "security_file_permission", ("/sys/fs/cgroup/cgroup.procs", 2)),
        ("escape", "sys_unshare", (0,)),  # runc, each time a container is entered
        ("escape", "sys_unshare", (0x400,)),  # CLONE_FILES
        ("escape", "sys_ptrace", (0, 0)),  # PTRACE_TRACEME: its parent asks next
        ("escape", "__sys_setuid", (1000,)),
        ("escape", "__sys_setresuid", (0, 0xFFFF, 0)),
        ("memory", "sys_mmap", (5, 2)),  # a library
        ("memory", "sys_mmap", (3, 34)),  # malloc
        ("memory", "sys_mprotect", (1,)),
        ("memory", "sys_execve", ("/proc/self/exe",)),
        ("memory", "sys_execveat", ("/usr/bin/id", 0)),
        ("memory", "security_bprm_check", ("/usr/bin/id",)),
        ("model-files", "security_file_open", ("/models/llama/config.json",)),
        ("model-files", "security_file_open", ("/cache/kernel.ptx",)),
        ("model-files", "security_file_permission", (WEIGHTS, 4)),
        ("model-files", "security_mmap_file", (WEIGHTS, 1, 1)),  # how llama.cpp and safetensors load
        ("model-files", "security_mmap_file", (WEIGHTS, 3, 2)),  # how PyTorch does
        ("model-files", "security_mmap_file", ("", 3, 33)),  # memory without a file
        ("model-files", "security_inode_unlink", ("/tmp/x.safetensors.lock",)),
    ],
)
def test_what_is_done_every_day_stays_in_the_kernel(policy: str, call: str, values: tuple[Any, ...]) -> None:
    assert not is_let_through(the_hook(f"reeve-{policy}", call), values)


@pytest.mark.parametrize("call", ["__sys_setuid", "__sys_setgid"])
def test_root_that_becomes_root_is_nothing(call: str) -> None:
    # runc 1.1.5 does both within the container's cgroup, at every `kubectl exec` and every probe that is a command.
    assert not is_let_through(the_hook("reeve-escape", call), (0,), caller=0)


@pytest.mark.parametrize(
    ("policy", "call", "values"),
    [
        ("credentials", "security_file_open", ("/run/secrets/database/password",)),
        ("credentials", "security_socket_connect", ({"family": "AF_UNIX", "path": "/run/postgresql/.s.PGSQL.5432"},)),
        ("egress", "tcp_connect", (OUT | {"daddr": "169.254.20.10", "dport": 53},)),
        ("egress", "ip_send_skb", (DATAGRAM | {"daddr": "169.254.169.254"},)),
        ("memory", "security_bprm_check", ("/usr/bin/dev/shm/x",)),
        ("memory", "sys_execve", ("/proc/self/exe",)),
        ("memory", "sys_memfd_create", ("x", 1)),
        ("model-files", "security_file_permission", (WEIGHTS, 4)),
    ],
)
def test_what_is_told_is_no_violation_by_itself(policy: str, call: str, values: tuple[Any, ...]) -> None:
    assert failures(told(policy, call, *values)) == set()


INJECTED = PROCESS | {"in_init_tree": {"value": False}}
RUNC_INIT = INJECTED | {"binary": "/proc/self/fd/6", "arguments": "init"}
RUNC = {"exec_id": "e0", "binary": "/usr/sbin/runc", "arguments": "exec"}


@pytest.mark.parametrize(
    ("process", "parent", "rules"),
    [
        (RUNC_INIT, RUNC, set()),
        (RUNC_INIT | {"in_init_tree": {"value": True}}, RUNC, {"no-way-out-is-tried"}),
        (RUNC_INIT | {"arguments": "init now"}, RUNC, {"no-way-out-is-tried"}),
        (RUNC_INIT, RUNC | {"binary": "/tmp/not-runc"}, {"no-way-out-is-tried"}),
        (INJECTED | {"binary": "/usr/bin/nsenter"}, RUNC, {"no-way-out-is-tried"}),
    ],
    ids=["runtime", "from within", "other words", "other parent", "kubectl exec"],
)
def test_the_runtime_may_enter_a_container(process: dict[str, Any], parent: dict[str, Any], rules: set[str]) -> None:
    assert failures(told("escape", "sys_setns", 3, 0x20000000, process=process, parent=parent)) == rules


@pytest.mark.parametrize(
    ("process", "rules"),
    [
        (RUNC | {"docker": "abc", "pod": POD, "in_init_tree": {"value": False}}, set()),
        (RUNC, set()),
        (RUNC | {"docker": "abc", "pod": POD, "in_init_tree": {"value": True}}, {FROM_MEMORY}),
        (INJECTED | {"binary": "/usr/bin/python3"}, {FROM_MEMORY}),
    ],
    ids=["runtime", "runtime, no container known", "from within", "kubectl exec"],
)
def test_the_runtime_may_start_itself_by_its_descriptor(process: dict[str, Any], rules: set[str]) -> None:
    assert failures(told("memory", "sys_execve", "/proc/self/fd/6", process=process)) == rules


@pytest.mark.parametrize(
    ("path", "binary"),
    [
        (SHADOW, "/usr/bin/su"),
        (SHADOW, "/usr/sbin/unix_chkpwd"),
        (KEY, "/usr/local/bin/aws"),
        (KEY, "/usr/bin/python3"),
    ],
)
def test_those_whom_a_credential_is_for_may_open_it(path: str, binary: str) -> None:
    assert failures(told("credentials", "security_file_open", path, process=PROCESS | {"binary": binary})) == set()


def test_the_client_of_a_token_may_read_it() -> None:
    client = PROCESS | {"binary": "/usr/local/bin/python3.11"}
    assert failures(told("credentials", "security_file_open", TOKEN, process=client)) == set()


@pytest.mark.parametrize("function", ["sys_mmap", "sys_mprotect", "sys_pkey_mprotect"])
def test_what_another_tracing_policy_tells_is_not_judged_by_this_one(function: str) -> None:
    event = told("memory", function, *([7] * len(the_hook("reeve-memory", function).spec["args"])))
    other = msgspec.structs.replace(event, body=msgspec.structs.replace(event.body, observer_policy="another"))
    assert failures(other) == set()


def test_those_who_train_may_write_weights() -> None:
    trainer = PROCESS | {"pod": POD | {"name": "lora-train-x7k2p"}}
    event = told("model-files", "security_file_permission", WEIGHTS, 2, process=trainer)
    assert failures(event) == set()


# ------------------------------------------------------- the provider behind an address

ANSWER = b"""{"flow": {"time": "2026-11-24T10:00:00Z", "verdict": "FORWARDED", "is_reply": true,
    "source": {"namespace": "kube-system", "pod_name": "coredns-1"},
    "destination": {"namespace": "llm-prod", "pod_name": "vllm-0"},
    "l7": {"type": "RESPONSE", "dns": {"query": "api.openai.com.", "ips": ["192.0.2.9"], "ttl": 9999}}}}"""


@pytest.mark.parametrize(
    ("address", "rules"), [("192.0.2.9", {"no-provider-is-contacted"}), ("192.0.2.10", set())], ids=["asked", "other"]
)
def test_a_connection_to_a_provider_that_the_pod_had_asked_for(address: str, rules: set[str]) -> None:
    resolver = Resolver()
    answer = flow_from_json(ANSWER)
    assert isinstance(answer, Event)
    connection = told("egress", "tcp_connect", OUT | {"daddr": address, "dport": 443})
    # The names of an answer are known for an hour.
    resolver(msgspec.structs.replace(answer, time_unix_nano=connection.time_unix_nano - 1_000_000_000))
    assert failures(connection, resolver) == rules


def test_a_connection_without_a_name_is_nobodys() -> None:
    assert failures(told("egress", "tcp_connect", OUT | {"daddr": "192.0.2.9", "dport": 443})) == set()
