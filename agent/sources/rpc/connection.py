"""Where a gRPC server is and how it is trusted: settings, and what both transports need of them.

Certificates are files and are read again for every connection, so a rotated one is used from the next connection on.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from agent.sources.rpc.transport import Code, RpcError


class TlsConfig(pydantic.BaseModel):
    """Files in PEM.  `certificate_file` and `key_file` make it mutual; `server_name` is the name to verify where it is
    not the host of the address."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> TlsConfig:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; name both or neither")
        return self


class ConnectionConfig(pydantic.BaseModel):
    """`address` is `unix:///path` or `host:port`.  Times in seconds, sizes in bytes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    address: str
    tls: TlsConfig | None = None
    allow_plaintext: bool = False
    transport: Literal["http2", "grpcio"] = "http2"
    max_message_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 * 1024 * 1024
    connect_seconds: Annotated[float, Field(gt=0)] = 5.0
    batch_seconds: Annotated[float, Field(ge=0, le=1)] = 0.005
    retry_first_seconds: Annotated[float, Field(gt=0)] = 0.5
    retry_longest_seconds: Annotated[float, Field(gt=0)] = 30.0

    @pydantic.model_validator(mode="after")
    def _is_reachable_and_safe(self) -> ConnectionConfig:
        place = Connection(self)
        if place.path:
            if self.tls is not None:
                raise ValueError("tls is for TCP; a unix socket has none")
        elif self.tls is None and not self.allow_plaintext and not _is_loopback(place.host):
            raise ValueError(
                f"{self.address} would be spoken to in plain text; give tls, or set allow_plaintext: true"
                " if the network is trusted"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Connection:
    """An address, taken apart."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Raises ValueError if the address is none."""
        self.config = config
        self.path = ""
        self.host = ""
        self.port = 0
        address = config.address
        if address.startswith("unix:"):
            self.path = address.removeprefix("unix:").removeprefix("//")
            if not self.path.startswith("/"):
                raise ValueError(f"{address!r}: a unix socket is unix:///absolute/path")
            return
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{address!r} is neither unix:///path nor host:port")
        self.host, self.port = host.strip("[]"), int(port)

    @property
    def authority(self) -> str:
        """The `:authority` of a call: the name that is verified where there is TLS."""
        if self.path:
            return "localhost"
        tls = self.config.tls
        return tls.server_name if tls is not None and tls.server_name else self.config.address

    @property
    def server_name(self) -> str | None:
        """The name to verify; None without TLS."""
        tls = self.config.tls
        return None if tls is None else tls.server_name or self.host

    def ssl_context(self) -> ssl.SSLContext | None:
        """A context from the files as they are now.  Raises RpcError if one cannot be used."""
        tls = self.config.tls
        if tls is None:
            return None
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tls.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["h2"])
            if tls.certificate_file is not None:
                context.load_cert_chain(str(tls.certificate_file), str(tls.key_file))
        except (OSError, ssl.SSLError) as error:
            raise RpcError(Code.UNAUTHENTICATED, f"a TLS file cannot be used: {_plain(error)}") from error
        return context

    def tls_bytes(self) -> tuple[bytes, bytes | None, bytes | None] | None:
        """CA, key and certificate as they are now, None without TLS.  Raises RpcError if one cannot be read."""
        tls = self.config.tls
        if tls is None:
            return None
        try:
            return (
                tls.ca_file.read_bytes(),
                tls.key_file.read_bytes() if tls.key_file else None,
                tls.certificate_file.read_bytes() if tls.certificate_file else None,
            )
        except OSError as error:
            raise RpcError(Code.UNAUTHENTICATED, f"a TLS file cannot be used: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
