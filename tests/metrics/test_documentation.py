"""docs/metrics.md says what is true today."""

from __future__ import annotations

import re
from pathlib import Path

from vgpumonitor.metrics.sets import families_for
from vgpumonitor.region.model import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def rows(cells: int) -> list[list[str]]:
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in PAGE.splitlines()
        if line.startswith("| ")
    ]
    return [row for row in found if len(row) == cells]


def test_every_family_is_on_the_page_and_nothing_else() -> None:
    page = {
        name: (kind, labels.replace("–", ""), text)
        for name, kind, labels, text in rows(4)
        if name != "family"
    }
    code = {
        family.name: (family.type, ", ".join(family.labels), family.help)
        for family in families_for("all", process_metrics=True)
    }
    assert page == code


def test_every_reason_is_on_the_page_and_nothing_else() -> None:
    section = PAGE.partition("The reasons of")[2]
    page = dict(re.findall(r"^\| (\w+) \| (.+) \|$", section, re.MULTILINE))
    assert page == REASONS
