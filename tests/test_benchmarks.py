"""``make bench`` on a machine that lacks what a part of it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import syscalls
from benchmarks.__main__ import PARTS, main
from benchmarks.table import Row


def test_a_part_without_its_tool_says_so_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert PARTS["syscalls"] is syscalls.rows
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(PARTS, "start", lambda: [Row("start", "0.5 s")])
    main(["syscalls", "start"])
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| syscalls | not measured | strace is not installed |",
        "| start | 0.5 s |  |",
    ]
