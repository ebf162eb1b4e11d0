"""``python -m docs.generate``: writes the tables of metrics.md from the declarations.

A table stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; all else on the page is
prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vgpumonitor.metrics import dcgm, exporter, vgpu
from vgpumonitor.metrics.family import Family
from vgpumonitor.metrics.sets import SETS
from vgpumonitor.region.model import REASONS

PAGE = Path(__file__).parent / "metrics.md"

_TABLE = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with each of its tables as the code has it now. Raises KeyError for a table
    that the code knows nothing of."""
    tables = {
        **{name: _families(families) for name, families in SETS.items()},
        "processes": _families(vgpu.PROCESS_FAMILIES),
        "exporter": _families(exporter.FAMILIES),
        "dcgm": _dcgm(),
        "reasons": _table(("reason", "meaning"), REASONS.items()),
    }
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}\n{tables[found[1]]}\n", page)


def _families(families: Iterable[Family]) -> str:
    return _table(
        ("family", "type", "labels", "help"),
        [
            (family.name, family.type, ", ".join(family.labels) or "–", family.help)
            for family in families
        ],
    )


#: Where dcgm-exporter has a field, for people.
_LISTED: dict[dcgm.Listed, str] = {
    "default": "default",
    "dcp": "with profiling",
    "commented": "commented out",
    "no": "–",
}


def _dcgm() -> str:
    return _table(
        ("DCGM's field", "in its lists", "here", "what differs"),
        [(f"`{each.name}`", _LISTED[each.listed], _here(each), each.note) for each in dcgm.FIELDS],
    )


def _here(field: dcgm.Field) -> str:
    if not field.expression:
        return "–"
    label = f", label `{field.label}`" if field.label else ""
    return f"`{field.expression}`{label}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
