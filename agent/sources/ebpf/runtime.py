"""Pods of the node by the container runtime's own list: names and labels, without asking the cluster.

CRI v1, `ListPodSandbox` (k8s.io/cri-api, runtime/v1/api.proto): containerd and CRI-O answer it on their sockets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
from google.protobuf.message import DecodeError as ProtobufError

from agent._pb import cri_pb2
from agent.sources.rpc import ConnectionConfig, RpcError, Transport, transport_for

log = structlog.get_logger("reeve.ebpf")

SOCKETS = ("/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock")
METHOD = "/runtime.v1.RuntimeService/ListPodSandbox"
_CALL_SECONDS = 5.0
_EVERY_SECONDS = 10.0
# A pod turns up with its first process; its runtime lists it a moment later, and its containers start after that.
_SOON_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_MOST_PODS = 4096
_MOST_LABELS = 128
_RUNTIME_PREFIX = "io.kubernetes."


class Pod(NamedTuple):
    """A pod as its runtime knows it."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]


def pods_of(answer: bytes) -> list[Pod]:
    """The pods of an answer; of one that is broken, none."""
    try:
        items = cri_pb2.ListPodSandboxResponse.FromString(answer).items
    except ProtobufError:
        return []
    return [
        Pod(one.metadata.uid, one.metadata.namespace, one.metadata.name, _own_labels(one.labels))
        for one in items[:_MOST_PODS]
        if one.metadata.uid
    ]


def _own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """A pod's labels without those that the runtime adds."""
    own = [pair for pair in labels.items() if not pair[0].startswith(_RUNTIME_PREFIX)]
    return dict(own[:_MOST_LABELS])


def runtime_socket(configured: str) -> str:
    """The socket to ask: the configured one, else the first that is there; nothing if there is none."""
    if configured != "auto":
        return configured
    return next((place for place in SOCKETS if os.path.exists(place)), "")


class PodList:
    """Asks again and again, and at once when a pod turns up that is not known.  `changed` is told what is new."""

    def __init__(self, socket: str, changed: Callable[[list[Pod]], None], transport: Transport | None = None) -> None:
        self._transport = transport or transport_for(ConnectionConfig(address=f"unix://{socket}"))
        self._changed = changed
        self._known: dict[str, Pod] = {}
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._asked_for: set[str] = set()
        self._is_silent = False

    def want(self, uid: str) -> None:
        """A pod turned up, in whichever thread.  One that the runtime does not know either is not asked for again."""
        if uid and uid not in self._known and uid not in self._asked_for:
            self._asked_for.add(uid)
            self._loop.call_soon_threadsafe(self._wanted.set)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self.ask()
                try:
                    async with asyncio.timeout(_EVERY_SECONDS):
                        await self._wanted.wait()
                except TimeoutError:
                    self._asked_for.clear()
                    continue
                await self._ask_soon()
        finally:
            await self._transport.close()

    async def _ask_soon(self) -> None:
        """Ask until all that turned up are listed; what is not listed by then waits for the next regular time."""
        for seconds in _SOON_SECONDS:
            self._wanted.clear()
            await asyncio.sleep(seconds)
            await self.ask()
            self._asked_for -= self._known.keys()
            if not self._asked_for:
                break

    async def ask(self) -> None:
        """Ask once; what cannot be reached is said once."""
        try:
            answer = await self._transport.unary(METHOD, b"", _CALL_SECONDS)
        except RpcError as error:
            if not self._is_silent:
                log.warning("The container runtime does not tell its pods: labels are not known.", error=str(error))
            self._is_silent = True
            return
        self._is_silent = False
        pods = {pod.uid: pod for pod in pods_of(answer)}
        news = [pod for uid, pod in pods.items() if self._known.get(uid) != pod]
        self._known = pods
        if news:
            self._changed(news)
