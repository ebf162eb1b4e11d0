# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One namespace, or some of its pods: is it near its limits, held up, or idle?"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    FULLNESS,
    GPUS,
    RATIO,
    SECONDS,
    TO_NODE,
    UNWANTED,
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

PODS = 'cluster=~"$cluster", namespace="$namespace", pod=~"$pod"'
CONTAINER = "pod, container"
LEGEND = "{{pod}} {{container}}"
USED = f"container:vgpu_memory_used_bytes:sum{{{PODS}}}"
#: Same container and device. The scrape is in it, so that a job more is no ambiguity.
OF_LIMIT = (
    "/ on (cluster, job, instance, namespace, pod, container, device_uuid) group_left () "
    f"vgpu_memory_limit_bytes{{{PODS}}}"
)


def per_container(operation: str, expr: str) -> str:
    return f"{operation} by ({CONTAINER}) ({expr})"


def per_device(operation: str, expr: str) -> str:
    return f"{operation} by ({CONTAINER}, device_uuid) ({expr})"


dashboard = build(
    "vgpu-workload",
    "GPU sharing / Workload",
    "A namespace or some of its pods: memory and cores against limits, time since the last "
    "kernel, what holds them up.",
    [
        cluster_variable("instance:vgpumonitor_node:info"),
        variable(
            "namespace",
            'namespace:vgpu_allocated_memory_bytes:sum{cluster=~"$cluster"}, namespace',
            "Namespace",
            every=False,
        ),
        variable(
            "pod",
            'pod:vgpu_allocated_memory_bytes:sum{cluster=~"$cluster", namespace="$namespace"}, pod',
            "Pod",
            any_value=".*",
        ),
    ],
    grid(
        (
            5,
            [
                stat(
                    "Memory allocated",
                    "What the scheduler allocated to the pods.",
                    BYTES,
                    Query(f"sum(pod:vgpu_allocated_memory_bytes:sum{{{PODS}}})"),
                ),
                stat(
                    "Memory used",
                    "What the pods' live processes use.",
                    BYTES,
                    Query(f"sum(pod:vgpu_memory_used_bytes:sum{{{PODS}}})"),
                ),
                gauge(
                    "Out-of-memory risk",
                    "Memory used of its limit, of the container that is nearest to it.",
                    Query(f"max({USED} {OF_LIMIT})"),
                ),
                stat(
                    "GPUs allocated",
                    "Core shares that the scheduler allocated to the pods, in whole cards.",
                    GPUS,
                    Query(f"sum(pod:vgpu_allocated_core_ratio:sum{{{PODS}}})"),
                ),
                stat(
                    "GPUs used",
                    "Cores that the pods use now, in whole cards.",
                    GPUS,
                    Query(f"sum(pod:vgpu_core_utilization_ratio:sum{{{PODS}}})"),
                ),
                stat(
                    "Blocked",
                    "Containers whose kernel launches wait for a higher priority now.",
                    GPUS,
                    Query(f"sum({per_container('max', f'vgpu_launches_blocked{{{PODS}}}')})"),
                    UNWANTED,
                ),
            ],
        ),
        row("Memory"),
        (
            9,
            [
                series(
                    "Memory by kind",
                    "Data is the program's own; context is one for each process and card; module "
                    "is its kernels. Against the sum of the limits.",
                    BYTES,
                    Query(f"sum by (kind) (vgpu_memory_used_bytes{{{PODS}}})", "{{kind}}"),
                    Query(f"sum(vgpu_memory_limit_bytes{{{PODS}}})", "limits", dashed=True),
                    stacked=True,
                ),
                series(
                    "Memory of limit",
                    "Memory used of each container's limit. At 1 allocations fail.",
                    RATIO,
                    Query(per_container("max", f"{USED} {OF_LIMIT}"), LEGEND),
                    thresholds=FULLNESS,
                    top=1,
                ),
            ],
        ),
        (
            9,
            [
                series(
                    "Memory of limit in an hour",
                    "Where each container's memory will be in an hour at the pace of the last 30 "
                    "minutes, of its limit. Above 1 it runs out of memory.",
                    RATIO,
                    Query(
                        per_container("max", f"predict_linear({USED}[30m], 3600) {OF_LIMIT}"),
                        LEGEND,
                    ),
                    thresholds=FULLNESS,
                    top=1,
                ),
                series(
                    "HAMi-core and NVML",
                    "What HAMi-core accounts for, and what NVML says that the same processes "
                    "hold. They differ by what the driver needs for itself.",
                    BYTES,
                    Query(f"sum({USED})", "HAMi-core"),
                    Query(f"sum(vgpu_memory_nvml_bytes{{{PODS}}})", "NVML"),
                ),
                series(
                    "Memory of dead processes",
                    "Counts against the limit, and belongs to processes that no longer exist.",
                    BYTES,
                    Query(
                        per_container("sum", f"vgpu_dead_process_memory_bytes{{{PODS}}}"), LEGEND
                    ),
                ),
            ],
        ),
        row("Cores"),
        (
            9,
            [
                series(
                    "Cores and limits",
                    "Core utilization of each container on its busiest card, and its limit.",
                    RATIO,
                    Query(
                        per_container(
                            "max", f"container:vgpu_core_utilization_ratio:sum{{{PODS}}}"
                        ),
                        LEGEND,
                    ),
                    Query(
                        per_container("max", f"vgpu_core_limit_ratio{{{PODS}}}"),
                        "limit of " + LEGEND,
                        dashed=True,
                    ),
                    top=1,
                ),
                series(
                    "Time since the last kernel",
                    "How long ago each container launched a kernel. No line for containers whose "
                    "HAMi-core does not record it.",
                    SECONDS,
                    Query(
                        "time() - "
                        + per_container("max", f"vgpu_last_kernel_timestamp_seconds{{{PODS}}}"),
                        LEGEND,
                    ),
                ),
            ],
        ),
        (
            8,
            [
                series(
                    "Launches blocked",
                    "1 while the container's kernel launches wait for a higher priority.",
                    GPUS,
                    Query(per_container("max", f"vgpu_launches_blocked{{{PODS}}}"), LEGEND),
                    top=1,
                ),
                series(
                    "Core limit enforced",
                    "1 while the core limit holds; 0 while it is lifted for who is alone.",
                    GPUS,
                    Query(per_container("max", f"vgpu_core_limit_enforced{{{PODS}}}"), LEGEND),
                    top=1,
                ),
                series(
                    "Clocks of its cards held down",
                    "Why the clocks of the cards that the pods use are held down: 1 while the "
                    "reason holds.",
                    GPUS,
                    Query(
                        "max by (node, device_index, reason) ("
                        'vgpu_device_throttled{cluster=~"$cluster"}'
                        " and on (cluster, job, instance, device_uuid) "
                        f"{USED})",
                        "{{node}} card {{device_index}} {{reason}}",
                    ),
                    top=1,
                ),
                series(
                    "Processes",
                    "Processes of the pods, by state.",
                    GPUS,
                    Query(f"sum by (state) (vgpu_processes{{{PODS}}})", "{{state}}"),
                ),
            ],
        ),
        row("Containers"),
        (
            10,
            [
                table(
                    "Containers",
                    "Where each container is, its limits, and its peak in the time range: a peak "
                    "far below the limit is memory that others could have.",
                    Column("Node", label="node", link=TO_NODE),
                    Column("Pod", label="pod"),
                    Column("Container", label="container"),
                    Column("Device", label="device_uuid"),
                    Column(
                        "Memory used",
                        f"sum by ({CONTAINER}, device_uuid, node) ({USED})",
                        BYTES,
                    ),
                    Column(
                        "Peak",
                        per_device("max", f"max_over_time({USED}[$__range])"),
                        BYTES,
                    ),
                    Column("Limit", per_device("max", f"vgpu_memory_limit_bytes{{{PODS}}}"), BYTES),
                    Column(
                        "Core limit", per_device("max", f"vgpu_core_limit_ratio{{{PODS}}}"), RATIO
                    ),
                    Column("Priority", per_device("max", f"vgpu_priority{{{PODS}}}"), GPUS),
                    sort="Memory used",
                )
            ],
        ),
    ),
)
