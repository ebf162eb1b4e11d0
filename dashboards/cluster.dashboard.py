# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""All GPUs of a cluster: which are full, which pods fill them, which pods hold more than they use.

Every query reads recorded series, so the dashboard stays fast on thousands of nodes.
"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    RATIO,
    TO_NAMESPACE,
    TO_NODE,
    TO_POD,
    UNWANTED,
    Column,
    Query,
    bars,
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

NODES = 'cluster=~"$cluster", node=~"$node"'
NAMESPACES = 'cluster=~"$cluster", namespace=~"$namespace"'
PODS = f'{NODES}, namespace=~"$namespace"'
ALERTS = 'ALERTS{cluster=~"$cluster", alertname=~"Vgpu.+", alertstate="firing"}'


def of_nodes(family: str) -> str:
    return f"sum(node:{family}{{{NODES}}})"


def of_namespaces(family: str) -> str:
    return f"sum by (namespace) (namespace:{family}:sum{{{NAMESPACES}}})"


def of_pods(family: str) -> str:
    return f"sum by (node, namespace, pod) (pod:{family}:sum{{{PODS}}})"


MEMORY_TOTAL = of_nodes("vgpu_device_memory_total_bytes:sum")
MEMORY_IN_USE = of_nodes("vgpu_device_memory_used_bytes:sum")
MEMORY_ALLOCATED = of_nodes("vgpu_allocated_memory_bytes:sum")
MEMORY_USED = of_nodes("vgpu_memory_used_bytes:sum")
DEVICES = of_nodes("vgpu_device_info:count")
CORES_ALLOCATED = of_nodes("vgpu_allocated_core_ratio:sum")
CORES_USED = of_nodes("vgpu_core_utilization_ratio:sum")


def wasted_by_pods(allocated: str, used: str) -> str:
    return (
        "sum by (node, namespace, pod) "
        f"(clamp_min(pod:{allocated}:sum{{{PODS}}} - pod:{used}:sum{{{PODS}}}, 0))"
    )


MEMORY = ("vgpu_allocated_memory_bytes", "vgpu_memory_used_bytes")
CORES = ("vgpu_allocated_core_ratio", "vgpu_core_utilization_ratio")

