"""The rules' tests, which Debian's promtool runs in tests/alerts, by Prometheus 3 and by
VictoriaMetrics: the same alerts with the same texts, and the same samples."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.alerts.test_rules import TESTS
from tests.stores.metricsql import translated

pytestmark = pytest.mark.slow

EACH = pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.split(".")[0])


@EACH
def test_prometheus_3(binaries: Path, path: Path) -> None:
    _succeeds(binaries / "promtool", "test", "rules", str(path))


@EACH
def test_victoria_metrics(binaries: Path, path: Path, tmp_path: Path) -> None:
    for number, (rules, test) in enumerate(translated(path.read_text())):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "rules.yaml").write_text(rules)
        (directory / "test.yaml").write_text(test)
    _succeeds(
        binaries / "vmalert-tool",
        "unittest",
        f"--files={tmp_path}/*/test.yaml",
        "--disableAlertgroupLabel",
    )


def _succeeds(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
