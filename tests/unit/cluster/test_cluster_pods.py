"""agent.cluster: .pods, .workload, .identity: from container, uid, address or name to whose fact it is."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.identity import Identity
from agent.cluster.pods import MOST_GONE, MOST_PODS, PodTable, pod_from
from agent.cluster.workload import workload_of
from agent.model import Endpoint, Event, LogRecord, NetworkActivity, Resource
from tests.unit.cluster.apiserver import container_id, pod


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return PodTable(600, clock)


def test_a_pod_is_found_by_everything_that_names_it(table):
    table.put(pod(1, containers=("app", "proxy")))
    found, container = table.by_container(container_id(1, 1))
    assert (found.name, container.name, container.image_digest) == ("pod-1", "proxy", "sha256:" + "ab" * 32)
    assert table.by_container(container_id(1, 1)[:31]) is not None  # as Tetragon cuts it
    assert table.by_container(container_id(1, 1)[:8]) is None  # too short to name one
    assert table.by_uid("uid-0001").service_account == "reader"
    assert table.by_address("10.0.0.2").name == "pod-1"
    assert table.by_name("ns", "pod-1").uid == "uid-0001"
    assert table.by_name("other", "pod-1") is None


def test_a_pod_that_is_gone_is_remembered_for_a_while(table, clock):
    table.put(pod(1))
    table.remove(pod(1))
    assert len(table) == 0
    clock.now += 599
    assert table.by_container(container_id(1))[0].name == "pod-1"
    clock.now += 2
    assert table.by_uid("uid-0001") is None
    assert table.by_container(container_id(1)) is None


def test_an_address_that_is_used_again_is_the_new_pods(table):
    table.put(pod(1))
    table.remove(pod(1))
    table.put(pod(2, podIPs=[{"ip": "10.0.0.2"}]))
    assert table.by_address("10.0.0.2").name == "pod-2"
    table.put(pod(3, podIPs=[{"ip": "10.0.0.2"}], phase="Succeeded"))  # ended before, told late
    assert table.by_address("10.0.0.2").name == "pod-2"
    table.remove(pod(2, podIPs=[{"ip": "10.0.0.2"}]))
    assert table.by_address("10.0.0.2").gone_at


def test_a_name_that_is_used_again_is_the_new_pods_and_the_uid_the_old_ones(table):
    table.put(pod(1))
    table.remove(pod(1))
    table.put(pod(2, metadata={"name": "pod-1"}))
    assert table.by_name("ns", "pod-1").uid == "uid-0002"
    assert table.by_uid("uid-0001").name == "pod-1"


def test_containers_before_a_restart_still_name_the_pod(table):
    for restart in range(3):
        table.put(pod(1, restart=restart))
    assert [table.by_container(container_id(1, restart=one))[1].restart for one in range(3)] == [0, 1, 2]


def test_an_address_of_the_node_is_no_pods(table):
    table.put(pod(1, spec={"hostNetwork": True}))
    assert table.by_address("10.0.0.2") is None


def test_a_static_pod_is_known_by_what_the_kubelet_calls_it(table):
    table.put(pod(1, metadata={"annotations": {"kubernetes.io/config.mirror": "f" * 32}}))
    assert table.by_uid("f" * 32).name == "pod-1"
    table.remove(pod(1, metadata={"annotations": {"kubernetes.io/config.mirror": "f" * 32}}))
    assert len(table) == 0


def test_a_list_buries_what_is_not_in_it(table):
    table.put(pod(1))
    table.put(pod(2))
    table.replace([pod(2), pod(3)])
    assert len(table) == 2
    assert table.gone == 1
    assert table.by_uid("uid-0001").gone_at


def test_ten_thousand_changes_cost_bounded_memory(table, clock):
    def churn(first):
        for number in range(first, first + 10_000):
            table.put(pod(number, restart=0))
            table.put(pod(number, restart=1))
            table.remove(pod(number))
            clock.now += 0.1

    churn(0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(10_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert table.gone <= MOST_GONE
    assert len(table._by_container) <= 4 * MOST_GONE
    assert grown < 4 * 1024 * 1024


def test_pods_over_the_limit_are_counted(table):
    table.replace([pod(number) for number in range(MOST_PODS + 3)])
    assert (len(table), table.left_out) == (MOST_PODS, 3)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "metadata",
                        "spec",
                        "status",
                        "uid",
                        "name",
                        "namespace",
                        "labels",
                        "annotations",
                        "ownerReferences",
                        "podIPs",
                        "ip",
                        "containerStatuses",
                        "containerID",
                        "imageID",
                        "lastState",
                        "terminated",
                        "kind",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=30,
    )
)
def test_no_object_is_too_odd(item):
    made = pod_from({"metadata": item, "spec": item, "status": item} if not isinstance(item, dict) else item)
    assert made is None or (made.uid and made.name)


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        (("ReplicaSet", "vllm-7d9c5"), {"pod-template-hash": "7d9c5"}, ("Deployment", "vllm")),
        (("ReplicaSet", "vllm-7d9c5"), {}, ("ReplicaSet", "vllm-7d9c5")),
        (("Job", "report-28876543"), {}, ("CronJob", "report")),
        (("Job", "migrate-db"), {}, ("Job", "migrate-db")),
        (("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        (("Node", "n1"), {}, ("Pod", "p")),
        (None, {}, ("Pod", "p")),
    ],
)
def test_the_workload_is_told_by_the_pod_alone(owner, labels, expected):
    metadata = {"name": "p"}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    assert workload_of(metadata, labels) == expected


def event(resource, body=None):
    return Event(id="1", source="cri", body=body or LogRecord(text="x"), resource=resource)


def test_an_event_gets_what_its_source_could_not_know(table):
    table.put(pod(1, containers=("app",), owner=("DaemonSet", "vllm")))
    identity = Identity(table, lambda: True)
    from_log = identity(event(Resource(node="n1", namespace="ns", pod="pod-1", pod_uid="uid-0001", container="app")))
    from_probe = identity(event(Resource(node="n1", container_id=container_id(1))))
    for one in (from_log.resource, from_probe.resource):
        assert (one.namespace, one.pod, one.container, one.workload_kind, one.workload) == (
            "ns",
            "pod-1",
            "app",
            "DaemonSet",
            "vllm",
        )
        assert one.labels == {"app": "vllm"}
        assert one.image_digest == "sha256:" + "ab" * 32
        assert one.service_account == "reader"
    assert not identity.unknown


def test_the_same_resource_becomes_the_same_object_until_the_pod_changes(table):
    table.put(pod(1))
    identity = Identity(table, lambda: True)
    resource = Resource(node="n1", container_id=container_id(1))
    first = identity(event(resource)).resource
    assert identity(event(resource)).resource is first
    table.put(pod(1, metadata={"labels": {"app": "other"}}))
    assert identity(event(resource)).resource.labels == {"app": "other"}


def test_what_is_unknown_stays_unknown_and_is_counted_and_known_later(table):
    identity = Identity(table, lambda: True)
    resource = Resource(node="n1", container_id=container_id(1))
    assert identity(event(resource)).resource is resource
    assert identity.unknown == {"not_in_cluster": 1}
    table.put(pod(1))
    assert identity(event(resource)).resource.pod == "pod-1"
    assert Identity(PodTable(), lambda: False)(event(resource)).resource is resource


def test_a_host_process_is_nobody_unknown(table):
    identity = Identity(table, lambda: True)
    resource = Resource(node="n1")
    assert identity(event(resource)).resource is resource
    assert not identity.unknown


def test_a_name_of_another_uid_is_another_pod(table):
    table.put(pod(1))
    identity = Identity(table, lambda: True)
    older = Resource(node="n1", namespace="ns", pod="pod-1", pod_uid="an-older-uid")
    assert identity(event(older)).resource is older


def test_addresses_of_a_connection_get_their_pods(table):
    table.put(pod(1, owner=("StatefulSet", "llm")))
    identity = Identity(table, lambda: True)
    body = NetworkActivity(
        action="connect", source=Endpoint(address="9.9.9.9"), destination=Endpoint(address="10.0.0.2", port=8000)
    )
    made = identity(event(Resource(node="n1"), body)).body
    assert (made.destination.pod, made.destination.workload) == ("pod-1", "llm")
    assert made.source == body.source
