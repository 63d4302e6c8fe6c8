"""Connections that end in time, whatever the peer does."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from typing import Any

import urllib3

from agent.sinks.receiver import HttpConfig


class Deadline:
    """Ends a request at a time, wherever it hangs: the connection is shut down under it.

    Timeouts of a socket are for each read, so a receiver that sends a byte now and then could hold a thread for ever.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """The connection in use, by a descriptor of our own: TLS takes the first one over."""
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            before, self._socket = self._socket, copy
            if self.is_over:
                self._shut()
        if before is not None:
            before.close()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _expire(self) -> None:
        with self._lock:
            self.is_over = True
            self._shut()

    def __enter__(self) -> Deadline:
        _RUNNING.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        _RUNNING.deadline = None
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class _Running(threading.local):
    deadline: Deadline | None = None


_RUNNING = _Running()


class _Watched:
    """Part of a connection: tells the deadline of the request which socket it uses."""

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        if _RUNNING.deadline is not None:
            _RUNNING.deadline.watch(made)
        return made

    def request(self, *arguments: Any, **more: Any) -> None:
        known: socket.socket | None = getattr(self, "sock", None)
        if known is not None and _RUNNING.deadline is not None:
            _RUNNING.deadline.watch(known)
        super().request(*arguments, **more)  # type: ignore[misc]


class _Connection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _TlsConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def context_of(config: HttpConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ca_file)
    if config.certificate_file is not None:
        # A key with a passphrase is refused instead of asked for.
        context.load_cert_chain(config.certificate_file, config.key_file, password=lambda: b"")
    return context


def pool_of(context: ssl.SSLContext) -> urllib3.PoolManager:
    pool = urllib3.PoolManager(num_pools=2, maxsize=2, ssl_context=context)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool
