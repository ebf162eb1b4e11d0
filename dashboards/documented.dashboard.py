# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""The essentials, from the families in Koordinator's guide alone, so that it works with HAMi's
vGPUmonitor too, and with both side by side: what two monitors say of the same thing counts once.

It needs no recording rules, and leaves out what those families don't tell: the size of a GPU's
memory, allocations, the node of a container. It reads every container of the cluster, which is fine
for tens of nodes.
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
    ranked,
    row,
    stat,
    table,
    timeseries,
    variable,
)
from dashboards.panels import dashboard as build

HINT = "no data: needs --metrics=documented, or vGPUmonitor"
CLUSTERS = 'cluster=~"$cluster"'
DEVICES = f'{CLUSTERS}, nodeid=~"$node"'
PODS = f'{CLUSTERS}, podnamespace=~"$namespace", podname=~"$pod"'
LARGEST = f'{CLUSTERS}, podnamespace=~"$namespace", podname=~"$largest"'
CONTAINER = "podnamespace, podname, ctrname"
LEGEND = "{{podname}} {{ctrname}}"
GPU = "{{nodeid}} GPU {{deviceidx}}"


def of_gpus(family: str) -> str:
    return f"max by (nodeid, deviceidx, deviceuuid) ({family}{{{DEVICES}}})"


def of_devices(family: str) -> str:
    """Of each container's devices on the chosen nodes."""
    return (
        f"(max by ({CONTAINER}, vdeviceid, deviceuuid) ({family}{{{PODS}}}) "
        f"and on (deviceuuid) HostGPUMemoryUsage{{{DEVICES}}})"
    )


def of_largest(family: str) -> str:
    """Of each device of the containers of the ten pods that used the most memory."""
    return f"max by ({CONTAINER}, vdeviceid, deviceuuid) ({family}{{{LARGEST}}})"


def of_container(operation: str, expr: str) -> str:
    return f"{operation} by ({CONTAINER}) ({expr})"


USAGE, LIMITS = "vGPU_device_memory_usage_in_bytes", "vGPU_device_memory_limit_in_bytes"
UTILIZATION, LAST = "Device_utilization_desc_of_container", "Device_last_kernel_of_container"
USED, LIMIT = of_devices(USAGE), of_devices(LIMITS)
#: What a container leaves idle on each device; use above a limit does not offset it.
IDLE = f"clamp_min({LIMIT} - {USED}, 0)"
OF_LIMIT = f"{of_container('sum', USED)} / ({of_container('sum', LIMIT)} > 0)"

LARGEST_PODS = (
    f"topk(10, sum by (podname) (max_over_time({USAGE}{{{PODS}}}[$__range]) "
    f"and on (deviceuuid) HostGPUMemoryUsage{{{DEVICES}}}))"
)

dashboard = build(
    "vgpu-documented",
    "GPU sharing / Documented names",
    "The essentials, from the families in Koordinator's guide alone: works with HAMi's "
    "vGPUmonitor too, and with both side by side. For tens of nodes.",
    [
        cluster_variable("vGPU_device_memory_usage_in_bytes"),
        variable("node", f"HostGPUMemoryUsage{{{CLUSTERS}}}, nodeid", "Node", any_value=".*"),
        variable(
            "namespace",
            f"vGPU_device_memory_usage_in_bytes{{{CLUSTERS}}}, podnamespace",
            "Namespace",
            any_value=".*",
        ),
        variable(
            "pod",
            f'vGPU_device_memory_usage_in_bytes{{{CLUSTERS}, podnamespace=~"$namespace"}}, podname',
            "Pod",
            any_value=".*",
        ),
        ranked("largest", LARGEST_PODS, "podname"),
    ],
    grid(
        (
            5,
            [
                stat(
                    "GPUs",
                    "GPUs that the monitor sees on the chosen nodes.",
                    COUNT,
                    Query(f"count({of_gpus('HostGPUMemoryUsage')})"),
                ),
                stat(
                    "Memory used on GPUs",
                    "On the chosen nodes, according to NVML, what the driver reserves included.",
                    BYTES,
                    Query(f"sum({of_gpus('HostGPUMemoryUsage')})"),
                ),
                stat(
                    "Memory used by containers",
                    "By the chosen pods, and their limits.",
                    BYTES,
                    Query(f"sum({USED})", "used"),
                    Query(f"sum({LIMIT})", "limits"),
                ),
                gauge(
                    "Out-of-memory risk",
                    "Share of its limit that the container nearest to its limit uses.",
                    Query(f"max({OF_LIMIT})"),
                ),
                stat(
                    "Memory idle",
                    "What the chosen pods leave unused of their limits now.",
                    BYTES,
                    Query(f"sum({IDLE})"),
                ),
            ],
        ),
        (
            11,
            [
                table(
                    "Containers",
                    "What each container uses now, its limit, and what it leaves idle.",
                    Column("Namespace", label="podnamespace", width=150),
                    Column("Pod", label="podname"),
                    Column("Container", label="ctrname"),
                    Column("Memory used", of_container("sum", USED), BYTES, width=120),
                    Column("Limit", of_container("sum", LIMIT), BYTES),
                    Column("Of limit", OF_LIMIT, RATIO, bar=True, thresholds=FULLNESS),
                    Column("Memory idle", of_container("sum", IDLE), BYTES, bar=True),
                    Column(
                        "Cores",
                        f"{of_container('max', of_devices(UTILIZATION))} / 100",
                        RATIO,
                        bar=True,
                    ),
                    Column(
                        "Last kernel", of_container("min", of_devices(LAST)), SECONDS, width=110
                    ),
                    sort="Memory idle",
                    none=HINT,
                ),
            ],
        ),
        row("GPUs"),
        (
            9,
            [
                timeseries(
                    "Memory used",
                    "Of each GPU, according to NVML; the twenty with the most of it at the end of "
                    "the time range.",
                    BYTES,
                    Query(
                        f"{of_gpus('HostGPUMemoryUsage')} and on (deviceuuid) topk(20, "
                        f"max by (deviceuuid) (HostGPUMemoryUsage{{{DEVICES}}} @ end()))",
                        GPU,
                    ),
                    hint=HINT,
                ),
                timeseries(
                    "Core utilization",
                    "Of each GPU, according to NVML; the twenty with the most of it at the end of "
                    "the time range.",
                    RATIO,
                    Query(
                        f"{of_gpus('HostCoreUtilization')} / 100 and on (deviceuuid) topk(20, max "
                        f"by (deviceuuid) (HostCoreUtilization{{{DEVICES}}} @ end()))",
                        GPU,
                    ),
                    top=1,
                    hint=HINT,
                ),
                timeseries(
                    "Limits on each GPU",
                    "Sum of the containers' memory limits on the ten GPUs where it is largest. The "
                    "documented families don't tell how much memory a GPU has.",
                    BYTES,
                    Query(
                        "topk(10, sum by (deviceuuid) (max by "
                        f"({CONTAINER}, vdeviceid, deviceuuid) ({LIMITS}{{{PODS}}})) "
                        "* on (deviceuuid) group_left (nodeid, deviceidx) "
                        "group by (nodeid, deviceidx, deviceuuid) "
                        f"(HostGPUMemoryUsage{{{DEVICES}}}))",
                        GPU,
                    ),
                    hint=HINT,
                ),
            ],
        ),
        row("The ten pods that used the most memory"),
        (
            9,
            [
                timeseries(
                    "Share of the memory limit",
                    "Share of its limit that each container uses. At 100 % allocations fail.",
                    RATIO,
                    Query(
                        f"{of_container('sum', of_largest(USAGE))} "
                        f"/ ({of_container('sum', of_largest(LIMITS))} > 0)",
                        LEGEND,
                    ),
                    thresholds=FULLNESS,
                    top=1,
                    most=2,
                    hint=HINT,
                ),
                timeseries(
                    "Memory",
                    "What each container uses.",
                    BYTES,
                    Query(of_container("sum", of_largest(USAGE)), LEGEND),
                    hint=HINT,
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
                    Query(f"{of_container('max', of_largest(UTILIZATION))} / 100", LEGEND),
                    top=1,
                    hint=HINT,
                ),
                timeseries(
                    "Time since the last kernel",
                    "How long ago each container last launched a kernel.",
                    SECONDS,
                    Query(of_container("min", of_largest(LAST)), LEGEND),
                    hint=HINT,
                ),
            ],
        ),
        row(
            "MIG",
            (
                8,
                [
                    table(
                        "MIG devices",
                        "Containers on MIG devices.",
                        Column("Namespace", label="podnamespace"),
                        Column("Pod", label="podname"),
                        Column("Container", label="ctrname"),
                        Column("GPU", label="deviceuuid"),
                        Column(
                            "Devices",
                            "count by (podnamespace, podname, ctrname, deviceuuid, instanceid) "
                            "(group by (podnamespace, podname, ctrname, vdeviceid, deviceuuid, "
                            f"instanceid) (MigInfo{{{PODS}}}))",
                            COUNT,
                        ),
                        Column("Instance", label="instanceid", width=90),
                        sort="Namespace",
                        ascending=True,
                        none="none",
                    ),
                ],
            ),
        ),
    ),
)
