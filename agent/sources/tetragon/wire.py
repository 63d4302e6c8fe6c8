"""A Tetragon event as protobuf to an `Event`: the same event that its JSON form gives (`decode.py`).

Pure but for its memory of processes, and never raises at bad input.  A process is left as bytes by the view in
protos/tetragon_view.proto: the same bytes come with every event of a process, so they are parsed once and remembered.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError as ProtobufError

from agent._pb import tetragon_pb2 as pb
from agent._pb import tetragon_view_pb2 as view
from agent.model import (
    Body,
    DecodeError,
    Endpoint,
    Event,
    FileActivity,
    Generations,
    LossReport,
    Process,
    ProcessActivity,
    Resource,
    Sensitive,
    StatusReport,
    event_id,
)
from agent.sources.addresses import plain_address
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

# A process takes about 0.7 KB of wire and 2 KB of ours: 10 MB when full.
_REMEMBERED = 4096
_LARGEST_REMEMBERED = 4096


_BPF_COMMANDS = {number: name for name, number in pb.BpfCmd.items()}
_THROTTLES = {number: name for name, number in pb.ThrottleType.items()}


class _Known(NamedTuple):
    process: Process
    resource: Resource
    thread: int
    is_named: bool


_NOBODY = _Known(Process(), Resource(), 0, False)


class WireDecoder:
    """Decodes one stream.  Not for several threads at once."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._node = ""  # of the event at hand
        self._processes: Generations[tuple[str, bytes], _Known] = Generations(remembered)

    def event(self, message: bytes, observed_time_unix_nano: int = 0) -> Event | DecodeError:
        """One GetEventsResponse to an event."""
        try:
            response = view.Response.FromString(message)
            member = response.WhichOneof("event")
            if member is None:
                return DecodeError(name="unknown_member" if _has_unknown(response) else "no_event")
            node = self._node = response.node_name.rpartition("/")[2]
            payload = getattr(response, member)
            acting = self._known(payload.process) if member in _WITH_PROCESS else _NOBODY
            body, function = _BODIES[member](self, payload, acting)
        except (ProtobufError, UnicodeDecodeError, ValueError):
            return DecodeError(name="not_protobuf")
        stamp = response.time
        when = stamp.seconds * 1_000_000_000 + stamp.nanos
        if not when and member == "process_exit":
            when = payload.time.seconds * 1_000_000_000 + payload.time.nanos
        if when:
            identifier = tetragon_id(member, when, node, acting.process, acting.thread, function)
        else:
            identifier = event_id(b"tetragon", message)
        return Event(
            id=identifier,
            source="tetragon",
            body=body,
            resource=acting.resource if acting is not _NOBODY else Resource(node=node),
            time_unix_nano=when,
            observed_time_unix_nano=observed_time_unix_nano,
        )

    def _known(self, raw: bytes) -> _Known:
        """A process by its node and bytes."""
        key = (self._node, raw)
        known = self._processes.get(key)
        if known is None:
            known = _known_of(pb.Process.FromString(raw), self._node)
            # What a pod can make long is parsed anew each time: it must not fill our memory.
            if len(raw) <= _LARGEST_REMEMBERED:
                self._processes.put(key, known)
        return known

    def process(self, raw: bytes) -> Process:
        return self._known(raw).process

    def optional(self, raw: bytes) -> Process | None:
        """The process of a field that may be missing."""
        return self._known(raw).process if raw else None

    def ends(self, payload: Any, acting: _Known) -> tuple[Process | None, Process | None]:
        """The acting process, if the event names one, and its parent."""
        return (acting.process if acting.is_named else None), self.optional(payload.parent)


def _has_unknown(response: view.Response) -> bool:
    """Whether anything is there that is no part of the envelope."""
    rest = view.Response.FromString(response.SerializeToString())
    rest.ClearField("node_name")
    rest.ClearField("time")
    left = pb.GetEventsResponse.FromString(rest.SerializeToString())
    for name in ("aggregation_info", "cluster_name", "node_labels"):
        left.ClearField(name)
    return bool(left.ByteSize())


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.seconds) * 1_000_000_000 + int(stamp.nanos)


