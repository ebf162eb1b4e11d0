"""What the dashboards share: variables, panels and their places on the grid.

The classes are grafanalib's; ``schema`` puts right what they write. No panel needs Angular.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from grafanalib.core import (
    HIDE_VARIABLE,
    REFRESH_ON_TIME_RANGE_CHANGE,
    Annotations,
    BarGauge,
    Dashboard,
    DashboardLink,
    GaugePanel,
    GridPos,
    Panel,
    Repeat,
    RowPanel,
    Stat,
    StateTimeline,
    Table,
    TableSortByField,
    Target,
    Template,
    Templating,
    Time,
    TimeSeries,
)

from alerts.config import RUNBOOKS

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "vgpumonitor"
_LAST = "lastNotNull"
BYTES, RATIO, SECONDS, COUNT, NUMBER = "bytes", "percentunit", "s", "none", "short"
#: The colour from each value upwards.
FULLNESS = ((0.0, "green"), (0.85, "orange"), (0.95, "red"))
UNWANTED = ((0.0, "green"), (1.0, "red"))
PLAIN = ((0.0, "blue"),)
#: The share of a whole that is good to have free.
ROOM = ((0.0, "red"), (0.1, "orange"), (0.25, "green"))
#: The same thing has the same colour on every panel.
TOTAL, ALLOCATED, USED, IDLE = "text", "blue", "green", "orange"
SEVERITIES = {"critical": "red", "warning": "orange", "info": "blue"}

#: Shown by panels without data.
NEEDS_RULES = "no data: needs --metrics=vgpu and the recording rules"
NEEDS_VGPU = "no data: needs --metrics=vgpu"

#: Where a click on a node, a namespace, a workload or a pod leads. A table with links to pods or
#: workloads needs a column Namespace.
_KEPT = "&${datasource:queryparam}&${cluster:queryparam}&${__url_time_range}"
_IN_NAMESPACE = "/d/vgpu-workload?var-namespace=${__data.fields.Namespace}"
TO_NODE = f"/d/vgpu-node?var-node=${{__value.text}}{_KEPT}"
TO_NAMESPACE = f"/d/vgpu-workload?var-namespace=${{__value.text}}{_KEPT}"
TO_WORKLOAD = f"{_IN_NAMESPACE}&var-workload=${{__value.text}}{_KEPT}"
TO_POD = f"{_IN_NAMESPACE}&var-pod=${{__value.text}}{_KEPT}"

Thresholds = Sequence[tuple[float, str]]
Mapping = dict[str, Any]


def mapped(*texts: tuple[int, str, str]) -> list[Mapping]:
    """Shows values as texts: value, text, colour."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, text, color) in enumerate(texts)
    }
    return [{"type": "value", "options": options}]


UP = mapped((1, "up", "green"), (0, "down", "red"))
SEVERITY = mapped(*((n, name, color) for n, (name, color) in enumerate(SEVERITIES.items(), 1)))


@dataclass(frozen=True)
class Query:
    """``dashed`` marks a limit or a total: a line that is neither stacked nor filled."""

    expr: str
    legend: str = ""
    dashed: bool = False
    color: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: a label (``expr`` empty), or the value of a query by its labels.
    ``link`` is where a click on a cell leads, to what ``opens`` names; ``bar`` draws the value as
    one, of 1 where it is a ratio, otherwise of the column's largest."""

    title: str
    expr: str = ""
    unit: str = ""
    link: str = ""
    opens: str = ""
    label: str = ""
    width: int = 0
    bar: bool = False
    mappings: Sequence[Mapping] = ()
    thresholds: Thresholds = ()


