"""The deployment pages say nothing that the commands and the chart don't have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vgpumonitor.metrics.sets import SETS, families_for

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("migration.md", "schedulers.md")]
#: These name no series, and few flags.
INSTALLATION = [ROOT / "docs" / name for name in ("air-gapped.md", "bare-node.md", "release.md")]

#: Flags of other programs that the pages name.
FOREIGN = {
    *("--create-namespace", "--feature-gates", "--legacy-metrics", "--namespace", "--patch"),
    *("--overwrite", "--reset-then-reuse-values", "--reuse-values", "--set", "--type", "--values"),
}


def options(command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "vgpumonitor", command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"--[a-z][a-z-]+", done.stdout))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    flags = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", page.read_text())) - FOREIGN
    assert flags
    assert flags <= options("serve") | options("compare")


@pytest.mark.parametrize("page", [*PAGES, *INSTALLATION], ids=lambda page: page.name)
def test_values_exist(page: Path) -> None:
    values: Any = yaml.safe_load((ROOT / "deploy/charts/hami-daemon/values.yaml").read_text())
    named = set(re.findall(r"\bdaemon\.[A-Za-z]+(?:\.[A-Za-z]+)*", page.read_text()))
    assert named or page in INSTALLATION
    for name in named:
        node = values
        for key in name.split("."):
            assert key in node, name
            node = node[key]
            if node == {}:
                break  # Kubernetes' own structure goes here


def test_migration_names_every_series_of_vgpumonitor() -> None:
    text = (ROOT / "docs/migration.md").read_text()
    families = [family.name for name in ("documented", "hami") for family in SETS[name]]
    assert len(families) > 15
    assert [name for name in families if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_series_that_exist(page: Path) -> None:
    families = {family.name for family in families_for("all")}
    prose = re.sub(r"<!-- generated:.*?<!-- end -->", "", page.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"\b(?:hami|vgpu|vgpumonitor)_[a-z_]+[a-z]\b", prose))
    assert named
    assert named <= families


@pytest.mark.parametrize("page", [*PAGES, *INSTALLATION], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*)#?([\w-]*)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        anchors = {
            re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
        }
        assert not anchor or anchor in anchors, anchor
