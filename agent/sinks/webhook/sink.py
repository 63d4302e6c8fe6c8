"""Sends violations to a webhook.  What was not taken is tried again by the line, under the same ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import structlog

from agent.model import Evaluation, Outcome, Resource
from agent.pipeline import SinkUnavailable
from agent.plugins import Surroundings
from agent.sinks.http import OUTCOMES, Endpoint, Reply
from agent.sinks.receiver import FileProblem, content_of
from agent.sinks.webhook.config import WebhookConfig
from agent.sinks.webhook.message import (
    Item,
    cloud_events,
    keys_of,
    ocsf_documents,
    pack_id,
    packed,
    signature,
)

log = structlog.get_logger("reeve.webhook")


class WebhookSink:
    """Packs documents, signs and sends them."""

    def __init__(self, config: WebhookConfig, name: str, surroundings: Surroundings) -> None:
        self.name = name
        self._config = config
        self._node = surroundings.node
        self._identify = surroundings.identify or _same
        self._endpoint = Endpoint(config.url, config, name)
        self._is_list = config.format == "ocsf" or config.mode == "batched"
        self._content_type = {
            ("cloudevents", "structured"): "application/cloudevents+json; charset=UTF-8",
            ("cloudevents", "batched"): "application/cloudevents-batch+json; charset=UTF-8",
        }.get((config.format, config.mode), "application/json")

    async def open(self) -> None:
        await asyncio.to_thread(self._endpoint.check)
        await asyncio.to_thread(self._keys)

    def _keys(self) -> list[bytes]:
        """Blocks.  Raises FileProblem."""
        path = self._config.hmac_key_file
        if path is None:
            return []
        try:
            return keys_of(content_of(path))
        except ValueError as error:
            raise FileProblem(f"{path}: {error}") from None

    def _items(self, evaluations: Sequence[Evaluation], outcomes: list[Outcome]) -> Iterator[Item]:
        """Documents of all results to tell.  One that fits no request is rejected."""
        config = self._config
        limit = config.batch_bytes - 2  # brackets of a list
        for index, evaluation in enumerate(evaluations):
            results = config.chosen(evaluation)
            if not results:
                continue
            resource = self._identify(evaluation.event.resource)
            if config.format == "ocsf":
                documents = ocsf_documents(evaluation, results, resource, limit)
            else:
                documents = cloud_events(evaluation, results, resource, self._node, limit)
            for name, content in documents:
                if content is None:
                    outcomes[index] = max(outcomes[index], Outcome.REJECTED)
                    log.error("A violation is larger than batch_bytes and is not sent.", sink=self.name, id=name)
                else:
                    yield Item(index, name, content)

    async def write(self, evaluations: Sequence[Evaluation]) -> Sequence[Outcome]:
        outcomes = [Outcome.DELIVERED] * len(evaluations)
        items = self._items(evaluations, outcomes)
        most = self._config.batch_events if self._is_list else 1
        why, is_any_settled = "", False
        for pack in packed(items, most, self._config.batch_bytes):
            for part, reply in [(pack, Reply("later", 0, why))] if why else await self._send(pack):
                why = reply.why if reply.kind == "later" else why
                is_any_settled = is_any_settled or reply.kind != "later"
                for item in part:
                    outcomes[item.index] = max(outcomes[item.index], OUTCOMES[reply.kind])
        if why and not is_any_settled:
            raise SinkUnavailable(why)
        return outcomes

    async def _send(self, pack: list[Item]) -> list[tuple[list[Item], Reply]]:
        """One request; if it is too large for the receiver, its halves."""
        contents = [item.content for item in pack]
        body = b"[" + b",".join(contents) + b"]" if self._is_list else contents[0]
        try:
            keys = await asyncio.to_thread(self._keys)
        except FileProblem as problem:
            return [(pack, Reply("later", 0, str(problem)))]
        message_id, timestamp = pack_id(pack), int(time.time())
        headers = {
            "Content-Type": self._content_type,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
        }
        if keys:
            headers["webhook-signature"] = signature(keys, message_id, timestamp, body)
        reply = await self._endpoint.send(body, headers)
        if reply.status == 413 and len(pack) > 1:
            middle = len(pack) // 2
            return await self._send(pack[:middle]) + await self._send(pack[middle:])
        return [(pack, reply)]

    async def close(self) -> None:
        await asyncio.to_thread(self._endpoint.close)


def _same(resource: Resource) -> Resource:
    return resource


def build(config: WebhookConfig, name: str, surroundings: Surroundings) -> WebhookSink:
    return WebhookSink(config, name, surroundings)
