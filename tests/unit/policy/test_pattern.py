"""agent.policy.pattern: Kyverno's pattern language."""

import json
import lzma

import pytest

from agent.policy.pattern import any_verdict, compared, scalar_matches, split_anchor, verdict


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("*", "x", True),
        ("a*", "abc", True),
        ("a?c", "abc", True),
        ("!a*", "abc", False),
        ("!a*", "b", True),
        ("a | b", "b", True),
        (">=5 & <10", 7, True),
        (">5", 5, False),
        ("<1Gi", "100Mi", True),
        ("1-10", 5, True),
        ("1!-10", 5, False),
        ("100Mi-1Gi", "512Mi", True),
        (">=1h", "90m", True),
        (">a", "b", False),
        (True, True, True),
        (True, "true", False),
        ("true", True, True),
        (5, 5.0, True),
        (5, "5", True),
        (5, True, False),
        (1.5, "x", False),
        (None, None, True),
        (None, "", True),
        (None, 3, False),
        ("x", None, False),
        ("!x", None, False),
        ("<5", None, True),
        ("0.5", "500m", True),
        ("x", {"a": 1}, False),
    ],
)
def test_scalars(pattern, value, matches):
    assert scalar_matches(pattern, value) is matches


@pytest.mark.parametrize(
    ("pattern", "value", "status"),
    [
        ({"a": "x"}, {"a": "x", "b": 1}, "pass"),
        ({"a": "x"}, {}, "fail"),
        ({"a": {"b": "x"}}, {"a": []}, "fail"),
        ({"a": "*"}, {"a": ""}, "pass"),
        ({"a": "*"}, {}, "fail"),
        ({"(a)": "x", "b": "y"}, {"a": "x", "b": "y"}, "pass"),
        ({"(a)": "x", "b": "y"}, {"a": "x", "b": "n"}, "fail"),
        ({"(a)": "x", "b": "y"}, {"a": "z", "b": "n"}, "skip"),
        ({"(a)": "x", "b": "y"}, {"b": "n"}, "skip"),
        ({"=(a)": "x"}, {}, "pass"),
        ({"=(a)": "x"}, {"a": "y"}, "fail"),
        ({"X(a)": "null"}, {}, "pass"),
        ({"X(a)": "null"}, {"a": 1}, "fail"),
        ({"<(a)": "x", "b": "y"}, {"a": "z", "b": "y"}, "skip"),
        ({"<(a)": "x", "b": "y"}, {"b": "n"}, "fail"),
        ({"^(a)": [{"n": "x"}]}, {"a": [{"n": "y"}, {"n": "x"}]}, "pass"),
        ({"^(a)": [{"n": "x"}]}, {"a": [{"n": "y"}]}, "fail"),
        ({"^(a)": [{"n": "x"}]}, {"a": "x"}, "fail"),
        ({"^(a)": [{"n": "x"}]}, {}, "pass"),
        ({"a": [{"n": "x"}]}, {"a": [{"n": "x"}, {"n": "y"}]}, "fail"),
        ({"a": [{"n": "x"}]}, {"a": []}, "pass"),
        ({"a": []}, {"a": []}, "fail"),
        ({"a": ["x*"]}, {"a": ["x1", "x2"]}, "pass"),
        ({"a": "x*"}, {"a": ["x1", "y"]}, "fail"),
        ({"a": [["x"], ["y"]]}, {"a": [["x"], ["y"], ["z"]]}, "pass"),
        ({"a": [["x"], ["y"]]}, {"a": [["x"]]}, "fail"),
        ({"a": [{"(n)": "x", "v": 1}]}, {"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}, "pass"),
        ({"a": [{"(n)": "x", "v": 1}]}, {"a": [{"n": "y", "v": 2}]}, "skip"),
        ({"labels": {"app*": "x"}}, {"labels": {"app.kubernetes.io/name": "x"}}, "pass"),
        ({"labels": {"app*": "x"}}, {"labels": {"other": "x"}}, "fail"),
    ],
)
def test_maps_lists_and_anchors(pattern, value, status):
    assert verdict(pattern, value)[0] == status


def test_a_failure_names_the_path_and_not_the_value():
    assert verdict({"a": {"b": ["x"]}}, {"a": {"b": ["x", "hunter2"]}}) == ("fail", "a.b[1]")


def test_any_pattern():
    assert any_verdict(({"a": 1}, {"a": 2}), {"a": 2})[0] == "pass"
    assert any_verdict(({"a": 1}, {"a": 2}), {"a": 3})[0] == "fail"
    assert any_verdict(({"(a)": 1},), {"a": 3})[0] == "skip"


def test_anchors_are_split_from_their_key():
    assert [split_anchor(key) for key in ("(a)", "=(a)", "X(a)", "^(a)", "<(a)", "+(a)", "a")] == [
        ("?", "a"),
        ("=", "a"),
        ("X", "a"),
        ("^", "a"),
        ("<", "a"),
        ("+", "a"),
        ("", "a"),
    ]


@pytest.mark.parametrize(
    ("left", "right", "order"),
    [("1h", "60m", 0), ("1h30m", "1h", 1), ("1Ki", "1000", 1), ("1k", "1e3", 0), ("500m", "0.5", 0), ("a", "1", None)],
)
def test_durations_and_quantities_are_compared(left, right, order):
    assert compared(left, right) == order


def _objects(case):
    for group in case["resources"]:
        for resource in group["resources"]:
            yield group, resource


def test_kyvernos_own_cases_agree(shared):
    """Cases of Kyverno's command line that need nothing but patterns and match a rule without autogen."""
    checked = wrong = 0
    with lzma.open(shared / "kyverno" / "cases.jsonl.xz", "rt") as file:
        cases = [json.loads(line) for line in file]
    for case in cases:
        if case["tier"] != "t1-pattern-pure" or str(case["rule"]).startswith("autogen-"):
            continue
        rules = [rule for rule in case["policy"]["spec"]["rules"] if rule["name"] == case["rule"]]
        if not rules or "exclude" in rules[0]:
            continue
        validation = rules[0].get("validate", {})
        patterns = validation.get("anyPattern") or ([validation["pattern"]] if "pattern" in validation else [])
        kinds = json.dumps(rules[0]["match"])
        for _, resource in _objects(case):
            if not patterns or f'"{resource.get("kind")}"' not in kinds or "selector" in kinds or "namespaces" in kinds:
                continue
            checked += 1
            came = any_verdict(tuple(patterns), resource)[0]
            scored = case["policy"]["metadata"].get("annotations", {}).get("policies.kyverno.io/scored")
            wanted = "fail" if case["expected"] == "warn" and scored == "false" else case["expected"]
            wrong += came != wanted
    assert checked > 150
    assert wrong == 0
