# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""All cards: which is full, who fills it, who holds what they don't use. On recording rules."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    GPUS,
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
    series,
    stat,
    table,
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
MEMORY_GIVEN = of_nodes("vgpu_allocated_memory_bytes:sum")
MEMORY_USED = of_nodes("vgpu_memory_used_bytes:sum")
CARDS = of_nodes("vgpu_device_info:count")
CORES_GIVEN = of_nodes("vgpu_allocated_core_ratio:sum")
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
    "Which card is full, who fills it, and who holds what they don't use. Sums are of recording "
    "rules (alerts/recording.rules.yaml).",
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
                stat("Cards", "Cards that NVML sees on the chosen nodes.", GPUS, Query(CARDS)),
                gauge(
                    "Memory given away",
                    "What the scheduler allocated to pods, of the memory of all cards.",
                    Query(f"{MEMORY_GIVEN} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Memory in use",
                    "What NVML says is in use, of the memory of all cards.",
                    Query(f"{MEMORY_IN_USE} / {MEMORY_TOTAL}"),
                ),
                gauge(
                    "Cores given away",
                    "Core shares that the scheduler allocated to pods, of all cards.",
                    Query(f"{CORES_GIVEN} / {CARDS}"),
                ),
                gauge(
                    "Cores in use",
                    "Mean core utilization of the cards, as NVML has it.",
                    Query(f"avg(card:vgpu_device_core_utilization_ratio:avg{{{NODES}}})"),
                ),
                stat(
                    "Memory wasted",
                    "Promised to pods of the chosen namespaces and not used by them now.",
                    BYTES,
                    Query(f"sum({of_namespaces('vgpu_wasted_memory_bytes')})"),
                ),
                stat(
                    "GPUs wasted",
                    "Core shares that were allocated to pods of the chosen namespaces and are not "
                    "used now, in whole cards.",
                    GPUS,
                    Query(f"sum({of_namespaces('vgpu_wasted_core_ratio')})"),
                ),
                stat(
                    "Alerts firing",
                    "Alerts of this project that fire in the chosen clusters.",
                    GPUS,
                    Query(f"count({ALERTS}) or vector(0)"),
                    UNWANTED,
                ),
            ],
        ),
        (
            10,
            [
                bars(
                    "Fullest cards",
                    "Memory in use of each card's memory; the twenty fullest.",
                    Query(
                        f"sort_desc(topk(20, card:vgpu_device_memory_used_bytes:sum{{{NODES}}} "
                        f"/ card:vgpu_device_memory_total_bytes:sum{{{NODES}}}))",
                        "{{node}} card {{device_index}}",
                    ),
                ),
                table(
                    "Pods that use most",
                    "Memory that the twenty largest pods use now, and their cores in whole cards.",
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Memory used", f"topk(20, {of_pods('vgpu_memory_used_bytes')})", BYTES),
                    Column(
                        "GPUs used",
                        f"{of_pods('vgpu_core_utilization_ratio')} and on (node, namespace, pod) "
                        f"topk(20, {of_pods('vgpu_memory_used_bytes')})",
                        GPUS,
                    ),
                    sort="Memory used",
                ),
                table(
                    "Pods that waste most",
                    "Memory and cores that were allocated to a pod and are not used now; the "
                    "twenty pods that waste most memory.",
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Memory wasted", f"topk(20, {wasted_by_pods(*MEMORY)})", BYTES),
                    Column(
                        "GPUs wasted",
                        f"{wasted_by_pods(*CORES)} and on (node, namespace, pod) "
                        f"topk(20, {wasted_by_pods(*MEMORY)})",
                        GPUS,
                    ),
                    sort="Memory wasted",
                ),
            ],
        ),
        row("Over time"),
        (
            9,
            [
                series(
                    "Memory",
                    "Memory of all cards; what was allocated to pods; what is in use on the cards; "
                    "and what of it containers with HAMi-core use.",
                    BYTES,
                    Query(MEMORY_TOTAL, "cards", dashed=True),
                    Query(MEMORY_GIVEN, "allocated"),
                    Query(MEMORY_IN_USE, "in use"),
                    Query(MEMORY_USED, "used by containers"),
                ),
                series(
                    "Cores",
                    "In whole cards: all there are, what was allocated to pods, and what "
                    "containers with HAMi-core use.",
                    GPUS,
                    Query(CARDS, "cards", dashed=True),
                    Query(CORES_GIVEN, "allocated"),
                    Query(CORES_USED, "used by containers"),
                ),
            ],
        ),
        (
            9,
            [
                series(
                    "Memory wasted, by namespace",
                    "Promised to pods and not used by them; the ten namespaces that waste most "
                    "at each moment.",
                    BYTES,
                    Query(
                        f"topk(10, {of_namespaces('vgpu_wasted_memory_bytes')})", "{{namespace}}"
                    ),
                    stacked=True,
                ),
                series(
                    "GPUs wasted, by namespace",
                    "Core shares that were allocated to pods and are not used, in whole cards; "
                    "the ten namespaces that waste most at each moment.",
                    GPUS,
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
                    "What each namespace was allocated, uses and wastes now.",
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Memory allocated", of_namespaces(MEMORY[0]), BYTES),
                    Column("Memory used", of_namespaces(MEMORY[1]), BYTES),
                    Column("Memory wasted", of_namespaces("vgpu_wasted_memory_bytes"), BYTES),
                    Column("GPUs allocated", of_namespaces(CORES[0]), GPUS),
                    Column("GPUs used", of_namespaces(CORES[1]), GPUS),
                    Column("GPUs wasted", of_namespaces("vgpu_wasted_core_ratio"), GPUS),
                    sort="Memory wasted",
                ),
                table(
                    "Nodes by fullness",
                    "Share of the memory of each node's cards that is allocated and that is in "
                    "use; the fifty with most given away.",
                    Column("Node", label="node", link=TO_NODE),
                    Column(
                        "Promised",
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
                    sort="Promised",
                ),
            ],
        ),
        (
            9,
            [
                table(
                    "Alerts",
                    "Alerts of this project that fire now; empty when all is well.",
                    Column("Severity", label="severity"),
                    Column("Alert", label="alertname"),
                    Column("Node", label="node", link=TO_NODE),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Card", label="device_uuid"),
                    Column("Firing", ALERTS, GPUS),
                    sort="Severity",
                    ascending=True,
                )
            ],
        ),
    ),
    since="now-6h",
)
