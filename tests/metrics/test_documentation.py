"""The generated tables say what is true today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import PAGE, PAGES, with_tables
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.region.model import REASONS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    page = path.read_text()
    assert with_tables(page) == page, "run `make docs`"


def test_every_family_and_reason_has_one_row() -> None:
    rows = re.findall(r"^\| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    named = [row for row in rows if row not in ("family", "reason")]
    families = [family.name for family in families_for("all", process_metrics=True)]
    assert sorted(named) == sorted([*families, *REASONS])


def test_a_table_is_made_anew_between_its_marks_alone() -> None:
    page = "before\n<!-- generated: reasons -->\n| old | row |\n<!-- end -->\n| after | |\n"
    made = with_tables(page)
    assert made.startswith(
        "before\n<!-- generated: reasons -->\n\n| reason | meaning |\n| --- | --- |\n"
    )
    assert "| empty | the file is empty |\n" in made
    assert made.endswith(" |\n\n<!-- end -->\n| after | |\n")
    assert "old" not in made


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(KeyError, match="nobody"):
        with_tables("<!-- generated: nobody -->\n<!-- end -->\n")
