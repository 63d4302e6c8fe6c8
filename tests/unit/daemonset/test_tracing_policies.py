"""daemonset/tracing-policies: what the kernel is asked fits Tetragon, and is for a policy that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from agent.config import Document, read
from agent.policy import Compiler
from agent.sources.tetragon.config import TetragonConfig
from tests.unit.daemonset.manifests import DAEMONSET, documents
from tests.unit.daemonset.tracing import FILES, FOLDER, MEMBERS, VERDICTS, Traced, feeds, hooks, policies, policy_of

POLICIES = DAEMONSET.parent / "policies"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
HOOKS = list(hooks())

# Operators that a type of argument has in the kernel; Tetragon takes others in a policy, and they then match nothing.
NAMES = {"Equal", "NotEqual", "Prefix", "NotPrefix", "Postfix", "NotPostfix"}
NUMBERS = {"Equal", "NotEqual", "GreaterThan", "LessThan", "Mask", "InMap", "NotInMap", "InRange", "NotInRange"}
ENDS = {"SAddr", "DAddr", "SPort", "DPort", "NotSAddr", "NotDAddr", "NotSPort", "NotDPort", "Protocol", "Family"}
OPERATORS = {
    **dict.fromkeys(("string", "file", "path", "dentry", "linux_binprm"), NAMES),
    "sockaddr_un": NAMES - {"Postfix", "NotPostfix"} | {"Family"},
    **dict.fromkeys(("int", "uint32", "int64", "uint64", "size_t"), NUMBERS),
    **dict.fromkeys(("sock", "skb"), ENDS),
}

# Functions that not every kernel has; without `ignore` Tetragon refuses the whole policy there.
OPTIONAL = {
    "sys_move_mount": "Linux 5.2",
    "ip6_send_skb": "CONFIG_IPV6",
    "create_user_ns": "CONFIG_USER_NS",
    "do_init_module": "CONFIG_MODULES",
    "security_file_truncate": "Linux 6.2",
    "security_path_truncate": "CONFIG_SECURITY_PATH",
    "security_path_rename": "CONFIG_SECURITY_PATH",
}

# Rules of the image about processes, files, connections or the kernel that no tracing policy is for.
UNFED = {
    ("shell-in-inference-pod", "no-shell"): "starts of programs are told by Tetragon without a tracing policy",
    ("agent-canary", "is-seen"): "likewise",
    ("model-access", "callers-are-declared"): "which side called is known of a first packet or a verdict: Hubble's",
    ("model-access", "not-from-the-world"): "likewise; and that an address is outside of the cluster",
    ("denied-bursts", "refusals-are-few"): "refusals are verdicts of the network: Hubble's",
}


def shipped() -> list[Document]:
    files = [path for path in POLICIES.rglob("*.yaml") if not path.name.endswith(".test.yaml")]
    return [one for path in sorted(files) for one in read(path)]


def name_of(document: Document) -> str:
    value: Any = document.value
    return str(value["metadata"]["name"])


def rules_about_hooks() -> Iterator[tuple[str, str]]:
    for document in shipped():
        value: Any = document.value
        for rule in value["spec"]["rules"]:
            blocks = [one["resources"] for one in rule["match"].get("any", rule["match"].get("all", []))]
            kinds = {kind for block in blocks for kind in block.get("kinds", ["*"])}
            if kinds & {"Process", "File", "Network", "Kernel", "*"}:
                yield value["metadata"]["name"], rule["name"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_policy_is_one_object_named_after_its_file(path: Any) -> None:
    found = policy_of(path)
    assert (found["apiVersion"], found["kind"]) == ("cilium.io/v1alpha1", "TracingPolicy")
    assert found["metadata"]["name"] == f"reeve-{path.stem}"
    assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert found["spec"].keys() == {"podSelector", "kprobes"}


@pytest.mark.parametrize("found", policies(), ids=lambda one: one["metadata"]["name"])
def test_namespaces_of_the_system_are_left_out(found: dict[str, Any]) -> None:
    # The label that Tetragon itself gives each pod; any other pod's lack of it would be no match of an `In`.
    assert found["spec"]["podSelector"] == {
        "matchExpressions": [
            {
                "key": "k8s:io.kubernetes.pod.namespace",
                "operator": "NotIn",
                "values": ["kube-system", "reeve-system"],
            }
        ]
    }


@pytest.mark.parametrize("hook", HOOKS, ids=lambda one: f"{one.policy}/{one.call}")
class TestAHook:
    def test_has_known_words_only(self, hook: Traced) -> None:
        assert hook.spec.keys() - {"ignore", "data"} == {"call", "syscall", "message", "tags", "args", "selectors"}
        assert all(one.keys() - {"label"} == {"index", "type"} for one in hook.spec["args"])
        assert all(one.keys() == {"index", "type", "source", "resolve"} for one in hook.spec.get("data", ()))
        assert all(one.keys() <= {"matchArgs", "matchData", "matchActions"} for one in hook.spec["selectors"])

    def test_may_be_missing_where_a_kernel_may_lack_it(self, hook: Traced) -> None:
        assert hook.spec.get("ignore") == ({"callNotFound": True} if hook.call in OPTIONAL else None)

    def test_is_a_system_call_if_it_says_so(self, hook: Traced) -> None:
        # `syscall: true` puts the architecture's prefix before sys_; functions of the kernel have none.
        assert bool(re.fullmatch(r"sys_[a-z0-9_]+", hook.call)) is hook.spec["syscall"]

    def test_asks_for_arguments_that_there_are(self, hook: Traced) -> None:
        indexes = [one["index"] for one in hook.spec["args"]]
        assert len(indexes) == len(set(indexes)) <= 5
        assert all(0 <= index <= 4 for index in indexes)
        assert all(one["type"] in MEMBERS for one in hook.spec["args"])

    def test_asks_for_the_real_user_and_no_other_data(self, hook: Traced) -> None:
        wanted = {"index": 0, "type": "uint32", "source": "current_task", "resolve": "cred.uid.val"}
        assert hook.spec.get("data", []) in ([], [wanted])
        assert len(hook.spec["args"]) + len(hook.spec.get("data", ())) <= 5

    @pytest.mark.parametrize(("declared", "compared"), [("args", "matchArgs"), ("data", "matchData")])
    def test_compares_what_is_declared_by_operators_of_its_type(
        self, declared: str, compared: str, hook: Traced
    ) -> None:
        types = {one["index"]: one["type"] for one in hook.spec.get(declared, ())}
        for selector in hook.spec["selectors"]:
            for wanted in selector.get(compared, ()):
                assert wanted.keys() == {"index", "operator", "values"}
                assert wanted["operator"] in OPERATORS[types[wanted["index"]]]
                assert all(isinstance(value, str) for value in wanted["values"])

    def test_keeps_to_the_limits(self, hook: Traced) -> None:
        assert 1 <= len(hook.spec["selectors"]) <= 5
        for selector in hook.spec["selectors"]:
            assert len(selector.get("matchArgs", ())) <= 5
            for wanted in selector.get("matchArgs", ()):
                is_listed = wanted["operator"] not in ("Equal", "NotEqual") or not wanted["values"][0][:1].isdigit()
                assert is_listed or len(wanted["values"]) <= 4  # of numbers
        assert 2 <= len(hook.spec["message"]) <= 256
        assert len(hook.spec["tags"]) <= 16
        assert all(2 <= len(tag) <= 128 for tag in hook.spec["tags"])

    def test_only_tells(self, hook: Traced) -> None:
        for selector in hook.spec["selectors"]:
            (action,) = selector["matchActions"]
            assert action["action"] == "Post"
            assert action.keys() <= {"action", "rateLimit", "rateLimitScope"}
            # Without a scope each thread would have a limit of its own.
            assert ("rateLimit" in action) == ("rateLimitScope" in action)
            assert re.fullmatch(r"[1-9]\d*[sm]", action.get("rateLimit", "1s"))
            assert action.get("rateLimitScope", "process") == "process"

    def test_is_tagged_with_its_policy(self, hook: Traced) -> None:
        assert hook.spec["tags"][0] == hook.policy.replace("-", ".", 1)

    def test_stands_in_the_readme(self, hook: Traced) -> None:
        assert f"`{hook.call}`" in README


@pytest.mark.parametrize("found", policies(), ids=lambda one: one["metadata"]["name"])
def test_a_function_is_hooked_once_in_a_policy(found: dict[str, Any]) -> None:
    calls = [one["call"] for one in found["spec"]["kprobes"]]
    assert len(calls) == len(set(calls))  # kprobe_multi refuses a second


def test_a_policy_is_for_policies_that_there_are() -> None:
    known = {name_of(one) for one in shipped()} | {f"examples/{name_of(one)}" for one in read(VERDICTS)}
    assert {name for found in policies() for name in feeds(found)} <= known


def test_every_rule_that_wants_a_hook_has_one() -> None:
    fed = {name for found in policies() for name in feeds(found)}
    hungry = {pair for pair in rules_about_hooks() if pair[0] not in fed}
    assert hungry == set(UNFED)


def test_every_verdict_among_the_examples_has_a_hook() -> None:
    fed = {name for found in policies() for name in feeds(found)}
    assert {f"examples/{name_of(one)}" for one in read(VERDICTS)} <= fed
    assert Compiler().compile(read(VERDICTS))


@pytest.mark.parametrize("found", policies(), ids=lambda one: one["metadata"]["name"])
def test_the_readme_says_what_a_policy_is_for(found: dict[str, Any]) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{found['metadata']['name']}` |")]
    assert [name.removeprefix("examples/") for name in feeds(found)] == re.findall(r"`([^`]+)`", row.split(" | ")[-1])


def test_the_tokens_that_are_watched_are_those_that_the_policy_judges() -> None:
    (document,) = read(POLICIES / "runtime" / "service_account_token_read.yaml")
    value: Any = document.value
    text = value["spec"]["rules"][0]["celPreconditions"][0]["expression"]
    pattern = re.compile(re.search(r'matches\("(.*)"\)', text)[1].replace("\\\\", "\\"))  # type: ignore[index]
    (hook,) = [one for one in HOOKS if (one.policy, one.call) == ("reeve-credentials", "security_file_open")]
    prefixes = hook.spec["selectors"][0]["matchArgs"][0]["values"]
    assert all(pattern.match(prefix) for prefix in prefixes)
    assert len(prefixes) == len(set(prefixes)) == 2 * 4  # as many as the pattern has ways


def test_all_file_names_of_models_are_watched_alike() -> None:
    names = {
        tuple(wanted["values"])
        for hook in HOOKS
        if hook.policy == "reeve-model-files"
        for selector in hook.spec["selectors"]
        for wanted in selector["matchArgs"]
        if wanted["operator"] == "Postfix"
    }
    assert len(names) == 1


def test_kustomize_has_each_policy_and_the_agent_expects_it() -> None:
    (kustomization,) = documents(FOLDER / "kustomization.yaml")
    assert kustomization["resources"] == [path.name for path in FILES]
    component = DAEMONSET / "components" / "tracing-policies"
    assert documents(component / "kustomization.yaml")[0]["resources"] == ["../../tracing-policies"]
    fragment = yaml.safe_load((component / "config" / "30-tracing-policies.yaml").read_text(encoding="utf-8"))
    expected = TetragonConfig(**fragment["sources"]["tetragon"]).expected_policies
    assert list(expected) == [found["metadata"]["name"] for found in policies()]
