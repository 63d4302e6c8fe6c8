"""What a Tetragon hook means: function and arguments to a body, whatever wire form they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agent.model import (
    Body,
    Endpoint,
    FileActivity,
    KernelActivity,
    NetworkActivity,
    Process,
    ProcessActivity,
    Sensitive,
    Text,
    event_id,
)
from agent.sources.tetragon.hooks import MEANINGS, permission_action, plain_name

FILES = frozenset({"file_arg", "path_arg", "linux_binprm_arg"})
SOCKETS = frozenset({"sock_arg", "skb_arg", "sockaddr_arg"})


class Socket(NamedTuple):
    """Both ends as the hook named them; an unknown end is empty."""

    source: Endpoint
    destination: Endpoint
    protocol: str


class Argument(NamedTuple):
    """One hook argument: the oneof member's name, the text for people and detectors, and what a body needs of it."""

    kind: str
    text: Text = ""
    path: str = ""
    permission: str = ""
    socket: Socket | None = None
    number: int = 0


class Hook(NamedTuple):
    """A kprobe, tracepoint or LSM event without its process."""

    function: str
    arguments: Sequence[Argument]
    policy: str
    tags: tuple[str, ...]


def sensitive(value: str) -> Text:
    """A workload's text; nothing stays nothing."""
    return Sensitive(value) if value else ""


def tetragon_id(kind: str, time_unix_nano: int, node: str, process: Process, thread: int, function: str) -> str:
    """The same id in every wire form.  One thread is in one hook once in a nanosecond (2 416 of 2 416 recorded)."""
    where = f"{kind}\0{time_unix_nano}\0{node}\0{process.exec_id}\0{process.pid}\0{thread}\0{function}"
    return event_id(b"tetragon", where.encode("utf-8", "surrogatepass"))


def _first(arguments: Iterable[Argument], kinds: frozenset[str]) -> Argument | None:
    """The argument of the first kind that is there."""
    return next((argument for argument in arguments if argument.kind in kinds), None)


def hook_body(hook: Hook, process: Process | None, parent: Process | None) -> Body:
    """The body for a kprobe, tracepoint or LSM hook."""
    name = plain_name(hook.function)
    arguments = hook.arguments
    file, endpoints = _first(arguments, FILES), _first(arguments, SOCKETS)
    meaning = MEANINGS.get(name)
    if name == "file_permission":
        mask = next((argument.number for argument in arguments if argument.kind == "int_arg"), 0)
        meaning = ("file", permission_action(mask))
    if meaning is None and file is not None:
        meaning = ("file", "other")
    if meaning is None and endpoints is not None:
        meaning = ("network", "other")
    match meaning:
        case ("file", action):
            path = sensitive(file.path) if file is not None else ""
            if not path:
                path = next((argument.text for argument in arguments if argument.kind == "string_arg"), "")
            return FileActivity(
                action=action,
                path=path,
                permission=file.permission if file is not None else "",
                process=process,
                parent=parent,
                function=hook.function,
                observer_policy=hook.policy,
                tags=hook.tags,
            )
        case ("network", action) if endpoints is not None and endpoints.socket is not None:
            return NetworkActivity(
                action=action,
                source=endpoints.socket.source,
                destination=endpoints.socket.destination,
                protocol=endpoints.socket.protocol,
                process=process,
                observer_policy=hook.policy,
                tags=hook.tags,
            )
        case ("process", action):
            return ProcessActivity(
                action=action,
                process=process or Process(),
                parent=parent,
                function=hook.function,
                arguments=tuple(argument.text for argument in arguments),
                observer_policy=hook.policy,
                tags=hook.tags,
            )
    return KernelActivity(
        function=hook.function,
        arguments=tuple(argument.text for argument in arguments),
        process=process,
        parent=parent,
        observer_policy=hook.policy,
        tags=hook.tags,
    )


def user_probe_body(symbol: str, path: str, hook: Hook, process: Process | None, parent: Process | None) -> Body:
    """The body for a uprobe or USDT probe."""
    return KernelActivity(
        function=symbol,
        arguments=(sensitive(path), *(argument.text for argument in hook.arguments)),
        process=process,
        parent=parent,
        observer_policy=hook.policy,
        tags=hook.tags,
    )
