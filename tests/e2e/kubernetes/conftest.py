"""A real Kubernetes node, and API servers alone; one node for all tests of a session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.peers.kubernetes import images
from tests.peers.kubernetes.building import DEFAULT_VERSION, Unavailable
from tests.peers.kubernetes.control_plane import ControlPlane
from tests.peers.kubernetes.node import Node

# `from conftest import ROOT` in tests of the folder above may find this file, as the one that was read last.
ROOT = Path(__file__).resolve().parents[3]

# The first test that asks for a node may wait for all to be built: eight minutes of Go, two of images.
FIRST_SECONDS = 1800

ControlPlanes = Callable[[str], ControlPlane]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and {"kubernetes_node", "control_planes"} & set(item.fixturenames):
            item.add_marker(pytest.mark.timeout(FIRST_SECONDS))


@pytest.fixture(scope="session")
def kubernetes_node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """The node, Ready, with the image `images.CLIENT_IMAGE`.  Tests keep to namespaces of their own."""
    try:
        archive = images.client_archive()
        node = Node.up()
    except Unavailable as error:
        _give_up(request, error)
    try:
        node.import_image(archive)
        yield node
    finally:
        node.down()


@pytest.fixture(scope="session")
def control_planes(request: pytest.FixtureRequest) -> Iterator[ControlPlanes]:
    """API servers alone, by version: `control_planes("1.30.14")` is the same one at each call."""
    running: dict[str, ControlPlane] = {}

    def start(version: str) -> ControlPlane:
        if version not in running:
            try:
                running[version] = ControlPlane.up(version)
            except Unavailable as error:
                _give_up(request, error)
        return running[version]

    yield start
    for plane in running.values():
        plane.down()


@pytest.fixture(scope="session")
def control_plane(control_planes: ControlPlanes) -> ControlPlane:
    """An API server alone, of the default version."""
    return control_planes(DEFAULT_VERSION)


@pytest.fixture
def namespace(kubernetes_node: Node) -> Iterator[str]:
    """A namespace of the test's own on the node, removed with all in it."""
    name = f"test-{next(_numbers)}"
    kubernetes_node.kubectl("create", "namespace", name)
    kubernetes_node.until(lambda: kubernetes_node.kubectl("get", "serviceaccount", "default", "-n", name), 30)
    yield name
    kubernetes_node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure: the logs of the node, or of the API servers, that the test used."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for used in item.funcargs.values():
            if isinstance(used, ControlPlane) and not used.is_down:
                report.sections.append((f"Kubernetes {used.version}", used.diagnosis()))
    return report


def _give_up(request: pytest.FixtureRequest, error: Unavailable) -> NoReturn:
    """Fails if peers are required, and skips loudly otherwise."""
    words = f"PEER SKIPPED: kubernetes: {error}"
    if request.config.getoption("--require-peers"):
        pytest.fail(words)
    pytest.skip(words)
