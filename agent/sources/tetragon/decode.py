"""A Tetragon event in its JSON form to an `Event`.

Pure, and never raises at bad input: unknown members and enums, missing processes and odd types are survived or named.
Wire facts: GetEventsResponse as protojson writes it; the oneof member's name is the kind of event.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from agent.model import (
    Body,
    DecodeError,
    Endpoint,
    Event,
    FileActivity,
    LossReport,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
    StatusReport,
    event_id,
)
from agent.sources.addresses import plain_address
from agent.sources.protojson import (
    Json,
    boolean,
    integer,
    mapping,
    mappings,
    object_from,
    string_map,
    text,
    texts,
    time_unix_nano,
)
from agent.sources.tetragon.meaning import (
    FILES,
    SOCKETS,
    Argument,
    Hook,
    Socket,
    hook_body,
    sensitive,
    tetragon_id,
    user_probe_body,
)

_ENVELOPE = frozenset({"node_name", "time", "aggregation_info", "cluster_name", "node_labels"})
_NAMES = ("function_name", "event", "symbol", "name", "path")
_NUMBERS = frozenset({"int_arg", "uint_arg", "size_arg", "long_arg"})


def event_from_json(line: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError:
    """One line of a Tetragon JSON export to an event."""
    response = object_from(line)
    if isinstance(response, str):
        return DecodeError(name=response)
    member = next((key for key in response if key in _BODIES), None)
    if member is None:
        unknown = any(key not in _ENVELOPE for key in response)
        return DecodeError(name="unknown_member" if unknown else "no_event")
    payload = mapping(response, member)
    acting = mapping(payload, "process")
    body = _BODIES[member](payload)
    when = time_unix_nano(text(response, "time") or text(payload, "time"))
    node = text(response, "node_name").rpartition("/")[2]
    identifier = event_id(b"tetragon", line.strip())
    if when:
        identifier = tetragon_id(member, when, node, _process(acting), integer(acting, "tid"), _function_of(payload))
    return Event(
        id=identifier,
        source="tetragon",
        body=body,
        resource=_resource(acting, node),
        time_unix_nano=when,
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _function_of(payload: Json) -> str:
    """What tells two hooks of one moment apart."""
    return next((name for key in _NAMES if (name := text(payload, key))), "")


def _resource(process: Json, node: str) -> Resource:
    pod = mapping(process, "pod")
    container = mapping(pod, "container")
    identifier = text(container, "id")
    return Resource(
        node=node,
        namespace=text(pod, "namespace"),
        pod=text(pod, "name"),
        pod_uid=text(pod, "uid"),
        container=text(container, "name"),
        container_id=identifier.rpartition("://")[2] or text(process, "docker"),
        image=text(mapping(container, "image"), "name"),
        labels=string_map(pod, "pod_labels"),
        workload=text(pod, "workload"),
        workload_kind=text(pod, "workload_kind"),
    )


def _process(value: Json) -> Process:
    properties = mapping(value, "binary_properties")
    inode = mapping(mapping(properties, "file"), "inode")
    in_container = bool(text(value, "docker") or mapping(value, "pod"))
    return Process(
        exec_id=text(value, "exec_id"),
        pid=integer(value, "pid"),
        uid=integer(value, "uid", -1),
        binary=sensitive(text(value, "binary")),
        arguments=sensitive(text(value, "arguments")),
        environment={
            text(item, "Key"): Sensitive(text(item, "Value")) for item in mappings(value, "environment_variables")
        },
        cwd=sensitive(text(value, "cwd")),
        start_time_unix_nano=time_unix_nano(text(value, "start_time")),
        parent_exec_id=text(value, "parent_exec_id"),
        is_injected=in_container and boolean(value, "in_init_tree") is False,
        is_fileless="links" in inode and integer(inode, "links", 1) == 0,
        is_setuid="setuid" in properties,
    )


def _optional_process(value: Json) -> Process | None:
    return _process(value) if value else None


def _exec(payload: Json) -> Body:
    return ProcessActivity(
        action="exec",
        process=_process(mapping(payload, "process")),
        parent=_optional_process(mapping(payload, "parent")),
        ancestors=tuple(_process(item) for item in mappings(payload, "ancestors")),
    )


def _exit(payload: Json) -> Body:
    return ProcessActivity(
        action="exit",
        process=_process(mapping(payload, "process")),
        parent=_optional_process(mapping(payload, "parent")),
        exit_code=integer(payload, "status"),
        signal=text(payload, "signal"),
    )


def _bytes_text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=False).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _argument(value: Json) -> Argument:
    """One hook argument; the member's name is its kind, the label beside it is not."""
    kind = next((member for member in value if member != "label"), "")
    inner = value.get(kind)
    if isinstance(inner, dict):
        path = text(inner, "path") if kind in FILES else ""
        permission = text(inner, "permission") if kind in FILES else ""
        endpoints = _socket(inner) if kind in SOCKETS else None
        return Argument(kind, sensitive(_object_text(kind, inner)), path, permission, endpoints)
    if kind in _NUMBERS:
        number = integer(value, kind)
        return Argument(kind, str(number) if not isinstance(inner, (list, type(None))) else "", number=number)
    if isinstance(inner, str):
        return Argument(kind, sensitive(_bytes_text(inner) if kind == "bytes_arg" else inner))
    return Argument(kind, "" if inner is None or isinstance(inner, list) else str(inner))


