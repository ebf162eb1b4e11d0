"""The dashboards as Grafana asks for them: their panels, and their queries with the variables
filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testing.prometheus import Prometheus

DIRECTORY = Path(__file__).parents[1] / "dashboards"

#: What is chosen of a dashboard's variables: of the demo's namespaces the one in which there is
#: something of everything.
GIVEN: Mapping[str, Mapping[str, str]] = {"workload": {"namespace": "team-nlp"}}

Dashboard = dict[str, Any]


def read(directory: Path = DIRECTORY) -> dict[str, Dashboard]:
    """By the names of their files."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Those in closed rows too."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or ()
        else:
            yield panel


def filled(text: str, values: Mapping[str, str]) -> str:
    """Variables as Grafana fills them in, the longest name first."""
    known = {"__rate_interval": "15s", "__range": "5m", **values}
    for name in sorted(known, key=len, reverse=True):
        text = text.replace(f"${name}", known[name])
    assert "$" not in text, text
    return text


def chosen(dashboard: Dashboard, source: Prometheus, **given: str) -> dict[str, list[str]]:
    """The values of each variable that Grafana would offer, of which it takes the first; what
    stands for All comes before them."""
    found: dict[str, list[str]] = {name: [value] for name, value in given.items()}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] in ("custom", "textbox"):
            found[name] = [variable["current"]["value"]]
        if variable["type"] != "query" or name in given:
            continue
        match = re.fullmatch(r"(label_values|query_result)\((.+?)(?:, (\w+))?\)", variable["query"])
        assert match is not None
        asked = filled(match[2], {name: values[0] for name, values in found.items()})
        if match[1] == "label_values":
            values = source.get(f"/api/v1/label/{match[3]}/values", **{"match[]": asked})
        else:
            (label,) = re.findall(r'/(\w+)="', variable["regex"])
            values = [labels[label] for labels, _ in source.query(asked)]
        if variable["includeAll"]:
            values = [variable.get("allValue") or "|".join(values), *values]
        assert [value for value in values if value], name
        found[name] = values
    return found


def first(values: Mapping[str, list[str]]) -> dict[str, str]:
    """What Grafana takes of what ``chosen`` offers."""
    return {variable: options[0] for variable, options in values.items()}
