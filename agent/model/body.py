"""What was observed: a closed union of bodies, shaped after OCSF classes and OTel GenAI.

Every text that a workload could have filled is `Text`: `Sensitive` before the engine's mask, `str` after it.
To add a body, extend `Body`; mypy then shows every `match` to extend.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from agent.model.sensitive import Text


class Struct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all parts: immutable, keywords only, defaults left out of JSON."""


class Process(Struct, frozen=True, kw_only=True):
    """A process as the observer knew it; zero and empty mean unknown (`uid` uses -1)."""

    exec_id: str = ""
    pid: int = 0
    uid: int = -1
    binary: Text = ""
    arguments: Text = ""
    environment: dict[str, Text] = {}
    cwd: Text = ""
    start_time_unix_nano: int = 0
    parent_exec_id: str = ""
    is_injected: bool = False  # not a descendant of the container's first process (kubectl exec, nsenter, probe)
    is_fileless: bool = False  # the binary's inode has no links (memfd, deleted file)
    is_setuid: bool = False

    @property
    def size(self) -> int:
        """Characters of its texts, about."""
        lengths = len(self.binary) + len(self.arguments) + len(self.cwd)
        return lengths + sum(len(name) + len(value) for name, value in self.environment.items())


class Endpoint(Struct, frozen=True, kw_only=True):
    """One side of a connection or flow; what the observer said, not resolved further."""

    address: str = ""
    port: int = 0
    names: tuple[str, ...] = ()  # candidate DNS names, none certain
    names_origin: str = ""  # who says so: observer, dns (answers this pod got) or dns-node (answers others got)
    namespace: str = ""
    pod: str = ""
    workload: str = ""
    labels: dict[str, str] = {}
    identity: str = ""  # Cilium reserved identity: host, world, remote-node ...
    is_world: bool = False


ProcessAction: TypeAlias = Literal["exec", "exit", "fork", "trace", "credentials", "memory", "namespace", "other"]
FileAction: TypeAlias = Literal["open", "read", "write", "map", "truncate", "execute", "rename", "remove", "other"]
NetworkAction: TypeAlias = Literal["connect", "accept", "listen", "close", "send", "flow", "other"]
Role: TypeAlias = Literal["system", "user", "assistant", "tool", "document", "other"]
MessagePart: TypeAlias = Literal["", "tool_call", "tool_result"]


class ProcessActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="process"):
    """OCSF 1007: something a process did to itself or another process."""

    action: ProcessAction
    process: Process
    parent: Process | None = None
    ancestors: tuple[Process, ...] = ()
    function: str = ""
    arguments: tuple[Text, ...] = ()
    exit_code: int = 0
    signal: str = ""
    count: int = 1
    observer_policy: str = ""  # the TracingPolicy or probe that reported it
    tags: tuple[str, ...] = ()


class FileActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="file"):
    """OCSF 1001: a process touched a file."""

    action: FileAction
    path: Text
    process: Process | None = None
    parent: Process | None = None
    permission: str = ""
    function: str = ""
    count: int = 1
    observer_policy: str = ""
    tags: tuple[str, ...] = ()


class NetworkActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="network"):
    """OCSF 4001: a connection, a listener or a flow between two endpoints; source is the client where known."""

    action: NetworkAction
    source: Endpoint
    destination: Endpoint
    protocol: str = ""
    verdict: str = ""  # forwarded, dropped, audit, redirected, error, traced, translated or "" when unknown
    direction: str = ""  # egress, ingress or ""
    drop_reason: str = ""
    is_reply: bool | None = None
    is_opening: bool = False  # the first packet of a connection (SYN without ACK), or a verdict on it
    observation: str = ""  # what kind of sighting, in Cilium's words: drop, trace, policy-verdict, l7 ...
    count: int = 1  # sightings that were folded into this one
    denials: int = 0  # of this client in the window up to now, this one included; the pipeline fills these in
    denied_destinations: int = 0
    is_denial_peak: bool = False  # more than before, since either fell below half of its peak
    is_destination_peak: bool = False
    is_repeat: bool = False  # another sighting of a connection that was told in the last seconds
    window_seconds: int = 0
    bytes_sent: int = 0  # of a connection that closed, as its process saw them
    bytes_received: int = 0
    process: Process | None = None
    observer_policy: str = ""
    tags: tuple[str, ...] = ()


class DnsActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="dns"):
    """OCSF 4003: a question or an answer; names without the trailing dot."""

    query: Text
    is_search: bool = False  # the resolver's search list had made the name longer
    query_types: tuple[str, ...] = ()
    is_response: bool = False
    response_code: int = 0
    addresses: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    ttl_seconds: int = 0
    verdict: str = ""
    source: Endpoint = Endpoint()
    destination: Endpoint = Endpoint()


class HttpActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="http"):
    """OCSF 4002: one request or one response seen in plain text by the observer."""

    method: str = ""
    url: Text = ""
    host: str = ""
    path: Text = ""
    protocol: str = ""
    status_code: int = 0
    headers: dict[str, Text] = {}
    is_response: bool = False
    latency_nanoseconds: int = 0
    verdict: str = ""
    direction: str = ""
    source: Endpoint = Endpoint()
    destination: Endpoint = Endpoint()
    process: Process | None = None


class LogRecord(Struct, frozen=True, kw_only=True, tag_field="class", tag="log"):
    """One record of a container log: partial lines joined, lines that belong together in one text."""

    text: Text
    stream: str = ""
    file: str = ""
    line_count: int = 1
    is_truncated: bool = False


class Message(Struct, frozen=True, kw_only=True):
    """One turn or part of a conversation with a model.  `part` is empty for plain text, as most are."""

    role: Role
    text: Text
    part: MessagePart = ""
    # Of a text that grows while it is told: findings that end behind the first place and not behind the second are
    # told here, others by the operation before or after.  0 and 0: all.
    new_from: int = 0
    new_until: int = 0


class GenAiOperation(Struct, frozen=True, kw_only=True, tag_field="class", tag="genai"):
    """One call of a model, per OTel `gen_ai.*`: what went in and what came out."""

    operation: str = "chat"
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    server_address: str = ""
    server_port: int = 0
    conversation_id: Text = ""
    user: Text = ""
    messages: tuple[Message, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    error: Text = ""
    is_streaming: bool = False
    is_truncated: bool = False  # a part of either side was not seen: over a limit, lost, or in an unknown encoding
    is_open: bool = False  # the answer still came when this was told; the rest is told by operations of their own
    exchange_id: str = ""  # the same for all operations that tell one exchange; empty if there is one only
    tool: Text = ""  # of an MCP call: its method, and the tool it is for
    credential: Text = ""  # the key it was sent with: always masked, its fingerprint is a finding
    process: Process | None = None


class KernelActivity(Struct, frozen=True, kw_only=True, tag_field="class", tag="kernel"):
    """OCSF 1003: a hook that fits no other body (modules, bpf, mounts, capabilities, system calls)."""

    function: str
    arguments: tuple[Text, ...] = ()
    process: Process | None = None
    parent: Process | None = None
    count: int = 1
    observer_policy: str = ""
    tags: tuple[str, ...] = ()


class LossReport(Struct, frozen=True, kw_only=True, tag_field="class", tag="loss"):
    """Upstream lost events before we had them; `count` is a lower bound where `is_lower_bound`.

    `window_count` is what the same source lost in the `window_seconds` up to this report, this one included; the
    pipeline fills it in.
    """

    origin: str
    reason: str
    count: int = 0
    is_lower_bound: bool = False
    gap_seconds: float = 0.0  # how long nothing was seen, for a connection that broke
    window_count: int = 0
    window_seconds: int = 0


class StatusReport(Struct, frozen=True, kw_only=True, tag_field="class", tag="status"):
    """A change of an observer's own state (node connected, agent started, policy updated, throttling)."""

    component: str
    state: str
    subject: str = ""  # what is in that state, if not the component itself: a tracing policy, a node
    detail: Text = ""


Body: TypeAlias = (
    ProcessActivity
    | FileActivity
    | NetworkActivity
    | DnsActivity
    | HttpActivity
    | LogRecord
    | GenAiOperation
    | KernelActivity
    | LossReport
    | StatusReport
)

EVENT_CLASSES: dict[str, type[Body]] = {
    "process": ProcessActivity,
    "file": FileActivity,
    "network": NetworkActivity,
    "dns": DnsActivity,
    "http": HttpActivity,
    "log": LogRecord,
    "genai": GenAiOperation,
    "kernel": KernelActivity,
    "loss": LossReport,
    "status": StatusReport,
}
_CLASS_NAMES: dict[type, str] = {body: name for name, body in EVENT_CLASSES.items()}


def class_of(body: Body) -> str:
    """The event class name of a body: a key of `EVENT_CLASSES`."""
    return _CLASS_NAMES[type(body)]
