# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""What is free: how much, in pieces of which size, and how many pods of a given size still fit.

Free is what no pod was allocated. GPUs in MIG mode are left out: their free memory can be had in
the sizes of MIG profiles only.
"""

from __future__ import annotations

from dashboards.panels import (
    ALLOCATED,
    BYTES,
    COUNT,
    NUMBER,
    RATIO,
    ROOM,
    TO_NODE,
    TOTAL,
    USED,
    Column,
    Query,
    bars,
    choice,
    cluster_variable,
    gauge,
    grid,
    model_variable,
    node_variable,
    row,
    stat,
    table,
    timeseries,
)
from dashboards.panels import dashboard as build

CLUSTERS = 'cluster=~"$cluster"'
NODES = f'{CLUSTERS}, node=~"$node"'
NODE = "cluster, node"
CARD = "cluster, node, device_index"

#: The GPUs of the chosen models, with ``name``.
MODEL = f'card:vgpu_device_info:group{{{NODES}, name=~"$model"}}'


def chosen(family: str) -> str:
    return f"card:{family}{{{NODES}}} * on (cluster, node, device_uuid) group_left (name) {MODEL}"


#: Of the GPUs of which it is known what is free: not of those in MIG mode.
TOTAL_MEMORY = (
    f"({chosen('vgpu_device_memory_total_bytes:max')} "
    f"and on (cluster, node, device_uuid) card:vgpu_free_memory_bytes:sum{{{NODES}}})"
)
FREE_MEMORY = chosen("vgpu_free_memory_bytes:sum")
FREE_CORES = chosen("vgpu_free_core_ratio:sum")
FREE = chosen("vgpu_free_ratio:min")
#: How many pods of the chosen size the scarcer of the two leaves room for.
BY_MEMORY = f"floor(({FREE_MEMORY}) / ($memory * 2^30))"
BY_CORES = f"floor(100 * ({FREE_CORES}) / $cores + 1e-6)"
PODS = f"(({BY_MEMORY}) <= ({BY_CORES}) or ({BY_CORES}))"


def between(low: str, high: str) -> str:
    return f"count((({FREE}) > {low}) <= {high}) or vector(0)"


def of_node(operation: str, series: str) -> str:
    return f"{operation} by ({NODE}) ({series})"


def of_model(operation: str, series: str) -> str:
    return f"{operation} by (name) ({series})"


def of_card(series: str) -> str:
    return f"max by ({CARD}) ({series})"


def in_cluster(family: str) -> str:
    return f"sum(cluster:{family}:sum{{{CLUSTERS}}})"


dashboard = build(
    "vgpu-capacity",
    "GPU sharing / Capacity",
    "What is free on the GPUs, the largest share that still fits on one of them, and how many pods "
    "of a given size still fit. GPUs in MIG mode are left out. Needs the recording rules.",
    [
        cluster_variable(),
        node_variable(),
        model_variable(),
        choice(
            "memory",
            "Pod's memory, GiB",
            *("1", "2", "4", "6", "8", "10", "12", "16", "20", "24", "32", "40", "48", "64", "80"),
            default="8",
        ),
        choice(
            "cores",
            "Pod's cores, %",
            *("1", "5", "10", "15", "20", "25", "30", "40", "50", "60", "75", "100"),
            default="10",
        ),
    ],
    grid(
        (
            5,
            [
                stat(
                    "Pods that still fit",
                    "How many more pods of the chosen size fit on the chosen GPUs, by memory and "
                    "cores. The scheduler may have other bounds, such as pods per GPU.",
                    COUNT,
                    Query(f"sum({PODS})"),
                    thresholds=((0.0, "red"), (1.0, "green")),
                ),
                stat(
                    "Nodes with room",
                    "Nodes on which one more pod of the chosen size fits.",
                    COUNT,
                    Query(f"count({of_node('max', PODS)} > 0) or vector(0)"),
                    thresholds=((0.0, "red"), (1.0, "green")),
                ),
                gauge(
                    "Memory free",
                    "Share of the memory of the chosen GPUs that no pod was allocated.",
                    Query(f"sum({FREE_MEMORY}) / sum({TOTAL_MEMORY})"),
                    ROOM,
                ),
                gauge(
                    "Cores free",
                    "Share of the cores of the chosen GPUs that no pod was allocated.",
                    Query(f"avg({FREE_CORES})"),
                    ROOM,
                ),
                gauge(
                    "Largest share on one GPU",
                    "The largest share of a GPU, of memory and of cores alike, that a pod can "
                    "still have on one.",
                    Query(f"max({FREE})"),
                    ROOM,
                ),
                stat(
                    "Most memory free",
                    "The most memory that a pod can still be allocated on one GPU, whatever its "
                    "cores.",
                    BYTES,
                    Query(f"max({FREE_MEMORY})"),
                ),
                bars(
                    "GPUs by free share",
                    "How the free room is divided: many GPUs with a little are room for small pods "
                    "only. The share is the smaller of memory and cores.",
                    Query(between("0.75", "1"), "75–100 %"),
                    Query(between("0.5", "0.75"), "50–75 %"),
                    Query(between("0.25", "0.5"), "25–50 %"),
                    Query(between("0", "0.25"), "0–25 %"),
                    Query(f"count(({FREE}) == 0) or vector(0)", "none"),
                    unit=COUNT,
                    most=None,
                    thresholds=((0.0, "blue"),),
                ),
            ],
        ),
        (
            11,
            [
                table(
                    "Nodes",
                    "What is free on each node's GPUs, the largest piece on one of them, and how "
                    "many more pods of the chosen size fit; the fifty nodes with the most room.",
                    Column("Cluster", label="cluster", width=80),
                    Column("Node", label="node", link=TO_NODE),
                    Column("GPUs", of_node("count", FREE), COUNT, width=60),
                    Column("Memory free", of_node("sum", FREE_MEMORY), BYTES, width=110),
                    Column("Cores free", of_node("sum", FREE_CORES), NUMBER, width=100),
                    Column("On one GPU", of_node("max", FREE_MEMORY), BYTES, width=110),
                    Column(
                        "Largest share",
                        f"topk(50, {of_node('max', FREE)})",
                        RATIO,
                        bar=True,
                        thresholds=ROOM,
                    ),
                    Column("Pods that fit", of_node("sum", PODS), COUNT, width=110),
                    sort="Largest share",
                ),
            ],
        ),
        (
            11,
            [
                table(
                    "GPUs",
                    "What is free on each GPU; the hundred with the most room.",
                    Column("Cluster", label="cluster", width=80),
                    Column("Node", label="node", link=TO_NODE),
                    Column("GPU", label="device_index", width=60),
                    Column("Memory free", of_card(FREE_MEMORY), BYTES, width=110),
                    Column("Of", of_card(TOTAL_MEMORY), BYTES),
                    Column("Cores free", of_card(FREE_CORES), RATIO, width=100),
                    Column(
                        "Share free",
                        f"topk(100, {of_card(FREE)})",
                        RATIO,
                        bar=True,
                        thresholds=ROOM,
                    ),
                    Column("Pods that fit", of_card(PODS), COUNT, width=110),
                    sort="Share free",
                ),
            ],
        ),
        (
            8,
            [
                table(
                    "GPU models",
                    "What is free of each model.",
                    Column("Model", label="name"),
                    Column("GPUs", of_model("count", FREE), COUNT, width=55),
                    Column("Memory free", of_model("sum", FREE_MEMORY), BYTES, width=100),
                    Column("Of", of_model("sum", TOTAL_MEMORY), BYTES, width=75),
                    Column("Cores free", of_model("sum", FREE_CORES), NUMBER, width=90),
                    Column(
                        "Largest share",
                        of_model("max", FREE),
                        RATIO,
                        bar=True,
                        width=120,
                        thresholds=ROOM,
                    ),
                    Column("Pods that fit", of_model("sum", PODS), COUNT, width=105),
                    sort="Pods that fit",
                ),
                timeseries(
                    "Largest share on one GPU",
                    "The largest share of a GPU that a pod could still have on one of the chosen "
                    "nodes, and the mean of the nodes' largest.",
                    RATIO,
                    Query(f"max({FREE})", "largest"),
                    Query(f"avg({of_node('max', FREE)})", "mean of the nodes"),
                    top=1,
                    many=False,
                ),
            ],
        ),
        row("Whole clusters over time"),
        (
            9,
            [
                timeseries(
                    "Memory",
                    "Of all GPUs of the chosen clusters: what there is, what is allocated, and "
                    "what pods use.",
                    BYTES,
                    Query(
                        in_cluster("vgpu_device_memory_total_bytes"),
                        "GPUs",
                        dashed=True,
                        color=TOTAL,
                    ),
                    Query(in_cluster("vgpu_allocated_memory_bytes"), "allocated", color=ALLOCATED),
                    Query(in_cluster("vgpu_memory_used_bytes"), "used", color=USED),
                    many=False,
                ),
                timeseries(
                    "Cores",
                    "Of all GPUs of the chosen clusters, in whole GPUs: what there is, what is "
                    "allocated, and what pods use.",
                    NUMBER,
                    Query(
                        f"sum(cluster:vgpu_device_info:count{{{CLUSTERS}}})",
                        "GPUs",
                        dashed=True,
                        color=TOTAL,
                    ),
                    Query(in_cluster("vgpu_allocated_core_ratio"), "allocated", color=ALLOCATED),
                    Query(in_cluster("vgpu_core_utilization_ratio"), "used", color=USED),
                    many=False,
                ),
            ],
        ),
    ),
    since="now-24h",
)
