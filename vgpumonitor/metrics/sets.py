"""Which families are served: ``--metrics``."""

from __future__ import annotations

from vgpumonitor.metrics import documented, exporter, hami, vgpu
from vgpumonitor.metrics.family import Family

SETS: dict[str, tuple[Family, ...]] = {
    "documented": documented.FAMILIES,
    "hami": hami.FAMILIES,
    "vgpu": vgpu.FAMILIES,
}
_WITHOUT = "-memory-desc"


def families_for(
    choice: str, process_metrics: bool = False, pod_labels: str = ""
) -> tuple[Family, ...]:
    """The families of ``choice``: set names separated by commas, ``all``, and ``-memory-desc``
    to leave the memory description out; with ``process_metrics`` also those per process.
    What the exporter says about itself is always among them. ``pod_labels`` are names of labels
    separated by commas, which vgpu_pod_info has.

    Raises ValueError, naming the word that is none of these, or the labels that clash.
    """
    pod_info = vgpu.pod_info(list(filter(None, map(str.strip, pod_labels.split(",")))))
    names = [name.strip() for name in choice.split(",") if name.strip()]
    families: list[Family] = []
    for name, members in SETS.items():
        if name in names or "all" in names:
            families += members
    for name in names:
        if name not in (*SETS, "all", _WITHOUT):
            raise ValueError(
                f"unknown metric set {name!r}: expected {', '.join(SETS)}, all or {_WITHOUT}"
            )
    if _WITHOUT in names:
        families = [family for family in families if family is not documented.MEMORY_DESCRIPTION]
    families = [pod_info if family.name == pod_info.name else family for family in families]
    if process_metrics:
        families += vgpu.PROCESS_FAMILIES
    return (*families, *exporter.FAMILIES)
