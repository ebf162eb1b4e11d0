"""promtool's tests of the rules as vmalert-tool reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from testing.rules import ALERTS
from tests.alerts.promql import names

Rule = dict[str, Any]

#: vmalert-tool's clock begins in the year 2000, promtool's at 0.
EPOCH = 946_684_800
RULES = [
    (group["name"], rule)
    for path in sorted(ALERTS.glob("*.rules.yaml"), reverse=True)
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
_ITEM = re.compile(r"(?<!\S)(-?\d+)(?=[+x\s]|$)")


def name_of(rule: Rule) -> str:
    return str(rule.get("record") or rule["alert"])


def needed(test: dict[str, Any]) -> list[tuple[str, Rule]]:
    """The rules, with the names of their groups, that ``test`` asks for, and all that they read."""
    wanted = {check["alertname"] for check in test.get("alert_rule_test", ())}
    for check in test.get("promql_expr_test", ()):
        wanted |= names(check["expr"])
        if "ALERTS" in check["expr"]:
            wanted |= {name_of(rule) for _, rule in RULES if "alert" in rule}
    found = []
    for group, rule in reversed(RULES):
        if name_of(rule) in wanted:
            wanted |= names(rule["expr"])
            found.append((group, rule))
    return found[::-1]


def groups(rules: list[tuple[str, Rule]]) -> dict[str, list[Rule]]:
    """By the group's name. vmalert-tool shows what a rule has recorded only once its group is
    done, so each rule comes in a group after those that it reads."""
    made: dict[str, list[Rule]] = {}
    of: dict[str, tuple[str, int]] = {}
    for group, rule in rules:
        before = (of[name] for name in names(rule["expr"]) if name in of)
        depth = max((depth + 1 for other, depth in before if other == group), default=0)
        of[name_of(rule)] = (group, depth)
        made.setdefault(f"{group}/{depth}", []).append(rule)
    return made


def translated(file: str) -> Iterator[tuple[str, str]]:
    """A file of rules and a file of one test for each test of ``file``; the second names the
    first as ``rules.yaml`` in its own directory."""
    content = yaml.safe_load(file)
    for test in content["tests"]:
        of_test = groups(needed(test))
        rules = [{"name": name, "rules": rules} for name, rules in of_test.items()]
        made = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": content["evaluation_interval"],
            "group_eval_order": list(of_test),
            "tests": [_of_2000(test)],
        }
        yield yaml.safe_dump({"groups": rules}, sort_keys=False), yaml.safe_dump(made)


def _of_2000(test: dict[str, Any]) -> dict[str, Any]:
    test = dict(test)
    test["input_series"] = [
        {**series, "values": _ITEM.sub(_later, str(series["values"]))}
        if "_timestamp_seconds{" in series["series"]
        else series
        for series in test["input_series"]
    ]
    # VictoriaMetrics keeps 15 significant digits.
    test["metricsql_expr_test"] = [
        {
            **check,
            "exp_samples": [
                {**sample, "value": float(f"{sample['value']:.15g}")}
                for sample in check.get("exp_samples") or ()
            ],
        }
        for check in test.pop("promql_expr_test", ())
    ]
    return test


def _later(item: re.Match[str]) -> str:
    return str(int(item[1]) + EPOCH)
