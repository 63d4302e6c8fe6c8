"""Pods of the node by the container runtime's own list: names and labels, without asking the cluster.

CRI v1, `ListPodSandbox` (k8s.io/cri-api, runtime/v1/api.proto): containerd and CRI-O answer it on their sockets.  The
answer is decoded by field numbers; what is not known of it is skipped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import structlog

from agent.sources.rpc import ConnectionConfig, RpcError, Transport, transport_for

log = structlog.get_logger("reeve.ebpf")

SOCKETS = ("/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock")
METHOD = "/runtime.v1.RuntimeService/ListPodSandbox"
_CALL_SECONDS = 5.0
_EVERY_SECONDS = 10.0
_SOON_SECONDS = 0.3
_MOST_PODS = 4096
_MOST_LABELS = 128
_OWN_PREFIX = "io.kubernetes."
# Field numbers of the answer.
_ITEMS, _METADATA, _LABELS = 1, 2, 5
_NAME, _UID, _NAMESPACE = 1, 2, 3


class Pod(NamedTuple):
    """A pod as its runtime knows it."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]


def pods_of(answer: bytes) -> list[Pod]:
    """The pods of an answer; one that is broken is left out."""
    pods: list[Pod] = []
    for number, item in _fields(answer):
        if number != _ITEMS or len(pods) >= _MOST_PODS:
            continue
        metadata: dict[int, str] = {}
        labels: dict[str, str] = {}
        for inner, value in _fields(item):
            if inner == _METADATA:
                metadata = {key: text.decode("utf-8", "replace") for key, text in _fields(value)}
            elif inner == _LABELS and len(labels) < _MOST_LABELS:
                pair = {key: text.decode("utf-8", "replace") for key, text in _fields(value)}
                if not pair.get(1, "").startswith(_OWN_PREFIX):
                    labels[pair.get(1, "")] = pair.get(2, "")
        if metadata.get(_UID):
            pods.append(Pod(metadata[_UID], metadata.get(_NAMESPACE, ""), metadata.get(_NAME, ""), labels))
    return pods


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields of a message in order; others are skipped, and what is broken ends it."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    return
                yield tag >> 3, data[at : at + size]
                at += size
            case 5:
                at += 4
            case _:
                return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7
    return 7, len(data)  # a tag of no kind: the message ends here


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
                    self._wanted.clear()
                    await asyncio.sleep(_SOON_SECONDS)
                except TimeoutError:
                    self._asked_for.clear()
        finally:
            await self._transport.close()

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
