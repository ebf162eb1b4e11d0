"""Puts right what grafanalib writes for Grafana 4 to 7, in this one place.

What stays is what @grafana/schema 12 knows (dashboard schema version 42). grafanalib's classes
write every attribute that they have, also those that Grafana has dropped since.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

VERSION = 42
PLUGIN_VERSION = "12.4.10"

_DASHBOARD = (
    "uid", "title", "description", "tags", "timezone", "editable", "graphTooltip", "refresh",
    "time", "schemaVersion", "templating", "annotations", "links", "panels",
)  # fmt: skip
_PANEL = (
    "id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "options",
    "targets", "transformations", "maxDataPoints", "repeat", "repeatDirection", "maxPerRow",
)  # fmt: skip
_ROW = ("id", "type", "title", "gridPos", "collapsed", "panels")
_FIELD = (
    "color", "custom", "decimals", "links", "mappings", "max", "min", "noValue", "thresholds",
    "unit",
)  # fmt: skip
_TARGET = ("refId", "datasource", "expr", "legendFormat", "format", "instant")
_VARIABLE = (
    "name", "label", "type", "query", "datasource", "current", "options", "hide", "includeAll",
    "multi", "allValue", "refresh", "regex", "sort",
)  # fmt: skip
#: The options of panels for which grafanalib writes those of older ones.
_OPTIONS = {
    "stat": (
        "reduceOptions", "orientation", "textMode", "colorMode", "graphMode", "justifyMode", "text",
    ),
    "gauge": ("reduceOptions", "orientation", "showThresholdLabels", "showThresholdMarkers"),
    "bargauge": ("reduceOptions", "orientation", "displayMode", "valueMode", "showUnfilled"),
}  # fmt: skip


def _only(given: Json, names: Iterable[str]) -> Json:
    return {name: given[name] for name in names if given.get(name) is not None}


def _target(given: Json) -> Json:
    return {**_only(given, _TARGET), "range": not given["instant"]}


def _panel(given: Json) -> Json:
    if given["type"] == "row":
        return {**_only(given, _ROW), "panels": [_panel(panel) for panel in given["panels"]]}
    panel = _only(given, _PANEL)
    fields = panel["fieldConfig"]
    defaults = _only(fields["defaults"], _FIELD)
    if panel["type"] == "table":
        # Cells are drawn as cellOptions say, unless this older field is there.
        defaults["custom"].pop("displayMode", None)
    if "custom" in defaults:
        defaults["custom"] = {k: v for k, v in defaults["custom"].items() if v is not None}
    panel["fieldConfig"] = {"defaults": defaults, "overrides": fields.get("overrides", [])}
    options = panel.setdefault("options", {})
    if names := _OPTIONS.get(panel["type"]):
        panel["options"] = _only(options, names)
    if "legend" in options:
        options["legend"]["showLegend"] = options["legend"]["displayMode"] != "hidden"
        options["legend"].setdefault("calcs", [])
    panel["targets"] = [_target(target) for target in given["targets"]]
    panel["pluginVersion"] = PLUGIN_VERSION
    return panel


def _variable(given: Json) -> Json:
    variable = _only(given, _VARIABLE)
    if current := variable.get("current"):
        current.pop("tags", None)
        if current.get("value") is None:
            del variable["current"]
        if current.get("value") == "$__all":
            current["text"] = "All"
    return variable


def put_right(given: Json) -> Json:
    """``given`` is a dashboard as grafanalib writes it."""
    dashboard = _only(given, _DASHBOARD)
    dashboard["schemaVersion"] = VERSION
    dashboard["templating"] = {"list": [_variable(v) for v in given["templating"]["list"]]}
    dashboard["panels"] = [_panel(panel) for panel in given["panels"]]
    return dashboard
