"""What a release is made with: the workflows, the version, the unit for systemd."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import vgpumonitor
from testing.tools import require
from tests.deploy.chart import CHART, ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
UNIT = ROOT / "deploy/systemd/vgpumonitor.service"


def scripts(name: str) -> dict[str, str]:
    """The shell scripts of a workflow by their step's name."""
    workflow: Any = yaml.safe_load((ROOT / f".github/workflows/{name}.yaml").read_text())
    return {
        step["name"]: step["run"]
        for job in workflow["jobs"].values()
        for step in job.get("steps", [])
        if "run" in step
    }


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_accepts(workflow: Path) -> None:
    done = subprocess.run(
        [require("actionlint"), workflow], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("tag", "changelog", "expected"),
    [
        ("v1.2.3", "## [1.2.3] - 2026-01-01", 0),
        ("v1.2.4", "## [1.2.4] - 2026-01-01", 1),
        ("v1.2.3", "## [Unreleased]", 1),
    ],
)
def test_a_release_is_of_the_packages_version(
    tmp_path: Path, tag: str, changelog: str, expected: int
) -> None:
    (tmp_path / "vgpumonitor").mkdir()
    source = (ROOT / "vgpumonitor/__init__.py").read_text()
    (tmp_path / "vgpumonitor/__init__.py").write_text(
        source.replace(f'"{vgpumonitor.__version__}"', '"1.2.3"')
    )
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{changelog}\n")
    done = subprocess.run(
        ["bash", "-e", "-c", scripts("release")["Compare the tag with the package's version"]],
        cwd=tmp_path,
        env={"GITHUB_REF_NAME": tag, "GITHUB_OUTPUT": "output", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, done.stderr
    if expected == 0:
        assert (tmp_path / "output").read_text() == "version=1.2.3\n"


def test_the_published_chart_gets_the_published_image(tmp_path: Path) -> None:
    """The substitution that the workflow makes, on a copy."""
    (command,) = re.findall(r"^sed (.*?) \\\n\s+deploy/", scripts("release")[PACKAGE], re.MULTILINE)
    values = tmp_path / "values.yaml"
    values.write_text((CHART / "values.yaml").read_text())
    expression = command.partition("-i ")[2]
    subprocess.run(
        ["bash", "-c", f"OWNER=us; sed -i {expression} {shlex.quote(str(values))}"], check=True
    )
    before = yaml.safe_load((CHART / "values.yaml").read_text())
    after = yaml.safe_load(values.read_text())
    assert after["daemon"]["vgpuMonitor"]["image"].pop("repository") == "ghcr.io/us/vgpumonitor"
    assert before["daemon"]["vgpuMonitor"]["image"].pop("repository") == ""
    assert after == before


PACKAGE = "Package with the published image as its default"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # The command is not installed here.
    text = UNIT.read_text()
    assert text.count("/opt/vgpumonitor/bin/vgpumonitor") == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/vgpumonitor/bin/vgpumonitor", sys.executable))
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "vgpumonitor.service" not in done.stderr