dashboard = build(
    "vgpu-cluster",
    "GPU sharing / Cluster",
    "Which GPUs are full, which pods fill them, and which pods hold more than they use. Needs the "
    "recording rules (alerts/recording.rules.yaml).",
    [
        cluster_variable("instance:vgpumonitor_node:info"),
        variable(
            "node",
            'instance:vgpumonitor_node:info{cluster=~"$cluster"}, node',
            "Node",
            any_value=".*",
        ),
        variable(
            "namespace",
            'namespace:vgpu_allocated_memory_bytes:sum{cluster=~"$cluster"}, namespace',
            "Namespace",
            any_value=".*",
        ),
    ],
    grid(
        (
            5,
            [
                stat("GPUs", "GPUs that NVML sees on the chosen nodes.", COUNT, Query(DEVICES)),
                gauge(
                    "Memory allocated",
                    "Share of all GPU memory that the scheduler has allocated to pods.",
                    Query(f"{MEMORY_ALLOCATED} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Memory in use",
                    "Share of all GPU memory that is in use, according to NVML.",
                    Query(f"{MEMORY_IN_USE} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Cores allocated",
                    "Share of all GPU cores that the scheduler has allocated to pods.",
                    Query(f"{CORES_ALLOCATED} / {DEVICES}"),
                ),
                gauge(
                    "Cores in use",
                    "Mean core utilization of all GPUs, according to NVML.",
                    Query(f"avg(card:vgpu_device_core_utilization_ratio:avg{{{NODES}}})"),
                ),
                stat(
                    "Memory wasted",
                    "Memory that is allocated to pods of the chosen namespaces and not used right "
                    "now.",
                    BYTES,
                    Query(f"sum({of_namespaces('vgpu_wasted_memory_bytes')})"),
                ),
                stat(
                    "GPUs wasted",
                    "Cores that are allocated to pods of the chosen namespaces and not used right "
                    "now, in whole GPUs.",
                    COUNT,
                    Query(f"sum({of_namespaces('vgpu_wasted_core_ratio')})"),
                ),
                stat(
                    "Alerts firing",
                    "vgpumonitor's alerts that are firing in the chosen clusters.",
                    COUNT,
                    Query(f"count({ALERTS}) or vector(0)"),
                    UNWANTED,
                ),
            ],
        ),
        (
            10,
            [
                bars(
                    "Fullest GPUs",
                    "Share of its memory that is in use, for the twenty fullest GPUs.",
                    Query(
                        f"sort_desc(topk(20, card:vgpu_device_memory_used_bytes:sum{{{NODES}}} "
                        f"/ card:vgpu_device_memory_total_bytes:sum{{{NODES}}}))",
                        "{{node}} GPU {{device_index}}",
                    ),
                ),
                table(
                    "Pods that use the most",
                    "Memory and cores (in whole GPUs) that the twenty largest pods use now.",
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Memory used", f"topk(20, {of_pods('vgpu_memory_used_bytes')})", BYTES),
                    Column(
                        "GPUs used",
                        f"{of_pods('vgpu_core_utilization_ratio')} and on (node, namespace, pod) "
                        f"topk(20, {of_pods('vgpu_memory_used_bytes')})",
                        COUNT,
                    ),
                    sort="Memory used",
                ),
                table(
                    "Pods that waste the most",
                    "Memory and cores that are allocated to a pod and not used right now, for the "
                    "twenty pods that waste the most memory.",
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Memory wasted", f"topk(20, {wasted_by_pods(*MEMORY)})", BYTES),
                    Column(
                        "GPUs wasted",
                        f"{wasted_by_pods(*CORES)} and on (node, namespace, pod) "
                        f"topk(20, {wasted_by_pods(*MEMORY)})",
                        COUNT,
                    ),
                    sort="Memory wasted",
                ),
            ],
        ),
        row("Over time"),
        (
            9,
            [
                timeseries(
                    "Memory",
                    "Memory of all GPUs, what is allocated to pods, what is in use on the GPUs, "
                    "and how much of that belongs to containers with HAMi-core.",
                    BYTES,
                    Query(MEMORY_TOTAL, "GPUs", dashed=True),
                    Query(MEMORY_ALLOCATED, "allocated"),
                    Query(MEMORY_IN_USE, "in use"),
                    Query(MEMORY_USED, "used by containers"),
                ),
                timeseries(
                    "Cores",
                    "In whole GPUs: how many there are, how much is allocated to pods, and how "
                    "much containers with HAMi-core use.",
                    COUNT,
                    Query(DEVICES, "GPUs", dashed=True),
                    Query(CORES_ALLOCATED, "allocated"),
                    Query(CORES_USED, "used by containers"),
                ),
            ],
        ),
        (
            9,
            [
                timeseries(
                    "Memory wasted, by namespace",
                    "Memory that is allocated to pods and not used, for the ten namespaces that "
                    "waste the most at each moment.",
                    BYTES,
                    Query(
                        f"topk(10, {of_namespaces('vgpu_wasted_memory_bytes')})", "{{namespace}}"
                    ),
                    stacked=True,
                ),
                timeseries(
                    "GPUs wasted, by namespace",
                    "Cores that are allocated to pods and not used, in whole GPUs, for the ten "
                    "namespaces that waste the most at each moment.",
                    COUNT,
                    Query(f"topk(10, {of_namespaces('vgpu_wasted_core_ratio')})", "{{namespace}}"),
                    stacked=True,
                ),
            ],
        ),
        row("Namespaces, nodes, alerts"),
        (
            10,
            [
                table(
                    "Namespaces",
                    "What each namespace has been allocated, uses and wastes now.",
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Memory allocated", of_namespaces(MEMORY[0]), BYTES),
                    Column("Memory used", of_namespaces(MEMORY[1]), BYTES),
                    Column("Memory wasted", of_namespaces("vgpu_wasted_memory_bytes"), BYTES),
                    Column("GPUs allocated", of_namespaces(CORES[0]), COUNT),
                    Column("GPUs used", of_namespaces(CORES[1]), COUNT),
                    Column("GPUs wasted", of_namespaces("vgpu_wasted_core_ratio"), COUNT),
                    sort="Memory wasted",
                ),
                table(
                    "Nodes by fullness",
                    "Share of each node's GPU memory that is allocated and that is in use, for the "
                    "fifty nodes with the largest share allocated.",
                    Column("Node", label="node", link=TO_NODE),
                    Column(
                        "Allocated",
                        f"topk(50, sum by (node) (node:vgpu_allocated_memory_bytes:sum{{{NODES}}}) "
                        f"/ sum by (node) (node:vgpu_device_memory_total_bytes:sum{{{NODES}}}))",
                        RATIO,
                    ),
                    Column(
                        "In use",
                        f"sum by (node) (node:vgpu_device_memory_used_bytes:sum{{{NODES}}}) "
                        f"/ sum by (node) (node:vgpu_device_memory_total_bytes:sum{{{NODES}}})",
                        RATIO,
                    ),
                    Column(
                        "Core utilization",
                        f"avg by (node) (node:vgpu_device_core_utilization_ratio:avg{{{NODES}}})",
                        RATIO,
                    ),
                    sort="Allocated",
                ),
            ],
        ),
        (
            9,
            [
                table(
                    "Alerts",
                    "vgpumonitor's alerts that are firing now; empty when all is well.",
                    Column("Severity", label="severity"),
                    Column("Alert", label="alertname"),
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("GPU", label="device_uuid"),
                    Column("Firing", ALERTS, COUNT),
                    sort="Severity",
                    ascending=True,
                )
            ],
        ),
    ),
    since="now-6h",
)
