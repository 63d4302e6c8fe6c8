"""Passive DNS: which names an address was given for, to whom.

Fed by answers that any source saw.  Observers forget names minutes after a lookup while connections live on, so a name
is kept at least an hour; an address behind a CDN has many names, so all of them are candidates and none is certain.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeAlias

Client: TypeAlias = tuple[str, str]
"""Namespace and pod."""

_FLOOR_SECONDS, _CEILING_SECONDS = 3600, 86_400
_ENTRIES = 32_768
_NAMES = 8  # for one address


class NameTable:
    """Names by client and address, and by address alone; the entries used longest ago are forgotten first."""

    def __init__(self, entries: int = _ENTRIES, floor_seconds: int = _FLOOR_SECONDS) -> None:
        self._limit = entries
        self._floor = floor_seconds
        self._own: OrderedDict[tuple[Client, str], dict[str, int]] = OrderedDict()  # name -> end, nanoseconds
        self._anyone: OrderedDict[str, dict[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._own) + len(self._anyone)

    def learn(
        self, client: Client, names: Iterable[str], addresses: Iterable[str], ttl_seconds: int, now_unix_nano: int
    ) -> None:
        """An answer: each of `addresses` stands for each of `names` for this client."""
        seconds = min(max(ttl_seconds, self._floor), _CEILING_SECONDS)
        end = now_unix_nano + seconds * 1_000_000_000
        names = list(names)
        for address in addresses:
            self._add(self._own, (client, address), names, end)
            self._add(self._anyone, address, names, end)

    def names(self, client: Client, address: str, now_unix_nano: int) -> tuple[tuple[str, ...], str]:
        """Candidate names, the newest answer's first, and whose answers gave them: `dns` the client's own, `dns-node`
        anyone's on this node, or nothing."""
        found = self._valid(self._own, (client, address), now_unix_nano)
        if found:
            return found, "dns"
        found = self._valid(self._anyone, address, now_unix_nano)
        return found, "dns-node" if found else ""

    def _add(self, table: OrderedDict, key: object, names: list[str], end: int) -> None:  # type: ignore[type-arg]
        known: dict[str, int] = table.pop(key, {})
        for name in names:
            known.pop(name, None)  # to the end: the newest
            known[name] = end
        while len(known) > _NAMES:
            del known[next(iter(known))]
        table[key] = known
        while len(table) > self._limit:
            table.popitem(last=False)

    def _valid(self, table: OrderedDict, key: object, now: int) -> tuple[str, ...]:  # type: ignore[type-arg]
        known: dict[str, int] | None = table.get(key)
        if known is None:
            return ()
        table.move_to_end(key)
        return tuple(name for name, end in reversed(known.items()) if end > now)


def without_search_domain(query: str, namespace: str, cluster_domain: str, others: Iterable[str] = ()) -> str:
    """The name that was meant by a lookup which a resolver's search list made longer.

    A pod in `rag` that wants `api.openai.com` asks for `api.openai.com.rag.svc.cluster.local` first.  A service's own
    name (`vllm.models.svc.cluster.local`) stays.
    """
    name = query.rstrip(".").lower()
    if namespace and (rest := _cut(name, f".{namespace}.svc.{cluster_domain}")) and "." in rest:
        return rest
    if (rest := _cut(name, f".svc.{cluster_domain}")) and rest.count(".") >= 2:
        return rest
    if (rest := _cut(name, f".{cluster_domain}")) and "." in rest and not rest.endswith((".svc", ".pod")):
        return rest
    for domain in others:
        if (rest := _cut(name, f".{domain.strip('.').lower()}")) and "." in rest:
            return rest
    return query.rstrip(".")


def _cut(name: str, suffix: str) -> str:
    return name[: -len(suffix)] if name.endswith(suffix) else ""