def _known_of(process: pb.Process, node: str) -> _Known:
    pod, container = process.pod, process.pod.container
    in_container = bool(process.docker) or bool(pod.ByteSize())
    inode = process.binary_properties.file.inode
    made = Process(
        exec_id=process.exec_id,
        pid=process.pid.value,
        uid=process.uid.value if process.HasField("uid") else -1,
        binary=sensitive(process.binary),
        arguments=sensitive(process.arguments),
        environment={entry.Key: Sensitive(entry.Value) for entry in process.environment_variables},
        cwd=sensitive(process.cwd),
        start_time_unix_nano=_nanoseconds(process.start_time),
        parent_exec_id=process.parent_exec_id,
        is_injected=in_container and process.HasField("in_init_tree") and not process.in_init_tree.value,
        is_fileless=inode.HasField("links") and inode.links.value == 0,
        is_setuid=process.binary_properties.HasField("setuid"),
    )
    resource = Resource(
        node=node,
        namespace=pod.namespace,
        pod=pod.name,
        pod_uid=pod.uid,
        container=container.name,
        container_id=container.id.rpartition("://")[2] or process.docker,
        image=container.image.name,
        labels=dict(pod.pod_labels),
        workload=pod.workload,
        workload_kind=pod.workload_kind,
    )
    return _Known(made, resource, process.tid.value, process.ByteSize() > 0)


# ---------------------------------------------------------------- arguments


def _argument(argument: pb.KprobeArgument) -> Argument:
    kind = argument.WhichOneof("arg")
    if kind is None:
        return Argument("")
    value = getattr(argument, kind)
    if kind in FILES:
        return Argument(kind, sensitive(value.path or _plain_text(value)), value.path, value.permission)
    if kind in SOCKETS:
        return Argument(kind, sensitive(_socket_text(kind, value)), socket=_socket(kind, value))
    match kind:
        case "int_arg" | "uint_arg" | "size_arg" | "long_arg":
            return Argument(kind, str(value), number=value)
        case "bytes_arg":
            return Argument(kind, sensitive(value.decode("utf-8", "replace")))
        case "truncated_bytes_arg":
            return Argument(kind, sensitive(value.bytes_arg.decode("utf-8", "replace")))
        case "bpf_cmd_arg":
            named = _BPF_COMMANDS.get(value)
            return Argument(kind, sensitive(named) if named is not None else str(value))
        case "sockaddrun_arg":
            return Argument(kind, sensitive(value.path or _plain_text(value)))
    return Argument(kind, sensitive(value if isinstance(value, str) else _plain_text(value)))


def _socket(kind: str, value: Any) -> Socket:
    if kind == "sockaddr_arg":
        return Socket(Endpoint(), Endpoint(address=plain_address(value.addr), port=value.port), "")
    return Socket(
        Endpoint(address=plain_address(value.saddr), port=value.sport),
        Endpoint(address=plain_address(value.daddr), port=value.dport),
        value.protocol.removeprefix("IPPROTO_").lower(),
    )


def _socket_text(kind: str, value: Any) -> str:
    if kind == "sockaddr_arg":
        return f"{value.addr}:{value.port}" if value.addr else _plain_text(value)
    if value.daddr:
        return f"{value.saddr}:{value.sport} > {value.daddr}:{value.dport}"
    return _plain_text(value)


def _plain_text(message: Any) -> str:
    """`name=value` of the fields that are there and hold one value, as their JSON form would read."""
    parts = []
    for field, value in message.ListFields():
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if not field.message_type.full_name.startswith("google.protobuf."):
                continue
            value = value.value
        elif field.type == FieldDescriptor.TYPE_ENUM:
            named = field.enum_type.values_by_number.get(value)
            value = named.name if named is not None else value
        elif field.type == FieldDescriptor.TYPE_BYTES:
            value = base64.b64encode(value).decode()
        parts.append(f"{field.name}={value}")
    return " ".join(parts)


