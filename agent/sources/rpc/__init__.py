"""Calls of gRPC servers: one interface (`transport`), an own HTTP/2 reader for streams, grpcio for the rest."""

from agent.sources.rpc.backoff import Backoff
from agent.sources.rpc.connection import Connection, ConnectionConfig, TlsConfig
from agent.sources.rpc.opening import transport_for
from agent.sources.rpc.transport import Code, RpcError, Stream, Transport

__all__ = [
    "Backoff",
    "Code",
    "Connection",
    "ConnectionConfig",
    "RpcError",
    "Stream",
    "TlsConfig",
    "Transport",
    "transport_for",
]
