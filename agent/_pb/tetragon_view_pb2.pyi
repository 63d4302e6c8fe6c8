import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from agent._pb import tetragon_pb2 as _tetragon_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Response(_message.Message):
    __slots__ = ("process_exec", "process_exit", "process_kprobe", "process_tracepoint", "process_loader", "process_uprobe", "process_throttle", "process_lsm", "process_usdt", "test", "rate_limit_info", "node_name", "time")
    PROCESS_EXEC_FIELD_NUMBER: _ClassVar[int]
    PROCESS_EXIT_FIELD_NUMBER: _ClassVar[int]
    PROCESS_KPROBE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TRACEPOINT_FIELD_NUMBER: _ClassVar[int]
    PROCESS_LOADER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_UPROBE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_THROTTLE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_LSM_FIELD_NUMBER: _ClassVar[int]
    PROCESS_USDT_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMIT_INFO_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    process_exec: Life
    process_exit: Exit
    process_kprobe: Hook
    process_tracepoint: Tracepoint
    process_loader: Loader
    process_uprobe: UserHook
    process_throttle: _tetragon_pb2.ProcessThrottle
    process_lsm: Lsm
    process_usdt: Usdt
    test: _tetragon_pb2.Test
    rate_limit_info: _tetragon_pb2.RateLimitInfo
    node_name: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, process_exec: _Optional[_Union[Life, _Mapping]] = ..., process_exit: _Optional[_Union[Exit, _Mapping]] = ..., process_kprobe: _Optional[_Union[Hook, _Mapping]] = ..., process_tracepoint: _Optional[_Union[Tracepoint, _Mapping]] = ..., process_loader: _Optional[_Union[Loader, _Mapping]] = ..., process_uprobe: _Optional[_Union[UserHook, _Mapping]] = ..., process_throttle: _Optional[_Union[_tetragon_pb2.ProcessThrottle, _Mapping]] = ..., process_lsm: _Optional[_Union[Lsm, _Mapping]] = ..., process_usdt: _Optional[_Union[Usdt, _Mapping]] = ..., test: _Optional[_Union[_tetragon_pb2.Test, _Mapping]] = ..., rate_limit_info: _Optional[_Union[_tetragon_pb2.RateLimitInfo, _Mapping]] = ..., node_name: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Life(_message.Message):
    __slots__ = ("process", "parent", "ancestors")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ANCESTORS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    ancestors: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., ancestors: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Exit(_message.Message):
    __slots__ = ("process", "parent", "signal", "status", "time")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    signal: str
    status: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., signal: _Optional[str] = ..., status: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("process", "parent", "function_name", "args", "policy_name", "tags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    function_name: str
    args: _containers.RepeatedCompositeFieldContainer[_tetragon_pb2.KprobeArgument]
    policy_name: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., function_name: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_tetragon_pb2.KprobeArgument, _Mapping]]] = ..., policy_name: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class Tracepoint(_message.Message):
    __slots__ = ("process", "parent", "subsys", "event", "args", "policy_name", "tags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    SUBSYS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    subsys: str
    event: str
    args: _containers.RepeatedCompositeFieldContainer[_tetragon_pb2.KprobeArgument]
    policy_name: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., subsys: _Optional[str] = ..., event: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_tetragon_pb2.KprobeArgument, _Mapping]]] = ..., policy_name: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class Lsm(_message.Message):
    __slots__ = ("process", "parent", "function_name", "policy_name", "args", "tags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    function_name: str
    policy_name: str
    args: _containers.RepeatedCompositeFieldContainer[_tetragon_pb2.KprobeArgument]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., function_name: _Optional[str] = ..., policy_name: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_tetragon_pb2.KprobeArgument, _Mapping]]] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class Loader(_message.Message):
    __slots__ = ("process", "path", "parent")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    path: str
    parent: bytes
    def __init__(self, process: _Optional[bytes] = ..., path: _Optional[str] = ..., parent: _Optional[bytes] = ...) -> None: ...

class UserHook(_message.Message):
    __slots__ = ("process", "parent", "path", "symbol", "policy_name", "args", "tags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    path: str
    symbol: str
    policy_name: str
    args: _containers.RepeatedCompositeFieldContainer[_tetragon_pb2.KprobeArgument]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., path: _Optional[str] = ..., symbol: _Optional[str] = ..., policy_name: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_tetragon_pb2.KprobeArgument, _Mapping]]] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class Usdt(_message.Message):
    __slots__ = ("process", "parent", "path", "provider", "name", "policy_name", "args", "tags")
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    process: bytes
    parent: bytes
    path: str
    provider: str
    name: str
    policy_name: str
    args: _containers.RepeatedCompositeFieldContainer[_tetragon_pb2.KprobeArgument]
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, process: _Optional[bytes] = ..., parent: _Optional[bytes] = ..., path: _Optional[str] = ..., provider: _Optional[str] = ..., name: _Optional[str] = ..., policy_name: _Optional[str] = ..., args: _Optional[_Iterable[_Union[_tetragon_pb2.KprobeArgument, _Mapping]]] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...
