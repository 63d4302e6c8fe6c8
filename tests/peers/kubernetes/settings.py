"""The settings of a node's parts, as files.

Addresses are of the node alone: nothing outside of the machine routes to them, and none is Docker's or Podman's default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.kubernetes.building import PLUGINS

NODE_NAME = "node1"
BRIDGE = "reeve0"
NODE_ADDRESS = "10.213.0.1"
POD_RANGE = "10.214.0.0/24"
SERVICE_RANGE = "10.215.0.0/16"
# The first of the range is the API server's.
API_SERVICE_ADDRESS = "10.215.0.1"
NETWORK_NAME = "reeve-node"
PAUSE_IMAGE = "localhost/pause:1"


@dataclass(frozen=True)
class Paths:
    """Where a node keeps what."""

    folder: Path

    @property
    def containerd_run(self) -> Path:
        """Has containerd's socket and nothing else, so a pod can mount it as /run/containerd."""
        return self.folder / "run" / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.containerd_run / "containerd.sock"

    @property
    def plugins(self) -> Path:
        return self.folder / "network"

    @property
    def kubelet(self) -> Path:
        return self.folder / "kubelet"


def containerd(paths: Paths, runc: str) -> str:
    """Configuration of containerd 1.6 or 1.7 (version 2)."""
    return f"""version = 2
root = "{paths.folder}/containerd/root"
state = "{paths.folder}/containerd/state"
[grpc]
  address = "{paths.containerd_socket}"
[ttrpc]
  address = "{paths.containerd_socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{paths.folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE every sandbox dies with "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # Below our own folder, where `leftovers` finds them.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{paths.plugins}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
"""


def network(paths: Paths) -> str:
    """Pods by `ptp`, as in kind: everything between pods is routed by the node, so Services are translated both ways.

    On a bridge the answer of a pod to its neighbour would go past the translation, unless br_netfilter is loaded.
    `firewall` lets pods through where the machine's own policy for forwarding is DROP, as Docker makes it.
    """
    addresses = {
        "type": "host-local",
        "dataDir": str(paths.folder / "network-state"),
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": NETWORK_NAME,
            "plugins": [
                {"type": "ptp", "ipMasq": False, "ipam": addresses},
                {"type": "portmap", "capabilities": {"portMappings": True}},
                {"type": "firewall", "backend": "iptables"},
            ],
        }
    )


def kubelet(paths: Paths, *, ca_file: Path, certificate: tuple[Path, Path], port: int) -> str:
    """The kubelet's configuration; JSON, which is YAML."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": port,
        "healthzPort": 0,
        "tlsCertFile": str(certificate[0]),
        "tlsPrivateKeyFile": str(certificate[1]),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca_file)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "resolvConf": str(paths.folder / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "volumePluginDir": str(paths.folder / "volume-plugins"),
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        # A full disk of a developer's machine is no reason to throw images out that no registry has.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # Pods of tests come and go often; the defaults are for nodes with hundreds of them.
        "syncFrequency": "10s",
        "fileCheckFrequency": "10s",
    }
    return json.dumps(document, indent=1)


def kube_proxy(kubeconfig: Path, *, health_port: int, metrics_port: int) -> str:
    document: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": POD_RANGE,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "healthzBindAddress": f"127.0.0.1:{health_port}",
        "metricsBindAddress": f"127.0.0.1:{metrics_port}",
        # The machine's own limits are left alone.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    }
    return json.dumps(document, indent=1)
