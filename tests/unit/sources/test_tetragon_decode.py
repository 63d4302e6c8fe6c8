"""agent.sources.tetragon.decode, .hooks, agent.sources.protojson: any line becomes an event or a named error."""

import copy
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import DecodeError, FileActivity, KernelActivity, LossReport, NetworkActivity, ProcessActivity
from agent.sources.protojson import integer, object_from, time_unix_nano
from agent.sources.tetragon.decode import event_from_json
from agent.sources.tetragon.hooks import permission_action, plain_name

POD = {
    "namespace": "llm-prod",
    "name": "vllm-0",
    "uid": "u-1",
    "container": {"id": "containerd://abc", "name": "vllm", "image": {"name": "vllm:1"}},
    "pod_labels": {"app": "vllm"},
    "workload": "vllm",
    "workload_kind": "StatefulSet",
}
PROCESS = {
    "exec_id": "e1",
    "pid": 4,
    "uid": 0,
    "binary": "/usr/bin/cat",
    "arguments": "/etc/shadow",
    "pod": POD,
    "docker": "abc",
}


def decode(member, payload, **envelope):
    line = json.dumps({member: payload, "node_name": "c/node-1", "time": "2026-11-23T18:58:03.297989420Z", **envelope})
    return event_from_json(line.encode())


def kprobe(function, *args, **more):
    payload = {"function_name": function, "args": list(args), "process": PROCESS, "policy_name": "p", **more}
    return decode("process_kprobe", payload).body


def test_an_exec_names_process_parent_and_pod():
    event = decode("process_exec", {"process": PROCESS, "parent": {"binary": "/bin/sh"}, "ancestors": [{"pid": 1}]})
    assert event.time_unix_nano == 1795460283297989420
    assert (event.resource.namespace, event.resource.container_id, event.resource.node) == ("llm-prod", "abc", "node-1")
    body = event.body
    assert (body.action, body.process.binary.reveal(), body.parent.binary.reveal()) == (
        "exec",
        "/usr/bin/cat",
        "/bin/sh",
    )
    assert [one.pid for one in body.ancestors] == [1]


def test_a_fileless_binary_is_told_by_its_link_count():
    def process(links):
        inode = {"number": "7", **({} if links is None else {"links": links})}
        properties = {"file": {"inode": inode}}
        return decode("process_exec", {"process": {**PROCESS, "binary_properties": properties}}).body.process

    assert process(0).is_fileless
    assert not process(1).is_fileless
    assert not process(None).is_fileless


@pytest.mark.parametrize(
    ("tree", "docker", "injected"),
    [(False, "abc", True), (True, "abc", False), (False, "", False), (None, "abc", False)],
)
def test_an_injected_process_is_in_a_container_but_not_in_its_tree(tree, docker, injected):
    process = {**PROCESS, "docker": docker, "in_init_tree": tree}
    if not docker:
        del process["pod"]
    assert decode("process_exec", {"process": process}).body.process.is_injected is injected


@pytest.mark.parametrize(
    ("function", "args", "body", "action"),
    [
        ("security_file_permission", [{"file_arg": {"path": "/a"}}, {"int_arg": 4}], FileActivity, "read"),
        ("security_file_permission", [{"file_arg": {"path": "/a"}}, {"int_arg": 2}], FileActivity, "write"),
        ("security_mmap_file", [{"file_arg": {"path": "/a"}}], FileActivity, "map"),
        ("security_path_truncate", [{"path_arg": {"path": "/a"}}], FileActivity, "truncate"),
        ("security_file_truncate", [{"file_arg": {"path": "/a"}}], FileActivity, "truncate"),
        ("__x64_sys_openat", [{"int_arg": -100}, {"string_arg": "/a"}], FileActivity, "open"),
        ("tcp_connect", [{"sock_arg": {"daddr": "10.0.0.1", "dport": 443}}], NetworkActivity, "connect"),
        ("security_socket_connect", [{"sockaddr_arg": {"addr": "::1", "port": 1}}], NetworkActivity, "connect"),
        ("__arm64_sys_ptrace", [{"long_arg": "16"}, {"int_arg": 36}], ProcessActivity, "trace"),
        ("commit_creds", [{"process_credentials_arg": {"uid": 0}}], ProcessActivity, "credentials"),
        ("__x64_sys_memfd_create", [{"string_arg": "x"}], ProcessActivity, "memory"),
        ("__x64_sys_execve", [{"string_arg": "/proc/self/fd/3"}], FileActivity, "execute"),
        ("__x64_sys_execveat", [{"string_arg": ""}, {"int_arg": 4096}], FileActivity, "execute"),
        ("__x64_sys_mmap", [{"int_arg": 7}, {"int_arg": 34}], ProcessActivity, "memory"),
        ("__arm64_sys_pkey_mprotect", [{"int_arg": 7}], ProcessActivity, "memory"),
        ("ip6_send_skb", [{"skb_arg": {"daddr": "2001:db8::1", "dport": 443}}], NetworkActivity, "send"),
        ("create_user_ns", [], ProcessActivity, "namespace"),
        ("something_new", [{"file_arg": {"path": "/a"}}], FileActivity, "other"),
        ("something_new", [{"skb_arg": {"daddr": "10.0.0.1"}}], NetworkActivity, "other"),
    ],
)
def test_hooks_become_activities(function, args, body, action):
    decoded = kprobe(function, *args)
    assert type(decoded) is body
    assert decoded.action == action


