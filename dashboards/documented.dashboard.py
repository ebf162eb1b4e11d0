# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""The essentials on nothing but what Koordinator's guide lists, for who still runs vGPUmonitor.

Without recording rules, and without what those families don't tell: a card's memory,
allocations, the node of a container.
"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    FULLNESS,
    GPUS,
    RATIO,
    SECONDS,
    Column,
    Query,
    cluster_variable,
    gauge,
    grid,
    row,
    series,
    stat,
    table,
    variable,
)
from dashboards.panels import dashboard as build

CARDS = 'cluster=~"$cluster", nodeid=~"$node"'
PODS = 'cluster=~"$cluster", podnamespace=~"$namespace", podname=~"$pod"'
CONTAINER = "podnamespace, podname, ctrname"
LEGEND = "{{podnamespace}}/{{podname}} {{ctrname}}"
USED = f"vGPU_device_memory_usage_in_bytes{{{PODS}}}"
LIMIT = f"vGPU_device_memory_limit_in_bytes{{{PODS}}}"
CORES = f"Device_utilization_desc_of_container{{{PODS}}} / 100"
LAST_KERNEL = f"Device_last_kernel_of_container{{{PODS}}}"


def per_container(operation: str, expr: str) -> str:
    return f"{operation} by ({CONTAINER}) ({expr})"


OF_LIMIT = f"{per_container('sum', USED)} / ({per_container('sum', LIMIT)} > 0)"

dashboard = build(
    "vgpu-documented",
    "GPU sharing / Documented names",
    "The essentials on the families that Koordinator's guide lists: works with HAMi's "
    "vGPUmonitor too.",
    [
        cluster_variable("vGPU_device_memory_usage_in_bytes"),
        variable(
            "node",
            'HostGPUMemoryUsage{cluster=~"$cluster"}, nodeid',
            "Node",
            any_value=".*",
        ),
        variable(
            "namespace",
            'vGPU_device_memory_usage_in_bytes{cluster=~"$cluster"}, podnamespace',
            "Namespace",
            any_value=".*",
        ),
        variable(
            "pod",
            'vGPU_device_memory_usage_in_bytes{cluster=~"$cluster", '
            'podnamespace=~"$namespace"}, podname',
            "Pod",
            any_value=".*",
        ),
    ],
    grid(
        (
            5,
            [
                stat(
                    "Cards",
                    "Cards that the monitor sees on the chosen nodes.",
                    GPUS,
                    Query(f"count(HostGPUMemoryUsage{{{CARDS}}})"),
                ),
                stat(
                    "Memory in use on cards",
                    "As NVML has it, on the chosen nodes.",
                    BYTES,
                    Query(f"sum(HostGPUMemoryUsage{{{CARDS}}})"),
                ),
                stat(
                    "Memory used by containers",
                    "By the chosen pods.",
                    BYTES,
                    Query(f"sum({USED})"),
                ),
                stat("Limits", "Sum of the chosen pods' limits.", BYTES, Query(f"sum({LIMIT})")),
                gauge(
                    "Out-of-memory risk",
                    "Memory used of its limit, of the container that is nearest to it.",
                    Query(f"max({OF_LIMIT})"),
                ),
                stat(
                    "Memory wasted",
                    "Limits of the chosen pods and what they don't use of them.",
                    BYTES,
                    Query(f"sum({LIMIT}) - sum({USED})"),
                ),
            ],
        ),
        row("Cards"),
        (
            9,
            [
                series(
                    "Memory in use",
                    "Of each card, as NVML has it.",
                    BYTES,
                    Query(f"HostGPUMemoryUsage{{{CARDS}}}", "{{nodeid}} card {{deviceidx}}"),
                ),
                series(
                    "Core utilization",
                    "Of each card, as NVML has it.",
                    RATIO,
                    Query(f"HostCoreUtilization{{{CARDS}}} / 100", "{{nodeid}} card {{deviceidx}}"),
                    top=1,
                ),
                series(
                    "Limits on each card",
                    "Sum of the containers' memory limits on each card, by its UUID: the "
                    "documented families don't tell how much memory it has.",
                    BYTES,
                    Query(f"sum by (deviceuuid) ({LIMIT})", "{{deviceuuid}}"),
                ),
            ],
        ),
        row("Containers"),
        (
            9,
            [
                series(
                    "Memory of limit",
                    "Memory used of each container's limit. At 1 allocations fail.",
                    RATIO,
                    Query(OF_LIMIT, LEGEND),
                    thresholds=FULLNESS,
                    top=1,
                ),
                series(
                    "Memory used",
                    "Of each container.",
                    BYTES,
                    Query(per_container("sum", USED), LEGEND),
                    stacked=True,
                ),
            ],
        ),
        (
            9,
            [
                series(
                    "Core utilization",
                    "Of each container, on its busiest card.",
                    RATIO,
                    Query(per_container("max", CORES), LEGEND),
                    top=1,
                ),
                series(
                    "Time since the last kernel",
                    "How long ago each container launched a kernel.",
                    SECONDS,
                    Query(per_container("min", LAST_KERNEL), LEGEND),
                ),
            ],
        ),
        (
            10,
            [
                table(
                    "Containers",
                    "What each container uses now, its limit, and what it wastes.",
                    Column("Namespace", label="podnamespace"),
                    Column("Pod", label="podname"),
                    Column("Container", label="ctrname"),
                    Column("Memory used", per_container("sum", USED), BYTES),
                    Column("Limit", per_container("sum", LIMIT), BYTES),
                    Column(
                        "Memory wasted",
                        f"{per_container('sum', LIMIT)} - {per_container('sum', USED)}",
                        BYTES,
                    ),
                    Column("Cores", per_container("max", CORES), RATIO),
                    Column("Last kernel", per_container("min", LAST_KERNEL), SECONDS),
                    sort="Memory wasted",
                ),
                table(
                    "MIG devices",
                    "Containers on MIG devices.",
                    Column("Namespace", label="podnamespace"),
                    Column("Pod", label="podname"),
                    Column("Container", label="ctrname"),
                    Column("Device", label="deviceuuid"),
                    Column("Instance", label="instanceid"),
                    Column("Seen", f"MigInfo{{{PODS}}}", GPUS),
                    sort="Namespace",
                    ascending=True,
                ),
            ],
        ),
    ),
)
