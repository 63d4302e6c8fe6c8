"""agent.cluster.watching: list and watch, 410 Gone, bookmarks, reconnects, and an API server that is away."""

import threading
import time

import pytest

from agent.cluster.watching import Watching
from agent.plugins import ClusterError
from tests.unit.cluster.apiserver import pod


class Names:
    """Keeps names of pods."""

    def __init__(self):
        self.names = set()
        self.odd = False

    def replace(self, items):
        self.names = {item["metadata"]["name"] for item in items}

    def put(self, item):
        if self.odd:
            self.odd = False
            raise KeyError("an odd object")
        self.names.add(item["metadata"]["name"])

    def remove(self, item):
        self.names.discard(item["metadata"]["name"])


def until(holds):
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def watched(server, client):
    keeper = Names()
    watching = Watching(client, "/api/v1/pods", keeper, query={"fieldSelector": "x=y"}, wait=lambda _: time.sleep(0.02))
    yield server, keeper, watching
    watching.stop()
    server.close()


def lists(server):
    return [query for _, _, query, _ in server.asked if "watch" not in query]


def watches(server):
    return [query for _, _, query, _ in server.asked if "watch" in query]


def test_what_is_there_and_what_comes_is_kept(watched):
    server, keeper, watching = watched
    server.put(pod(1))
    watching.start()
    assert watching.wait_synced(5)
    server.put(pod(2))
    until(lambda: keeper.names == {"pod-1", "pod-2"})
    server.put(pod(1), "DELETED")
    until(lambda: keeper.names == {"pod-2"})
    assert all(query["fieldSelector"] == "x=y" for query in lists(server) + watches(server))
    assert watches(server)[0]["allowWatchBookmarks"] == "true"


def test_a_watch_that_ended_goes_on_from_its_bookmark_without_a_list(watched):
    server, keeper, watching = watched
    watching.start()
    assert watching.wait_synced(5)
    until(lambda: watches(server))
    server.bookmark()
    time.sleep(0.2)
    server.watch_ends.set()
    until(lambda: len(watches(server)) >= 2)
    server.watch_ends.clear()
    assert watches(server)[-1]["resourceVersion"] == str(server.version)
    assert watching.lists == 1
    server.put(pod(5))
    until(lambda: keeper.names == {"pod-5"})


def test_a_version_that_is_gone_is_listed_again(watched):
    server, keeper, watching = watched
    server.put(pod(1))
    watching.start()
    assert watching.wait_synced(5)
    server.put(pod(1), "DELETED")
    server.put(pod(2))
    server.forget()
    server.watch_ends.set()
    until(lambda: watching.lists >= 2)
    server.watch_ends.clear()
    until(lambda: keeper.names == {"pod-2"})


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_server_that_says_no_is_asked_again(watched, status):
    server, keeper, watching = watched
    server.put(pod(1))
    server.answers = [(status, {}, {"reason": "No", "message": "not now"})] * 3
    watching.start()
    assert not watching.is_synced
    until(lambda: keeper.names == {"pod-1"})
    assert not watching.problem


def test_the_server_is_given_the_time_it_asks_for(server, client):
    waited = []
    watching = Watching(client, "/api/v1/pods", Names(), wait=lambda seconds: waited.append(seconds) or False)
    server.answers = [(429, {"Retry-After": "17"}, {"reason": "TooManyRequests"})]
    watching.start()
    assert watching.wait_synced(5)
    watching.stop()
    assert waited[0] == 17


def test_an_odd_object_does_not_end_the_watch(watched):
    server, keeper, watching = watched
    watching.start()
    assert watching.wait_synced(5)
    keeper.odd = True
    server.put(pod(1))
    server.put(pod(2))
    until(lambda: keeper.names == {"pod-1", "pod-2"})


def test_a_server_that_forgets_at_once_is_not_asked_in_a_tight_loop():
    waits = []

    class Forgetful:
        def pages(self, path, query, limit=500):
            yield {"metadata": {"resourceVersion": "1"}, "items": []}

        def watch(self, path, query, stop, seconds):
            raise ClusterError(410, "Expired", "too old")
            yield

    ended = threading.Event()

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 4:
            watching.stop()
            ended.set()
        return False

    watching = Watching(Forgetful(), "/x", Names(), wait=wait)
    watching.start()
    assert ended.wait(5)
    assert waits == sorted(waits)
    assert waits[-1] > waits[0] > 0
