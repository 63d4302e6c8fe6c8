"""Pods that leak: one into its log, one into a prompt over TLS, one through a shell; and the model server they talk to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.peers.kubernetes import images

SSN = "536-90-4399"
CARD = "5555555555554444"
INFERENCE_LABEL = {"app.kubernetes.io/component": "inference"}

# Prints rows until it is told to stop, or has printed so many; how many, it keeps to itself.
_PRINTER = """
import itertools, os, sys, time
most, pause = int(sys.argv[1]), float(sys.argv[2])
for row in itertools.count(1):
    if row > most or os.path.exists("/tmp/stop"):
        break
    print(f"row {row}: customer with SSN 536-90-4399", flush=True)
    time.sleep(pause)
with open("/tmp/printed", "w") as file:
    file.write(str(row - 1))
time.sleep(100000)
"""
_SERVER = """
import http.server, json, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": "Thank you."}
        body = json.dumps({"id": "c-1", "object": "chat.completion", "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/certificate/tls.crt", "/certificate/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
# Says one prompt each time that a file is put into /tmp.
_CLIENT = """
import json, os, ssl, time, urllib.request
context = ssl.create_default_context(cafile="/certificate/ca.crt")
context.check_hostname = False
address = os.environ["LLM_SERVICE_HOST"]
while True:
    time.sleep(0.2)
    if not os.path.exists("/tmp/ask"):
        continue
    os.remove("/tmp/ask")
    prompt = {"model": "tiny-1", "messages": [{"role": "user", "content": "Pay with card 5555 5555 5555 4444 please."}]}
    request = urllib.request.Request(f"https://{address}:8443/v1/chat/completions", json.dumps(prompt).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, context=context) as answer:
        assert json.load(answer)["choices"]
"""


def scripts(namespace: str) -> dict[str, Any]:
    """In a ConfigMap, so that no value stands in an argument of a process."""
    data = {"printer.py": _PRINTER, "server.py": _SERVER, "client.py": _CLIENT}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "scripts", "namespace": namespace},
        "data": data,
    }


def deployment(
    name: str, namespace: str, *command: str, labels: dict[str, str] | None = None, needs_certificate: bool = False
) -> dict[str, Any]:
    """One pod; its container is named `main`."""
    app = {"app": name}
    container: dict[str, Any] = {
        "name": "main",
        "image": images.CLIENT_IMAGE,
        "imagePullPolicy": "Never",
        "command": list(command),
        "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
    }
    volumes: list[dict[str, Any]] = [{"name": "scripts", "configMap": {"name": "scripts"}}]
    if needs_certificate:
        container["volumeMounts"].append({"name": "certificate", "mountPath": "/certificate"})
        volumes.append({"name": "certificate", "secret": {"secretName": "llm"}})
    pod = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": {**app, **(labels or {})}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": app}, "template": template},
    }


def service(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "llm", "namespace": namespace},
        "spec": {"selector": {"app": "llm"}, "ports": [{"port": 8443}]},
    }


def certificate(namespace: str, ca: Path, crt: Path, key: Path) -> dict[str, Any]:
    files = {"ca.crt": ca.read_text(), "tls.crt": crt.read_text(), "tls.key": key.read_text()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm", "namespace": namespace},
        "stringData": files,
    }


def manifest(*objects: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
