"""What doctor says of the nodes that users report about."""

from __future__ import annotations

import pytest

from tests.diagnosis.user_reports import REPORTS, Report, table


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.reports)
def test_the_node_of_a_report(report: Report) -> None:
    assert sorted(finding.kind.id for finding in report.findings) == sorted(report.finds)
    assert bool(report.finds) != bool(report.instead)


def test_the_table_has_each() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(REPORTS)
    assert all(line.count(" | ") == 2 for line in lines)
