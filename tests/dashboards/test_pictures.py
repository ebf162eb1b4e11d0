"""The dashboards as they look over three simulated nodes, drawn with Grafana's own components."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards.pictures import Picture, draw, simulated_cluster
from testing.dashboards import panels
from testing.prometheus import Prometheus
from tests.dashboards.test_json import DASHBOARDS

pytestmark = pytest.mark.slow

#: What shows faults and waiting only, and a GPU in MIG mode, which has no utilization.
EMPTY = {
    ("node", "Errors of memory and links"),
    ("node", "GPU 4: cores"),
    ("workload", "Alerts"),
    ("workload", "Launches blocked"),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Prometheus]:
    with simulated_cluster(nodes=3, days=1) as source:
        yield source


@pytest.fixture(scope="module")
def pictures(cluster: Prometheus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    out = tmp_path_factory.mktemp("pictures")
    drawn = {picture.name: picture for picture in draw(cluster, out, sorted(DASHBOARDS))}
    for name in drawn:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return drawn


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_all_panels_are_drawn_without_error(pictures: dict[str, Picture], name: str) -> None:
    picture = pictures[name]
    assert picture.errors == []
    assert {panel.title for panel in picture.panels} == {
        panel["title"] for panel in panels(DASHBOARDS[name])
    }


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_no_panel_is_empty(pictures: dict[str, Picture], name: str) -> None:
    empty = {(name, panel.shown) for panel in pictures[name].panels if not panel.rows}
    assert empty <= EMPTY


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_everything_can_be_read(pictures: dict[str, Picture], name: str) -> None:
    """Columns are inside their tables, legends begin with their largest row, axes have all that
    is drawn and not much more, no text is cut."""
    assert {p.shown: p.problems for p in pictures[name].panels if p.problems} == {}


def test_what_can_not_be_read_is_found(cluster: Prometheus, tmp_path: Path) -> None:
    spoilt: dict[str, Any] = {**copy.deepcopy(DASHBOARDS["cluster"]), "panels": []}

    def spoil(title: str) -> dict[str, Any]:
        original = next(p for p in DASHBOARDS["cluster"]["panels"] if p["title"] == title)
        panel: dict[str, Any] = copy.deepcopy(original)
        panel["gridPos"] |= {"x": 0, "y": 10 * len(spoilt["panels"]), "h": 9}
        spoilt["panels"].append(panel)
        return panel

    spoil("Namespaces")["gridPos"]["w"] = 6
    spoil("Memory idle, by namespace")["options"]["legend"]["sortDesc"] = False
    axis = spoil("GPUs idle, by namespace")
    axis["fieldConfig"]["defaults"] |= {"unit": "percentunit"}
    cut = spoil("GPUs, pods")
    cut["title"], cut["gridPos"]["w"] = "GPUs of all the nodes that are chosen", 2
    wrong = spoil("Memory")
    wrong["title"], wrong["targets"][0]["expr"] = "not PromQL", "sum("
    nothing = spoil("Cores")
    nothing["title"], nothing["targets"] = "nothing", nothing["targets"][:1]
    nothing["targets"][0]["expr"] = "absent_family"
    directory = tmp_path / "dashboards"
    directory.mkdir()
    (directory / "spoilt.json").write_text(json.dumps(spoilt))
    [picture] = draw(cluster, tmp_path, ["spoilt"], directory)
    found = {panel.title: panel for panel in picture.panels}
    [error] = picture.errors
    assert error.startswith("not PromQL: ")
    assert found["nothing"].rows == 0

    def begins(title: str, beginning: str) -> bool:
        return any(problem.startswith(beginning) for problem in found[title].problems)

    assert begins("Namespaces", "columns need ")
    assert begins("Memory idle, by namespace", "the legend begins with ")
    assert begins("GPUs idle, by namespace", "the axis of a share reaches ")
    assert begins("GPUs of all the nodes that are chosen", "cut: ")
