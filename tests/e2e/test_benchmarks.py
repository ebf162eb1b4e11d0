"""Every benchmark at its smallest, so that none breaks unseen."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import pytest
from click.testing import CliRunner

from benchmarks import dashboards, rules, series
from benchmarks.__main__ import PARTS
from testing.dashboards import read

#: Of each part its arguments, and what its rows are about.
SMALLEST: Mapping[str, tuple[dict[str, object], list[str]]] = {
    "freshness": (
        {"containers": 2, "times": 2},
        ["file created to series served, 2 containers"],
    ),
    "scrape": (
        {"sizes": (1, 2), "times": 2},
        [
            "scrape of 1 containers × 2 GPUs, all sets, unchanged",
            "scrape of 1 containers × 2 GPUs, all sets, all changed",
            "scrape of 2 containers × 2 GPUs, all sets, unchanged",
            "scrape of 2 containers × 2 GPUs, all sets, all changed",
            "scrape of 2 containers against 1, unchanged",
            "scrape of 2 containers against 1, all changed",
        ],
    ),
    "concurrent": (
        {"containers": 2, "times": 1, "readers": 2},
        [
            "CPU of 5 scrapes at once, 2 containers",
            "memory taken by 2 slow readers, 2 containers",
        ],
    ),
    "devices": ({"times": 2}, ["CPU of a look at 8 GPUs through NVML"]),
    "exposition": (
        {"sizes": (1, 2), "times": 2},
        [
            "CPU of collecting 2 containers × 2 GPUs, all changed",
            "CPU of collecting 2 containers × 2 GPUs, unchanged",
            "2 containers against 1, all changed",
            "2 containers against 1, unchanged",
        ],
    ),
    "syscalls": (
        {"containers": 2, "scrapes": 2},
        ["system calls per container and scrape"],
    ),
    "witnesses": (
        {"containers": 2, "times": 2},
        [
            "scrape of 2 containers, all changed, with the second witness",
            "system calls of that scrape",
        ],
    ),
    "start": (
        {"containers": 2, "times": 1},
        ["start to first answered scrape, 2 containers"],
    ),
    "idle": (
        {"containers": 2, "seconds": 0.5},
        ["wake-ups while idle, 2 containers"],
    ),
    "footprint": (
        {"containers": 2, "passing": 4, "batch": 2},
        [
            "resident memory, 2 containers",
            "the same after 4 containers came and went",
        ],
    ),
    "pods": (
        {"containers": 2, "many": 2},
        [
            "resident with 2 containers, no pod source",
            "resident with 2 containers, pods from a file",
            "resident with 2 containers, pods from kubelet's logs",
            "resident with 2 containers, pods from Kubernetes, documented,vgpu",
            "resident with 2 containers, pods from Kubernetes, all",
            "resident with 2 containers, pods from Kubernetes by a kubeconfig",
            "resident with 2 containers, 2 pods from Kubernetes",
        ],
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part(part: str) -> None:
    arguments, subjects = SMALLEST[part]
    rows = PARTS[part](**arguments)
    assert [row.what for row in rows] == subjects
    # A figure is a number and its unit.
    assert all(isfinite(float(row.figure.split()[0])) for row in rows)


def test_series() -> None:
    done = CliRunner().invoke(series.main, [], catch_exceptions=False)
    subjects = [line.split(" | ")[0] for line in done.output.splitlines() if line[:2] == "| "]
    assert "| documented" in subjects
    assert "| recorded: cluster" in subjects
    assert subjects[-1].startswith("| kept of them: ")


def test_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PACE", 1)
    monkeypatch.setattr(rules, "EVALUATIONS", 2)
    smallest = ["--nodes=2", "--gpus=1", "--containers=2", "--interval=120"]
    done = CliRunner().invoke(rules.main, smallest, catch_exceptions=False)
    subjects = [line.split(" | ")[0] for line in done.output.splitlines() if line[:2] == "| "]
    assert subjects[:2] == ["| what", "| series of 2 nodes"]
    assert subjects[-1] == "| dearest rules"


def test_dashboards() -> None:
    smallest = ["--nodes=1", "--gpus=4", "--containers=12"]
    done = CliRunner().invoke(dashboards.main, smallest, catch_exceptions=False)
    rows = [line.split(" | ") for line in done.output.splitlines() if line[:2] == "| "]
    samples = {what.removeprefix("| "): figure.split()[0] for what, figure, _ in rows}
    assert read().keys() <= samples.keys()
    assert all(int(samples[name].replace(",", "")) > 0 for name in read())
