"""What the dashboards share: variables, panels and their places on the grid.

The classes are grafanalib's. Where they write JSON for Grafana before version 8, ``extraJson``
adds what today's Grafana reads. No panel needs Angular.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from grafanalib.core import (
    HIDE_VARIABLE,
    REFRESH_ON_TIME_RANGE_CHANGE,
    BarGauge,
    Dashboard,
    DashboardLink,
    GaugePanel,
    GridPos,
    Panel,
    Repeat,
    RowPanel,
    Stat,
    Table,
    TableSortByField,
    Target,
    Template,
    Templating,
    Time,
    TimeSeries,
)

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "vgpumonitor"
_LAST = "lastNotNull"
BYTES, RATIO, SECONDS, COUNT = "bytes", "percentunit", "s", "none"
#: The colour from each value upwards.
FULLNESS = ((0.0, "green"), (0.85, "orange"), (0.95, "red"))
WANTED = ((0.0, "red"), (1.0, "green"))
UNWANTED = ((0.0, "green"), (1.0, "red"))
PLAIN = ((0.0, "blue"),)

#: Where a click on a node, a namespace or a pod leads. A table with links to pods needs a column
#: Namespace.
_CHOSEN = "&${datasource:queryparam}&${cluster:queryparam}"
TO_NODE = f"/d/vgpu-node?var-node=${{__value.text}}{_CHOSEN}"
TO_NAMESPACE = f"/d/vgpu-workload?var-namespace=${{__value.text}}{_CHOSEN}"
TO_POD = (
    "/d/vgpu-workload?var-namespace=${__data.fields.Namespace}&var-pod=${__value.text}" + _CHOSEN
)

Thresholds = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Query:
    """``dashed`` marks a limit or a total: a line that is neither stacked nor filled."""

    expr: str
    legend: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table: a label (``expr`` empty), or the value of a query by its labels.
    ``link`` is where a click on a cell leads."""

    title: str
    expr: str = ""
    unit: str = ""
    link: str = ""
    label: str = ""


def _targets(queries: Iterable[Query], instant: bool = False) -> list[Target]:
    return [
        Target(
            expr=query.expr,
            legendFormat=query.legend,
            refId=chr(ord("A") + number),
            instant=instant,
            intervalFactor=1,
            step=None,
            datasource=SOURCE,
        )
        for number, query in enumerate(queries)
    ]


def _steps(thresholds: Thresholds) -> list[dict[str, Any]]:
    # The first step has no value: it covers everything below the second.
    return [
        {"color": color, "value": value if number else None}
        for number, (value, color) in enumerate(thresholds)
    ]


