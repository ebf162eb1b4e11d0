# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One namespace, or some of its pods: is it near its limits, held up, or idle?"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    FULLNESS,
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
    stat,
    table,
    timeseries,
    variable,
)
from dashboards.panels import dashboard as build

PODS = 'cluster=~"$cluster", namespace="$namespace", pod=~"$pod"'
CONTAINER = "pod, container"
LEGEND = "{{pod}} {{container}}"
USED = f"container:vgpu_memory_used_bytes:sum{{{PODS}}}"
#: Same container and device. The scrape's labels are part of the match, so that an exporter
#: scraped by two jobs doesn't make it ambiguous.
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
    "A namespace, or some of its pods: memory and cores against their limits, time since the last "
    "kernel launch, and what holds them up.",
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
                    "Memory that the scheduler has allocated to the pods.",
                    BYTES,
                    Query(f"sum(pod:vgpu_allocated_memory_bytes:sum{{{PODS}}})"),
                ),
                stat(
                    "Memory used",
                    "Memory that the pods' live processes use.",
                    BYTES,
                    Query(f"sum(pod:vgpu_memory_used_bytes:sum{{{PODS}}})"),
                ),
                gauge(
                    "Out-of-memory risk",
                    "Share of its limit that the container nearest to its limit uses.",
                    Query(f"max({USED} {OF_LIMIT})"),
                ),
                stat(
                    "GPUs allocated",
                    "Cores that the scheduler has allocated to the pods, in whole GPUs.",
                    COUNT,
                    Query(f"sum(pod:vgpu_allocated_core_ratio:sum{{{PODS}}})"),
                ),
                stat(
                    "GPUs used",
                    "Cores that the pods use now, in whole GPUs.",
                    COUNT,
                    Query(f"sum(pod:vgpu_core_utilization_ratio:sum{{{PODS}}})"),
                ),
                stat(
                    "Blocked",
                    "Containers whose kernel launches are waiting for a higher priority.",
                    COUNT,
                    Query(f"sum({per_container('max', f'vgpu_launches_blocked{{{PODS}}}')})"),
                    UNWANTED,
                ),
            ],
        ),
        row("Memory"),
        (
            9,
            [
                timeseries(
                    "Memory by kind",
                    "Data is the program's own memory, context what each process takes on each "
                    "GPU, module its kernels. Shown against the sum of the limits.",
                    BYTES,
                    Query(f"sum by (kind) (vgpu_memory_used_bytes{{{PODS}}})", "{{kind}}"),
                    Query(f"sum(vgpu_memory_limit_bytes{{{PODS}}})", "limits", dashed=True),
                    stacked=True,
                ),
                timeseries(
                    "Memory against limit",
                    "Share of its limit that each container uses. At 100 % allocations fail.",
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
                timeseries(
                    "Memory against limit in an hour",
                    "Share of its limit that each container will use in an hour if it goes on as "
                    "in the last 30 minutes. Above 100 % it runs out of memory.",
                    RATIO,
                    Query(
                        per_container("max", f"predict_linear({USED}[30m], 3600) {OF_LIMIT}"),
                        LEGEND,
                    ),
                    thresholds=FULLNESS,
                    top=1,
                ),
                timeseries(
                    "HAMi-core and NVML",
                    "What HAMi-core counts for the processes, and what NVML says that they hold. "
                    "They differ by what the driver needs for itself.",
                    BYTES,
                    Query(f"sum({USED})", "HAMi-core"),
                    Query(f"sum(vgpu_nvml_memory_used_bytes{{{PODS}}})", "NVML"),
                ),
                timeseries(
                    "Memory of dead processes",
                    "Counts against the limit although its processes no longer exist.",
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
                timeseries(
                    "Cores and limits",
                    "Core utilization of each container on its busiest GPU, and its limit.",
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
                timeseries(
                    "Time since the last kernel",
                    "How long ago each container last launched a kernel. Containers whose "
                    "HAMi-core doesn't record launches have no line.",
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
                timeseries(
                    "Launches blocked",
                    "1 while the container's kernel launches wait for a higher priority.",
                    COUNT,
                    Query(per_container("max", f"vgpu_launches_blocked{{{PODS}}}"), LEGEND),
                    top=1,
                ),
                timeseries(
                    "Core limit enforced",
                    "1 while the core limit holds; 0 while it is lifted because the container is "
                    "alone on its GPU.",
                    COUNT,
                    Query(per_container("max", f"vgpu_core_limit_enforced{{{PODS}}}"), LEGEND),
                    top=1,
                ),
                timeseries(
                    "Clocks of the pods' GPUs held down",
                    "Why the clocks of the GPUs that the pods use are held down: 1 while a reason "
                    "applies.",
                    COUNT,
                    Query(
                        "max by (node, device_index, reason) ("
                        'vgpu_device_throttled{cluster=~"$cluster"}'
                        " and on (cluster, job, instance, device_uuid) "
                        f"{USED})",
                        "{{node}} GPU {{device_index}} {{reason}}",
                    ),
                    top=1,
                ),
                timeseries(
                    "Processes",
                    "Processes of the pods, by state.",
                    COUNT,
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
                    "Where each container runs, its limits, and its peak in the time range. Where "
                    "the peak is far below the limit, others could have the difference.",
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
                    Column("Priority", per_device("max", f"vgpu_priority{{{PODS}}}"), COUNT),
                    sort="Memory used",
                )
            ],
        ),
    ),
)
