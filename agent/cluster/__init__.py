"""The cluster: its API server, the pods of the node, and the policies kept as resources."""

from agent.cluster.client import KubernetesClient, configuration_of
from agent.cluster.identity import Identity
from agent.cluster.pods import PodTable
from agent.cluster.policies import PolicyResources, document_of
from agent.cluster.watching import Watching

__all__ = [
    "Identity",
    "KubernetesClient",
    "PodTable",
    "PolicyResources",
    "Watching",
    "configuration_of",
    "document_of",
]
