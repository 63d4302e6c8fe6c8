"""A small API server of one collection: lists in pages, watches with bookmarks, forgets versions, and fails on order."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class ApiServer:
    def __init__(self):
        self.version = 1
        self.objects = {}
        self.history = []  # (version, type, object)
        self.oldest = 0
        self.asked = []
        self.answers = []  # (status, headers, body) given first, in order
        self.patched = []
        self.watch_ends = threading.Event()
        self.changed = threading.Condition()
        outer = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                outer.asked.append((self.command, url.path, query, dict(self.headers)))
                if outer.answers:
                    status, headers, body = outer.answers.pop(0)
                    self.reply(status, body, headers)
                elif query.get("watch"):
                    self.watch(int(query["resourceVersion"]))
                else:
                    self.list(query)

            def do_PATCH(self):
                size = int(self.headers["Content-Length"])
                outer.asked.append((self.command, self.path, {}, dict(self.headers)))
                outer.patched.append((self.path, json.loads(self.rfile.read(size))))
                if outer.answers:
                    status, headers, body = outer.answers.pop(0)
                    self.reply(status, body, headers)
                else:
                    self.reply(200, {})

            def list(self, query):
                items = list(outer.objects.values())
                start, limit = int(query.get("continue", 0)), int(query.get("limit", 500))
                page = {"items": items[start : start + limit], "metadata": {"resourceVersion": str(outer.version)}}
                if start + limit < len(items):
                    page["metadata"]["continue"] = str(start + limit)
                self.reply(200, page)

            def watch(self, version):
                if version < outer.oldest:
                    self.reply(200, {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "old"}})
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while not outer.watch_ends.is_set():
                    with outer.changed:
                        new = [one for one in outer.history if one[0] > version]
                        if not new:
                            outer.changed.wait(0.05)
                    for number, kind, item in new:
                        version = number
                        if not self.chunk(json.dumps({"type": kind, "object": item}).encode() + b"\n"):
                            return
                self.chunk(b"")

            def chunk(self, data):
                try:
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                except OSError:
                    return False
                return True

            def reply(self, status, body, headers=None):
                data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                """Silent."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Requests)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, item, kind=None):
        key = item["metadata"]["uid"]
        kind = kind or ("MODIFIED" if key in self.objects else "ADDED")
        with self.changed:
            self.version += 1
            item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
            self.objects[key] = item
            if kind == "DELETED":
                del self.objects[key]
            self.history.append((self.version, kind, item))
            self.changed.notify_all()

    def bookmark(self):
        with self.changed:
            self.version += 1
            self.history.append((self.version, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}}))
            self.changed.notify_all()

    def forget(self):
        """The history is compacted: older versions are gone."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.history.clear()

    def close(self):
        self.watch_ends.set()
        self._server.shutdown()
        self._server.server_close()


def pod(number=0, *, namespace="ns", containers=("c",), restart=0, owner=None, **more):
    """A pod as the API gives it."""
    metadata = {
        "name": f"pod-{number}",
        "namespace": namespace,
        "uid": f"uid-{number:04}",
        "labels": {"app": "vllm"},
        "annotations": {},
    }
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    metadata |= more.pop("metadata", {})
    statuses = [
        {
            "name": name,
            "image": f"registry/{name}:1",
            "imageID": f"registry/{name}@sha256:{'ab' * 32}",
            "containerID": f"containerd://{number:04x}{restart:04x}{index:04x}" + "d" * 52,
            "restartCount": restart,
        }
        for index, name in enumerate(containers)
    ]
    return {
        "metadata": metadata,
        "spec": {"serviceAccountName": "reader", "nodeName": "n1", **more.pop("spec", {})},
        "status": {
            "podIPs": [{"ip": f"10.0.{number // 250}.{number % 250 + 1}"}],
            "containerStatuses": statuses,
            **more,
        },
    }


def container_id(number=0, index=0, restart=0):
    return f"{number:04x}{restart:04x}{index:04x}" + "d" * 52
