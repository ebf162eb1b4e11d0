"""The generated dashboards, without Grafana."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest

from alerts.config import RUNBOOKS
from alerts.model import Recording
from alerts.rules import PRICE, RECORDING
from dashboards.generate import files
from dashboards.schema import PLUGIN_VERSION, VERSION
from testing.dashboards import DIRECTORY, panels, read
from tests.alerts.promql import DOCUMENTED, FAMILIES, UNUSABLE, names

DASHBOARDS = read()
RECORDED = {
    rule.record for group in RECORDING for rule in group.rules if isinstance(rule, Recording)
}
#: None of them needs Angular.
TYPES = {"row", "timeseries", "stat", "gauge", "table", "bargauge", "state-timeline"}
#: What links may hand on: the variables of the dashboard that they lead to.
LINKS = {"vgpu-node": {"node"}, "vgpu-workload": {"namespace", "workload", "pod"}}


PANELS = [
    pytest.param(name, panel, id=f"{name}-{panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
]


def test_there_are_six() -> None:
    assert set(DASHBOARDS) == {
        "cluster",
        "node",
        "workload",
        "capacity",
        "rightsizing",
        "documented",
    }


@pytest.mark.parametrize("name", sorted(files()))
def test_json_is_current(name: str) -> None:
    assert (DIRECTORY / name).read_text() == files()[name], "run `make dashboards`"


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_json_is_of_a_current_schema(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["schemaVersion"] == VERSION
    assert not {"rows", "style", "hideControls", "gnetId", "sharedCrosshair"} & set(dashboard)
    for panel in panels(dashboard):
        assert panel["pluginVersion"] == PLUGIN_VERSION
        assert not {"error", "editable", "span", "height", "columns", "fontSize"} & set(panel)
        assert "displayMode" not in panel["fieldConfig"]["defaults"].get("custom", {})
        assert "fieldOptions" not in panel["options"]
        assert None not in panel.values()


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_variables(name: str) -> None:
    variables = {v["name"]: v for v in DASHBOARDS[name]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    cluster = variables["cluster"]
    # Series without the label are chosen by All, which is chosen at first.
    assert (cluster["allValue"], cluster["current"]["value"]) == (".*", "$__all")
    wanted = {
        "cluster": {"node", "namespace"},
        "node": {"node", "device"},
        "workload": {"namespace", "workload", "pod"},
        "capacity": {"node", "model", "memory", "cores"},
        "rightsizing": {"namespace", "model", "headroom", "price"},
        "documented": {"node", "namespace", "pod"},
    }
    assert set(variables) >= wanted[name]
    for variable in variables.values():
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
        if variable["type"] in ("custom", "textbox"):
            assert variable["current"]["value"]


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_range_refresh_and_links(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["refresh"] == "1m"
    assert dashboard["time"]["from"] in {"now-3h", "now-6h", "now-24h", "now-7d"}
    (link,) = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", dashboard["tags"])
    assert link["includeVars"]
    assert link["keepTime"]


def test_links_lead_somewhere_and_keep_time_and_variables() -> None:
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    assert uids == {f"vgpu-{name}" for name in DASHBOARDS}
    found = set()
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            titles = {override["matcher"]["options"] for override in _overrides(panel)}
            for override in _overrides(panel):
                for item in override["properties"]:
                    if item["id"] != "links":
                        continue
                    (link,) = item["value"]
                    if link["title"] == "Open the runbook":
                        assert link["url"] == f"{RUNBOOKS}${{__value.text}}.md"
                        found.add("runbooks")
                        continue
                    path, _, query = link["url"].partition("?")
                    uid = path.removeprefix("/d/")
                    found.add(uid)
                    parts = query.split("&")
                    assert {"${datasource:queryparam}", "${cluster:queryparam}"} <= set(parts)
                    assert parts[-1] == "${__url_time_range}"
                    given = {part.split("=")[0] for part in parts if part.startswith("var-")}
                    assert given <= {f"var-{name}" for name in LINKS[uid]}
                    if "Namespace}" in query:
                        assert "Namespace" in titles
    assert found == {"runbooks", *LINKS}


def _overrides(panel: dict[str, Any]) -> list[dict[str, Any]]:
    overrides: list[dict[str, Any]] = panel["fieldConfig"]["overrides"]
    return overrides


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_annotations_are_of_what_the_dashboard_shows(name: str) -> None:
    found = DASHBOARDS[name]["annotations"]["list"]
    assert ("Alerts" in {item["name"] for item in found}) == (
        name in {"cluster", "node", "workload"}
    )
    for item in found:
        assert names(item["target"]["expr"]) <= FAMILIES | RECORDED
        assert "$cluster" in item["target"]["expr"]


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_panels_have_ids_and_places_of_their_own(name: str) -> None:
    dashboard = DASHBOARDS[name]
    ids = [panel["id"] for panel in (*dashboard["panels"], *panels(dashboard))]
    assert len(set(ids)) == len({id(p) for p in (*dashboard["panels"], *panels(dashboard))})
    # A closed row's panels come where the rows below it are: it is the last.
    closed = [panel.get("collapsed", False) for panel in dashboard["panels"]]
    assert not any(closed[:-1])
    every = [panel["gridPos"] for panel in dashboard["panels"]]
    if closed[-1]:
        every += [panel["gridPos"] for panel in dashboard["panels"][-1]["panels"]]
    for place in every:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(every, 2):
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
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["noValue"]
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    if panel["type"] == "table":
        titles = set(panel["transformations"][-1]["options"]["renameByName"].values())
        assert {override["matcher"]["options"] for override in _overrides(panel)} <= titles
        assert panel["options"]["sortBy"][0]["displayName"] in titles
    else:
        assert defaults["unit"]
    # A value as it is now is an instant query: the last step of a range may be long past.
    now = panel["type"] not in ("timeseries", "state-timeline")
    for target in panel["targets"]:
        assert (target["instant"], target["range"]) == (now, not now)
        assert now or target["legendFormat"]


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_legends_show_their_largest_rows(name: str, panel: dict[str, Any]) -> None:
    if panel["type"] != "timeseries":
        return
    legend = panel["options"]["legend"]
    if legend["displayMode"] == "list":
        return
    assert legend["placement"] == "right"
    assert legend["calcs"] == ["lastNotNull"]
    assert (legend["sortBy"], legend["sortDesc"]) == ("Last *", True)


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_the_columns_of_a_row_have_no_names_that_keep_them_apart(
    name: str, panel: dict[str, Any]
) -> None:
    """Grafana merges rows whose labels are equal, and a plain series has its name as a label."""
    if panel["type"] == "table":
        for target in panel["targets"]:
            assert not re.match(r"[\w:]+\{|last_over_time", target["expr"]), target["expr"]


#: Grafana's grid on a screen of 1600 pixels, and its narrowest column without a width.
_SCREEN, _NARROWEST = 1568, 150


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_columns_are_inside_their_panel(name: str, panel: dict[str, Any]) -> None:
    if panel["type"] != "table":
        return
    titles = panel["transformations"][-1]["options"]["renameByName"].values()
    widths = {
        override["matcher"]["options"]: item["value"]
        for override in _overrides(panel)
        for item in override["properties"]
        if item["id"] == "custom.width"
    }
    needed = sum(widths.get(title, _NARROWEST) for title in titles)
    assert needed <= _SCREEN * panel["gridPos"]["w"] / 24


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_queries_name_what_there_is(name: str, panel: dict[str, Any]) -> None:
    known = DOCUMENTED if name == "documented" else FAMILIES - DOCUMENTED | RECORDED | {PRICE}
    for target in panel["targets"]:
        assert names(target["expr"]) <= known - {UNUSABLE}, target["expr"]


@pytest.mark.parametrize("name", ["cluster", "capacity", "rightsizing"])
def test_dashboards_of_a_whole_cluster_ask_for_no_raw_series(name: str) -> None:
    """Where a cluster is large only what is recorded is small."""
    for panel in panels(DASHBOARDS[name]):
        for target in panel["targets"]:
            assert names(target["expr"]) <= RECORDED | {PRICE}, target["expr"]
