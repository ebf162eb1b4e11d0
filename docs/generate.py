"""``python -m docs.generate``: writes what the pages have of the declarations: tables, and the
findings of troubleshooting.md.

What is generated stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; all else on a
page is prose.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from vgpumonitor.diagnosis import KINDS, Kind
from vgpumonitor.metrics import dcgm, exporter, vgpu
from vgpumonitor.metrics.family import Family
from vgpumonitor.metrics.sets import SETS
from vgpumonitor.region.model import REASONS
from vgpumonitor.xids import XIDS

PAGE = Path(__file__).parent / "metrics.md"
#: All that have something generated.
PAGES = [
    PAGE,
    *map(PAGE.with_name, ("migration.md", "troubleshooting.md", "xids.md")),
]

_TABLE = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """A page with all that is generated as the code has it now. Raises KeyError for a name that
    the code knows nothing of."""
    tables = {
        **{name: _families(families) for name, families in SETS.items()},
        "processes": _families(vgpu.PROCESS_FAMILIES),
        "exporter": _families(exporter.FAMILIES),
        "dcgm": _dcgm(),
        "dcgm_default": _dcgm_default(),
        "reasons": _table(("reason", "meaning"), REASONS.items()),
        "findings": _findings(KINDS),
        "xids": _xids(),
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


def _dcgm_default() -> str:
    return _table(
        ("DCGM's field", "here"),
        [
            (f"`{each.name}`", _here(each) if each.expression else f"not here: {each.note}")
            for each in dcgm.FIELDS
            if each.listed in ("default", "dcp")
        ],
    )


def _here(field: dcgm.Field) -> str:
    if not field.expression:
        return "–"
    label = f", label `{field.label}`" if field.label else ""
    return f"`{field.expression}`{label}"


def _findings(kinds: Iterable[Kind]) -> str:
    """A table of contents, and a section for each."""
    kinds = tuple(kinds)
    contents = _table(
        ("finding", "severity", "what is wrong"),
        [(f"[{kind.id}](#{kind.id})", kind.severity, kind.title) for kind in kinds],
    )
    return "\n".join([contents, *map(_section, kinds)])


def _section(kind: Kind) -> str:
    facts = f"Severity: {kind.severity}."
    if kind.doctor:
        facts += " Only `doctor` sees it."
    if kind.alert:
        facts += f" Alert: [{kind.alert}](../alerts/runbooks/{kind.alert}.md)."
    paragraphs = (f"**{kind.title}.** {facts}", kind.why, f"What to do: {kind.mend}")
    # Flags and links are not cut.
    wrapped = (
        textwrap.fill(each, 100, break_long_words=False, break_on_hyphens=False)
        for each in paragraphs
    )
    return f"## {kind.id}\n\n" + "".join(f"{each}\n\n" for each in wrapped).rstrip("\n") + "\n"


def _xids() -> str:
    """A row for the codes that mean the same."""
    codes: dict[tuple[str, str, str], list[int]] = {}
    for xid in XIDS.values():
        codes.setdefault((xid.of, xid.meaning, xid.action), []).append(xid.code)
    return _table(
        ("XID", "class", "meaning", "what to do"),
        [(", ".join(map(str, same)), *told) for told, same in codes.items()],
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
