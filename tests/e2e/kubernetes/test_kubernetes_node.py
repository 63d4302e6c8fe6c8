"""The harness itself: a real node does what later tests take for granted."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.kubernetes import building
from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION
from tests.peers.kubernetes.control_plane import ControlPlane, KubectlFailed
from tests.peers.kubernetes.images import CLIENT_IMAGE
from tests.peers.kubernetes.node import Node
from tests.peers.kubernetes.settings import API_SERVICE_ADDRESS, NODE_ADDRESS

SERVER = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {CLIENT_IMAGE}
          imagePullPolicy: Never
          command: [python3, -u, -c]
          args:
            - |
              import http.server, socket
              class Answer(http.server.BaseHTTPRequestHandler):
                  def do_GET(self):
                      self.send_response(200); self.end_headers()
                      self.wfile.write(f"{{socket.gethostname()}} saw {{self.client_address[0]}}".encode())
              print("listening", flush=True)
              http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
          readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""

CLIENT = f"""
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: client}}}}
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{{ip: {API_SERVICE_ADDRESS}, hostnames: [kubernetes.default.svc]}}]
  containers: [{{name: client, image: "{CLIENT_IMAGE}", imagePullPolicy: Never}}]
"""

WATCHER = f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: watcher}}
spec:
  selector: {{matchLabels: {{app: watcher}}}}
  template:
    metadata: {{labels: {{app: watcher}}}}
    spec:
      terminationGracePeriodSeconds: 1
      hostPID: true
      containers:
        - name: watcher
          image: {CLIENT_IMAGE}
          imagePullPolicy: Never
          securityContext: {{privileged: true}}
          ports: [{{containerPort: 9090, hostPort: 29090}}]
          command: [python3, -m, http.server, "9090"]
          volumeMounts:
            - {{name: tracing, mountPath: /sys/kernel/tracing}}
            - {{name: logs, mountPath: /var/log/pods, readOnly: true}}
            - {{name: containerd, mountPath: /run/containerd}}
      volumes:
        - {{name: tracing, hostPath: {{path: /sys/kernel/tracing}}}}
        - {{name: logs, hostPath: {{path: /var/log/pods}}}}
        - {{name: containerd, hostPath: {{path: CONTAINERD_RUN}}}}
"""

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.example}
spec:
  group: test.example
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {size: {type: integer}}}}
"""

ASK_API_SERVER = textwrap.dedent("""
    import json, pathlib, ssl, sys, urllib.error, urllib.request
    folder = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    bearer = {"Authorization": "Bearer " + (folder / "token").read_text()}
    for host in sys.argv[1:]:
        url = f"https://{host}/api/v1/namespaces/" + (folder / "namespace").read_text() + "/pods"
        request = urllib.request.Request(url, headers=bearer)
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as answer:
                print(len(json.load(answer)["items"]))
        except urllib.error.HTTPError as error:
            print(error.code, json.load(error)["message"])
