"""A node to look around on: `python -m tests.peers.kubernetes [VERSION]` as root, until interrupted.

With `--build` nothing is started; what the tests need is built, which takes minutes the first time.
"""

from __future__ import annotations

import signal
import sys
import time

from tests.peers.kubernetes import images
from tests.peers.kubernetes.building import DEFAULT_VERSION, OLDEST_VERSION, api_server_programs, node_programs
from tests.peers.kubernetes.node import Node


def build() -> None:
    node_programs()
    api_server_programs(OLDEST_VERSION)
    images.pause_archive()
    images.client_archive()


def main() -> None:
    begun = time.monotonic()
    if sys.argv[1:] == ["--build"]:
        build()
        print(f"built in {time.monotonic() - begun:.0f} s")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = Node.up(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_VERSION)
    print(f"Kubernetes {node.version} up in {time.monotonic() - begun:.1f} s; it goes down at Ctrl-C.")
    print(f"export KUBECONFIG={node.kubeconfig} PATH={node.programs}:$PATH", flush=True)
    try:
        while True:
            node.until(lambda: False, 3600, every=5)
    except (KeyboardInterrupt, TimeoutError):
        pass
    finally:
        node.down()


if __name__ == "__main__":
    main()
