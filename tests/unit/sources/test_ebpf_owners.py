"""agent.sources.ebpf.owners: whose a process is, from what the node keeps on disk."""

import json

import pytest

from agent.model import Resource
from agent.sources.ebpf import owners as module
from agent.sources.ebpf.cgroups import Place
from agent.sources.ebpf.owners import Owners

UID = "5a4f2cf0-6a2e-4f0c-9a5c-0a3c1f9e2b11"
ONE = "a" * 64


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def containerd(root, annotations, container=ONE):
    path = root / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / container / "config.json"
    write(path, json.dumps({"annotations": annotations}))


def crio(root, annotations, container=ONE):
    path = root / "run/containers/storage/overlay-containers" / container / "userdata/config.json"
    write(path, json.dumps({"annotations": annotations}))


def cgroup(root, pid, path):
    write(root / "proc" / str(pid) / "cgroup", f"0::{path}\n")


def test_containerd_s_note_names_pod_container_and_image(tmp_path):
    containerd(
        tmp_path,
        {
            "io.kubernetes.cri.sandbox-namespace": "rag",
            "io.kubernetes.cri.sandbox-name": "api-0",
            "io.kubernetes.cri.sandbox-uid": UID,
            "io.kubernetes.cri.container-name": "app",
            "io.kubernetes.cri.image-name": "registry.example/app:1",
        },
    )
    cgroup(tmp_path, 7, f"/kubepods/pod{UID}/{ONE}")
    assert Owners("node-1", tmp_path).of_pid(7) == Resource(
        node="node-1",
        namespace="rag",
        pod="api-0",
        pod_uid=UID,
        container="app",
        container_id=ONE,
        image="registry.example/app:1",
    )


def test_cri_o_s_note_brings_the_pod_s_labels(tmp_path):
    crio(
        tmp_path,
        {
            "io.kubernetes.pod.namespace": "rag",
            "io.kubernetes.pod.name": "api-0",
            "io.kubernetes.pod.uid": UID,
            "io.kubernetes.container.name": "app",
            "io.kubernetes.cri-o.ImageName": "registry.example/app:1",
            "io.kubernetes.cri-o.Labels": json.dumps({"app": "api", "io.kubernetes.pod.name": "api-0", "odd": 1}),
        },
    )
    owner = Owners("node-1", tmp_path).of_place(Place("", ONE))
    assert (owner.namespace, owner.pod, owner.pod_uid, owner.container) == ("rag", "api-0", UID, "app")
    assert owner.labels == {"app": "api"}


def test_k3s_keeps_its_notes_elsewhere(tmp_path):
    path = tmp_path / "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io" / ONE / "config.json"
    write(path, json.dumps({"annotations": {"io.kubernetes.cri.sandbox-name": "api-0"}}))
    assert Owners("n", tmp_path).of_place(Place(UID, ONE)).pod == "api-0"


def test_the_kubelet_s_folder_names_a_pod_without_a_note(tmp_path):
    (tmp_path / "var/log/pods" / f"rag_api-0_{UID}").mkdir(parents=True)
    (tmp_path / "var/log/pods" / "rag_other_11111111-1111-1111-1111-111111111111").mkdir()
    owner = Owners("n", tmp_path).of_place(Place(UID, ONE))
    assert (owner.namespace, owner.pod, owner.container, owner.container_id) == ("rag", "api-0", "", ONE)


def test_a_static_pod_is_known_by_its_sum(tmp_path):
    (tmp_path / "var/log/pods" / f"kube-system_etcd-node_{'c' * 32}").mkdir(parents=True)
    cgroup(tmp_path, 7, f"/kubepods/burstable/pod{'c' * 32}/{ONE}")
    owner = Owners("n", tmp_path).of_pid(7)
    assert owner is not None
    assert (owner.namespace, owner.pod) == ("kube-system", "etcd-node")


def test_a_process_of_the_host_has_a_node_and_nothing_else(tmp_path):
    cgroup(tmp_path, 7, "/system.slice/sshd.service")
    assert Owners("n", tmp_path).of_pid(7) == Resource(node="n")


def test_a_process_that_is_gone_has_no_owner(tmp_path):
    assert Owners("n", tmp_path).of_pid(7) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        '"text"',
        "{}",
        '{"annotations": null}',
        '{"annotations": []}',
        '{"annotations": "x"}',
        '{"annotations": {"io.kubernetes.cri.sandbox-name": 7}}',
    ],
)
def test_a_broken_note_names_nothing(tmp_path, text):
    write(tmp_path / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / ONE / "config.json", text)
    owner = Owners("n", tmp_path).of_place(Place(UID, ONE))
    assert owner == Resource(node="n", pod_uid=UID, container_id=ONE)


@pytest.mark.parametrize("labels", ["", "{", "[]", "7", '{"a": {}}', '{"a": 1}'])
def test_broken_labels_are_none(tmp_path, labels):
    crio(tmp_path, {"io.kubernetes.pod.name": "api-0", "io.kubernetes.cri-o.Labels": labels})
    assert Owners("n", tmp_path).of_place(Place("", ONE)).labels == {}


def test_a_note_of_another_container_is_not_taken(tmp_path):
    containerd(tmp_path, {"io.kubernetes.cri.sandbox-name": "other"}, "b" * 64)
    assert Owners("n", tmp_path).of_place(Place(UID, ONE)).pod == ""


def test_a_pod_is_asked_for_once(tmp_path):
    containerd(tmp_path, {"io.kubernetes.cri.sandbox-name": "api-0"})
    owners = Owners("n", tmp_path)
    first = owners.of_place(Place(UID, ONE))
    containerd(tmp_path, {"io.kubernetes.cri.sandbox-name": "renamed"})
    assert owners.of_place(Place(UID, ONE)) is first


def test_a_pod_without_a_name_is_asked_for_again_but_not_at_once(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    owners = Owners("n", tmp_path)
    assert owners.of_place(Place(UID, ONE)).pod == ""
    (tmp_path / "var/log/pods" / f"rag_api-0_{UID}").mkdir(parents=True)
    now[0] = 100.5
    assert owners.of_place(Place(UID, ONE)).pod == ""
    now[0] = 101.5
    assert owners.of_place(Place(UID, ONE)).pod == "api-0"


def test_a_name_that_came_late_brings_its_container_too(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    (tmp_path / "var/log/pods" / f"rag_api-0_{UID}").mkdir(parents=True)
    owners = Owners("n", tmp_path)
    owners.of_place(Place(UID, ONE))
    containerd(tmp_path, {"io.kubernetes.cri.sandbox-name": "api-0", "io.kubernetes.cri.container-name": "app"})
    now[0] = 200.0
    assert owners.of_place(Place(UID, ONE)).container == "app"
