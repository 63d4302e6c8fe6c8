"""List, then watch, for ever: the contents of one collection kept as the API server has them.

A list gives a version, a watch goes on from it; bookmarks move it on without news.  When the server has forgotten the
version (410 Gone), everything is listed again.  Failures wait with full jitter, longer each time, or as long as the
server asks.  One thread for each collection.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import structlog

from agent.plugins import ClusterError

log = structlog.get_logger("reeve.cluster")

# The server ends a watch after this long; then it is asked anew from where it was.
WATCH_SECONDS = 300
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0


class Feed(Protocol):
    """Where lists and watches come from: `KubernetesClient`."""

    def pages(self, path: str, query: Mapping[str, str], limit: int = 500) -> Iterator[dict[str, Any]]: ...

    def watch(
        self, path: str, query: Mapping[str, str], stop: threading.Event, seconds: int
    ) -> Iterator[dict[str, Any]]: ...


class Keeper(Protocol):
    """What keeps the objects."""

    def replace(self, items: Iterable[Mapping[str, Any]]) -> None:
        """These objects are all there are."""
        ...

    def put(self, item: Mapping[str, Any]) -> None:
        """An object is new or has changed."""
        ...

    def remove(self, item: Mapping[str, Any]) -> None:
        """An object is gone."""
        ...


class _Expired(Exception):
    """The server does not know the version any more."""


class Watching:
    """Keeps a `Keeper` like one collection.  `start`, then `stop`; `is_synced` once a list was taken whole."""

    def __init__(
        self,
        feed: Feed,
        path: str,
        keeper: Keeper,
        *,
        query: Mapping[str, str] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._feed = feed
        self.path = path
        self._keeper = keeper
        self._query = dict(query or {})
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reeve-watch-{path.rpartition('/')[2]}", daemon=True)
        self.lists = 0
        self.problem = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; a watch that is silent ends with its process."""
        self._stop.set()

    @property
    def is_synced(self) -> bool:
        return self._synced.is_set()

    def wait_synced(self, seconds: float) -> bool:
        return self._synced.wait(seconds)

    def _run(self) -> None:
        failures = 0
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list()
                for newer in self._watch(version):
                    version, failures = newer, 0
                failures = 0  # the server ended it in time
                self._tell("")
            except _Expired:
                version = ""
                failures += 1
                if failures > 1:  # a list that is at once too old: the server is in trouble
                    self._wait(FIRST_WAIT_SECONDS * failures)
                log.info("The API server has forgotten a version; everything is listed again.", path=self.path)
            except ClusterError as error:
                failures += 1
                self._tell(str(error))
                most = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(failures - 1, 10))
                self._wait(error.retry_after_seconds or random.uniform(most / 4, most))  # noqa: S311 - jitter
            except Exception as error:  # noqa: BLE001 - a thread's boundary: one odd object must not end the watch
                failures += 1
                version = ""
                self._tell(type(error).__name__)
                self._wait(LONGEST_WAIT_SECONDS)

    def _list(self) -> str:
        items: list[Mapping[str, Any]] = []
        version = ""
        try:
            for page in self._feed.pages(self.path, self._query):
                items += [item for item in page.get("items") or () if isinstance(item, dict)]
                version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        except ClusterError as error:
            if error.status == 410:
                raise _Expired from error
            raise
        if not version:
            raise ClusterError(0, "NoList", f"{self.path} answered without a resourceVersion")
        self._keeper.replace(items)
        self.lists += 1
        self._synced.set()
        self._tell("")
        return version

    def _watch(self, version: str) -> Iterator[str]:
        """Versions as they come.  Raises _Expired or ClusterError."""
        try:
            query = {**self._query, "resourceVersion": version}
            for event in self._feed.watch(self.path, query, self._stop, WATCH_SECONDS):
                item = event.get("object")
                if not isinstance(item, dict):
                    continue
                match event.get("type"):
                    case "ADDED" | "MODIFIED":
                        self._keeper.put(item)
                    case "DELETED":
                        self._keeper.remove(item)
                    case "BOOKMARK":
                        pass
                    case "ERROR":
                        raise ClusterError(
                            int(item.get("code") or 0), str(item.get("reason") or "Error"), str(item.get("message"))
                        )
                    case _:
                        continue
                yield str((item.get("metadata") or {}).get("resourceVersion") or version)
        except ClusterError as error:
            if error.status == 410 or error.reason in ("Expired", "Gone"):
                raise _Expired from error
            raise

    def _tell(self, problem: str) -> None:
        """Say a problem once, and when it is over."""
        if problem and not self.problem:
            log.warning("A watch on the API server failed, trying again.", path=self.path, error=problem)
        elif self.problem and not problem:
            log.info("A watch on the API server stands again.", path=self.path)
        self.problem = problem
