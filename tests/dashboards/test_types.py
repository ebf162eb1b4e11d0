"""The dashboards' JSON, checked against the types that Grafana publishes for it."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dashboards.pictures import renderer
from testing.dashboards import DIRECTORY
from tests.dashboards.test_json import DASHBOARDS

pytestmark = pytest.mark.slow


def wrong(paths: Sequence[Path]) -> list[str]:
    done = subprocess.run([*renderer("types.mjs"), *paths], stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    assert done.returncode == bool(lines)
    return lines


def test_grafana_knows_every_field() -> None:
    assert wrong(sorted(DIRECTORY.glob("*.json"))) == []


def test_what_it_does_not_know_is_found(tmp_path: Path) -> None:
    old = {**copy.deepcopy(DASHBOARDS["cluster"]), "hideControls": False}
    of_type = {panel["type"]: panel for panel in old["panels"]}
    of_type["stat"]["editable"] = True
    of_type["table"]["fieldConfig"]["defaults"]["custom"]["fontSize"] = "100%"
    of_type["bargauge"]["options"]["fieldOptions"] = {}
    of_type["timeseries"]["fieldConfig"]["defaults"]["unit"] = 5
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    found = wrong([path])
    assert len(found) == 5
    for text in ("hideControls", "editable", "fontSize", "fieldOptions", "number"):
        assert any(text in line for line in found)