# ------------------------------------------------------------------- bodies


def _exec(decoder: WireDecoder, payload: view.Life, acting: _Known) -> tuple[Body, str]:
    body = ProcessActivity(
        action="exec",
        process=acting.process,
        parent=decoder.optional(payload.parent),
        ancestors=tuple(decoder.process(raw) for raw in payload.ancestors),
    )
    return body, ""


def _exit(decoder: WireDecoder, payload: view.Exit, acting: _Known) -> tuple[Body, str]:
    body = ProcessActivity(
        action="exit",
        process=acting.process,
        parent=decoder.optional(payload.parent),
        exit_code=payload.status,
        signal=payload.signal,
    )
    return body, ""


def _hook(payload: Any, function: str) -> Hook:
    return Hook(function, [_argument(one) for one in payload.args], payload.policy_name, tuple(payload.tags))


def _function(decoder: WireDecoder, payload: view.Hook | view.Lsm, acting: _Known) -> tuple[Body, str]:
    return hook_body(_hook(payload, payload.function_name), *decoder.ends(payload, acting)), payload.function_name


def _tracepoint(decoder: WireDecoder, payload: view.Tracepoint, acting: _Known) -> tuple[Body, str]:
    return hook_body(_hook(payload, payload.event or payload.subsys), *decoder.ends(payload, acting)), payload.event


def _uprobe(decoder: WireDecoder, payload: view.UserHook, acting: _Known) -> tuple[Body, str]:
    body = user_probe_body(payload.symbol, payload.path, _hook(payload, payload.symbol), *decoder.ends(payload, acting))
    return body, payload.symbol or payload.path


def _usdt(decoder: WireDecoder, payload: view.Usdt, acting: _Known) -> tuple[Body, str]:
    symbol = ":".join(filter(None, (payload.provider, payload.name)))
    body = user_probe_body(symbol, payload.path, _hook(payload, symbol), *decoder.ends(payload, acting))
    return body, payload.name or payload.path


def _loader(decoder: WireDecoder, payload: view.Loader, acting: _Known) -> tuple[Body, str]:
    process, parent = decoder.ends(payload, acting)
    path = sensitive(payload.path)
    body = FileActivity(action="map", path=path, process=process, parent=parent, function="loader")
    return body, payload.path


def _throttle(decoder: WireDecoder, payload: pb.ProcessThrottle, acting: _Known) -> tuple[Body, str]:
    del decoder, acting
    name = _THROTTLES.get(payload.type, str(payload.type))
    state = name.removeprefix("THROTTLE_").lower()
    return StatusReport(component="tetragon", state=f"throttle_{state}", detail=sensitive(payload.cgroup)), ""


def _rate_limit(decoder: WireDecoder, payload: pb.RateLimitInfo, acting: _Known) -> tuple[Body, str]:
    del decoder, acting
    count = payload.number_of_dropped_process_events
    return LossReport(origin="tetragon", reason="export_rate_limit", count=count), ""


def _test(decoder: WireDecoder, payload: pb.Test, acting: _Known) -> tuple[Body, str]:
    del decoder, payload, acting
    return StatusReport(component="tetragon", state="test"), ""


_BODIES: Mapping[str, Callable[[WireDecoder, Any, _Known], tuple[Body, str]]] = {
    "process_exec": _exec,
    "process_exit": _exit,
    "process_kprobe": _function,
    "process_lsm": _function,
    "process_tracepoint": _tracepoint,
    "process_uprobe": _uprobe,
    "process_usdt": _usdt,
    "process_loader": _loader,
    "process_throttle": _throttle,
    "rate_limit_info": _rate_limit,
    "test": _test,
}
_WITH_PROCESS = frozenset(name for name in _BODIES if name.startswith("process_") and name != "process_throttle")
