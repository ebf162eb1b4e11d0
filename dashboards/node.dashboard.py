# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One node: its cards, their containers, and the exporter's own health."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    FULLNESS,
    GPUS,
    RATIO,
    SECONDS,
    TO_POD,
    WANTED,
    Column,
    Query,
    cluster_variable,
    grid,
    row,
    series,
    stat,
    table,
    variable,
)
from dashboards.panels import dashboard as build

NODE = 'cluster=~"$cluster", node="$node"'
CARD = f'{NODE}, device_index="$card"'
EXPORTER = 'cluster=~"$cluster", instance=~"$instance"'
CONTAINER = "namespace, pod, container"
LEGEND = "{{namespace}}/{{pod}} {{container}}"


def on_card(family: str) -> str:
    """Per container, what it uses of the card, or of the MIG devices on it."""
    return (
        f"sum by ({CONTAINER}) ({family} "
        "* on (cluster, job, instance, device_uuid) group_left (device_index) "
        f"device:vgpu_card:info{{{CARD}}})"
    )


dashboard = build(
    "vgpu-node",
    "GPU sharing / Node",
    "Each card of a node with its containers, and what no container accounts for.",
    [
        cluster_variable("instance:vgpumonitor_node:info"),
        variable(
            "node",
            'instance:vgpumonitor_node:info{cluster=~"$cluster"}, node',
            "Node",
            every=False,
        ),
        variable("card", f"device:vgpu_card:info{{{NODE}}}, device_index", "Card"),
        # The exporter's own series don't name the node.
        variable(
            "instance",
            f"instance:vgpumonitor_node:info{{{NODE}}}, instance",
            "Instance",
            hidden=True,
        ),
    ],
    grid(
        (
            4,
            [
                stat(
                    "Exporter",
                    "Whether Prometheus can scrape the node's exporter (1) or not (0).",
                    GPUS,
                    Query(f"min(up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "NVML",
                    "Whether NVML answers the exporter (1) or not (0).",
                    GPUS,
                    Query(f"min(vgpumonitor_nvml_up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "Pod source",
                    "Whether the exporter can read pods (1) or serves what it last knew (0).",
                    GPUS,
                    Query(f"min(vgpumonitor_pod_source_up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "Memory in use",
                    "Memory in use on all cards of the node, of what they have.",
                    RATIO,
                    Query(
                        f"sum(node:vgpu_device_memory_used_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                    FULLNESS,
                ),
                stat(
                    "Memory allocated",
                    "Memory that the scheduler allocated to pods, of what the cards have.",
                    RATIO,
                    Query(
                        f"sum(node:vgpu_allocated_memory_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                    FULLNESS,
                ),
                stat(
                    "Core utilization",
                    "Mean core utilization of the node's cards.",
                    RATIO,
                    Query(f"avg(node:vgpu_device_core_utilization_ratio:avg{{{NODE}}})"),
                ),
            ],
        ),
        row("Memory of each card"),
        (
            9,
            [
                series(
                    "Card $card: memory",
                    "What each container uses, stacked, and what processes in no region use, "
                    "against the card's memory. The rest of what NVML has in use is the driver's.",
                    BYTES,
                    Query(on_card("container:vgpu_memory_used_bytes:sum"), LEGEND),
                    Query(
                        f"sum(card:vgpu_device_memory_unattributed_bytes:sum{{{CARD}}})",
                        "in no region",
                    ),
                    Query(
                        f"sum(card:vgpu_device_memory_total_bytes:sum{{{CARD}}})",
                        "card's memory",
                        dashed=True,
                    ),
                    stacked=True,
                    repeat="card",
                ),
            ],
        ),
        row("Cores of each card"),
        (
            9,
            [
                series(
                    "Card $card: cores",
                    "Core utilization of each container, and its limit. A container that is "
                    "alone on its card may pass the limit.",
                    RATIO,
                    Query(on_card("container:vgpu_core_utilization_ratio:sum"), LEGEND),
                    Query(
                        on_card(f"vgpu_core_limit_ratio{{{EXPORTER}}}"),
                        "limit of " + LEGEND,
                        dashed=True,
                    ),
                    top=1,
                    repeat="card",
                ),
            ],
        ),
        row("Containers"),
        (
            9,
            [
                table(
                    "Containers",
                    "What each container on the node uses now, and its limits.",
                    Column("Namespace", label="namespace"),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Container", label="container"),
                    Column("Device", label="device_uuid"),
                    Column(
                        "Memory used",
                        f"sum by ({CONTAINER}, device_uuid) "
                        f"(container:vgpu_memory_used_bytes:sum{{{NODE}}})",
                        BYTES,
                    ),
                    Column(
                        "Memory limit",
                        f"sum by ({CONTAINER}, device_uuid) "
                        f"(vgpu_memory_limit_bytes{{{EXPORTER}}})",
                        BYTES,
                    ),
                    Column(
                        "Cores used",
                        f"sum by ({CONTAINER}, device_uuid) "
                        f"(container:vgpu_core_utilization_ratio:sum{{{NODE}}})",
                        RATIO,
                    ),
                    Column(
                        "Core limit",
                        f"sum by ({CONTAINER}, device_uuid) (vgpu_core_limit_ratio{{{EXPORTER}}})",
                        RATIO,
                    ),
                    sort="Memory used",
                )
            ],
        ),
        row("Cards"),
        (
            8,
            [
                series(
                    "Memory in use",
                    "Memory in use on each card as NVML has it, of the card's memory.",
                    RATIO,
                    Query(
                        f"card:vgpu_device_memory_used_bytes:sum{{{NODE}}} "
                        f"/ card:vgpu_device_memory_total_bytes:sum{{{NODE}}}",
                        "card {{device_index}}",
                    ),
                    thresholds=FULLNESS,
                    top=1,
                ),
                series(
                    "Core utilization",
                    "Core utilization of each card as NVML has it.",
                    RATIO,
                    Query(
                        f"card:vgpu_device_core_utilization_ratio:avg{{{NODE}}}",
                        "card {{device_index}}",
                    ),
                    top=1,
                ),
                series(
                    "Temperature",
                    "Temperature of each card.",
                    "celsius",
                    Query(
                        f"vgpu_device_temperature_celsius{{{NODE}}}",
                        "card {{device_index}}",
                    ),
                ),
                series(
                    "Power",
                    "Power draw of each card.",
                    "watt",
                    Query(f"vgpu_device_power_watts{{{NODE}}}", "card {{device_index}}"),
                ),
            ],
        ),
        (
            8,
            [
                series(
                    "Memory in no region",
                    "Memory of processes that no region accounts for, with the pod where the "
                    "process names one.",
                    BYTES,
                    Query(
                        f"vgpu_device_memory_unattributed_bytes{{{NODE}}}",
                        "card {{device_index}} {{namespace}}/{{pod}}",
                    ),
                ),
                series(
                    "Memory of dead processes",
                    "Memory that regions account for processes which no longer exist.",
                    BYTES,
                    Query(
                        f"sum by ({CONTAINER}) (vgpu_dead_process_memory_bytes{{{EXPORTER}}})",
                        LEGEND,
                    ),
                ),
                series(
                    "Clocks held down",
                    "Why a card's clocks are held down: 1 while the reason holds.",
                    GPUS,
                    Query(
                        f"vgpu_device_throttled{{{NODE}}}",
                        "card {{device_index}} {{reason}}",
                    ),
                    top=1,
                ),
                series(
                    "ECC errors",
                    "Memory errors that ECC found in the hour before.",
                    GPUS,
                    Query(
                        f"increase(vgpu_device_ecc_errors_total{{{NODE}}}[1h])",
                        "card {{device_index}} {{kind}}",
                    ),
                ),
            ],
        ),
        (
            5,
            [
                table(
                    "Hardware",
                    "The node's cards and their driver.",
                    Column("Card", label="device_index"),
                    Column("Name", label="name"),
                    Column("UUID", label="device_uuid"),
                    Column("Minor", label="minor"),
                    Column("Driver", label="driver_version"),
                    Column("CUDA", label="cuda_version"),
                    Column("Seen", f"vgpu_device_info{{{NODE}}}", GPUS),
                    sort="Card",
                    ascending=True,
                )
            ],
        ),
        row("Exporter"),
        (
            8,
            [
                series(
                    "Region files",
                    "Directories of containers, by the state of their region file: waiting has "
                    "made no CUDA call yet.",
                    GPUS,
                    Query(f"sum by (state) (vgpumonitor_regions{{{EXPORTER}}})", "{{state}}"),
                ),
                series(
                    "Errors",
                    "Per second: values and files that could not be used by reason, NVML calls "
                    "that failed, and process slots that stayed half-written.",
                    "ops",
                    Query(
                        "sum by (reason) (rate(vgpumonitor_region_errors_total"
                        f"{{{EXPORTER}}}[$__rate_interval]))",
                        "{{reason}}",
                    ),
                    Query(
                        "sum by (call) (rate(vgpumonitor_nvml_errors_total"
                        f"{{{EXPORTER}}}[$__rate_interval]))",
                        "{{call}}",
                    ),
                    Query(
                        f"sum(rate(vgpumonitor_torn_reads_total{{{EXPORTER}}}[$__rate_interval]))",
                        "half-written",
                    ),
                ),
                series(
                    "Time to collect",
                    "What each part of a collection takes.",
                    SECONDS,
                    Query(
                        f"sum by (part) (vgpumonitor_collect_duration_seconds{{{EXPORTER}}})",
                        "{{part}}",
                    ),
                ),
                series(
                    "Exporter's memory",
                    "Resident memory of the exporter.",
                    BYTES,
                    Query(f"process_resident_memory_bytes{{{EXPORTER}}}", "{{instance}}"),
                ),
            ],
        ),
    ),
)
