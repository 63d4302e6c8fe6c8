"""Masked network, HTTP and DNS events to findings.  Knows no policy: who may do this is not its question.

    LLM_PROVIDER_LOOKUP        a name of a provider was asked for; likewise MODEL_HUB, OBSERVABILITY, VECTOR_DATABASE
    LLM_PROVIDER_EGRESS        a provider was contacted, or would have been had it not been denied
    UNNAMED_WORLD_EGRESS       a connection out of the cluster to an address nobody asked a name for
    PLAINTEXT_LLM_CALL         a request of a model's API that an observer could read
    MODEL_SERVER_CROSS_NAMESPACE, VECTOR_DATABASE_CROSS_NAMESPACE   a server was called from another namespace
    MODEL_SERVER_FROM_WORLD, VECTOR_DATABASE_FROM_WORLD             or from outside of the cluster
    DENIED_BURST               many refusals, or refusals by many, of one workload in two minutes

`rule` is the catalogue's id.  A name seen in DNS is a candidate: behind a CDN others share the address, so the score
is lower the more names there are that no such provider has.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.detectors.traffic.catalogue import Catalogue, Entry, catalogue_files, entries_of
from agent.detectors.traffic.config import TrafficConfig
from agent.model import DnsActivity, Endpoint, Event, Finding, HttpActivity, NetworkActivity
from agent.plugins import Surroundings

NAME = "traffic"
_SERVERS = {"model-server": "MODEL_SERVER", "vector-database": "VECTOR_DATABASE"}
_LABELS = ("app", "app.kubernetes.io/name", "app.kubernetes.io/component", "serving.kserve.io/inferenceservice")
_SURE, _LIKELY, _POSSIBLE, _HEARSAY = 1.0, 0.9, 0.5, 0.3


class TrafficDetector:
    """An `EventDetector`."""

    def __init__(self, config: TrafficConfig, catalogue: Catalogue) -> None:
        self.name = NAME
        self._config = config
        self._catalogue = catalogue

    def examine(self, event: Event) -> Sequence[Finding]:
        """Findings of one event; empty for all other classes."""
        match event.body:
            case NetworkActivity() as network:
                return self._network(network)
            case HttpActivity() as http:
                return self._http(http)
            case DnsActivity() as dns if not dns.is_response:
                entry = self._catalogue.of_host(str(dns.query))
                if entry is not None:
                    return [_finding(f"{_word(entry)}_LOOKUP", entry.id, "dns.query", _SURE)]
        return ()

    def _network(self, network: NetworkActivity) -> list[Finding]:
        found: list[Finding] = []
        if network.is_reply:
            return found
        if self._is_burst(network):
            found.append(_finding("DENIED_BURST", "denied-burst", "network.denials", _SURE))
        if network.is_repeat:
            return found  # what there is to say of the connection was said at its first sighting
        destination = network.destination
        if network.direction != "ingress":
            found += self._egress(destination)
            is_outward = destination.is_world and network.action in ("flow", "connect")
            if is_outward and not destination.names and destination.address:
                found.append(_finding("UNNAMED_WORLD_EGRESS", "no-name", "network.destination", _LIKELY))
        if network.action in ("flow", "connect") and (
            network.is_opening or network.observation == "policy-verdict" or network.verdict == "dropped"
        ):
            found += self._access(network.source, destination, "network.destination")
        return found

    def _is_burst(self, network: NetworkActivity) -> bool:
        """At the threshold, and at each doubling of it: a burst is told a few times, not once for each packet."""
        config = self._config
        return (network.is_denial_peak and _is_step(network.denials, config.denied_count)) or (
            network.is_destination_peak and _is_step(network.denied_destinations, config.denied_destinations)
        )

    def _http(self, http: HttpActivity) -> list[Finding]:
        found: list[Finding] = []
        if http.is_response:
            return found
        entry = self._catalogue.of_host(http.host) if http.host else None
        if http.direction != "ingress":
            if entry is not None:
                found.append(_finding(f"{_word(entry)}_EGRESS", entry.id, "http.host", _SURE))
            else:
                found += self._egress(http.destination, field="http.destination")
        is_model_call = http.method in ("", "POST") and self._is_model_call(http)
        if is_model_call:
            rule = "to-the-world" if http.destination.is_world else "in-the-cluster"
            found.append(_finding("PLAINTEXT_LLM_CALL", rule, "http.path", _SURE))
        access = self._access(http.source, http.destination, "http.destination")
        if not access and is_model_call and _is_foreign(http.source, http.destination):
            access = [_finding("MODEL_SERVER_CROSS_NAMESPACE", "model-api", "http.path", _LIKELY)]
        return found + access

    def _is_model_call(self, http: HttpActivity) -> bool:
        """By a path that only such APIs have, or by one of the server's own where the server is known."""
        path, server = str(http.path), http.destination
        if self._catalogue.is_model_path(path):
            return True
        entry = self._catalogue.of_server(_names(server), server.port)
        return entry is not None and path in entry.own_paths

    def _egress(self, end: Endpoint, field: str = "network.destination") -> list[Finding]:
        entries = [self._catalogue.of_host(name) for name in end.names]
        known = {entry.id: entry for entry in entries if entry is not None}
        score = _LIKELY if None not in entries else _POSSIBLE
        if end.names_origin == "dns-node":
            score = _HEARSAY  # another pod asked for the name; behind a CDN the address is anybody's
        return [_finding(f"{_word(entry)}_EGRESS", entry.id, field, score) for entry in known.values()]

    def _access(self, client: Endpoint, server: Endpoint, field: str) -> list[Finding]:
        """A model server or vector database that is called from elsewhere."""
        if not server.namespace:
            return []
        entry = self._catalogue.of_server(_names(server), server.port)
        if entry is None or entry.kind not in _SERVERS:
            return []
        word = _SERVERS[entry.kind]
        if client.is_world:
            return [_finding(f"{word}_FROM_WORLD", entry.id, field, _LIKELY)]
        if _is_foreign(client, server):
            return [_finding(f"{word}_CROSS_NAMESPACE", entry.id, field, _LIKELY)]
        return []


def _names(server: Endpoint) -> list[str]:
    """What a server goes by: workload, pod, labels that name an app."""
    names = (server.workload, server.pod, *(server.labels.get(label, "") for label in _LABELS))
    return [name for name in names if name]


def _is_foreign(client: Endpoint, server: Endpoint) -> bool:
    return bool(client.namespace and server.namespace) and client.namespace != server.namespace


def _is_step(count: int, threshold: int) -> bool:
    """Whether a count is the threshold, or twice it, or four times ..."""
    whole, rest = divmod(count, threshold)
    return count > 0 and rest == 0 and whole & (whole - 1) == 0 and whole > 0


def _word(entry: Entry) -> str:
    return entry.kind.upper().replace("-", "_")


def _finding(entity: str, rule: str, field: str, score: float) -> Finding:
    return Finding(
        kind="threat", entity=entity, detector=NAME, score=score, field=field, direction="network", rule=rule
    )


def build(config: TrafficConfig, name: str, surroundings: Surroundings) -> TrafficDetector:
    """Raises Problems if a catalogue document is wrong."""
    del name
    return TrafficDetector(config, Catalogue(entries_of(catalogue_files(surroundings.rules))))
