"""daemonset/monitoring with real peers: promtool, a Prometheus that scrapes a running agent, an Alertmanager that is told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.alertmanaging import PROGRAM as ALERTMANAGER
from tests.e2e.alertmanaging import Alertmanager, free_ports
from tests.e2e.saying import said_in
from tests.unit.daemonset.test_monitoring import MONITORING, targets
from tests.unit.sinks.listening import Receiver, receiver

PLANTED = "536-90-4399"
PROMETHEUS, PROMTOOL = "prometheus", "promtool"
# Of a node that only reads logs, these have nothing to show.
ELSEWHERE = {
    *("Lost before the agent had it", "Not understood", "Texts not scanned whole", "Streams that stand", "Dropped"),
    *("Set aside, and told by the source itself", "Engine errors, scanners that died", "Reloads", "Reports written"),
    *("RuntimePolicy resources", "API server", "Pods", "Matches that were rejected", "Scanned before"),
}


@pytest.fixture(scope="module", autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    missing = [one for one in (PROMETHEUS, PROMTOOL, ALERTMANAGER) if shutil.which(one) is None]
    if missing:
        give_up = pytest.fail if request.config.getoption("--require-peers") else pytest.skip
        give_up(f"PEER SKIPPED: {', '.join(missing)} not installed (Debian's packages; .ci/install-kubernetes)")


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return answer


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A running agent's port, and the log that it reads."""
    folder = tmp_path_factory.mktemp("agent")
    log = folder / "pods" / "shop_billing-0_0b4ef4c5-7c5b-4a34-9f0e-0d6a2e6f8a11" / "main" / "0.log"
    log.parent.mkdir(parents=True)
    log.touch()
    (port,) = free_ports(1)
    config = {
        "apiVersion": "reeve.dev/v1alpha1",
        "kind": "AgentConfig",
        "node": "n1",
        "state_dir": str(folder / "state"),
        "http": {"listen": f"127.0.0.1:{port}"},
        "sources": {"containerlogs": {"paths": [str(folder / "pods")]}},
        "sinks": {"audit": {}},
        "canary": {"every_seconds": 4, "within_seconds": 4, "paths": ["logs"]},
    }
    (folder / "agent.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "agent", "run", "--config", str(folder / "agent.yaml")]
    with (folder / "out").open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: "reeve_canary_up" in fetched(f"http://127.0.0.1:{port}/metrics"))
            yield port, log
        finally:
            process.terminate()
            process.wait(30)


def fetched(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


class Prometheus:
    """A server that scrapes the agent each second, as the PodMonitor would have it, with rules.yaml in a hurry."""

    def __init__(self, folder: Path, agent_port: int, alertmanager: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
        for group in rules["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}]},
            "scrape_configs": [
                {
                    "job_name": "reeve-system/reeve",
                    "honor_labels": True,
                    "static_configs": [{"targets": [f"127.0.0.1:{agent_port}"], "labels": {"node": "n1"}}],
                }
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [PROMETHEUS, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, cwd=folder
            )
        until(lambda: fetched(f"{self.url}/-/ready"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query; fails with Prometheus's words if it is none."""
        request = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory, hook: Receiver) -> Iterator[Alertmanager]:
    made = Alertmanager(tmp_path_factory.mktemp("alertmanager"), f"{hook.url}/notified", free_ports(1)[0])
    yield made
    made.stop()


@pytest.fixture(scope="module")
def prometheus(
    agent: tuple[int, Path], alertmanager: Alertmanager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), agent[0], alertmanager.url)
    until(lambda: made.ask("reeve_canary_up == 1"))
    yield made
    made.process.terminate()
    made.process.wait(30)


def test_promtool_takes_the_rules_and_their_cases_pass() -> None:
    checked = subprocess.run([PROMTOOL, "check", "rules", "rules.yaml"], cwd=MONITORING, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(
        [PROMTOOL, "test", "rules", "rules.test.yaml"], cwd=MONITORING, capture_output=True, text=True
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "SUCCESS" in tested.stdout


def test_a_leak_becomes_an_alert_of_a_real_prometheus_at_a_real_alertmanager(
    agent: tuple[int, Path],
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    hook: Receiver,
    request: pytest.FixtureRequest,
) -> None:
    quiet = 'ALERTS{alertname=~"ReeveHighViolation|ReeveDown|ReeveCanaryDown|ReeveAbsent"}'
    until(lambda: not prometheus.ask(quiet))  # before its first run the canary is not up
    with agent[1].open("a") as log:
        log.write(f"2026-11-27T09:00:00.0Z stdout F customer has SSN {PLANTED}\n")

    def alerts() -> dict[str, dict[str, str]]:
        return {one["labels"]["alertname"]: one for one in alertmanager.alerts()}

    until(lambda: {"ReeveHighViolation", "ReevePersonalDataInPlainSight"} <= alerts().keys())
    told = alerts()["ReeveHighViolation"]
    assert told["labels"] | {"alertname": ""} == {
        "alertname": "", "node": "n1", "policy": "pii-in-logs", "rule": "no-personal-data", "severity": "warning",
    }  # fmt: skip
    assert told["annotations"]["summary"] == "pii-in-logs/no-personal-data was violated on node n1"
    assert "1 violations of pii-in-logs/no-personal-data" in told["annotations"]["description"]
    notified = until(lambda: [one for one in hook.requests if b"ReeveHighViolation" in one.body])
    assert notified[0].json["status"] == "firing"
    said_in(request.config, "received by Alertmanager, of a rule of Prometheus", [json.dumps(told, indent=1)])
    assert PLANTED.encode() not in hook.raw + json.dumps(alertmanager.alerts()).encode()
    assert PLANTED not in fetched(f"http://127.0.0.1:{agent[0]}/metrics")


@pytest.mark.parametrize(("title", "query"), list(targets()))
def test_a_real_prometheus_answers_every_panel(title: str, query: str, prometheus: Prometheus) -> None:
    asked = query.replace("$__rate_interval", "30s").replace("$node", ".*")
    if title in ELSEWHERE:
        prometheus.ask(asked)
    else:
        assert until(lambda: prometheus.ask(asked)), "no data"
