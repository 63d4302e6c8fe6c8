"""Reads the tracing policies: hooks, what they let through, and the events that Tetragon would make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

from agent._pb import tetragon_pb2 as pb
from tests.unit.daemonset.manifests import DAEMONSET, documents

FOLDER = DAEMONSET / "tracing-policies"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
VERDICTS = DAEMONSET / "examples" / "tracing-verdicts.yaml"

# The member of KprobeArgument in which Tetragon sends a type of a policy (pkg/sensors/tracing/args_linux.go and
# pkg/grpc/tracing/tracing.go of 1.7.0); `nop` is not sent.
MEMBERS = {
    "string": "string_arg",
    "int": "int_arg",
    "uint32": "uint_arg",
    "uint64": "size_arg",
    "size_t": "size_arg",
    "int64": "long_arg",
    "file": "file_arg",
    "path": "path_arg",
    "dentry": "path_arg",
    "linux_binprm": "linux_binprm_arg",
    "sock": "sock_arg",
    "skb": "skb_arg",
    "sockaddr_un": "sockaddrun_arg",
    "module": "module_arg",
    "bpf_cmd": "bpf_cmd_arg",
    "nop": "",
}


# What `data` says of each caller here: its real user.
CALLER = 1000


class Traced(NamedTuple):
    """A hook of a policy."""

    policy: str
    spec: Mapping[str, Any]

    @property
    def call(self) -> str:
        return str(self.spec["call"])

    @property
    def function(self) -> str:
        """The name in events: system calls have the architecture's prefix."""
        return f"__x64_{self.call}" if self.spec["syscall"] else self.call


def policy_of(path: Path) -> dict[str, Any]:
    (found,) = documents(path)
    return found


def policies() -> list[dict[str, Any]]:
    return [policy_of(path) for path in FILES]


def hooks() -> Iterator[Traced]:
    for policy in policies():
        for spec in policy["spec"]["kprobes"]:
            yield Traced(policy["metadata"]["name"], spec)


def the_hook(policy: str, call: str) -> Traced:
    (found,) = [one for one in hooks() if (one.policy, one.call) == (policy, call)]
    return found


def feeds(policy: Mapping[str, Any]) -> list[str]:
    """The RuntimePolicies that a tracing policy says it is for."""
    return [name.strip() for name in policy["metadata"]["annotations"]["reeve.dev/feeds"].split(",")]


def _text(value: Any) -> str:
    return str(value["path"] if isinstance(value, Mapping) else value)


def _holds(wanted: Mapping[str, Any], value: Any) -> bool:
    """One comparison; it holds if it does for any of its values, and one with Not for all of them."""
    values = wanted["values"]
    match wanted["operator"]:
        case "Equal" if isinstance(value, int):
            return value in {int(one, 0) for one in values}
        case "NotEqual" if isinstance(value, int):
            return value not in {int(one, 0) for one in values}
        case "Equal":
            return _text(value) in values
        case "Prefix":
            return _text(value).startswith(tuple(values))
        case "Postfix":
            return _text(value).endswith(tuple(values))
        case "Mask":
            return any(value & int(one, 0) for one in values)
        case "Protocol":
            return value["protocol"] in values
        case "NotDPort":
            return str(value["dport"]) not in values
        case "NotDAddr":
            return not any(ip_address(value["daddr"]) in ip_network(one) for one in values)
    raise ValueError(f"no policy had the operator {wanted['operator']} before: say here what it compares")


def is_let_through(hook: Traced, values: tuple[Any, ...], caller: int = CALLER) -> bool:
    """Whether the kernel would tell a call with these arguments: all comparisons of any selector hold.

    A second reading of what is written, beside the compiler of Tetragon that the live tests ask; no kernel runs it.
    """
    given = {one["index"]: value for one, value in zip(hook.spec["args"], values, strict=True)}
    return any(
        all(_holds(wanted, given[wanted["index"]]) for wanted in selector.get("matchArgs", ()))
        and all(_holds(wanted, caller) for wanted in selector.get("matchData", ()))
        for selector in hook.spec["selectors"]
    )


def event_of(hook: Traced, values: tuple[Any, ...], process: Mapping[str, Any]) -> pb.GetEventsResponse:
    """What Tetragon sends: the declared arguments, in their order, with these values; `None` for a `nop`."""
    declared = hook.spec["args"]
    assert len(values) == len(declared), hook.call
    arguments = []
    for argument, value in zip(declared, values, strict=True):
        member = MEMBERS[argument["type"]]
        if not member:
            assert value is None
            continue
        made = pb.KprobeArgument(label=argument.get("label", ""))
        target = getattr(made, member)
        if isinstance(value, Mapping):
            target.SetInParent()
            target.MergeFrom(type(target)(**value))
        elif hasattr(target, "path"):
            target.MergeFrom(type(target)(path=value))
        else:
            setattr(made, member, value)
        arguments.append(made)
    hit = pb.ProcessKprobe(
        process=pb.Process(**process),
        function_name=hook.function,
        args=arguments,
        data=[pb.KprobeArgument(uint_arg=CALLER) for _ in hook.spec.get("data", ())],
        action=pb.KPROBE_ACTION_POST,
        policy_name=hook.policy,
        message=hook.spec["message"],
        tags=hook.spec["tags"],
    )
    response = pb.GetEventsResponse(process_kprobe=hit, node_name="node-1")
    response.time.seconds = 1_795_460_283
    return response
