"""Makes what Prometheus's operator and Grafana read: the PrometheusRule of rules.yaml, the dashboard of panels.yaml.

    python daemonset/monitoring/generate.py            writes both
    python daemonset/monitoring/generate.py --check    1 if one of them is not what it would write

Every metric of the catalogue has a panel, and every panel's metrics are in the catalogue (tested).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
COMPONENT = HERE.parent / "components" / "monitoring"
RULE_FILE = COMPONENT / "prometheusrule.yaml"
DASHBOARD_FILE = COMPONENT / "reeve.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODE = 'node=~"$node"'
WIDTH = 24


Panel = dict[str, Any]


def rows() -> list[dict[str, Any]]:
    return list(yaml.safe_load((HERE / "panels.yaml").read_text(encoding="utf-8"))["rows"])


def queries() -> Iterator[tuple[str, str]]:
    """Every panel's title and one of its queries, as Grafana sends it, but for its variables."""
    for row in rows():
        for panel in row["panels"]:
            for query in panel["queries"].values():
                yield panel["title"], _whole(query)


def _whole(query: str) -> str:
    return query.replace("{N", "{" + NODE).replace("[R]", "[$__rate_interval]")


def prometheus_rule() -> str:
    rules = yaml.safe_load((HERE / "rules.yaml").read_text(encoding="utf-8"))
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "reeve", "namespace": "reeve-system", "labels": {"app.kubernetes.io/name": "reeve"}},
        "spec": rules,
    }
    head = "# Made of daemonset/monitoring/rules.yaml by generate.py; change it there.\n"
    return head + yaml.safe_dump(resource, sort_keys=False, width=120)


def dashboard() -> str:
    variable = {"type": "query", "datasource": SOURCE, "includeAll": True, "multi": True, "allValue": ".*"}
    node = "label_values(reeve_ledger_balanced, node)"
    return (
        json.dumps(
            {
                "uid": "reeve",
                "title": "Reeve",
                "description": "Runtime security and compliance of LLM workloads: what is found, and what is not seen.",
                "tags": ["reeve", "security", "llm"],
                "schemaVersion": 39,
                "editable": True,
                "graphTooltip": 1,
                "refresh": "30s",
                "time": {"from": "now-6h", "to": "now"},
                "templating": {
                    "list": [
                        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                        {
                            **variable,
                            "name": "node",
                            "label": "Node",
                            "query": {"query": node, "refId": "node"},
                            "definition": node,
                            "refresh": 2,
                            "sort": 1,
                            "current": {"text": "All", "value": "$__all"},
                        },
                    ]
                },
                "panels": list(_panels()),
            },
            indent=1,
        )
        + "\n"
    )


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in rows():
        number += 1
        place = _place(0, top, WIDTH, 1)
        yield {"id": number, "type": "row", "title": row["row"], "collapsed": False, "panels": [], "gridPos": place}
        top += 1
        left = height = 0
        for panel in row["panels"]:
            width = panel.get("width", WIDTH // 3)
            if left + width > WIDTH:
                left, top = 0, top + height
            number += 1
            height = 4 if panel.get("is_stat") else 8
            yield {"id": number, "gridPos": _place(left, top, width, height), **_panel(panel)}
            left += width
        top += height


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel) -> dict[str, Any]:
    is_stat, is_stacked = panel.get("is_stat", False), panel.get("is_stacked", False)
    defaults: dict[str, Any] = {"unit": panel["what"], "min": 0}
    if is_stat:
        colours = ("red", "green") if "good_from" in panel else ("green", "red")
        edges = (None, panel.get("good_from", panel.get("bad_from")))
        steps = [{"color": colour, "value": edge} for colour, edge in zip(colours, edges, strict=True)]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "decimals": 0}
        options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"}
    else:
        stacking = {"mode": "normal" if is_stacked else "none"}
        defaults |= {"custom": {"fillOpacity": 20 if is_stacked else 5, "stacking": stacking, "showPoints": "never"}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "type": "stat" if is_stat else "timeseries",
        "title": panel["title"],
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": _whole(query),
                "legendFormat": legend or "__auto",
                "instant": is_stat,
                "range": not is_stat,
            }
            for index, (legend, query) in enumerate(panel["queries"].items())
        ],
    }


def main() -> int:
    made = {RULE_FILE: prometheus_rule(), DASHBOARD_FILE: dashboard()}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.name} is not what generate.py makes; run it\n")
        return 1 if stale else 0
    COMPONENT.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
