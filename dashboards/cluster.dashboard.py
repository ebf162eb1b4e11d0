# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""All GPUs of a cluster: which are full, which pods fill them, which pods hold more than they use.

Every query reads recorded series, so the dashboard stays fast on thousands of nodes.
"""

from __future__ import annotations

from grafanalib.core import Table

from dashboards.panels import (
    ALLOCATED,
    BYTES,
    COUNT,
    FULLNESS,
    NUMBER,
    PLAIN,
    RATIO,
    TO_NAMESPACE,
    TO_NODE,
    TO_POD,
    TOTAL,
    USED,
    Column,
    Query,
    alert_marks,
    alerts,
    alerts_by_severity,
    bars,
    cluster_variable,
    gauge,
    grid,
    namespace_variable,
    node_variable,
    ranked,
    row,
    stat,
    table,
    timeseries,
    unknown,
    xid_marks,
)
from dashboards.panels import dashboard as build

CLUSTERS = 'cluster=~"$cluster"'
NODES = f'{CLUSTERS}, node=~"$node"'
NAMESPACES = f'{CLUSTERS}, namespace=~"$namespace"'
PODS = f'{NODES}, namespace=~"$namespace"'
#: The ten namespaces with the most idle memory, and the most idle cores.
IDLE_MEMORY = f'{CLUSTERS}, namespace=~"$idle_memory"'
IDLE_CORES = f'{CLUSTERS}, namespace=~"$idle_cores"'
NODE = "cluster, node"
NAMESPACE = "cluster, namespace"
POD = "cluster, node, namespace, pod"

MEMORY = ("vgpu_allocated_memory_bytes", "vgpu_memory_used_bytes", "vgpu_idle_memory_bytes")
CORES = ("vgpu_allocated_core_ratio", "vgpu_core_utilization_ratio", "vgpu_idle_core_ratio")


def nodes(family: str) -> str:
    return f"sum(node:{family}{{{NODES}}})"


def by_node(family: str) -> str:
    return f"sum by ({NODE}) (node:{family}{{{NODES}}})"


def by_namespace(family: str, where: str = NAMESPACES) -> str:
    return f"sum by ({NAMESPACE}) (namespace:{family}:sum{{{where}}})"


def most_idle(family: str) -> str:
    """The ten namespaces with the most idle in the time range."""
    idle = f"avg_over_time(namespace:{family}:sum{{{NAMESPACES}}}[$__range])"
    return f"topk(10, sum by (namespace) ({idle}))"


def by_pod(family: str) -> str:
    return f"sum by ({POD}) (pod:{family}:sum{{{PODS}}})"


def of_the_first(family: str, ranked_by: str) -> str:
    return f"{by_pod(family)} and on ({POD}) topk(20, {by_pod(ranked_by)})"


def pods(title: str, description: str, ranked_by: str, *columns: tuple[str, str, str]) -> Table:
    return table(
        title,
        description,
        Column("Cluster", label="cluster", width=80),
        Column("Node", label="node", link=TO_NODE, width=110),
        Column("Namespace", label="namespace", link=TO_NAMESPACE, width=120),
        Column("Pod", label="pod", link=TO_POD),
        *(
            Column(name, of_the_first(family, ranked_by), unit, bar=unit == BYTES and not n)
            for n, (name, family, unit) in enumerate(columns)
        ),
        sort=columns[0][0],
    )


def by_model(series: str) -> str:
    """``series`` of GPUs, with their model."""
    return (
        f"{series} * on (cluster, node, device_uuid) group_left (name) "
        f"card:vgpu_device_info:group{{{NODES}}}"
    )


CARDS = f"card:vgpu_device_memory_total_bytes:max{{{NODES}}}"
DEVICES = nodes("vgpu_device_info:count")
MEMORY_TOTAL = nodes("vgpu_device_memory_total_bytes:sum")
MEMORY_IN_USE = nodes("vgpu_device_memory_used_bytes:sum")

dashboard = build(
    "vgpu-cluster",
    "GPU sharing / Cluster",
    "Which GPUs are full, which pods fill them, and which pods hold more than they use. Needs the "
    "recording rules (alerts/recording.rules.yaml).",
    [
        cluster_variable(),
        node_variable(),
        namespace_variable(),
        ranked("idle_memory", most_idle(MEMORY[2]), "namespace"),
        ranked("idle_cores", most_idle(CORES[2]), "namespace"),
    ],
    grid(
        (
            5,
            [
                stat(
                    "GPUs, pods",
                    "GPUs that NVML sees on the chosen nodes, and pods whose use of memory or "
                    "cores is not known: they count as allocated, and neither as used nor as idle.",
                    COUNT,
                    Query(DEVICES, "GPUs"),
                    unknown(PODS),
                ),
                gauge(
                    "Memory allocated",
                    "Share of all GPU memory that the scheduler has allocated to pods.",
                    Query(f"{nodes(f'{MEMORY[0]}:sum')} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Memory used",
                    "Share of all GPU memory that is in use, according to NVML.",
                    Query(f"{MEMORY_IN_USE} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Cores allocated",
                    "Share of all GPU cores that the scheduler has allocated to pods.",
                    Query(f"{nodes(f'{CORES[0]}:sum')} / {DEVICES}"),
                ),
                gauge(
                    "Cores used",
                    "Mean core utilization of all GPUs, according to NVML.",
                    Query(f"avg(card:vgpu_device_core_utilization_ratio:max{{{NODES}}})"),
                    PLAIN,
                ),
                stat(
                    "Memory idle",
                    "Memory that is allocated to pods of the chosen nodes and that they did not "
                    "use in the mean of 15 minutes. Pods whose use is not known do not count.",
                    BYTES,
                    Query(nodes(f"{MEMORY[2]}:sum")),
                ),
                stat(
                    "GPUs idle",
                    "Cores that are allocated to pods of the chosen nodes and that they did not "
                    "use in the mean of 15 minutes, in whole GPUs. Pods whose use is not known do "
                    "not count.",
                    NUMBER,
                    Query(nodes(f"{CORES[2]}:sum")),
                ),
                alerts_by_severity(CLUSTERS),
            ],
        ),
        (
            11,
            [
                pods(
                    "Pods that use the most",
                    "Memory and cores (in whole GPUs) that the twenty largest pods use now.",
                    MEMORY[1],
                    ("Memory used", MEMORY[1], BYTES),
                    ("GPUs used", CORES[1], NUMBER),
                ),
                pods(
                    "Pods that leave the most idle",
                    "Memory and cores that are allocated to a pod and that it did not use in the "
                    "mean of 15 minutes, for the twenty pods with the most idle memory.",
                    MEMORY[2],
                    ("Memory idle", MEMORY[2], BYTES),
                    ("GPUs idle", CORES[2], NUMBER),
                ),
            ],
        ),
        (8, [alerts(CLUSTERS, "vgpumonitor's alerts that are firing now in the chosen clusters.")]),
        row("Over time"),
        (
            9,
            [
                timeseries(
                    "Memory",
                    "Memory of all GPUs, what is allocated to pods, what is in use on the GPUs, "
                    "and how much of that containers use.",
                    BYTES,
                    Query(MEMORY_TOTAL, "GPUs", dashed=True, color=TOTAL),
                    Query(nodes(f"{MEMORY[0]}:sum"), "allocated", color=ALLOCATED),
                    Query(MEMORY_IN_USE, "in use", color="purple"),
                    Query(nodes(f"{MEMORY[1]}:sum"), "used by containers", color=USED),
                    many=False,
                ),
                timeseries(
                    "Cores",
                    "In whole GPUs: how many there are, how much is allocated to pods, and how "
                    "much containers use.",
                    NUMBER,
                    Query(DEVICES, "GPUs", dashed=True, color=TOTAL),
                    Query(nodes(f"{CORES[0]}:sum"), "allocated", color=ALLOCATED),
                    Query(nodes(f"{CORES[1]}:sum"), "used by containers", color=USED),
                    many=False,
                ),
            ],
        ),
        (
            9,
            [
                timeseries(
                    "Memory idle, by namespace",
                    "Memory that is allocated to pods and not used in the mean of 15 minutes, for "
                    "the ten namespaces with the most of it in the time range.",
                    BYTES,
                    Query(by_namespace(MEMORY[2], IDLE_MEMORY), "{{namespace}} {{cluster}}"),
                    stacked=True,
                ),
                timeseries(
                    "GPUs idle, by namespace",
                    "Cores that are allocated to pods and not used in the mean of 15 minutes, in "
                    "whole GPUs, for the ten namespaces with the most of it in the time range.",
                    NUMBER,
                    Query(by_namespace(CORES[2], IDLE_CORES), "{{namespace}} {{cluster}}"),
                    stacked=True,
                ),
            ],
        ),
        row("Namespaces, nodes, models"),
        (
            8,
            [
                table(
                    "Namespaces",
                    "What each namespace was allocated, uses, and leaves idle.",
                    Column("Cluster", label="cluster", width=100),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Memory allocated", by_namespace(MEMORY[0]), BYTES, width=140),
                    Column("Memory used", by_namespace(MEMORY[1]), BYTES, width=120),
                    Column("Memory idle", by_namespace(MEMORY[2]), BYTES, bar=True),
                    Column("GPUs allocated", by_namespace(CORES[0]), NUMBER, width=125),
                    Column("GPUs used", by_namespace(CORES[1]), NUMBER),
                    Column("GPUs idle", by_namespace(CORES[2]), NUMBER, bar=True),
                    sort="Memory idle",
                )
            ],
        ),
        (
            10,
            [
                table(
                    "Nodes",
                    "Share of each node's GPU memory that is allocated and that is used, and its "
                    "core utilization, for the fifty nodes with the largest share allocated.",
                    Column("Cluster", label="cluster", width=80),
                    Column("Node", label="node", link=TO_NODE),
                    Column("GPUs", by_node("vgpu_device_info:count"), COUNT, width=60),
                    Column(
                        "Allocated",
                        f"topk(50, {by_node(f'{MEMORY[0]}:sum')} "
                        f"/ {by_node('vgpu_device_memory_total_bytes:sum')})",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column(
                        "Used",
                        f"{by_node('vgpu_device_memory_used_bytes:sum')} "
                        f"/ {by_node('vgpu_device_memory_total_bytes:sum')}",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column("Cores", by_node("vgpu_device_core_utilization_ratio:avg"), RATIO),
                    sort="Allocated",
                ),
                table(
                    "GPU models",
                    "GPUs of each model: how many, their memory and how much of it is used, and "
                    "their mean core utilization.",
                    Column("Model", label="name"),
                    Column("GPUs", f"count by (name) ({by_model(CARDS)})", COUNT, width=60),
                    Column("Memory", f"sum by (name) ({by_model(CARDS)})", BYTES),
                    Column(
                        "Used",
                        "sum by (name) ("
                        + by_model(f"card:vgpu_device_memory_used_bytes:max{{{NODES}}}")
                        + f") / sum by (name) ({by_model(CARDS)})",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column(
                        "Cores",
                        "avg by (name) ("
                        + by_model(f"card:vgpu_device_core_utilization_ratio:max{{{NODES}}}")
                        + ")",
                        RATIO,
                        bar=True,
                    ),
                    sort="GPUs",
                ),
            ],
        ),
        (
            9,
            [
                bars(
                    "Fullest GPUs",
                    "Share of its memory that is in use, for the twelve fullest GPUs.",
                    Query(
                        f"sort_desc(topk(12, card:vgpu_device_memory_used_bytes:max{{{NODES}}} "
                        f"/ {CARDS}))",
                        "{{node}} GPU {{device_index}}",
                    ),
                ),
            ],
        ),
    ),
    since="now-6h",
    marks=[alert_marks(CLUSTERS), xid_marks(CLUSTERS)],
)
