"""Rules, their runbooks and the Alertmanager configuration."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.config import DISABLED, THRESHOLDS
from alerts.generate import by_namespace, files
from alerts.model import Alert, Recording
from alerts.rules import ALERTS, RECORDING
from testing.tools import require
from tests.alerts.promql import FAMILIES, UNUSABLE, names

DIRECTORY = Path(__file__).parents[2] / "alerts"
PACKAGE = DIRECTORY.parent / "vgpumonitor"
RULES = ("recording.rules.yaml", "alerts.rules.yaml")
TESTS = sorted((DIRECTORY / "tests").glob("*.test.yaml"))

ALL_ALERTS = [rule for group in ALERTS for rule in group.rules if isinstance(rule, Alert)]
RECORDINGS = [rule for group in RECORDING for rule in group.rules if isinstance(rule, Recording)]
#: The alerts that may not go missing.
ASKED_FOR = {
    "VgpuMonitorDown",
    "VgpuMonitorRegionsUnreadable",
    "VgpuMonitorNvmlDown",
    "VgpuMonitorPodSourceStale",
    "VgpuMonitorFeedbackStopped",
    "VgpuMonitorCleanupStopped",
    "VgpuMemoryNearLimit",
    "VgpuMemoryLimitPredicted",
    "VgpuCoreOverLimit",
    "VgpuLaunchesBlocked",
    "VgpuIdle",
    "VgpuOversized",
    "VgpuCardMemoryFull",
    "VgpuCardOvercommitted",
    "VgpuCardSaturated",
    "VgpuMemoryUnattributed",
    "VgpuDeadProcessMemory",
    "VgpuCardEccUncorrected",
    "VgpuCardEccCorrected",
    "VgpuCardThermalThrottling",
    "VgpuCardPowerBrake",
    "VgpuCardLost",
    "VgpuCardXidApplication",
    "VgpuCardXidReset",
    "VgpuCardXidHardware",
    "VgpuCardRowRemapPending",
    "VgpuCardRowRemapFailed",
    "VgpuCardPageRetirementPending",
    "VgpuCardPcieLinkDegraded",
    "VgpuCardNvlinkErrors",
    "VgpuCardFanStopped",
    "VgpuCardFanAtLimit",
    "VgpuMemoryBypassed",
    "VgpuMemoryOverLimit",
    "VgpuMonitorMissing",
    "VgpuMonitorNvmlErrors",
}


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [require("promtool"), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cases() -> list[dict[str, Any]]:
    return [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]


@pytest.mark.parametrize("name", sorted(files()))
def test_generated_files_are_current(name: str) -> None:
    assert (DIRECTORY / name).read_text() == files()[name], "run `make alerts`"


def test_prometheus_takes_the_rules() -> None:
    out = promtool("check", "rules", *(str(DIRECTORY / name) for name in RULES))
    assert f"{len(RECORDINGS)} rules found" in out
    assert f"{len(ALL_ALERTS)} rules found" in out


#: Those that take promtool seconds.
SLOW = {"days", "exporter", "hardware", "workload"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=pytest.mark.slow if name in SLOW else ())
        for path in TESTS
        for name in [path.name.split(".")[0]]
    ],
)
def test_rules_do_what_they_say(path: Path) -> None:
    promtool("test", "rules", str(path))


def test_the_object_has_the_same_rules() -> None:
    groups = [
        group
        for name in RULES
        for group in yaml.safe_load((DIRECTORY / name).read_text())["groups"]
    ]
    made = yaml.safe_load((DIRECTORY / "prometheusrule.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert made["spec"]["groups"] == groups


def test_nothing_that_was_asked_for_is_missing() -> None:
    assert {alert.name for alert in ALL_ALERTS} >= ASKED_FOR


@pytest.mark.parametrize("alert", ALL_ALERTS, ids=lambda alert: alert.name)
def test_each_alert_is_shown_to_fire_to_stay_silent_and_to_recover(alert: Alert) -> None:
    """promtool checks that they do; this checks that nobody forgot to ask."""
    asked = [
        (_seconds(check["eval_time"]), bool(check["exp_alerts"]))
        for test in cases()
        for check in test.get("alert_rule_test", ())
        if check["alertname"] == alert.name
    ]
    fires = [time for time, firing in asked if firing]
    silent = [time for time, firing in asked if not firing]
    assert fires
    assert min(silent) < min(fires), "never asked before it fires"
    assert max(silent) > max(fires), "never asked after it recovered"


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"m": 60, "h": 3600}[text[-1]]


@pytest.mark.parametrize("alert", ALL_ALERTS, ids=lambda alert: alert.name)
def test_each_alert_has_texts_and_a_runbook(alert: Alert) -> None:
    page = (DIRECTORY / "runbooks" / f"{alert.name}.md").read_text()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert "```promql" in page
    assert "```sh" in page or "(" in page
    assert alert.summary[-1] != "."
    assert alert.description[-1] == "."


@pytest.mark.parametrize("alert", ALL_ALERTS, ids=lambda alert: alert.name)
def test_each_runbook_greps_the_exporters_log_for_a_logger(alert: Alert) -> None:
    page = (DIRECTORY / "runbooks" / f"{alert.name}.md").read_text()
    for logger in re.findall(r"logs \$exporter .*\| grep ([^|\n]+)$", page, re.MULTILINE):
        path = PACKAGE / logger.replace(".", "/")
        assert logger == "level=warning" or path.is_dir() or path.with_suffix(".py").is_file()


def test_every_runbook_is_of_an_alert() -> None:
    pages = {path.stem for path in (DIRECTORY / "runbooks").glob("*.md")} - {"README"}
    assert pages == {alert.name for alert in ALL_ALERTS}


def test_rules_use_what_there_is() -> None:
    """Every name is a family or recorded, and recorded before it is used: by a group that stands
    before the one that uses it, or above it in its own."""
    known = set(FAMILIES) - {UNUSABLE}
    for rule in RECORDINGS:
        assert names(rule.expr) <= known, rule.record
        assert rule.record not in known
        known.add(rule.record)
    for alert in ALL_ALERTS:
        assert names(alert.expr) <= known, alert.name


def test_recorded_names_are_level_metric_operation() -> None:
    for rule in RECORDINGS:
        level, metric, operation = rule.record.split(":")
        assert level in {"container", "pod", "workload", "namespace", "card",
                         "node", "cluster"}  # fmt: skip
        assert operation in {"sum", "avg", "count", "info", "group", "best", "max", "min", "ratio",
                             "max1h", "max5m", "avg5m", "sum5m"}  # fmt: skip
        assert metric.startswith("vgpu")


def test_each_threshold_is_named_where_it_stands() -> None:
    """The chart finds the number by the comment behind it."""
    found = {
        name: float(number)
        for alert in ALL_ALERTS
        for number, name in re.findall(r"(\S+) # (\w+)$", alert.expr, re.MULTILINE)
    }
    assert found == THRESHOLDS


def test_no_alert_is_switched_off_that_there_is_not() -> None:
    assert {alert.name for alert in ALL_ALERTS} >= DISABLED


#: A namespace whose dead processes may leave more behind, and that is idle sooner.
OF_NAMESPACES = {"batch-.*": {"dead_process_bytes": 100, "idle_seconds": 60}}


def test_a_namespace_has_thresholds_of_its_own(tmp_path: Path) -> None:
    """By its own where it has one, by the default otherwise; alerts without a namespace stay."""
    changed = {
        alert.name: by_namespace(alert, OF_NAMESPACES)
        for alert in ALL_ALERTS
        if by_namespace(alert, OF_NAMESPACES) != alert.expr
    }
    assert set(changed) == {"VgpuDeadProcessMemory", "VgpuIdle"}
    labels = 'node="a", pod="p", container="c", device_index="0", device_uuid="GPU-0"'
    series = [
        {"series": f'{family}{{namespace="{namespace}", {labels}}}', "values": f"{value}x10"}
        for family in ("vgpu_dead_process_memory_bytes", "vgpu_memory_limit_bytes")
        for namespace, value in (("team", 90), ("batch-1", 90), ("batch-2", 110))
    ] + [
        {"series": f'vgpu_pod_info{{namespace="{namespace}", node="a", pod="p"}}', "values": "1x10"}
        for namespace in ("team", "batch-1", "batch-2")
    ]
    rules = {"record": "dead", "expr": changed["VgpuDeadProcessMemory"]}
    default = rules["expr"].replace("67108864 #", "80 #")
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "one", "rules": [{**rules, "expr": default}]}]})
    )
    test = {
        "rule_files": ["rules.yaml", str(DIRECTORY / "recording.rules.yaml")],
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": "sum by (namespace) (dead)",
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": '{namespace="team"}', "value": 90},
                            {"labels": '{namespace="batch-2"}', "value": 110},
                        ],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(path))


def test_nothing_is_kept_by_the_address_of_an_exporter() -> None:
    """An address lasts as long as a pod. Only what is about a target itself has one."""
    for rule in RECORDINGS:
        assert "instance" not in rule.expr, rule.record
    assert {alert.name for alert in ALL_ALERTS if "instance" in alert.description} == {
        "VgpuMonitorDown"
    }


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical audience=platform", "pager"),
        ("severity=warning audience=platform", "platform"),
        ("severity=warning audience=tenant", "tenants"),
        ("severity=info audience=tenant", "digest"),
        ("severity=info audience=platform", "digest"),
    ],
)
def test_alerts_are_routed(labels: str, receiver: str) -> None:
    done = subprocess.run(
        [
            require("amtool"),
            "config",
            "routes",
            "test",
            f"--config.file={DIRECTORY / 'alertmanager.yaml'}",
            *labels.split(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == receiver
