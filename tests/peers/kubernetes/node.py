"""A whole node: etcd, API server, controllers, scheduler, containerd, kubelet and kube-proxy, each a process of its own.

One at a time on a machine: control groups, the folders of pods' logs and kube-proxy's tables are the machine's.
A second one waits for the first; `up` takes away what an earlier node left behind, in whatever folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Self

from tests.peers.kubernetes import images, leftovers, settings
from tests.peers.kubernetes.building import (
    CACHE,
    DEFAULT_VERSION,
    NODE_PROGRAMS,
    Unavailable,
    found,
    node_programs,
    require_programs,
)
from tests.peers.kubernetes.control_plane import ControlPlane, free_port
from tests.peers.kubernetes.settings import BRIDGE, NODE_ADDRESS, NODE_NAME, Paths

# Not below /tmp: a file system in memory would hold all images.
DEFAULT_FOLDER = Path("/var/lib/reeve-node")
CONTAINERD_NAMESPACE = "k8s.io"


class Node(ControlPlane):
    """A running node.  `containerd_socket` lies alone in its folder, so that pods can mount the folder."""

    _address = NODE_ADDRESS

    def __init__(self, version: str, folder: Path, programs: Path) -> None:
        super().__init__(version, folder, programs)
        self.name = NODE_NAME
        self.paths = Paths(folder)
        self.containerd_socket = self.paths.containerd_socket
        self._lock: IO[str] | None = None

    @classmethod
    def up(cls, version: str = DEFAULT_VERSION, folder: Path | None = None) -> Self:
        """Starts it, and comes back when it is Ready.

        Raises Unavailable if this machine lacks something, or a kubelet of somebody else runs on it; RuntimeError if a part does
        not come up.
        """
        require_programs(NODE_PROGRAMS, as_root=True)
        programs = node_programs(version)
        pause = images.pause_archive()
        folder = folder or DEFAULT_FOLDER
        lock = _only_node(folder)
        begun = time.monotonic()
        leftovers.remove(folder)
        if (pid := leftovers.foreign_kubelet()) is not None:
            lock.close()
            raise Unavailable(f"a kubelet that is none of ours runs here (process {pid})")
        shutil.rmtree(folder / "logs", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        leftovers.keep_kernel_settings(folder)
        node = cls(version, folder, programs)
        node._lock = lock
        with node._down_if_it_fails():
            node._start(pause)
        node.up_seconds = time.monotonic() - begun
        return node

    def down(self) -> None:
        """Ends all, and removes what the node left on the machine, but for its logs."""
        for name in ("kubelet", "kube-scheduler", "kube-controller-manager", "kube-proxy", "kube-apiserver", "etcd"):
            if name in self.parts:
                self.parts[name].stop(5)
        leftovers.end_containers(self.paths)
        self._stop_parts()
        leftovers.remove(self.folder)
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def import_image(self, archive: Path) -> str:
        """Gives an archive of an image (of `docker save` or OCI) to the node; what was imported, by name.

        Pods use it with imagePullPolicy Never or IfNotPresent.
        """
        printed = self.ctr("images", "import", str(archive))
        return printed.split()[1] if printed.startswith("unpacking") else printed.strip()

    def ctr(self, *arguments: str) -> str:
        """What containerd's own client prints."""
        command = ["ctr", "--address", str(self.containerd_socket), "--namespace", CONTAINERD_NAMESPACE, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def rolled_out(self, what: str, namespace: str = "default", seconds: float = 90.0) -> None:
        """Waits until a Deployment, DaemonSet or StatefulSet is as it should be: `rolled_out("daemonset/reeve")`."""
        timeout = f"--timeout={seconds:g}s"
        self.kubectl("rollout", "status", what, "-n", namespace, timeout, seconds=seconds + 10)

    def pods(self, selector: str, namespace: str = "default") -> list[str]:
        """Names of the running pods that have these labels and are not about to go."""
        found_pods = self.get("pods", "-n", namespace, "-l", selector)["items"]
        return [
            str(pod["metadata"]["name"])
            for pod in found_pods
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def run(self, pod: str, *command: str, namespace: str = "default", input: str | None = None) -> str:
        """What a command prints inside a pod (`kubectl exec`)."""
        flags = ["-i"] if input is not None else []
        return self.kubectl("exec", *flags, "-n", namespace, pod, "--", *command, input=input)

    def _questions(self) -> Sequence[Sequence[str]]:
        return [
            ("get", "nodes,all", "--all-namespaces", "-o", "wide"),
            ("describe", "pods", "--all-namespaces"),
            ("get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"),
        ]

    def diagnosis(self) -> str:
        """As of a control plane, with the ends of the logs of all pods."""
        pieces = [super().diagnosis()]
        for file in sorted(leftovers.POD_LOGS.glob("*/*/*.log")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
            pieces.append(f"== end of {file}\n" + "\n".join(lines))
        return "\n\n".join(pieces)

    def _start(self, pause: Path) -> None:
        self._write_settings()
        self._add("etcd", self._etcd_command()).start()
        self._add("kube-apiserver", self._api_server_command()).start()
        self._add("containerd", ["containerd", "--config", f"{self.folder}/containerd.toml"]).start()
        self.until(lambda: _succeeds(lambda: self.ctr("version")), 30, every=0.1)
        self.import_image(pause)
        self._until_ready()
        for name, command in self._late_commands().items():
            self._add(name, command).start()
        self.until(self._is_ready, 90)
        # Pods are refused until the controller made the account that they run as.
        self.until(lambda: self.kubectl("get", "serviceaccount", "default"), 30)

    def _is_ready(self) -> bool:
        conditions = self.get("node", NODE_NAME)["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _write_settings(self) -> None:
        ip = found("ip") or "ip"
        # A bridge without members, as not every kernel has dummy devices.  The kubelet refuses a loopback address.
        subprocess.run([ip, "link", "add", BRIDGE, "type", "bridge"], check=True, capture_output=True)
        subprocess.run([ip, "address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE], check=True, capture_output=True)
        subprocess.run([ip, "link", "set", BRIDGE, "up"], check=True, capture_output=True)
        self.paths.containerd_run.mkdir(parents=True)
        self.paths.plugins.mkdir()
        (self.paths.plugins / "10-node.conflist").write_text(settings.network(self.paths), encoding="utf-8")
        runtime = settings.containerd(self.paths, found("runc") or "runc")
        (self.folder / "containerd.toml").write_text(runtime, encoding="utf-8")
        # Nobody answers there, and says so at once: with the machine's own servers, which pods do not reach, every
        # look-up would take its full time.
        (self.folder / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n", encoding="utf-8")

    def _late_commands(self) -> dict[str, list[str]]:
        """What needs the API server."""
        make = self.credentials.kubeconfig
        controllers = make(self.url, "system:kube-controller-manager")
        kubelet_certificate = self.credentials.server("kubelet", [NODE_NAME, NODE_ADDRESS])
        kubelet = settings.kubelet(self.paths, ca_file=self.ca_file, certificate=kubelet_certificate, port=free_port())
        (self.folder / "kubelet.yaml").write_text(kubelet, encoding="utf-8")
        proxy = settings.kube_proxy(
            make(self.url, "system:kube-proxy"), health_port=free_port(), metrics_port=free_port()
        )
        (self.folder / "kube-proxy.yaml").write_text(proxy, encoding="utf-8")
        accounts = self.folder / "credentials" / "service-accounts.key"
        return {
            "kube-controller-manager": [
                str(self.programs / "kube-controller-manager"),
                f"--kubeconfig={controllers}",
                f"--service-account-private-key-file={accounts}",
                f"--root-ca-file={self.ca_file}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            "kube-scheduler": [
                str(self.programs / "kube-scheduler"),
                f"--kubeconfig={make(self.url, 'system:kube-scheduler')}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            "kubelet": [
                str(self.programs / "kubelet"),
                f"--kubeconfig={make(self.url, f'system:node:{NODE_NAME}', ['system:nodes'])}",
                f"--config={self.folder}/kubelet.yaml",
                f"--root-dir={self.paths.kubelet}",
                f"--cert-dir={self.folder}/credentials",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={NODE_ADDRESS}",
            ],
            "kube-proxy": [str(self.programs / "kube-proxy"), f"--config={self.folder}/kube-proxy.yaml"],
        }


def _succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except RuntimeError:
        return False
    return True


def _only_node(folder: Path) -> IO[str]:
    """The lock of the machine's one node, after what an earlier node in another folder left was removed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = (CACHE / "node.lock").open("a+", encoding="utf-8")
    # Waits: two sessions of tests follow one another.
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.seek(0)
    noted = lock.read()
    if noted and Path(json.loads(noted)) != folder:
        leftovers.remove(Path(json.loads(noted)))
    lock.truncate(0)
    lock.write(json.dumps(str(folder)))
    lock.flush()
    os.fsync(lock.fileno())
    return lock
