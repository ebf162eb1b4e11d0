"""Our text against prometheus-client's: in one process, on the same snapshot, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from benchmarks.node import simulated
from benchmarks.table import Row
from testing.client_library import ClientCollector
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.snapshot import NodeSnapshot, SnapshotBuilder, SourceViews
from vgpumonitor.sources.containers import ContainersDirectory

FAMILIES = families_for("all")


def rows(sizes: tuple[int, int] = (100, 1000), times: int = 15) -> list[Row]:
    return [*_against_the_client(sizes[1], times), *_growth(sizes, times)]


def _against_the_client(containers: int, times: int) -> list[Row]:
    """Collecting (read, join, render) with all containers changed and with none, against
    generate_latest alone on a snapshot that is already there."""
    changed, unchanged, theirs = [], [], []
    with simulated(containers) as node, _collecting(node) as collect:
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
            f"CPU of collecting {containers} containers × 2 GPUs, {what}",
            f"{median(ours) * 1000:.0f} ms",
            f"{series} series; generate_latest alone {median(theirs) * 1000:.0f} ms: "
            f"1/{median(theirs) / median(ours):.1f} of it; median of {times}, in turns",
        )
        for what, ours in (("all changed", changed), ("unchanged", unchanged))
    ]


def _growth(sizes: tuple[int, int], times: int) -> list[Row]:
    """The two sizes in turns, since between two scrapes of a real node others use the CPU's
    caches too."""
    took: dict[str, tuple[list[float], list[float]]] = {
        "all changed": ([], []),
        "unchanged": ([], []),
    }
    with ExitStack() as stack:
        nodes = [stack.enter_context(simulated(containers)) for containers in sizes]
        collecting = [stack.enter_context(_collecting(node)) for node in nodes]
        for collect in collecting:
            collect()
        for _ in range(times):
            for at, (node, collect) in enumerate(zip(nodes, collecting, strict=True)):
                node.step()
                took["all changed"][at].append(collect()[0])
            for at, collect in enumerate(collecting):
                took["unchanged"][at].append(collect()[0])
    return [
        Row(
            f"{sizes[1]} containers against {sizes[0]}, {what}",
            f"{large / small:.1f} times",
            f"{small * 1000:.1f} ms and {large * 1000:.1f} ms of CPU, medians of {times}, in turns",
        )
        for what, times_taken in took.items()
        for small, large in [map(median, times_taken)]
    ]


@contextmanager
def _collecting(node: SimulatedNode) -> Iterator[Callable[[], tuple[float, NodeSnapshot]]]:
    """Gives a function that collects once and returns its CPU seconds in this process, and the
    snapshot."""
    containers = ContainersDirectory(node.containers_dir)
    containers.start()
    builder, exposition = SnapshotBuilder("node"), Exposition(FAMILIES)
    try:
        yield lambda: _collect(containers, builder, exposition)
    finally:
        containers.stop()


def _collect(
    containers: ContainersDirectory, builder: SnapshotBuilder, exposition: Exposition
) -> tuple[float, NodeSnapshot]:
    began = time.process_time()
    snapshot = builder.build(SourceViews(time.time(), containers=containers.read()))
    exposition.render(snapshot)
    return time.process_time() - began, snapshot
