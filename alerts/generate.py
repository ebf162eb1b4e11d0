"""``python -m alerts.generate``: writes the rules as YAML, and the index of the runbooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from alerts.config import DISABLED, NAMESPACES, PRICES, RUNBOOKS
from alerts.model import Alert, Group, Recording
from alerts.rules import ALERTS, PRICE, RECORDING

DIRECTORY = Path(__file__).parent
_NOTE = "# Generated from rules.py, hardware.py and config.py by `make alerts`; edit that.\n"
_RUNBOOKS = """\
<!-- Generated from alerts/rules.py and hardware.py by `make alerts`; edit those. -->

# Runbooks

One page per alert. In queries and commands, `NODE`, `NAMESPACE`, `POD`, `CONTAINER` and `UUID`
stand for the alert's labels `node`, `namespace`, `pod`, `container` and `device_uuid`, and
`INSTANCE` for the address of the node's target (`vgpumonitor_build_info` has both). Commands assume
the chart's defaults: namespace koordinator-system, release hami-daemon.

| alert | severity | who can act | what it says |
|---|---|---|---|
"""


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as blocks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _of_namespaces(names: str) -> str:
    return f'group by (namespace) (pod:vgpu_workload:info{{namespace=~"{names}"}})'


def by_namespace(alert: Alert, namespaces: Mapping[str, Mapping[str, float]]) -> str:
    """The alert's expression with ``namespaces`` of their own thresholds. The chart's template does
    the same."""
    changed: dict[str, str] = {}
    for names, thresholds in sorted(namespaces.items()):
        expr = alert.expr
        for name, value in thresholds.items():
            expr = re.sub(rf"\S+ # {name}$", f"{value} # {name}", expr, flags=re.MULTILINE)
        if expr != alert.expr and "$labels.namespace" in alert.description:
            changed[names] = expr
    if not changed:
        return alert.expr
    own = "".join(
        f"\nor\n(\n{expr}\n)\nand on (namespace)\n{_of_namespaces(names)}"
        for names, expr in changed.items()
    )
    return f"(\n{alert.expr}\n)\nunless on (namespace)\n{_of_namespaces('|'.join(changed))}{own}"


def _rule(rule: Recording | Alert) -> dict[str, Any]:
    if isinstance(rule, Recording):
        return {"record": rule.record, "expr": rule.expr}
    return {
        "alert": rule.name,
        "expr": by_namespace(rule, NAMESPACES),
        "for": rule.wait,
        "labels": {"severity": rule.severity, "audience": rule.audience},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{RUNBOOKS}{rule.name}.md",
        },
    }


def _groups(groups: tuple[Group, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "interval": group.interval,
            "rules": [
                _rule(rule)
                for rule in group.rules
                if isinstance(rule, Recording) or rule.name not in DISABLED
            ],
        }
        for group in groups
    ]


def prices(of_models: Mapping[str, float]) -> list[dict[str, Any]]:
    """A group with the price of each model, none where there is none. The chart's template does
    the same."""
    rules = [
        {"record": PRICE, "expr": f"vector({price})", "labels": {"name": model}}
        for model, price in sorted(of_models.items())
    ]
    return [{"name": "vgpu.prices", "interval": "1m", "rules": rules}] if rules else []


def _yaml(value: Any) -> str:
    return _NOTE + yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=100)


def _runbook_index() -> str:
    alerts = [rule for group in ALERTS for rule in group.rules if isinstance(rule, Alert)]
    return _RUNBOOKS + "".join(
        f"| [{alert.name}]({alert.name}.md) | {alert.severity} | {alert.audience} "
        f"| {alert.summary} |\n"
        for alert in alerts
    )


def files() -> dict[str, str]:
    """The text of each generated file, by its path from this directory."""
    return {
        "recording.rules.yaml": _yaml({"groups": [*_groups(RECORDING), *prices(PRICES)]}),
        "alerts.rules.yaml": _yaml({"groups": _groups(ALERTS)}),
        "prometheusrule.yaml": _yaml(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": "vgpumonitor"},
                "spec": {"groups": [*_groups((*RECORDING, *ALERTS)), *prices(PRICES)]},
            }
        ),
        "runbooks/README.md": _runbook_index(),
    }


if __name__ == "__main__":
    for name, text in files().items():
        (DIRECTORY / name).write_text(text)