""")


@pytest.fixture
def client(kubernetes_node: Node, namespace: str) -> str:
    """A pod that can be told to do something."""
    kubernetes_node.apply(CLIENT, "-n", namespace)
    kubernetes_node.until(lambda: kubernetes_node.pods("app=client", namespace), 60)
    return "client"


def test_the_node_is_ready_and_tells_what_it_is(kubernetes_node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node = kubernetes_node.get("node", kubernetes_node.name)
    resident = {name: size >> 20 for name, size in kubernetes_node.resident_bytes().items()}
    with capsys.disabled():
        print(f"\nKubernetes {kubernetes_node.version}: built in {building.build_seconds(kubernetes_node.programs)} s,")
        print(f"  up in {kubernetes_node.up_seconds:.1f} s, {sum(resident.values())} MiB resident: {resident}")

    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{DEFAULT_VERSION}"
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"
    assert all(resident.values())


def test_a_deployment_runs_and_its_service_reaches_its_pods(kubernetes_node: Node, namespace: str, client: str) -> None:
    kubernetes_node.apply(SERVER, "-n", namespace)
    kubernetes_node.rolled_out("deployment/web", namespace)
    address = kubernetes_node.get("service", "web", "-n", namespace)["spec"]["clusterIP"]
    own = kubernetes_node.get("pod", client, "-n", namespace)["status"]["podIP"]
    pods = set(kubernetes_node.pods("app=web", namespace))
    ask = ("curl", "--silent", "--show-error", "--max-time", "5", f"http://{address}/")

    def answers() -> set[str]:
        return {kubernetes_node.run(client, *ask, namespace=namespace) for _ in range(8)}

    kubernetes_node.until(lambda: answers() == {f"{pod} saw {own}" for pod in pods}, 30)


def test_logs_are_files_in_the_format_of_cri_and_kubectl_reads_them(kubernetes_node: Node, namespace: str) -> None:
    kubernetes_node.apply(SERVER, "-n", namespace)
    kubernetes_node.rolled_out("deployment/web", namespace)
    pod = kubernetes_node.pods("app=web", namespace)[0]
    uid = kubernetes_node.get("pod", pod, "-n", namespace)["metadata"]["uid"]

    assert kubernetes_node.kubectl("logs", "-n", namespace, pod) == "listening\n"
    file = Path(f"/var/log/pods/{namespace}_{pod}_{uid}/web/0.log")
    assert file.read_text().endswith(" stdout F listening\n")
    assert [link.resolve() for link in Path("/var/log/containers").glob(f"{pod}_{namespace}_web-*.log")] == [file]


def test_exec_runs_a_command_with_input_in_a_pod(kubernetes_node: Node, namespace: str, client: str) -> None:
    assert kubernetes_node.run(client, "cat", namespace=namespace, input="a prompt") == "a prompt"
    with pytest.raises(KubectlFailed, match="exit code 3"):
        kubernetes_node.run(client, "sh", "-c", "exit 3", namespace=namespace)


def test_a_pod_reaches_the_api_server_by_its_token_and_verifies_it(
    kubernetes_node: Node, namespace: str, client: str
) -> None:
    hosts = ("kubernetes.default.svc", API_SERVICE_ADDRESS)

    refused = kubernetes_node.run(client, "python3", "-c", ASK_API_SERVER, *hosts, namespace=namespace)
    kubernetes_node.kubectl(
        *("create", "rolebinding", "reader", "--clusterrole=view", f"--serviceaccount={namespace}:default"),
        *("-n", namespace),
    )
    allowed = kubernetes_node.until(
        lambda: (
            (answer := kubernetes_node.run(client, "python3", "-c", ASK_API_SERVER, *hosts, namespace=namespace))
            and "403" not in answer
            and answer
        )
    )

    assert refused.count(f'403 pods is forbidden: User "system:serviceaccount:{namespace}:default"') == 2
    assert allowed == "1\n1\n"


def test_a_privileged_daemonset_sees_the_processes_and_folders_of_the_node(
    kubernetes_node: Node, namespace: str
) -> None:
    run = str(kubernetes_node.containerd_socket.parent)
    kubernetes_node.apply(WATCHER.replace("CONTAINERD_RUN", run), "-n", namespace)
    kubernetes_node.rolled_out("daemonset/watcher", namespace)
    pod = kubernetes_node.pods("app=watcher", namespace)[0]

    def told(command: str) -> str:
        return kubernetes_node.run(pod, "sh", "-c", command, namespace=namespace)

    kubelet = kubernetes_node.parts["kubelet"].pid
    assert told(f"cat /proc/{kubelet}/comm") == "kubelet\n"
    assert "sched" in told("ls /sys/kernel/tracing/events")
    assert f"{namespace}_{pod}_" in told("ls /var/log/pods")
    assert told("test -S /run/containerd/containerd.sock && echo there") == "there\n"
    assert "/kubepods/" in told("cat /proc/self/cgroup")
    assert "Directory listing" in told(f"curl --silent --max-time 5 http://{NODE_ADDRESS}:29090/")


def test_pod_security_refuses_what_a_namespace_forbids(kubernetes_node: Node, namespace: str) -> None:
    label = "pod-security.kubernetes.io/enforce=baseline"
    kubernetes_node.kubectl("label", "namespace", namespace, label)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "spy"},
        "spec": {"hostPID": True, "containers": [{"name": "spy", "image": CLIENT_IMAGE}]},
    }

    with pytest.raises(KubectlFailed, match=r'violates PodSecurity "baseline:latest": host namespaces'):
        kubernetes_node.apply(json.dumps(pod), "-n", namespace)


def test_pods_outlive_the_api_server(kubernetes_node: Node, namespace: str, client: str) -> None:
    before = kubernetes_node.get("pod", client, "-n", namespace)["metadata"]["uid"]

    kubernetes_node.stop_api_server()
    with pytest.raises(KubectlFailed):
        kubernetes_node.kubectl("get", "nodes", "--request-timeout=2s")
    kubernetes_node.start_api_server()

    assert kubernetes_node.get("pod", client, "-n", namespace)["metadata"]["uid"] == before
    assert kubernetes_node.run(client, "echo", "still here", namespace=namespace) == "still here\n"


@pytest.mark.parametrize("version", [OLDEST_VERSION, DEFAULT_VERSION])
def test_an_api_server_alone_takes_a_custom_resource(
    version: str, control_planes: Callable[[str], ControlPlane], capsys: pytest.CaptureFixture[str]
) -> None:
    plane = control_planes(version)
    resident = sum(plane.resident_bytes().values()) >> 20
    with capsys.disabled():
        print(f"\nKubernetes {version}, API server alone: built in {building.build_seconds(plane.programs)} s,")
        print(f"  up in {plane.up_seconds:.1f} s, {resident} MiB resident")

    plane.apply(WIDGETS)
    plane.kubectl("wait", "--for=condition=Established", "crd/widgets.test.example", "--timeout=30s")
    plane.until(lambda: plane.apply('{"apiVersion": "test.example/v1", "kind": "Widget", "metadata": {"name": "one"}}'))

    assert json.loads(plane.kubectl("get", "--raw", "/version"))["gitVersion"] == f"v{version}"
    assert plane.get("widgets", "one")["metadata"]["name"] == "one"
