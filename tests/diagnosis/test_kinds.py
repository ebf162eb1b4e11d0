"""The texts: each is there, in its form, and explained where it says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from vgpumonitor.diagnosis import KINDS, Kind
from vgpumonitor.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "vgpumonitor").rglob("*.py")]


def test_ids_are_unique() -> None:
    assert len({kind.id for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
class TestKind:
    def test_has_its_texts(self, kind: Kind) -> None:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.id)
        assert kind.title
        assert not kind.title.endswith(".")
        assert kind.why.endswith((".", ")"))
        # Backquotes are understood wherever it is shown, and no other mark-up.
        assert "*" not in re.sub("`[^`]*`", "", kind.title + kind.why + kind.mend)
        assert kind.mend.endswith((".", ")"))

    def test_has_a_section(self, kind: Kind) -> None:
        page, anchor = kind.document.split("#")
        assert f"\n## {anchor}\n" in (ROOT / page).read_text()

    def test_names_an_alert_that_exists(self, kind: Kind) -> None:
        if kind.alert:
            assert (ROOT / "alerts" / "runbooks" / f"{kind.alert}.md").is_file()

    def test_names_documents_and_flags_that_exist(self, kind: Kind) -> None:
        for document in re.findall(r"docs/[a-z-]+\.md", kind.why + kind.mend):
            assert (ROOT / document).is_file()
        flags = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", kind.why + kind.mend))
        assert flags <= {f"--{field.name.replace('_', '-')}" for field in fields(Settings)} | {
            *("--as", "--gpu-reset"),  # of kubectl and nvidia-smi
        }
        for title in re.findall(r"docs/migration\.md, \"([^\"]+)\"", kind.why + kind.mend):
            assert f"\n## {title}\n" in (ROOT / "docs/migration.md").read_text()

    def test_names_lines_of_the_log_that_exist(self, kind: Kind) -> None:
        for line in re.findall(r'log line "([^"]+)"', kind.why + kind.mend):
            assert any(f'"{line}"' in path.read_text() for path in SOURCES)
