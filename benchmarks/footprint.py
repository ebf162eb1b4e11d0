"""Memory, descriptors and watches, and how much of them many containers leave behind."""

from __future__ import annotations

from benchmarks.node import serving, simulated
from benchmarks.table import Row
from testing.churn import pass_by
from testing.resources import Held
from testing.values import MIB


def rows(containers: int = 100, passing: int = 10_000, batch: int = 250) -> list[Row]:
    """``passing`` containers come and go beside ``containers`` that stay."""
    with simulated(containers) as node, serving(node) as exporter:
        for _ in range(10):
            exporter.get("/metrics")
        before = Held.at_rest(exporter)
        source = next(node.containers_dir.glob("*/*.cache"))
        most = pass_by(exporter, node.containers_dir, source, range(passing), batch)
        after = Held.at_rest(exporter)
    left = (after.memory - before.memory) / MIB
    return [
        Row(
            f"resident memory, {containers} containers",
            f"{before.memory / MIB:.1f} MiB",
            "all sets",
        ),
        Row(
            f"the same after {passing} containers came and went",
            f"{after.memory / MIB:.1f} MiB",
            f"{left:+.1f} MiB; {most.memory / MIB:.1f} at most, with {batch} more at once; "
            f"descriptors {before.descriptors} and {after.descriptors}, "
            f"watches {before.watches} and {after.watches}",
        ),
    ]
