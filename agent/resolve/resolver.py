"""Fills in what an event cannot know of itself: names of an address, the meant name of a lookup, earlier refusals."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.model import DnsActivity, Endpoint, Event, HttpActivity, NetworkActivity, Resource, Sensitive
from agent.resolve.denials import DenialWindow
from agent.resolve.names import NameTable, without_search_domain
from agent.resolve.packets import Connections, RefusedPackets
from agent.resolve.twins import Twins

_NAMES = 8
# Cilium's reasons for a packet that a policy refused; an observer that gives none counts too.
_REFUSALS = frozenset({"", "policy_denied", "policy_deny", "auth_required"})


class Resolver:
    """`resolver(event)` gives the event to judge, or None for one that another source has told.  Not for several
    threads at once."""

    def __init__(self, cluster_domain: str = "cluster.local", search_domains: Sequence[str] = ()) -> None:
        self._domain = cluster_domain.strip(".").lower()
        self._search = tuple(search_domains)
        self.names = NameTable()
        self.denials = DenialWindow()
        self._refused = RefusedPackets()
        self._connections = Connections()
        self._twins = Twins()

    def __call__(self, event: Event) -> Event | None:
        if self._twins.is_told(event):
            return None
        match event.body:
            case DnsActivity() as dns:
                return self._lookup(event, dns)
            case NetworkActivity() as network:
                return self._connection(event, network)
            case HttpActivity(destination=destination):
                named = self._named(destination, event)
                return event if named is destination else _with(event, destination=named)
        return event

    def _lookup(self, event: Event, dns: DnsActivity) -> Event:
        query = dns.query.reveal() if isinstance(dns.query, Sensitive) else dns.query
        meant = query.rstrip(".")
        if not dns.addresses:  # a name that has addresses is one, such as web-0.nginx.shop.svc.cluster.local
            meant = without_search_domain(query, dns.source.namespace, self._domain, self._search)
        if dns.is_response and dns.addresses and not dns.response_code:
            client = (dns.source.namespace, dns.source.pod)
            # The name that was asked for comes last: the newest one is named first.
            names = [*(name.lower() for name in reversed(dns.cnames)), meant.lower()]
            self.names.learn(client, names, dns.addresses, dns.ttl_seconds, event.time_unix_nano)
        if meant == query:
            return event
        return _with(event, query=Sensitive(meant), is_search=True)

    def _connection(self, event: Event, network: NetworkActivity) -> Event:
        changes: dict[str, object] = {}
        if network.direction != "ingress":
            named = self._named(network.destination, event)
            if named is not network.destination:
                changes["destination"] = named
        if self._connections.is_repeat(event, network):
            changes["is_repeat"] = True
        if network.drop_reason in _REFUSALS and network.verdict == "dropped" and not self._refused.is_second(event):
            to = network.destination
            denial = self.denials.add(
                _client(network.source, event.resource), f"{to.address or to.pod}:{to.port}", event.time_unix_nano
            )
            changes |= {
                "denials": denial.refusals,
                "denied_destinations": denial.destinations,
                "is_denial_peak": denial.is_count_peak,
                "is_destination_peak": denial.is_destination_peak,
                "window_seconds": self.denials.window_seconds,
            }
        return _with(event, **changes) if changes else event

    def _named(self, end: Endpoint, event: Event) -> Endpoint:
        """The destination with what its address was asked for under."""
        if not end.address or end.pod:
            return end
        resource = event.resource
        names, origin = self.names.names((resource.namespace, resource.pod), end.address, event.time_unix_nano)
        if not names:
            return end
        if end.names:
            together = tuple(dict.fromkeys((*end.names, *(names if origin == "dns" else ()))))[:_NAMES]
            return end if together == end.names else msgspec.structs.replace(end, names=together)
        return msgspec.structs.replace(end, names=names, names_origin=origin)


def _client(end: Endpoint, resource: Resource) -> str:
    """Whose refusals these are: a workload's pods count together."""
    name = end.workload or end.pod or end.address or resource.workload or resource.pod
    return f"{end.namespace or resource.namespace}/{name}"


def _with(event: Event, **changes: object) -> Event:
    return msgspec.structs.replace(event, body=msgspec.structs.replace(event.body, **changes))
