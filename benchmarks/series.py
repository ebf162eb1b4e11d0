"""``python -m benchmarks.series``: how many series a cluster makes, from the declarations.

Counts the samples of each set's families on made-up nodes, and takes differences: what a node, a
GPU, and a container on one GPU add. The recording rules come from their source. prometheus-client's
own metrics (process_*, python_*) and those of the scrape (up, scrape_*) are counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from alerts.model import Recording
from alerts.rules import RECORDING
from benchmarks.table import Row, markdown
from testing.client_library import samples
from testing.values import entry, gpu, process, region, snapshot, use
from vgpumonitor.metrics.exporter import FAMILIES as ABOUT
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.family import Family
from vgpumonitor.metrics.sets import SETS
from vgpumonitor.metrics.vgpu import PROCESS_FAMILIES
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import DeviceProcess, ProcessUtilization
from vgpumonitor.sources.pods import Allocation, Pod, PodContainer, PodsView

#: up, scrape_duration_seconds, scrape_samples_scraped, …_post_metric_relabeling, …_added.
_OF_EACH_SCRAPE = 5
_CLOCKS = ("graphics", "sm", "memory", "video")
_DIRECTIONS = ("receive", "transmit")
_THROTTLE_REASONS = (
    "hw_power_brake_slowdown",
    "hw_slowdown",
    "hw_thermal_slowdown",
    "sw_power_cap",
    "sw_thermal_slowdown",
    "sync_boost",
)
#: What else NVML tells of a GPU with NVLink and without fans, such as an A100.
_READINGS: dict[str, Any] = {
    "encoder_utilization": 0,
    "decoder_utilization": 0,
    "power_limit_watts": 400.0,
    "energy_joules": 0.0,
    "memory_temperature_celsius": 40,
    "temperature_thresholds": {"slowdown": 89, "shutdown": 92},
    "clocks": dict.fromkeys(_CLOCKS, 1),
    "max_clocks": dict.fromkeys(_CLOCKS, 1),
    "performance_state": 0,
    "throttled_seconds": dict.fromkeys(_THROTTLE_REASONS, 0.0),
    "remapped_rows": {"corrected": 0, "uncorrected": 0},
    "row_remap_pending": False,
    "row_remap_failed": False,
    "pcie_generation": 4,
    "pcie_width": 16,
    "max_pcie_generation": 4,
    "max_pcie_width": 16,
    "pcie_replays": 0,
    "pcie_bytes": dict.fromkeys(_DIRECTIONS, 0),
    "nvlink_bytes": dict.fromkeys(_DIRECTIONS, 0),
    "nvlink_errors": dict.fromkeys(("crc_flit", "crc_data", "replay", "recovery"), 0),
}
#: The levels of recording rules that are worth keeping for months.
LONG = ("cluster", "namespace", "workload", "node", "card")
#: What each level of recording rules has one series of.
_ENTITY = {
    "container": "container",
    "pod": "container",
    "workload": "workload",
    "namespace": "namespace",
    "card": "GPU",
    "node": "node",
    "cluster": "cluster",
}


def _uuid(number: int) -> str:
    return f"GPU-00000000-0000-4000-8000-{number:012d}"


def _uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _node(gpus: int, containers: int) -> NodeSnapshot:
    """A node whose containers are each alone in their pod and have a process on one GPU."""
    on_device = tuple(
        DeviceProcess(1000 + number, 1, ProcessUtilization()) for number in range(containers)
    )
    pods = {
        _uid(number): Pod(
            _uid(number),
            "team",
            f"pod-{number}",
            "Running",
            {"main": PodContainer("main")},
            (Allocation(_uuid(0), None, 1 << 30, 0.5),),
        )
        for number in range(containers)
    }
    return snapshot(
        *(
            entry(
                region(
                    process(use(context=1, module=1, data=1, sm=1), hostpid=1000 + number),
                    uuids=(_uuid(0),),
                ),
                uid=uid,
                container="main",
            )
            for number, uid in enumerate(pods)
        ),
        pods=PodsView(pods, up=True, synced=0.0),
        gpus=[
            gpu(
                uuid=_uuid(number),
                index=number,
                ecc_errors={"corrected": 0, "uncorrected": 0},
                throttled=dict.fromkeys(_THROTTLE_REASONS, False),
                memory_reserved=1,
                **_READINGS,
                processes=on_device if number == 0 else (),
            )
            for number in range(gpus)
        ],
        live=range(1000, 1000 + containers),
    )


def per_entity(families: tuple[Family, ...]) -> dict[str, int]:
    """Series that a node, each of its GPUs, and each container on one GPU make."""
    # Some families exist only with a GPU, so differences are taken between 1 and 2.
    counts = {
        key: sum(1 for family in families for _ in samples(family, _node(*key)))
        for key in ((1, 1), (2, 1), (1, 2))
    }
    of_gpu = counts[2, 1] - counts[1, 1]
    of_container = counts[1, 2] - counts[1, 1]
    return {
        "node": counts[1, 1] - of_gpu - of_container,
        "GPU": of_gpu,
        "container": of_container,
    }


def sets() -> dict[str, dict[str, int]]:
    """Series per node, GPU and container of each set, and of what is always there."""
    own = b"".join(Exposition(()).render(_node(0, 0))).decode()
    lines = [line for line in own.splitlines() if line and line[0] != "#"]
    about = per_entity(ABOUT)
    about["node"] += len(lines) + _OF_EACH_SCRAPE
    return {
        **{name: per_entity(families) for name, families in SETS.items()},
        "--process-metrics": per_entity(PROCESS_FAMILIES),
        "about itself": about,
    }


def recorded() -> dict[str, int]:
    """Rules of each level."""
    return dict(
        Counter(
            rule.record.split(":")[0]
            for group in RECORDING
            for rule in group.rules
            if isinstance(rule, Recording)
        )
    )


def total(per: Mapping[str, int], entities: Mapping[str, int]) -> int:
    return sum(number * entities[entity] for entity, number in per.items())


@click.command()
@click.option("--nodes", default=10_000, show_default=True)
@click.option("--gpus", default=8, show_default=True, help="GPUs of each node.")
@click.option(
    "--containers", default=32, show_default=True, help="Containers on each node, each on one GPU."
)
@click.option("--namespaces", default=500, show_default=True)
@click.option("--workloads", default=20_000, show_default=True, help="Deployments, Jobs and so on.")
def main(nodes: int, gpus: int, containers: int, namespaces: int, workloads: int) -> None:
    """Print the series of a cluster."""
    entities = {
        "node": nodes,
        "GPU": nodes * gpus,
        "container": nodes * containers,
        "namespace": namespaces,
        "workload": workloads,
        "cluster": 1,
    }
    click.echo(
        f"{nodes:,} nodes × {gpus} GPUs, {containers} containers; "
        f"{namespaces} namespaces, {workloads:,} workloads\n"
    )
    rows = []
    for name, per in sets().items():
        how = ", ".join(f"{number} a {entity}" for entity, number in per.items() if number)
        rows.append(Row(name, f"{total(per, entities):,}", how))
    levels = recorded()
    for level, number in levels.items():
        rows.append(
            Row(
                f"recorded: {level}",
                f"{number * entities[_ENTITY[level]]:,}",
                f"{number} rules",
            )
        )
    kept = sum(levels[level] * entities[_ENTITY[level]] for level in LONG)
    rows.append(Row(f"kept of them: {', '.join(LONG)}", f"{kept:,}", ""))
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()
