"""The one door to the API server: addresses, certificates and tokens by the Kubernetes client, requests as JSON.

The client's typed models are not used: they refuse what a newer server adds.  A service account's token is read again
as the client does it, every minute.  Blocks; counts every request; answers have a largest size.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import structlog
import urllib3
from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException, load_incluster_config
from kubernetes.config.kube_config import load_kube_config

from agent import VERSION
from agent.plugins import ClusterError

log = structlog.get_logger("reeve.cluster")

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
# A page of 500 pods is 2 to 10 MB; the server itself answers with at most a few times that.
ANSWER_BYTES = 64 * 1024 * 1024
# One object of a watch: etcd keeps nothing over 1.5 MiB, managed fields and all.
LINE_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
# A peer that vanished without a word is found out after a minute, also under a watch on which nothing happens.
_KEEP_ALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


def configuration_of(kubeconfig: Path | None) -> Configuration:
    """How to reach the API server: by a kubeconfig's current context, else as a pod.  Raises ValueError."""
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "no pod of a cluster"
        raise ValueError(
            f"cluster: {where}: {str(error).rstrip('.')}; name a `cluster.kubeconfig`, or leave `cluster` out"
        ) from error
    configuration.socket_options = list(_KEEP_ALIVE)
    return configuration


class KubernetesClient:
    """Requests to one API server, for any number of threads."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._pool: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, str]] = Counter()  # verb, outcome
        self.is_up = False

    @property
    def host(self) -> str:
        return str(self._configuration.host)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        """One request, its answer as JSON.  Raises ClusterError."""
        response = self._send(method, path, query, body, content_type, READ_SECONDS)
        try:
            text = b"".join(_pieces(response, ANSWER_BYTES))
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(method.lower(), error) from error
        finally:
            response.release_conn()
        answer = _json(text)
        if response.status >= 400:
            raise self._refused(method.lower(), response, answer)
        self._count(method.lower(), "success")
        return answer

    def pages(self, path: str, query: Mapping[str, str], limit: int = 500) -> Iterator[dict[str, Any]]:
        """The pages of a list, each a list object.  Raises ClusterError, 410 if the list outlived its version."""
        asked = {**query, "limit": str(limit)}
        while True:
            page = self.call("GET", path, query=asked)
            yield page
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return
            asked["continue"] = str(following)

    def watch(
        self, path: str, query: Mapping[str, str], stop: threading.Event, seconds: int
    ) -> Iterator[dict[str, Any]]:
        """The events of a watch until the server ends it after `seconds`, or `stop`.  Raises ClusterError."""
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        # Bookmarks come about once a minute: a connection that is silent for longer than the whole watch is dead.
        response = self._send("GET", path, asked, None, "application/json", seconds + READ_SECONDS, verb="watch")
        try:
            if response.status >= 400:
                raise self._refused("watch", response, _json(b"".join(_pieces(response, ANSWER_BYTES))))
            self._count("watch", "success")
            rest = b""
            # One piece at a time as it comes; `stream` would wait until a whole piece is full.
            while not stop.is_set():
                piece = response.read1(_PIECE_BYTES)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                yield from (_json(line) for line in lines if line.strip())
                if len(rest) > LINE_BYTES:
                    raise ClusterError(0, "TooLarge", f"an object of a watch is larger than {LINE_BYTES} bytes")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable("watch", error) from error
        finally:
            response.close()
            response.release_conn()

    def close(self) -> None:
        self._pool.clear()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        content_type: str,
        read_seconds: float,
        verb: str = "",
    ) -> urllib3.BaseHTTPResponse:
        url = self.host.rstrip("/") + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json", "User-Agent": f"reeve/{VERSION}"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body, separators=(",", ":")).encode()
        try:
            settings: Mapping[str, Any] = self._configuration.auth_settings()
            for one in settings.values():
                if one["in"] == "header" and one["value"]:
                    headers[one["key"]] = one["value"]
            return self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, ConfigException, OSError) as error:
            raise self._unreachable(verb or method.lower(), error) from error

    def _unreachable(self, verb: str, error: Exception) -> ClusterError:
        self._count(verb, "unreachable", is_up=False)
        return ClusterError(0, "Unreachable", f"{self.host}: {_cause(error)}")

    def _refused(self, verb: str, response: urllib3.BaseHTTPResponse, answer: Mapping[str, Any]) -> ClusterError:
        status = response.status
        self._count(verb, _outcome(status), is_up=status < 500)
        reason = str(answer.get("reason") or response.reason or "Error")
        message = str(answer.get("message") or f"HTTP {status}")[:500]
        return ClusterError(status, reason, message, _seconds(response.headers.get("Retry-After")))

    def _count(self, verb: str, outcome: str, *, is_up: bool = True) -> None:
        with self._lock:
            self.requests[verb, outcome] += 1
            was_up, self.is_up = self.is_up, is_up
        if was_up and not is_up:
            log.warning(
                "The API server cannot be reached; identity comes from paths and what is known.", host=self.host
            )


def _pieces(response: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
    size = 0
    for piece in response.stream(_PIECE_BYTES):
        size += len(piece)
        if size > most:
            raise ClusterError(0, "TooLarge", f"an answer is larger than {most} bytes")
        yield piece


def _json(text: bytes) -> dict[str, Any]:
    """An object; what is none (a proxy's page, a broken line) is an empty one, so that its status speaks."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _outcome(status: int) -> str:
    match status:
        case 401 | 403:
            return "forbidden"
        case 404:
            return "not_found"
        case 409:
            return "conflict"
        case 410:
            return "gone"
        case 429:
            return "throttled"
    return "server_error" if status >= 500 else "refused"


def _seconds(text: str | None) -> float:
    """Retry-After in seconds; the API server sends whole numbers."""
    try:
        return min(300.0, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0


def _cause(error: BaseException) -> str:
    """The innermost reason in words, without addresses of objects."""
    reason = getattr(error, "reason", None)
    inner = reason if isinstance(reason, BaseException) else error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    text = getattr(inner, "strerror", None) or str(inner)
    return text.rpartition(">, ")[2][:200] if ">, " in text else text[:200]
