import pytest
from kubernetes.client import Configuration

from agent.cluster import KubernetesClient
from tests.unit.cluster.apiserver import ApiServer


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def client(server):
    configuration = Configuration()
    configuration.host = server.url
    configuration.api_key["BearerToken"] = "bearer secret-token-value"
    client = KubernetesClient(configuration)
    yield client
    client.close()