def _socket(value: Json) -> Socket:
    return Socket(
        Endpoint(address=plain_address(text(value, "saddr")), port=integer(value, "sport")),
        Endpoint(
            address=plain_address(text(value, "daddr") or text(value, "addr")),
            port=integer(value, "dport") or integer(value, "port"),
        ),
        text(value, "protocol").removeprefix("IPPROTO_").lower(),
    )


def _object_text(member: str, value: Json) -> str:
    if member == "truncated_bytes_arg":
        return _bytes_text(text(value, "bytes_arg"))
    if "path" in value:
        return text(value, "path")
    if "daddr" in value:
        return f"{text(value, 'saddr')}:{integer(value, 'sport')} > {text(value, 'daddr')}:{integer(value, 'dport')}"
    if "addr" in value:
        return f"{text(value, 'addr')}:{integer(value, 'port')}"
    return " ".join(f"{key}={item}" for key, item in value.items() if isinstance(item, (str, int)))


def _hook(payload: Json, function: str) -> Hook:
    arguments = [_argument(argument) for argument in mappings(payload, "args")]
    return Hook(function, arguments, text(payload, "policy_name"), texts(payload, "tags"))


def _ends(payload: Json) -> tuple[Process | None, Process | None]:
    return _optional_process(mapping(payload, "process")), _optional_process(mapping(payload, "parent"))


def _tracepoint(payload: Json) -> Body:
    return hook_body(_hook(payload, text(payload, "event") or text(payload, "subsys")), *_ends(payload))


def _function(payload: Json) -> Body:
    return hook_body(_hook(payload, text(payload, "function_name")), *_ends(payload))


def _user_probe(payload: Json) -> Body:
    symbol = text(payload, "symbol") or ":".join(filter(None, (text(payload, "provider"), text(payload, "name"))))
    return user_probe_body(symbol, text(payload, "path"), _hook(payload, symbol), *_ends(payload))


def _loader(payload: Json) -> Body:
    process, parent = _ends(payload)
    path = sensitive(text(payload, "path"))
    return FileActivity(action="map", path=path, process=process, parent=parent, function="loader")


def _throttle(payload: Json) -> Body:
    state = text(payload, "type").removeprefix("THROTTLE_").lower() or "unknown"
    return StatusReport(component="tetragon", state=f"throttle_{state}", detail=sensitive(text(payload, "cgroup")))


def _rate_limit(payload: Json) -> Body:
    return LossReport(
        origin="tetragon", reason="export_rate_limit", count=integer(payload, "number_of_dropped_process_events")
    )


def _test(_: Json) -> Body:
    return StatusReport(component="tetragon", state="test")


_BODIES: dict[str, Callable[[Json], Body]] = {
    "process_exec": _exec,
    "process_exit": _exit,
    "process_kprobe": _function,
    "process_lsm": _function,
    "process_tracepoint": _tracepoint,
    "process_uprobe": _user_probe,
    "process_usdt": _user_probe,
    "process_loader": _loader,
    "process_throttle": _throttle,
    "rate_limit_info": _rate_limit,
    "test": _test,
}
