"""The repository's rules at a test's pace."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ALERTS = Path(__file__).parents[1] / "alerts"


def in_seconds(text: str) -> int:
    """Of a duration with one unit, such as ``5m``."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def looks_back_seconds(expr: str) -> str:
    """``expr`` where it asks for what was minutes or hours ago, to see that there is a history."""
    return re.sub(r"\boffset \d+[mh]", "offset 3s", expr)


def without_waits(directory: Path, alerts: Path = ALERTS) -> dict[str, str]:
    """Writes the rule files to ``directory`` so that every group is evaluated at Prometheus' own
    interval, no alert waits, and seconds are history enough. Gives the interval that each group
    has in fact; "" is Prometheus' own."""
    intervals = {}
    for path in alerts.glob("*.rules.yaml"):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            intervals[group["name"]] = group.pop("interval", "")
            for rule in group["rules"]:
                rule["expr"] = looks_back_seconds(rule["expr"])
                if "for" in rule:
                    rule["for"] = "0s"
        (directory / path.name).write_text(yaml.safe_dump(rules, sort_keys=False))
    return intervals
