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
    KernelActivity,
    LossReport,
    NetworkActivity,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
    StatusReport,
    Text,
    event_id,
)
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
from agent.sources.tetragon.hooks import MEANINGS, permission_action, plain_name

_ENVELOPE = frozenset({"node_name", "time", "aggregation_info", "cluster_name", "node_labels"})


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
    return Event(
        id=event_id(b"tetragon", line.strip()),
        source="tetragon",
        body=_BODIES[member](payload),
        resource=_resource(mapping(payload, "process"), text(response, "node_name")),
        time_unix_nano=time_unix_nano(text(response, "time") or text(payload, "time")),
        observed_time_unix_nano=observed_time_unix_nano,
    )


def _resource(process: Json, node: str) -> Resource:
    pod = mapping(process, "pod")
    container = mapping(pod, "container")
    identifier = text(container, "id")
    return Resource(
        node=node.rpartition("/")[2],
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


def _text(value: str) -> Text:
    return Sensitive(value) if value else ""


def _process(value: Json) -> Process:
    properties = mapping(value, "binary_properties")
    inode = mapping(mapping(properties, "file"), "inode")
    in_container = bool(text(value, "docker") or mapping(value, "pod"))
    return Process(
        exec_id=text(value, "exec_id"),
        pid=integer(value, "pid"),
        uid=integer(value, "uid", -1),
        binary=_text(text(value, "binary")),
        arguments=_text(text(value, "arguments")),
        environment={
            text(item, "Key"): Sensitive(text(item, "Value")) for item in mappings(value, "environment_variables")
        },
        cwd=_text(text(value, "cwd")),
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


def _argument_text(argument: Json) -> Text:
    """One hook argument as text, for people and for the detectors."""
    for member, value in argument.items():
        if member == "label":
            continue
        match value:
            case dict():
                return _text(_object_argument(member, value))
            case str():
                return _text(_bytes_text(value) if member == "bytes_arg" else value)
            case None | list():
                return ""
            case _:
                return str(value)
    return ""


def _object_argument(member: str, value: Json) -> str:
    if member == "truncated_bytes_arg":
        return _bytes_text(text(value, "bytes_arg"))
    if "path" in value:
        return text(value, "path")
    if "daddr" in value:
        return f"{text(value, 'saddr')}:{integer(value, 'sport')} > {text(value, 'daddr')}:{integer(value, 'dport')}"
    if "addr" in value:
        return f"{text(value, 'addr')}:{integer(value, 'port')}"
    return " ".join(f"{key}={item}" for key, item in value.items() if isinstance(item, (str, int)))


def _first(arguments: list[Json], *members: str) -> Json:
    for argument in arguments:
        for member in members:
            if member in argument:
                return mapping(argument, member)
    return {}


def _hook(payload: Json, function: str) -> Body:
    """The body for a kprobe, tracepoint or LSM hook."""
    name = plain_name(function)
    arguments = mappings(payload, "args")
    policy, tags = text(payload, "policy_name"), texts(payload, "tags")
    process, parent = mapping(payload, "process"), mapping(payload, "parent")
    spoken = tuple(_argument_text(argument) for argument in arguments)
    file = _first(arguments, "file_arg", "path_arg", "linux_binprm_arg")
    socket = _first(arguments, "sock_arg", "skb_arg", "sockaddr_arg")
    meaning = MEANINGS.get(name)
    if name == "file_permission":
        mask = next((integer(argument, "int_arg") for argument in arguments if "int_arg" in argument), 0)
        meaning = ("file", permission_action(mask))
    if meaning is None and file:
        meaning = ("file", "other")
    if meaning is None and socket:
        meaning = ("network", "other")
    match meaning:
        case ("file", action):
            path = text(file, "path") or next(
                (text(item, "string_arg") for item in arguments if "string_arg" in item), ""
            )
            return FileActivity(
                action=action,
                path=_text(path),
                permission=text(file, "permission"),
                process=_optional_process(process),
                parent=_optional_process(parent),
                function=function,
                observer_policy=policy,
                tags=tags,
            )
        case ("network", action) if socket:
            return NetworkActivity(
                action=action,
                source=Endpoint(address=text(socket, "saddr"), port=integer(socket, "sport")),
                destination=Endpoint(
                    address=text(socket, "daddr") or text(socket, "addr"),
                    port=integer(socket, "dport") or integer(socket, "port"),
                ),
                protocol=text(socket, "protocol").removeprefix("IPPROTO_").lower(),
                process=_optional_process(process),
                observer_policy=policy,
                tags=tags,
            )
        case ("process", action):
            return ProcessActivity(
                action=action,
                process=_process(process),
                parent=_optional_process(parent),
                function=function,
                arguments=spoken,
                observer_policy=policy,
                tags=tags,
            )
    return KernelActivity(
        function=function,
        arguments=spoken,
        process=_optional_process(process),
        parent=_optional_process(parent),
        observer_policy=policy,
        tags=tags,
    )


def _tracepoint(payload: Json) -> Body:
    return _hook(payload, text(payload, "event") or text(payload, "subsys"))


def _function(payload: Json) -> Body:
    return _hook(payload, text(payload, "function_name"))


def _user_probe(payload: Json) -> Body:
    symbol = text(payload, "symbol") or ":".join(filter(None, (text(payload, "provider"), text(payload, "name"))))
    return KernelActivity(
        function=symbol,
        arguments=(
            _text(text(payload, "path")),
            *(_argument_text(argument) for argument in mappings(payload, "args")),
        ),
        process=_optional_process(mapping(payload, "process")),
        parent=_optional_process(mapping(payload, "parent")),
        observer_policy=text(payload, "policy_name"),
        tags=texts(payload, "tags"),
    )


def _loader(payload: Json) -> Body:
    return FileActivity(
        action="map",
        path=_text(text(payload, "path")),
        process=_optional_process(mapping(payload, "process")),
        parent=_optional_process(mapping(payload, "parent")),
        function="loader",
    )


def _throttle(payload: Json) -> Body:
    state = text(payload, "type").removeprefix("THROTTLE_").lower() or "unknown"
    return StatusReport(component="tetragon", state=f"throttle_{state}", detail=_text(text(payload, "cgroup")))


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