def test_an_unknown_hook_is_kernel_activity_with_its_arguments():
    body = kprobe("do_init_module", {"module_arg": {"name": "evil", "tainted": ["X"]}}, {"bytes_arg": "aGk="})
    assert isinstance(body, KernelActivity)
    assert [argument.reveal() for argument in body.arguments] == ["name=evil", "hi"]


def test_rate_limits_are_loss():
    body = decode("rate_limit_info", {"number_of_dropped_process_events": "17"}).body
    assert body == LossReport(origin="tetragon", reason="export_rate_limit", count=17)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"", "empty_line"),
        (b"\n", "empty_line"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b"{}", "no_event"),
        (b'{"time": "x"}', "no_event"),
        (b'{"process_teleport": {}}', "unknown_member"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
    ],
)
def test_bad_lines_have_named_errors(line, name):
    assert event_from_json(line) == DecodeError(name=name)


@pytest.mark.parametrize(
    "payload", [None, 3, "x", [], {"process": None}, {"process": {"pid": "x", "pod": 3}}, {"args": 5, "ancestors": "x"}]
)
def test_odd_payloads_are_survived(payload):
    for member in ("process_exec", "process_exit", "process_kprobe", "process_lsm", "process_loader", "process_uprobe"):
        assert not isinstance(decode(member, payload), DecodeError)


def test_the_same_line_gives_the_same_event():
    assert decode("process_exec", {"process": PROCESS}) == decode("process_exec", {"process": PROCESS})


@pytest.mark.parametrize(
    ("stamp", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.5", 500_000_000),
        ("yesterday", 0),
        ("2026-13-45T99:00:00Z", 0),
        ("", 0),
    ],
)
def test_times_keep_nanoseconds(stamp, nanoseconds):
    assert time_unix_nano(stamp) == nanoseconds


def test_64_bit_numbers_come_as_text_or_number():
    assert [integer({"a": value}, "a", -1) for value in ("18446744073709551615", 7, 7.0, "x", None, True)] == [
        18446744073709551615,
        7,
        7,
        -1,
        -1,
        1,
    ]


def test_hook_prefixes_are_stripped_once():
    assert [
        plain_name(name) for name in ("__x64_sys_setuid", "security_file_open", "sys_enter_unshare", "tcp_connect")
    ] == [
        "setuid",
        "file_open",
        "unshare",
        "tcp_connect",
    ]
    assert permission_action(8) == "write"
    assert permission_action(1) == "other"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["process", "parent", "args", "function_name", "ancestors", "time"]), JSON))
def test_no_payload_makes_the_decoder_raise(payload):
    for member in ("process_exec", "process_kprobe", "process_tracepoint", "process_throttle"):
        decode(member, payload)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise(line):
    event_from_json(line)
    object_from(line)


def test_every_recorded_line_becomes_an_event_or_a_named_error(shared):
    lines = lzma.open(shared / "tetragon" / "recorded.jsonl.xz").read().splitlines()
    decoded = [event_from_json(line) for line in lines]
    assert len(decoded) == 2416
    assert not [one for one in decoded if isinstance(one, DecodeError)]
    docs = [event_from_json(line) for line in (shared / "tetragon" / "docs-events.jsonl").read_bytes().splitlines()]
    assert {one.name for one in docs if isinstance(one, DecodeError)} <= {"unknown_member"}


def test_recorded_events_survive_losing_any_member(shared):
    lines = lzma.open(shared / "tetragon" / "recorded.jsonl.xz").read().splitlines()[::60]
    for line in lines:
        event = json.loads(line)
        member = next(key for key in event if key.startswith("process"))
        for key in list(event[member]):
            cut = copy.deepcopy(event)
            del cut[member][key]
            cut[member]["a_new_member"] = {"x": [1]}
            assert not isinstance(event_from_json(json.dumps(cut).encode()), DecodeError)
