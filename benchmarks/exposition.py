"""Our text against prometheus-client's, in one process, on the same snapshot, in turns."""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import median

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from benchmarks.node import simulated
from benchmarks.table import Row
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.family import AgeFamily, ContainerFamily, Family, NodeFamily
from vgpumonitor.metrics.sets import select
from vgpumonitor.snapshot import HostView, Join, NodeSnapshot
from vgpumonitor.sources.inventory import Inventory
from vgpumonitor.sources.pods import PodsView

FAMILIES = select("all")


class ClientCollector:
    """The same families as a collector on prometheus-client gives them."""

    def __init__(self, snapshot: NodeSnapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        for family in FAMILIES:
            constant = [value for _, value in family.constant]
            labels = [*(name for name, _ in family.constant), *family.labels]
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            made = kind(family.name, family.help, labels=labels)
            for values, value in samples(family, self.snapshot):
                made.add_metric([*constant, *values], value)
            yield made


def samples(family: Family, snapshot: NodeSnapshot) -> Iterable[tuple[tuple[str, ...], float]]:
    if isinstance(family, NodeFamily):
        yield from family.samples(snapshot)
    for container in snapshot.containers:
        if isinstance(family, ContainerFamily):
            yield from family.samples(container)
        elif isinstance(family, AgeFamily):
            for values, moment in family.samples(container):
                yield values, max(0.0, snapshot.time - moment)


def rows(sizes: tuple[int, int] = (100, 1000), times: int = 9) -> list[Row]:
    """Collect (read, join, render) with every container changed and with none, against what
    generate_latest takes of a snapshot that is there already."""
    found = []
    ours_by_size = {}
    for containers in sizes:
        with simulated(containers) as node:
            inventory = Inventory(node.containers_dir)
            inventory.start()
            join, exposition = Join("node"), Exposition(FAMILIES)
            changed, unchanged, theirs = [], [], []
            for _ in range(times):
                node.step()
                took, snapshot = _collect(inventory, join, exposition)
                changed.append(took)
                unchanged.append(_collect(inventory, join, exposition)[0])
                registry = CollectorRegistry()
                collector = ClientCollector(snapshot)
                registry.register(collector)  # type: ignore[arg-type]
                began = time.process_time()
                text = generate_latest(registry)
                theirs.append(time.process_time() - began)
            inventory.stop()
        series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
        ours_by_size[containers] = median(changed)
        for what, ours in (("all changed", changed), ("unchanged", unchanged)):
            found.append(
                Row(
                    f"CPU of collecting {containers} containers × 2 cards, {what}",
                    f"{median(ours) * 1000:.1f} ms",
                    f"{series} series; generate_latest alone {median(theirs) * 1000:.0f} ms: "
                    f"1/{median(theirs) / median(ours):.1f} of it; median of {times}, in turns",
                )
            )
    small, large = sizes
    ratio = ours_by_size[large] / ours_by_size[small]
    found.append(Row(f"{large} containers against {small}, all changed", f"{ratio:.1f} times"))
    return found


def _collect(
    inventory: Inventory, join: Join, exposition: Exposition
) -> tuple[float, NodeSnapshot]:
    """CPU seconds of this process, and the snapshot."""
    began = time.process_time()
    snapshot = join.snapshot(
        time=time.time(),
        inventory=inventory.read(),
        pod_source="none",
        pods=PodsView(),
        nvml=None,
        known_devices=(),
        nvml_health=None,
        host=HostView(),
    )
    exposition.render(snapshot)
    return time.process_time() - began, snapshot
