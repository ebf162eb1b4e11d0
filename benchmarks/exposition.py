"""Our text against prometheus-client's, in one process, on the same snapshot, in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from benchmarks.node import simulated
from benchmarks.table import Row
from tests.metrics.client_library import ClientCollector
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.sets import select
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.snapshot import HostView, Join, NodeSnapshot
from vgpumonitor.sources.inventory import Inventory
from vgpumonitor.sources.pods import PodsView

FAMILIES = select("all")


def rows(sizes: tuple[int, int] = (100, 1000), times: int = 9) -> list[Row]:
    return [*_against_the_client(sizes[1], times), *_growth(sizes, times)]


def _against_the_client(containers: int, times: int) -> list[Row]:
    """Collect (read, join, render) with every container changed and with none, against what
    generate_latest takes of a snapshot that is there already."""
    changed, unchanged, theirs = [], [], []
    with simulated(containers) as node, _collecting(node) as collect:
        # As serve does, so that neither pays for the simulated node.
        gc.freeze()
        collect()
        for _ in range(times):
            node.step()
            took, snapshot = collect()
            changed.append(took)
            unchanged.append(collect()[0])
            registry = CollectorRegistry()
            registry.register(ClientCollector(snapshot, FAMILIES))
            began = time.process_time()
            text = generate_latest(registry)
            theirs.append(time.process_time() - began)
    series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    return [
        Row(
            f"CPU of collecting {containers} containers × 2 cards, {what}",
            f"{median(ours) * 1000:.0f} ms",
            f"{series} series; generate_latest alone {median(theirs) * 1000:.0f} ms: "
            f"1/{median(theirs) / median(ours):.1f} of it; median of {times}, in turns",
        )
        for what, ours in (("all changed", changed), ("unchanged", unchanged))
    ]


def _growth(sizes: tuple[int, int], times: int) -> list[Row]:
    """Without another's work between, which would leave its garbage to whoever comes next."""
    took: dict[str, list[float]] = {"all changed": [], "unchanged": []}
    for containers in sizes:
        with simulated(containers) as node, _collecting(node) as collect:
            gc.freeze()
            collect()
            took["unchanged"].append(median(collect()[0] for _ in range(times)))
            changed = []
            for _ in range(times):
                node.step()
                changed.append(collect()[0])
            took["all changed"].append(median(changed))
    return [
        Row(
            f"{sizes[1]} containers against {sizes[0]}, {what}",
            f"{large / small:.1f} times",
            f"{small * 1000:.1f} ms and {large * 1000:.1f} ms of CPU, medians of {times}",
        )
        for what, (small, large) in took.items()
    ]


@contextmanager
def _collecting(node: SimulatedNode) -> Iterator[Callable[[], tuple[float, NodeSnapshot]]]:
    """A call that collects once: its CPU seconds in this process, and the snapshot."""
    inventory = Inventory(node.containers_dir)
    inventory.start()
    join, exposition = Join("node"), Exposition(FAMILIES)
    try:
        yield lambda: _collect(inventory, join, exposition)
    finally:
        inventory.stop()


def _collect(
    inventory: Inventory, join: Join, exposition: Exposition
) -> tuple[float, NodeSnapshot]:
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
