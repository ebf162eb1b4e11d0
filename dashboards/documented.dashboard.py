# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""The essentials, from the families in Koordinator's guide alone, so that it works with HAMi's
vGPUmonitor too.

It needs no recording rules, and leaves out what those families don't tell: the size of a GPU's
memory, allocations, the node of a container.
"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    FULLNESS,
    RATIO,
    SECONDS,
    Column,
    Query,
    cluster_variable,
    gauge,
    grid,
    row,
    stat,
    table,
    timeseries,
    variable,
)
from dashboards.panels import dashboard as build

DEVICES = 'cluster=~"$cluster", nodeid=~"$node"'
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
    "The essentials, from the families in Koordinator's guide alone: works with HAMi's "
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
                    "GPUs",
                    "GPUs that the monitor sees on the chosen nodes.",
                    COUNT,
                    Query(f"count(HostGPUMemoryUsage{{{DEVICES}}})"),
                ),
                stat(
                    "Memory in use on GPUs",
                    "On the chosen nodes, according to NVML.",
                    BYTES,
                    Query(f"sum(HostGPUMemoryUsage{{{DEVICES}}})"),
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
                    "Share of its limit that the container nearest to its limit uses.",
                    Query(f"max({OF_LIMIT})"),
                ),
                stat(
                    "Memory wasted",
                    "What the chosen pods leave unused of their limits.",
                    BYTES,
                    Query(f"sum({LIMIT}) - sum({USED})"),
                ),
            ],
        ),
        row("GPUs"),
        (
            9,
            [
                timeseries(
                    "Memory in use",
                    "Of each GPU, according to NVML.",
                    BYTES,
                    Query(f"HostGPUMemoryUsage{{{DEVICES}}}", "{{nodeid}} GPU {{deviceidx}}"),
                ),
                timeseries(
                    "Core utilization",
                    "Of each GPU, according to NVML.",
                    RATIO,
                    Query(
                        f"HostCoreUtilization{{{DEVICES}}} / 100", "{{nodeid}} GPU {{deviceidx}}"
                    ),
                    top=1,
                ),
                timeseries(
                    "Limits on each GPU",
                    "Sum of the containers' memory limits on each GPU, by UUID. The documented "
                    "families don't tell how much memory a GPU has.",
                    BYTES,
                    Query(f"sum by (deviceuuid) ({LIMIT})", "{{deviceuuid}}"),
                ),
            ],
        ),
        row("Containers"),
        (
            9,
            [
                timeseries(
                    "Memory against limit",
                    "Share of its limit that each container uses. At 100 % allocations fail.",
                    RATIO,
                    Query(OF_LIMIT, LEGEND),
                    thresholds=FULLNESS,
                    top=1,
                ),
                timeseries(
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
                timeseries(
                    "Core utilization",
                    "Of each container, on its busiest GPU.",
                    RATIO,
                    Query(per_container("max", CORES), LEGEND),
                    top=1,
                ),
                timeseries(
                    "Time since the last kernel",
                    "How long ago each container last launched a kernel.",
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
                    Column("Seen", f"MigInfo{{{PODS}}}", COUNT),
                    sort="Namespace",
                    ascending=True,
                ),
            ],
        ),
    ),
)
