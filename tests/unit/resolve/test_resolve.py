"""agent.resolve.names, .denials, .packets, .resolver: what earlier events tell about a later one."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.model import DnsActivity, Endpoint, Event, HttpActivity, NetworkActivity, Resource, Sensitive
from agent.resolve import DenialWindow, NameTable, RefusedPackets, Resolver, without_search_domain

HOUR = 3600 * 1_000_000_000
POD = ("rag", "api-0")


def event(body, when=0, **resource) -> Event:
    owner = Resource(**{"namespace": "rag", "pod": "api-0", "node": "n", **resource})
    return Event(id="1", source="hubble", body=body, resource=owner, time_unix_nano=when)


def answer(name="api.openai.com", addresses=("203.0.113.7",), pod="api-0", ttl=5, **more):
    source = Endpoint(namespace="rag", pod=pod)
    return DnsActivity(
        query=Sensitive(name), is_response=True, addresses=addresses, ttl_seconds=ttl, source=source, **more
    )


def flow(address="203.0.113.7", **more):
    return NetworkActivity(
        action="flow",
        source=Endpoint(namespace="rag", pod="api-0"),
        destination=Endpoint(address=address, port=443),
        **more,
    )


def test_a_name_outlives_its_ttl_but_not_a_day():
    table = NameTable()
    table.learn(POD, ["a.example"], ["1.1.1.1"], 5, 0)
    assert table.names(POD, "1.1.1.1", HOUR - 1) == (("a.example",), "dns")
    assert table.names(POD, "1.1.1.1", HOUR + 1) == ((), "")
    table.learn(POD, ["b.example"], ["1.1.1.2"], 2**31, 0)
    assert table.names(POD, "1.1.1.2", 24 * HOUR + 1) == ((), "")


def test_all_names_of_an_address_are_candidates_the_newest_first():
    table = NameTable()
    for name in ("a", "b", "a", "c"):
        table.learn(POD, [name], ["1.1.1.1"], 60, 0)
    assert table.names(POD, "1.1.1.1", 1)[0] == ("c", "a", "b")


def test_what_others_asked_for_is_less_sure_and_says_so():
    table = NameTable()
    table.learn(("rag", "other"), ["a.example"], ["1.1.1.1"], 60, 0)
    assert table.names(POD, "1.1.1.1", 1) == (("a.example",), "dns-node")


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=200))
def test_the_table_stays_bounded(lookups):
    table = NameTable(entries=10)
    for pod, name, address in lookups:
        table.learn(("ns", str(pod)), [str(name)], [str(address)], 60, 0)
    assert len(table) <= 20
    assert all(len(names) <= 8 for names in table._own.values())


def test_search_domains_are_taken_off():
    def meant(query, *others):
        return without_search_domain(query, "rag", "cluster.local", others)

    assert meant("api.openai.com.rag.svc.cluster.local.") == "api.openai.com"
    assert meant("api.openai.com.svc.cluster.local") == "api.openai.com"
    assert meant("api.openai.com.cluster.local") == "api.openai.com"
    assert meant("huggingface.co.eu-west-1.compute.internal", "eu-west-1.compute.internal") == "huggingface.co"
    # Services' own names stay.
    assert meant("vllm.models.svc.cluster.local.") == "vllm.models.svc.cluster.local"
    assert meant("redis.rag.svc.cluster.local") == "redis.rag.svc.cluster.local"
    assert meant("vllm.models.rag.svc.cluster.local") == "vllm.models"
    assert meant("api.openai.com.") == "api.openai.com"


def test_a_flow_gets_the_names_its_pod_asked_for():
    resolver = Resolver()
    resolver(event(answer(cnames=("edge.cdn.example",))))
    named = resolver(event(flow(), when=1000)).body.destination
    assert (named.names, named.names_origin) == (("api.openai.com", "edge.cdn.example"), "dns")
    assert resolver(event(flow("203.0.113.8"))).body.destination.names == ()
    # Names that the observer gave are kept; the pod's own answers join them.
    body = flow()
    body = msgspec.structs.replace(
        body, destination=msgspec.structs.replace(body.destination, names=("x.example",), names_origin="observer")
    )
    assert resolver(event(body)).body.destination.names == ("x.example", "api.openai.com", "edge.cdn.example")


def test_a_connect_of_another_observer_gets_them_too():
    resolver = Resolver()
    resolver(event(answer()))
    connect = NetworkActivity(
        action="connect", source=Endpoint(), destination=Endpoint(address="203.0.113.7", port=443)
    )
    assert resolver(event(connect)).body.destination.names == ("api.openai.com",)
    other = event(connect, pod="other")
    assert resolver(other).body.destination.names_origin == "dns-node"


def test_an_answer_of_nothing_teaches_nothing():
    resolver = Resolver()
    resolver(event(answer(addresses=(), response_code=3, ttl=0)))
    resolver(event(answer(response_code=3)))
    assert len(resolver.names) == 0


def test_incoming_connections_and_pods_get_no_names():
    resolver = Resolver()
    resolver(event(answer()))
    assert resolver(event(flow(direction="ingress"))).body.destination.names == ()
    http = HttpActivity(destination=Endpoint(address="203.0.113.7", pod="vllm-0"))
    assert resolver(event(http)).body.destination.names == ()
    http = HttpActivity(destination=Endpoint(address="203.0.113.7"))
    assert resolver(event(http)).body.destination.names == ("api.openai.com",)


def test_a_lookup_is_judged_by_the_name_that_was_meant():
    body = DnsActivity(query=Sensitive("api.openai.com.rag.svc.cluster.local"), source=Endpoint(namespace="rag"))
    resolved = Resolver()(event(body)).body
    assert (resolved.query.reveal(), resolved.is_search) == ("api.openai.com", True)


def test_a_name_that_has_addresses_is_meant_as_it_stands():
    body = answer("web-0.nginx.rag.svc.cluster.local", addresses=("10.1.2.3",))
    assert Resolver()(event(body)).body.query.reveal() == "web-0.nginx.rag.svc.cluster.local"


def dropped(port=1, to="10.0.0.9", observation="policy-verdict", reason="policy_denied"):
    return NetworkActivity(
        action="flow",
        source=Endpoint(namespace="sandbox", pod="n-0", workload="n", address="10.0.0.1", port=port),
        destination=Endpoint(address=to, port=80),
        verdict="dropped",
        drop_reason=reason,
        observation=observation,
    )


def test_refusals_are_counted_in_a_window():
    resolver = Resolver()
    counts = []
    for number in range(6):
        body = resolver(event(dropped(number, f"10.0.0.{number % 3}"), when=number * 30_000_000_000)).body
        counts.append((body.denials, body.denied_destinations))
    assert counts == [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (5, 3)]  # the first is out of the window by then
    assert resolver(event(dropped(9, reason="ttl_exceeded"))).body.denials == 0


def test_a_verdict_and_a_drop_of_one_packet_are_one_refusal():
    resolver = Resolver()
    first = resolver(event(dropped(), when=10)).body
    second = resolver(event(dropped(observation="drop"), when=20)).body
    assert (first.denials, second.denials) == (1, 0)
    retry = resolver(event(dropped(), when=3_000_000_000)).body
    assert retry.denials == 2


def test_a_retry_of_the_same_kind_is_no_second():
    packets = RefusedPackets()
    assert [packets.is_second(event(dropped(), when=number)) for number in range(3)] == [False, False, False]
    assert not packets.is_second(event(dropped(observation="drop"), when=5_000_000_000))
    assert packets.is_second(event(dropped(observation="policy-verdict"), when=5_000_000_001))


def test_refused_packets_and_clients_stay_bounded():
    packets, window = RefusedPackets(packets=5), DenialWindow(clients=5)
    for number in range(50):
        packets.is_second(event(dropped(number)))
        window.add(str(number), "x", number)
    assert len(packets._first) <= 5
    assert len(window._clients) <= 5
    for number in range(5000):
        denial = window.add("one", str(number), number)
    assert denial.refusals == 2048
    assert not denial.is_count_peak  # it cannot grow any more, and is not told again and again


def test_a_steady_trickle_peaks_once_and_a_new_burst_again():
    window, second = DenialWindow(), 1_000_000_000
    peaks = [number for number in range(1000) if window.add("a", "x", int(number * 6.2 * second)).is_count_peak]
    assert peaks == list(range(len(peaks)))
    assert len(peaks) <= 21
    later = 10_000 * second  # quiet for long: the next burst counts from its own beginning
    again = [window.add("a", "x", later + number).is_count_peak for number in range(30)]
    assert again == [True] * 30


def test_a_repeated_destination_does_not_hide_a_scan():
    window = DenialWindow()
    targets = [str(number // 2) for number in range(40)]  # each tried twice, as TCP does
    told = [
        denial.destinations
        for number, target in enumerate(targets)
        if (denial := window.add("a", target, number)).is_destination_peak
    ]
    assert told == list(range(1, 21))


def test_sightings_of_one_connection_after_the_first_are_repeats():
    resolver = Resolver()

    def is_repeat(when, verdict="forwarded", port=4711, opening=True, source="hubble"):
        body = NetworkActivity(
            action="flow",
            source=Endpoint(address="10.0.0.1", port=port),
            destination=Endpoint(address="10.0.0.2", port=443),
            verdict=verdict,
            is_opening=opening,
        )
        return resolver(msgspec.structs.replace(event(body, when=when), source=source)).body.is_repeat

    assert not is_repeat(1, opening=False)  # a packet amid a connection says less than its beginning
    assert [is_repeat(1), is_repeat(2, "redirected"), is_repeat(3), is_repeat(3, port=4712)] == [
        False,
        True,
        True,
        False,
    ]
    assert is_repeat(4, opening=False)
    assert not is_repeat(3, "dropped")
    assert not is_repeat(60_000_000_000)
    assert not is_repeat(60_000_000_001, source="tetragon")  # another observer knows other things of it
