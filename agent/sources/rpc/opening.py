"""Which transport a configuration asks for."""

from __future__ import annotations

from agent.sources.rpc.connection import Connection, ConnectionConfig
from agent.sources.rpc.grpcio import GrpcioTransport
from agent.sources.rpc.http2.transport import Http2Transport
from agent.sources.rpc.transport import Transport


def transport_for(config: ConnectionConfig) -> Transport:
    """A transport; nothing is connected yet.  Raises ValueError if the address is none."""
    connection = Connection(config)
    rest = GrpcioTransport(connection)
    return rest if config.transport == "grpcio" else Http2Transport(connection, rest)
