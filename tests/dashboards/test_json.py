"""The generated dashboards, without Grafana."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from alerts.rules import RECORDING, Recording
from dashboards.generate import files
from tests.alerts.promql import DOCUMENTED, FAMILIES, UNUSABLE, names

DIRECTORY = Path(__file__).parents[2] / "dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))
}
RECORDED = {
    rule.record for group in RECORDING for rule in group.rules if isinstance(rule, Recording)
}
#: None of them needs Angular.
TYPES = {"row", "timeseries", "stat", "gauge", "table", "bargauge"}

PANELS = [
    pytest.param(name, panel, id=f"{name}-{panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]


def test_there_are_four() -> None:
    assert set(DASHBOARDS) == {"cluster", "node", "workload", "documented"}


@pytest.mark.parametrize("name", sorted(files()))
def test_json_is_current(name: str) -> None:
    assert (DIRECTORY / name).read_text() == files()[name], "run `make dashboards`"


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_variables(name: str) -> None:
    variables = {v["name"]: v for v in DASHBOARDS[name]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    cluster = variables["cluster"]
    # Series without the label are chosen by All, which is chosen at first.
    assert (cluster["allValue"], cluster["current"]["value"]) == (".*", "$__all")
    wanted = {
        "cluster": {"node", "namespace"},
        "node": {"node"},
        "workload": {"namespace", "pod"},
        "documented": {"node", "namespace", "pod"},
    }
    assert set(variables) >= wanted[name]
    for variable in variables.values():
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_range_refresh_and_links(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["refresh"] == "30s"
    assert dashboard["time"]["from"] in {"now-3h", "now-6h"}
    (link,) = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", dashboard["tags"])
    assert link["includeVars"]
    assert link["keepTime"]


def test_uids_are_those_that_links_name() -> None:
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    assert uids == {"vgpu-cluster", "vgpu-node", "vgpu-workload", "vgpu-documented"}
    for dashboard in DASHBOARDS.values():
        for panel in dashboard["panels"]:
            for override in panel["fieldConfig"].get("overrides", ()):
                for item in override["properties"]:
                    if item["id"] == "links":
                        assert {link["url"].split("?")[0] for link in item["value"]} <= {
                            f"/d/{uid}" for uid in uids
                        }


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_have_ids_and_places_of_their_own(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
            or one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
        ), (one, other)


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_each_panel_is_explained_and_has_units(name: str, panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES
    assert panel["description"][-1] == "."
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    fields = panel["fieldConfig"]
    steps = fields["defaults"]["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    if panel["type"] == "table":
        titles = set(panel["transformations"][-1]["options"]["renameByName"].values())
        assert {override["matcher"]["options"] for override in fields["overrides"]} <= titles
        assert panel["options"]["sortBy"][0]["displayName"] in titles
    else:
        assert fields["defaults"]["unit"]
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["calcs"] == ["lastNotNull", "max"]
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_queries_name_what_there_is(name: str, panel: dict[str, Any]) -> None:
    known = DOCUMENTED if name == "documented" else FAMILIES - DOCUMENTED | RECORDED
    for target in panel["targets"]:
        assert names(target["expr"]) <= known - {UNUSABLE}, target["expr"]


def test_the_cluster_dashboard_asks_for_no_raw_series() -> None:
    """Where a cluster is large only what is recorded is small."""
    for panel in DASHBOARDS["cluster"]["panels"]:
        for target in panel["targets"]:
            assert names(target["expr"]) <= RECORDED, target["expr"]