def _targets(queries: Iterable[Query], instant: bool = False, table: bool = False) -> list[Target]:
    return [
        Target(
            expr=query.expr,
            legendFormat=query.legend or None,
            refId=chr(ord("A") + number),
            instant=instant,
            format="table" if table else "time_series",
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


def _override(matcher: str, options: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _of_line(query: Query) -> list[dict[str, Any]]:
    properties: dict[str, Any] = {}
    if query.color:
        properties["color"] = {"mode": "fixed", "fixedColor": query.color}
    if query.dashed:
        properties |= {
            "custom.stacking": {"mode": "none", "group": "A"},
            "custom.fillOpacity": 0,
            "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
            "custom.lineWidth": 2,
        }
    # The legend up to its first label, which Grafana fills in.
    fixed = query.legend.partition("{")[0]
    return [_override("byRegexp", f"/^{fixed}/", properties)] if properties else []


def timeseries(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    thresholds: Thresholds = (),
    top: int | None = None,
    most: float | None = None,
    many: bool = True,
    repeat: str | None = None,
    hint: str = NEEDS_RULES,
) -> TimeSeries:
    """The axis begins at 0 and reaches at least to ``top`` and at most to ``most``. The legend of
    ``many`` lines is a table on the right, the largest first."""
    return TimeSeries(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets(queries),
        unit=unit,
        valueMin=0,
        valueMax=most,
        axisSoftMax=top,
        fillOpacity=30 if stacked else 0,
        showPoints="never",
        stacking={"mode": "normal" if stacked else "none", "group": "A"},
        thresholds=_steps(thresholds or PLAIN),
        thresholdsStyleMode="dashed" if thresholds else "off",
        tooltipMode="multi",
        tooltipSort="desc",
        overrides=[override for query in queries for override in _of_line(query)],
        repeat=Repeat(direction="h", variable=repeat, maxPerRow=2) if repeat else Repeat(),
        maxDataPoints=None,
        extraJson={
            "fieldConfig": {"defaults": {"noValue": hint}},
            "options": {
                "legend": {
                    "displayMode": "table",
                    "placement": "right",
                    "calcs": [_LAST],
                    "sortBy": "Last *",
                    "sortDesc": True,
                }
                if many
                else {"displayMode": "list", "placement": "bottom", "calcs": []}
            },
        },
    )


def timeline(
    title: str, description: str, query: Query, states: Sequence[Mapping], hint: str = NEEDS_RULES
) -> StateTimeline:
    """A row for each series and a colour for each state, over time."""
    return StateTimeline(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([query]),
        mappings=list(states),
        showValue="never",
        rowHeight=0.8,
        fillOpacity=80,
        lineWidth=0,
        thresholds=_steps(PLAIN),
        maxDataPoints=None,
        extraJson={
            "fieldConfig": {
                "defaults": {"noValue": hint, "color": {"mode": "thresholds"}, "unit": COUNT}
            },
            "options": {"mergeValues": True, "tooltip": {"mode": "single", "sort": "none"}},
        },
    )


def _current(
    unit: str, thresholds: Thresholds, most: float | None, none: str, mappings: Sequence[Mapping]
) -> dict[str, Any]:
    """A value as it is now: an instant query, whose only value is its last."""
    return {
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "max": most,
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": _steps(thresholds)},
                "mappings": list(mappings),
                "noValue": none,
            },
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": [_LAST], "fields": "", "values": False},
            "orientation": "auto",
        },
    }


def stat(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    thresholds: Thresholds = PLAIN,
    mappings: Sequence[Mapping] = (),
    none: str = "–",
) -> Stat:
    panel = Stat(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets(queries, instant=True),
        reduceCalc=_LAST,
        extraJson=_current(unit, thresholds, None, none, mappings),
    )
    named = len(queries) > 1
    # Values below each other, each behind its name.
    panel.extraJson["options"]["orientation"] = "horizontal" if named else "auto"
    panel.extraJson["options"] |= {
        "graphMode": "none",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "value_and_name" if named else "auto",
    }
    if named:
        # Grafana's own choice fills each panel, so that beside each other they differ.
        panel.extraJson["options"]["text"] = {"titleSize": 14, "valueSize": 22}
    panel.extraJson["fieldConfig"]["overrides"] = [
        override for query in queries for override in _of_line(query)
    ]
    return panel


def gauge(
    title: str, description: str, query: Query, thresholds: Thresholds = FULLNESS
) -> GaugePanel:
    """A share of a whole, between 0 and 1."""
    panel = GaugePanel(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([query], instant=True),
        calc=_LAST,
        extraJson=_current(RATIO, thresholds, 1, "–", ()),
    )
    panel.extraJson["options"] |= {"showThresholdLabels": False, "showThresholdMarkers": True}
    return panel


def bars(
    title: str,
    description: str,
    *queries: Query,
    unit: str = RATIO,
    most: float | None = 1,
    thresholds: Thresholds = FULLNESS,
) -> BarGauge:
    panel = BarGauge(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets(queries, instant=True),
        calc=_LAST,
        extraJson=_current(unit, thresholds, most, NEEDS_RULES, ()),
    )
    panel.extraJson["options"] |= {
        "displayMode": "gradient",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
    }
    return panel


#: Grafana gives a column at least 150 pixels if nobody says otherwise, so that the values would be
#: off the screen.
_WIDTHS = {BYTES: 105, RATIO: 95, COUNT: 80, NUMBER: 95, SECONDS: 100}
_BAR_WIDTH = 150


def _of_column(column: Column) -> dict[str, Any]:
    # A cell without a value; the panel's own noValue is for one without rows.
    properties: dict[str, Any] = {"noValue": "–"}
    width = column.width or (_BAR_WIDTH if column.bar else _WIDTHS.get(column.unit, 0))
    if width:
        properties["custom.width"] = width
    if column.unit:
        properties["unit"] = column.unit
        if column.unit in (COUNT, NUMBER):
            properties["decimals"] = 1 if column.unit == NUMBER else 0
    if column.link:
        properties["links"] = [
            {"title": f"Open {column.opens or column.title}", "url": column.link}
        ]
    if column.bar:
        properties["custom.cellOptions"] = {"type": "gauge", "mode": "basic"}
        properties["min"] = 0
        if column.unit == RATIO:
            properties["max"] = 1
        else:
            # Otherwise the largest is that of all columns, of whatever unit.
            properties["fieldMinMax"] = True
        properties["color"] = {"mode": "thresholds"}
    if column.thresholds:
        properties["thresholds"] = {"mode": "absolute", "steps": _steps(column.thresholds)}
        if not column.bar:
            properties["custom.cellOptions"] = {"type": "color-text"}
            properties["color"] = {"mode": "thresholds"}
    if column.mappings:
        properties["mappings"] = list(column.mappings)
        properties["custom.cellOptions"] = {"type": "color-text"}
    return properties


def table(
    title: str,
    description: str,
    *columns: Column,
    sort: str,
    ascending: bool = False,
    none: str = NEEDS_RULES,
) -> Table:
    """A row for each set of labels that the queries share."""
    queries = [column for column in columns if column.expr]
    titles = {f"Value #{chr(ord('A') + n)}": column.title for n, column in enumerate(queries)}
    if len(queries) == 1:
        titles = {"Value": queries[0].title}
    shown = [column.title for column in columns]
    names = {**{column.label: column.title for column in columns if column.label}, **titles}
    by_title = {title: name for name, title in names.items()}
    return Table(
        title=title,
        description=description,
        dataSource=SOURCE,
        targets=_targets([Query(column.expr) for column in queries], instant=True, table=True),
        filterable=True,
        thresholds=_steps(PLAIN),
        overrides=[_override("byName", column.title, _of_column(column)) for column in columns],
        sortBy=[TableSortByField(displayName=sort, desc=not ascending)],
        extraJson={
            "fieldConfig": {"defaults": {"noValue": none}},
            "options": {"cellHeight": "sm"},
        },
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


def unknown(where: str, resource: str = ".+", legend: str = "use unknown") -> Query:
    """How many pods sums of use leave out; ``resource`` is memory or cores."""
    series = f'pod:vgpu_use_unknown:group{{{where}, resource=~"{resource}"}}'
    pods = f"group by (cluster, node, namespace, pod) ({series})"
    return Query(f"count({pods}) or vector(0)", legend)


#: Alerts that are firing, by the labels that the tables show.
_ALERT = "cluster, alertname, node, device_index, namespace, pod, container"


def _firing(where: str, severity: str = "") -> str:
    of_severity = f', severity="{severity}"' if severity else ""
    return f'ALERTS{{{where}, alertname=~"Vgpu.+", alertstate="firing"{of_severity}}}'


def alerts(where: str, description: str) -> Table:
    """``where`` selects them. The severity is a number with a text, so that it sorts."""
    ranks = " or ".join(
        f"({number} * max by ({_ALERT}) ({_firing(where, severity)}))"
        for number, severity in enumerate(SEVERITIES, 1)
    )
    since = (
        f'1000 * (min by ({_ALERT}) (ALERTS_FOR_STATE{{{where}, alertname=~"Vgpu.+"}}) '
        f"and on ({_ALERT}) {_firing(where)})"
    )
    return table(
        "Alerts",
        description,
        Column("Severity", ranks, mappings=SEVERITY, width=90),
        Column(
            "Alert",
            label="alertname",
            link=f"{RUNBOOKS}${{__value.text}}.md" if RUNBOOKS else "",
            opens="the runbook",
        ),
        Column("Since", since, "dateTimeFromNow", width=140),
        Column("Cluster", label="cluster", width=100),
        Column("Node", label="node", link=TO_NODE),
        Column("GPU", label="device_index", width=60),
        Column("Namespace", label="namespace", link=TO_NAMESPACE),
        Column("Pod", label="pod", link=TO_POD),
        Column("Container", label="container"),
        sort="Severity",
        ascending=True,
        none="none",
    )


def alerts_by_severity(where: str) -> Stat:
    return stat(
        "Alerts",
        "vgpumonitor's alerts that are firing, by severity.",
        COUNT,
        *(
            Query(f"count({_firing(where, severity)}) or vector(0)", severity, color=color)
            for severity, color in SEVERITIES.items()
        ),
    )


@dataclass(frozen=True)
class Mark:
    """An annotation: a mark on the time axis while ``expr`` has a series."""

    name: str
    expr: str
    title: str
    text: str
    color: str


def alert_marks(where: str) -> Mark:
    return Mark(
        "Alerts",
        f'ALERTS{{{where}, alertname=~"Vgpu.+", alertstate="firing", '
        'severity=~"critical|warning"}',
        "{{alertname}}",
        "{{node}} GPU {{device_index}} {{namespace}}/{{pod}} {{container}}",
        "red",
    )


def xid_marks(where: str, also: str = "") -> Mark:
    """``also`` goes on with the expression."""
    last = f"vgpu_device_last_xid_timestamp_seconds{{{where}}}"
    return Mark(
        "XIDs",
        # For two minutes, so that no step of a minute misses it.
        f"max by (cluster, node, device_index, device_uuid, xid) ({last}) > time() - 120{also}",
        "XID {{xid}}",
        "{{node}} GPU {{device_index}}",
        "dark-red",
    )


def row(title: str, *hidden: tuple[int, Sequence[Panel]]) -> RowPanel:
    """A heading; with panels, as ``grid`` takes them, one that is closed at first."""
    made = RowPanel(title=title)
    if hidden:
        made.collapsed = True
        made.panels = grid(*hidden)
    return made


def _has_names(panel: Panel) -> bool:
    return isinstance(panel, TimeSeries) and (
        panel.extraJson["options"]["legend"]["placement"] == "right"
    )


def grid(*rows: RowPanel | tuple[int, Sequence[Panel]]) -> list[Panel]:
    """Lays panels out from top to bottom. A row is a heading, or a height and the panels that
    share the 24 columns; one with its legend on the right gets more, since names are long."""
    placed: list[Panel] = []
    y = 0
    for line in rows:
        if isinstance(line, RowPanel):
            line.gridPos = GridPos(h=1, w=24, x=0, y=y)
            placed.append(line)
            y += 1
            for panel in line.panels:
                panel.gridPos.y += y
            continue
        height, panels = line
        shares = [7 if _has_names(panel) else 5 for panel in panels]
        ends = [24 * share // sum(shares) for share in accumulate(shares)]
        for panel, x, end in zip(panels, [0, *ends[:-1]], ends, strict=True):
            panel.gridPos = GridPos(h=height, w=end - x, x=x, y=y)
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
        sort=1,
        hide=HIDE_VARIABLE if hidden else 0,
    )


def ranked(name: str, expr: str, label: str) -> Template:
    """All values of ``label`` in what ``expr`` gives at the end of the time range. Panels that ask
    for these read no others, which they would to find the largest by themselves."""
    return Template(
        name=name,
        query=f"query_result({expr})",
        regex=f'/{label}="([^"]+)"/',
        dataSource=SOURCE,
        default="$__all",
        includeAll=True,
        multi=True,
        refresh=REFRESH_ON_TIME_RANGE_CHANGE,
        hide=HIDE_VARIABLE,
    )


def choice(name: str, label: str, *values: str, default: str) -> Template:
    """One of some values, or any that is typed in."""
    return Template(name=name, label=label, type="custom", query=",".join(values), default=default)


def number(name: str, label: str, default: str) -> Template:
    """A number that is typed in."""
    return Template(name=name, label=label, type="textbox", query=default, default=default)


def cluster_variable(family: str = "vgpumonitor_build_info") -> Template:
    """Optional: All, chosen at first, matches series without the label too."""
    return variable("cluster", f"{family}, cluster", "Cluster", any_value=".*")


def node_variable(*, every: bool = True) -> Template:
    return variable(
        "node",
        'vgpumonitor_build_info{cluster=~"$cluster"}, node',
        "Node",
        every=every,
        any_value=".*" if every else None,
    )


def namespace_variable(*, every: bool = True) -> Template:
    return variable(
        "namespace",
        'vgpu_pod_info{cluster=~"$cluster"}, namespace',
        "Namespace",
        every=every,
        any_value=".*" if every else None,
    )


def model_variable() -> Template:
    return variable(
        "model", 'vgpu_device_info{cluster=~"$cluster"}, name', "GPU model", any_value=".*"
    )


def _annotation(mark: Mark) -> dict[str, Any]:
    return {
        "name": mark.name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": mark.color,
        "target": {"refId": "Anno", "expr": mark.expr, "interval": "60s"},
        "titleFormat": mark.title,
        "textFormat": mark.text,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Template],
    panels: Sequence[Panel],
    since: str = "now-3h",
    marks: Sequence[Mark] = (),
) -> Dashboard:
    return Dashboard(
        uid=uid,
        title=title,
        description=description,
        tags=[TAG],
        timezone="browser",
        refresh="1m",
        time=Time(since, "now"),
        graphTooltip=1,
        templating=Templating(list=[source_variable(), *variables]),
        annotations=Annotations(list=[_annotation(mark) for mark in marks]),
        links=[
            DashboardLink(
                title="vgpumonitor", tags=[TAG], asDropdown=True, includeVars=True, keepTime=True
            ),
        ],
        panels=list(panels),
    ).auto_panel_ids()
