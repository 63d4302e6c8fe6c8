"""agent.sources.ebpf.cgroups: a control group's path names a pod and a container, and never another one's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.ebpf.cgroups import Place, place_of, place_of_path

UID = "5a4f2cf0-6a2e-4f0c-9a5c-0a3c1f9e2b11"
DOTTED = UID.replace("-", "_")
ONE = "a" * 64
TWO = "b" * 64


@pytest.mark.parametrize(
    ("path", "place"),
    [
        # systemd driver
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{DOTTED}.slice/cri-containerd-{ONE}.scope",
            (UID, ONE),
        ),
        (
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{DOTTED}.slice/crio-{ONE}.scope",
            (UID, ONE),
        ),
        (f"/kubepods.slice/kubepods-pod{DOTTED}.slice/cri-containerd-{ONE}.scope", (UID, ONE)),  # guaranteed
        (f"/kubepods.slice/kubepods-pod{DOTTED}.slice/docker-{ONE}.scope", (UID, ONE)),
        (f"/kubepods.slice/kubepods-pod{DOTTED}.slice", (UID, "")),  # the pod's own group
        # cgroupfs driver
        (f"/kubepods/burstable/pod{UID}/{ONE}", (UID, ONE)),
        (f"/kubepods/pod{UID}/{ONE}", (UID, ONE)),  # guaranteed
        (f"/kubepods/besteffort/pod{UID}/crio-{ONE}", (UID, ONE)),
        # cgroup v1 with containerd under systemd
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{DOTTED}.slice:cri-containerd:{ONE}",
            (UID, ONE),
        ),
        (f"/kubepods-pod{DOTTED}.slice:cri-containerd:{ONE}", (UID, ONE)),
        # static pods have an MD5 sum for a UID
        (f"/kubepods/burstable/pod{'c' * 32}/{ONE}", ("c" * 32, ONE)),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{'c' * 32}.slice", ("c" * 32, "")),
        # kind: a node that is a container
        (f"/docker/{TWO}/kubelet/kubepods/burstable/pod{UID}/{ONE}", (UID, ONE)),
        (
            f"/docker/{TWO}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{DOTTED}.slice/cri-containerd-{ONE}.scope",
            (UID, ONE),
        ),
        # seen from inside another control group namespace
        (f"/../../pod{UID}/{ONE}", (UID, ONE)),
        (f"/../cri-containerd-{ONE}.scope", ("", ONE)),
        # groups that a container makes itself
        (f"/kubepods/pod{UID}/{ONE}/init.scope", (UID, ONE)),
        (f"/kubepods.slice/kubepods-pod{DOTTED}.slice/crio-{ONE}.scope/container", (UID, ONE)),
        # no pod
        (f"/docker/{ONE}", ("", ONE)),
        (f"/system.slice/docker-{ONE}.scope", ("", ONE)),
        (f"/machine.slice/libpod-{ONE}.scope/container", ("", ONE)),
        # conmon is beside the container, not in it
        (f"/kubepods.slice/kubepods-pod{DOTTED}.slice/crio-conmon-{ONE}.scope", (UID, "")),
        (f"/machine.slice/libpod-conmon-{ONE}.scope", ("", "")),
        # the host
        ("/", ("", "")),
        ("/..", ("", "")),
        ("/system.slice/kubelet.service", ("", "")),
        ("/system.slice/containerd.service", ("", "")),
        ("/user.slice/user-1000.slice/session-2.scope", ("", "")),
        (f"/user.slice/{ONE[:63]}", ("", "")),  # a digit short
        (f"/user.slice/{ONE}a", ("", "")),  # a digit too many
        (f"/user.slice/my{ONE}", ("", "")),  # inside a word
        (f"/podman/podinfo-{UID}", ("", "")),
    ],
)
def test_a_path_names_its_pod_and_container(path, place):
    assert place_of_path(path) == Place(*place)


def test_version_one_s_hierarchies_are_read_until_one_says_most():
    text = f"12:pids:/\n11:memory:/kubepods/pod{UID}\n10:cpu,cpuacct:/kubepods/pod{UID}/{ONE}\n0::/\n"
    assert place_of(text) == (UID, ONE)


def test_a_hybrid_node_names_containers_in_version_one_only():
    assert place_of(f"1:name=systemd:/kubepods/burstable/pod{UID}/{ONE}\n0::/system.slice/x.service\n") == (UID, ONE)


def test_version_two_has_one_line():
    path = f"/kubepods.slice/kubepods-pod{DOTTED}.slice/cri-containerd-{ONE}.scope"
    assert place_of(f"0::{path}\n") == (UID, ONE)


@pytest.mark.parametrize("text", ["", "\n", "0::/", "0::/../..", "nonsense", "1:cpu", "::::", "0::/init.scope\n"])
def test_what_names_nobody_is_the_host_s(text):
    assert place_of(text) == Place()
    assert not place_of(text).is_somewhere


def test_a_colon_in_a_path_does_not_cut_it():
    assert place_of(f"9:cpu:/a/kubepods-pod{DOTTED}.slice:cri-containerd:{ONE}\n").container_id == ONE


@given(st.text(max_size=300))
def test_any_text_has_a_place_or_none(text):
    place = place_of(text)
    assert len(place.container_id) in (0, 64)
    assert len(place.pod_uid) in (0, 32, 36)