def _by_name(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _dashed(legend: str) -> dict[str, Any]:
    return {
        # The legend up to its first label, which Grafana fills in.
        "matcher": {"id": "byRegexp", "options": f"/^{legend.partition('{')[0]}/"},
        "properties": [
            {"id": "custom.stacking", "value": {"mode": "none"}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
            {"id": "custom.lineWidth", "value": 2},
        ],
    }


def timeseries(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    thresholds: Thresholds = (),
    top: int | None = None,
    repeat: str | None = None,
) -> TimeSeries:
    """The axis begins at 0 and reaches at least to ``top``."""
    return TimeSeries(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets(queries),
        unit=unit,
        valueMin=0,
        axisSoftMax=top,
        fillOpacity=30 if stacked else 8,
        showPoints="never",
        stacking={"mode": "normal" if stacked else "none", "group": "A"},
        thresholds=_steps(thresholds or PLAIN),
        thresholdsStyleMode="dashed" if thresholds else "off",
        legendDisplayMode="table",
        legendCalcs=[_LAST, "max"],
        tooltipMode="multi",
        tooltipSort="desc",
        overrides=[_dashed(query.legend) for query in queries if query.dashed],
        repeat=Repeat(direction="h", variable=repeat, maxPerRow=2) if repeat else Repeat(),
        maxDataPoints=None,
    )


def _current(unit: str, thresholds: Thresholds, most: float | None) -> dict[str, Any]:
    """What grafanalib can't express. Without the version Grafana takes the panel for one of
    Grafana 6 and rewrites it."""
    return {
        "pluginVersion": "10.1.0",
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "max": most,
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": _steps(thresholds)},
                "noValue": "no data",
            },
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": [_LAST], "fields": "", "values": False}},
    }


def stat(
    title: str, description: str, unit: str, query: Query, thresholds: Thresholds = PLAIN
) -> Stat:
    return Stat(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([query]),
        reduceCalc=_LAST,
        extraJson=_current(unit, thresholds, None),
    )


def gauge(title: str, description: str, query: Query) -> GaugePanel:
    """A share of a whole, between 0 and 1."""
    return GaugePanel(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([query]),
        calc=_LAST,
        extraJson=_current(RATIO, FULLNESS, 1),
    )


def bars(title: str, description: str, query: Query) -> BarGauge:
    """Shares of a whole, between 0 and 1."""
    panel = BarGauge(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([query], instant=True),
        calc=_LAST,
        max=1,
        format=RATIO,
        displayMode="gradient",
        extraJson=_current(RATIO, FULLNESS, 1),
    )
    panel.extraJson["options"] |= {"showUnfilled": True, "valueMode": "color"}
    return panel


def table(
    title: str, description: str, *columns: Column, sort: str, ascending: bool = False
) -> Table:
    """A row for each set of labels that the queries share."""
    queries = [column for column in columns if column.expr]
    titles = {f"Value #{chr(ord('A') + n)}": column.title for n, column in enumerate(queries)}
    if len(queries) == 1:
        titles = {"Value": queries[0].title}
    shown = [column.title for column in columns]
    names = {**{column.label: column.title for column in columns if column.label}, **titles}
    by_title = {title: name for name, title in names.items()}
    targets = _targets([Query(column.expr) for column in queries], instant=True)
    for target in targets:
        target.format = "table"
    overrides = []
    for column in columns:
        properties: dict[str, Any] = {}
        if column.unit:
            properties["unit"] = column.unit
        if column.link:
            properties["links"] = [{"title": f"Open {column.title}", "url": column.link}]
        if properties:
            overrides.append(_by_name(column.title, **properties))
    return Table(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=targets,
        span=None,
        filterable=True,
        extraJson={"pluginVersion": "10.1.0"},
        thresholds=_steps(PLAIN),
        overrides=overrides,
        sortBy=[TableSortByField(displayName=sort, desc=not ascending)],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "filterFieldsByName",
                "options": {"include": {"names": [by_title[title] for title in shown]}},
            },
            {
                "id": "organize",
                "options": {
                    "indexByName": {by_title[title]: n for n, title in enumerate(shown)},
                    "renameByName": names,
                },
            },
        ],
    )


def row(title: str) -> RowPanel:
    return RowPanel(title=title)


def grid(*rows: RowPanel | tuple[int, Sequence[Panel]]) -> list[Panel]:
    """Lays panels out from top to bottom. A row is a heading, or a height and the panels that
    share the 24 columns evenly."""
    placed: list[Panel] = []
    y = 0
    for line in rows:
        if isinstance(line, RowPanel):
            line.gridPos = GridPos(h=1, w=24, x=0, y=y)
            placed.append(line)
            y += 1
            continue
        height, panels = line
        width = 24 // len(panels)
        for number, panel in enumerate(panels):
            panel.gridPos = GridPos(h=height, w=width, x=number * width, y=y)
            placed.append(panel)
        y += height
    return placed


def source_variable() -> Template:
    return Template(name="datasource", label="Data source", type="datasource", query="prometheus")


def variable(
    name: str,
    values: str,
    label: str,
    *,
    every: bool = True,
    any_value: str | None = None,
    hidden: bool = False,
) -> Template:
    """``values`` is what label_values() takes: "family{…}, label". With ``every`` several values
    can be chosen, and All is at first; it stands for the regular expression ``any_value``, or
    for the alternation of all values if that is None."""
    return Template(
        name=name,
        label=label,
        query=f"label_values({values})",
        dataSource=SOURCE,
        default="$__all" if every else None,
        includeAll=every,
        multi=every,
        allValue=any_value,
        refresh=REFRESH_ON_TIME_RANGE_CHANGE,
        hide=HIDE_VARIABLE if hidden else 0,
    )


def cluster_variable(family: str) -> Template:
    """Optional: All, chosen at first, matches series without the label too."""
    return variable("cluster", f"{family}, cluster", "Cluster", any_value=".*")


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Template],
    panels: Sequence[Panel],
    since: str = "now-3h",
) -> Dashboard:
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=[TAG],
        timezone="browser",
        refresh="30s",
        time=Time(since, "now"),
        schemaVersion=39,
        graphTooltip=1,
        templating=Templating(list=[source_variable(), *variables]),
        links=[
            DashboardLink(title="vgpumonitor", tags=[TAG], includeVars=True, keepTime=True),
        ],
        panels=list(panels),
    ).auto_panel_ids()
