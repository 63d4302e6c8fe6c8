"""An API server with its etcd, and nothing else: up in seconds, on free ports, so that several run side by side.

No controller runs: namespaces have no service accounts but those that are created, and a Deployment makes no pods.
A whole node is `node.py`'s.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.peers.kubernetes.building import (
    CONTROL_PLANE_PROGRAMS,
    DEFAULT_VERSION,
    api_server_programs,
    node_programs,
    require_programs,
)
from tests.peers.kubernetes.credentials import Credentials
from tests.peers.kubernetes.part import Part, ended_by_record
from tests.peers.kubernetes.settings import API_SERVICE_ADDRESS, SERVICE_RANGE

Found = TypeVar("Found")
API_SERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    API_SERVICE_ADDRESS,
)


class KubectlFailed(Exception):
    """kubectl's own words."""


class ControlPlane:
    """A running API server; `kubeconfig` is an administrator's, `ca_file` verifies `url`.

    `up_seconds` is how long its start took, without what was built for it.
    """

    # For what `api_server_programs` gives; a node brings its own.
    _address = "127.0.0.1"

    def __init__(self, version: str, folder: Path, programs: Path) -> None:
        self.version = version
        self.folder = folder
        self.programs = programs
        self._kubectl = node_programs() / "kubectl" if not (programs / "kubectl").exists() else programs / "kubectl"
        self.parts: dict[str, Part] = {}
        self.up_seconds = 0.0
        self._port = free_port()
        self._etcd_ports = free_port(), free_port()
        self.credentials = Credentials(folder / "credentials")
        self.ca_file = self.credentials.ca_file
        self.kubeconfig = self.credentials.kubeconfig(self.url, "admin", ["system:masters"])

    @classmethod
    def up(cls, version: str = DEFAULT_VERSION, folder: Path | None = None) -> Self:
        """Starts it, in a new folder if none is named.

        Raises Unavailable if this machine lacks something, RuntimeError if a part does not come up.
        """
        require_programs(CONTROL_PLANE_PROGRAMS, as_root=False)
        programs = api_server_programs(version)
        folder = folder or Path(tempfile.mkdtemp(prefix="reeve-control-plane-"))
        begun = time.monotonic()
        ended_by_record(folder)
        shutil.rmtree(folder / "etcd", ignore_errors=True)
        plane = cls(version, folder, programs)
        with plane._down_if_it_fails():
            plane._add("etcd", plane._etcd_command()).start()
            plane._add("kube-apiserver", plane._api_server_command()).start()
            plane._until_ready()
        plane.up_seconds = time.monotonic() - begun
        return plane

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def is_down(self) -> bool:
        return not self.kubeconfig.exists()

    def down(self) -> None:
        """Ends it and removes its folder."""
        self._stop_parts()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True, seconds: float = 120) -> str:
        """What kubectl prints, as an administrator.

        Raises KubectlFailed with its words if it fails; with check=False they follow what it printed.
        """
        done = subprocess.run(
            [str(self._kubectl), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={"HOME": str(self.folder)},  # its cache of what the server serves
        )
        if done.returncode and check:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of them with `items`: `get("pods", "-n", "llm")`."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def apply(self, source: str | Path, *arguments: str) -> str:
        """Applies YAML: its text, a file, or a folder of files."""
        if isinstance(source, Path):
            return self.kubectl("apply", "-f", str(source), *arguments)
        return self.kubectl("apply", "-f", "-", *arguments, input=source)

    def until(self, condition: Callable[[], Found], seconds: float = 60.0, *, every: float = 0.2) -> Found:
        """The first true answer of `condition`; what kubectl cannot do meanwhile counts as false.

        Raises TimeoutError with the last answer.
        """
        deadline = time.monotonic() + seconds
        while True:
            last: object
            try:
                if answer := condition():
                    return answer
                last = answer
            except (KubectlFailed, subprocess.TimeoutExpired) as error:
                last = error
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s; the last answer was {last!r}")
            for part in self.parts.values():
                part.check()
            time.sleep(every)

    def token(self, service_account: str, namespace: str = "default") -> str:
        """A token of a service account, for an hour."""
        return self.kubectl("create", "token", service_account, "-n", namespace).strip()

    def stop_api_server(self, seconds: float = 2.0) -> None:
        """The API server is gone, as at an upgrade; all else runs on.

        It is killed after `seconds`, as it would wait a minute for the watches of others to end.
        """
        self.parts["kube-apiserver"].stop(seconds)

    def start_api_server(self, seconds: float = 60.0) -> None:
        """Starts it again, on the same port and with the same data, and waits until it is ready."""
        self.parts["kube-apiserver"].start()
        self._until_ready(seconds)

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory of each part."""
        return {name: part.resident_bytes() for name, part in self.parts.items()}

    def diagnosis(self) -> str:
        """What one wants to see after a failed test: the ends of all logs, and the state of what is in the cluster."""
        pieces = [f"== {name}: end of {part.log}\n{part.tail()}" for name, part in self.parts.items()]
        for arguments in self._questions():
            with contextlib.suppress(subprocess.TimeoutExpired):
                answer = self.kubectl(*arguments, check=False, seconds=20)
                pieces.append(f"== kubectl {' '.join(arguments)}\n{answer.strip()}")
        return "\n\n".join(pieces)

    def logs_on_failure(self) -> None:
        """Prints the `diagnosis`."""
        print(self.diagnosis(), file=sys.stderr)

    def _questions(self) -> Sequence[Sequence[str]]:
        return [("get", "namespaces,customresourcedefinitions"), ("get", "--raw", "/readyz?verbose")]

    @contextlib.contextmanager
    def _down_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            words = self.diagnosis()
            self.down()
            raise RuntimeError(f"{error}\n{words}") from error
        except BaseException:
            self.down()
            raise

    def _add(self, name: str, command: Sequence[str]) -> Part:
        self.parts[name] = Part(name, command, self.folder)
        return self.parts[name]

    def _stop_parts(self) -> None:
        """In the opposite order of their start, as the later ones talk to the earlier."""
        for part in reversed(self.parts.values()):
            part.stop()

    def _until_ready(self, seconds: float = 60.0) -> None:
        self.until(lambda: self.kubectl("get", "--raw", "/readyz", seconds=5) == "ok", seconds, every=0.1)
        self.until(lambda: self.kubectl("get", "namespace", "default"), seconds, every=0.1)

    def _etcd_command(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
        return [
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--logger=zap",
            "--log-level=warn",
        ]

    def _api_server_command(self) -> list[str]:
        names = [*API_SERVER_NAMES, *({self._address} - set(API_SERVER_NAMES))]
        certificate, key = self.credentials.server("kube-apiserver", names)
        kubelet_certificate, kubelet_key = self.credentials.client("kube-apiserver-kubelet-client", ["system:masters"])
        accounts = self.credentials.service_account_key()
        command = [
            str(self.programs / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            f"--secure-port={self._port}",
            f"--advertise-address={self._address}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.ca_file}",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            f"--kubelet-certificate-authority={self.ca_file}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--cert-dir={self.folder}/credentials",
        ]
        if self._address == "127.0.0.1":  # nobody is to find it by its Service, where loopback would be refused
            command += ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
        return command


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
