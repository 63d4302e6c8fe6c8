"""Debian's real Alertmanager as a peer of tests."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

PROGRAM = "prometheus-alertmanager"


def free_ports(count):
    with contextlib.ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Alertmanager:
    """One instance: notifies `hook` of groups by policy and namespace."""

    def __init__(self, folder, hook, port, *arguments, context=None, credentials="", address="127.0.0.1"):
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        self._context, self._credentials = context, credentials
        self.url = f"https://localhost:{port}" if context else f"http://{address}:{port}"
        route = {"receiver": "hook", "group_by": ["policy", "namespace"], "group_wait": "1s", "group_interval": "1s"}
        hooks = [{"url": hook, "send_resolved": True}]
        config = {
            "route": {**route, "repeat_interval": "1h"},
            "receivers": [{"name": "hook", "webhook_configs": hooks}],
        }
        (folder / "alertmanager.yml").write_text(json.dumps(config))
        self._command = [
            PROGRAM,
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address={address}:{port}",
            *(arguments or ["--cluster.listen-address="]),
        ]
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.get("/-/ready")
                return
            except (OSError, urllib.error.URLError):
                is_hopeless = time.monotonic() > deadline or self.process.poll() is not None
                assert not is_hopeless, self._log.read_text()[-2000:]
                time.sleep(0.05)

    def get(self, path):
        request = urllib.request.Request(self.url + path)
        if self._credentials:
            request.add_header("Authorization", self._credentials)
        with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:
            return answer.read()

    def alerts(self):
        return json.loads(self.get("/api/v2/alerts"))

    def groups(self):
        return json.loads(self.get("/api/v2/alerts/groups"))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
