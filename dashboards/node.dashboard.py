# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One node: its GPUs, their containers, and the exporter's own health."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    FULLNESS,
    RATIO,
    SECONDS,
    TO_POD,
    WANTED,
    Column,
    Query,
    cluster_variable,
    grid,
    row,
    stat,
    table,
    timeseries,
    variable,
)
from dashboards.panels import dashboard as build

NODE = 'cluster=~"$cluster", node="$node"'
DEVICE = f'{NODE}, device_index="$device"'
EXPORTER = 'cluster=~"$cluster", instance=~"$instance"'
CONTAINER = "namespace, pod, container"
LEGEND = "{{namespace}}/{{pod}} {{container}}"


def on_device(family: str) -> str:
    """Per container, what it uses of the GPU, or of the MIG devices on it."""
    return (
        f"sum by ({CONTAINER}) ({family} "
        "* on (cluster, job, instance, device_uuid) group_left (device_index) "
        f"device:vgpu_card:info{{{DEVICE}}})"
    )


dashboard = build(
    "vgpu-node",
    "GPU sharing / Node",
    "Each GPU of a node with its containers, and the memory that no container accounts for.",
    [
        cluster_variable("instance:vgpumonitor_node:info"),
        variable(
            "node",
            'instance:vgpumonitor_node:info{cluster=~"$cluster"}, node',
            "Node",
            every=False,
        ),
        variable("device", f"device:vgpu_card:info{{{NODE}}}, device_index", "GPU"),
        # The exporter's own families don't name the node.
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
                    "Whether Prometheus can scrape the node's exporter (1) or can't (0).",
                    COUNT,
                    Query(f"min(up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "NVML",
                    "Whether NVML answers the exporter (1) or doesn't (0).",
                    COUNT,
                    Query(f"min(vgpumonitor_nvml_up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "Pod source",
                    "Whether the exporter can read the pods (1) or serves what it last knew (0).",
                    COUNT,
                    Query(f"min(vgpumonitor_pod_source_up{{{EXPORTER}}})"),
                    WANTED,
                ),
                stat(
                    "Memory in use",
                    "Share of the memory of the node's GPUs that is in use.",
                    RATIO,
                    Query(
                        f"sum(node:vgpu_device_memory_used_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                    FULLNESS,
                ),
                stat(
                    "Memory allocated",
                    "Share of the memory of the node's GPUs that the scheduler has allocated to "
                    "pods.",
                    RATIO,
                    Query(
                        f"sum(node:vgpu_allocated_memory_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                    FULLNESS,
                ),
                stat(
                    "Core utilization",
                    "Mean core utilization of the node's GPUs.",
                    RATIO,
                    Query(f"avg(node:vgpu_device_core_utilization_ratio:avg{{{NODE}}})"),
                ),
            ],
        ),
        row("Memory of each GPU"),
        (
            9,
            [
                timeseries(
                    "GPU $device: memory",
                    "What each container uses and what processes in no region use, stacked, "
                    "against the GPU's memory. Whatever else NVML reports in use belongs to the "
                    "driver.",
                    BYTES,
                    Query(on_device("container:vgpu_memory_used_bytes:sum"), LEGEND),
                    Query(
                        f"sum(card:vgpu_device_memory_unattributed_bytes:sum{{{DEVICE}}})",
                        "in no container",
                    ),
                    Query(
                        f"sum(card:vgpu_device_memory_total_bytes:sum{{{DEVICE}}})",
                        "GPU's memory",
                        dashed=True,
                    ),
                    stacked=True,
                    repeat="device",
                ),
            ],
        ),
        row("Cores of each GPU"),
        (
            9,
            [
                timeseries(
                    "GPU $device: cores",
                    "Core utilization of each container, and its limit. A container that is "
                    "alone on its GPU may exceed its limit.",
                    RATIO,
                    Query(on_device("container:vgpu_core_utilization_ratio:sum"), LEGEND),
                    Query(
                        on_device(f"vgpu_core_limit_ratio{{{EXPORTER}}}"),
                        "limit of " + LEGEND,
                        dashed=True,
                    ),
                    top=1,
                    repeat="device",
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
        row("GPUs"),
        (
            8,
            [
                timeseries(
                    "Memory in use",
                    "Share of each GPU's memory that is in use, according to NVML.",
                    RATIO,
                    Query(
                        f"card:vgpu_device_memory_used_bytes:sum{{{NODE}}} "
                        f"/ card:vgpu_device_memory_total_bytes:sum{{{NODE}}}",
                        "GPU {{device_index}}",
                    ),
                    thresholds=FULLNESS,
                    top=1,
                ),
                timeseries(
                    "Core utilization",
                    "Core utilization of each GPU, according to NVML.",
                    RATIO,
                    Query(
                        f"card:vgpu_device_core_utilization_ratio:avg{{{NODE}}}",
                        "GPU {{device_index}}",
                    ),
                    top=1,
                ),
                timeseries(
                    "Temperature",
                    "Temperature of each GPU.",
                    "celsius",
                    Query(
                        f"vgpu_device_temperature_celsius{{{NODE}}}",
                        "GPU {{device_index}}",
                    ),
                ),
                timeseries(
                    "Power",
                    "Power draw of each GPU.",
                    "watt",
                    Query(f"vgpu_device_power_watts{{{NODE}}}", "GPU {{device_index}}"),
                ),
            ],
        ),
        (
            8,
            [
                timeseries(
                    "Memory in no container",
                    "Memory of processes that are in no container of the node's Kubernetes.",
                    BYTES,
                    Query(
                        f"vgpu_device_memory_unattributed_bytes{{{NODE}}}",
                        "GPU {{device_index}}",
                    ),
                ),
                timeseries(
                    "Memory of dead processes",
                    "Memory that regions still count for processes that no longer exist.",
                    BYTES,
                    Query(
                        f"sum by ({CONTAINER}) (vgpu_dead_process_memory_bytes{{{EXPORTER}}})",
                        LEGEND,
                    ),
                ),
                timeseries(
                    "Clocks held down",
                    "Why a GPU's clocks are held down: 1 while a reason applies.",
                    COUNT,
                    Query(
                        f"vgpu_device_throttled{{{NODE}}}",
                        "GPU {{device_index}} {{reason}}",
                    ),
                    top=1,
                ),
                timeseries(
                    "ECC errors",
                    "Memory errors that ECC found in the preceding hour.",
                    COUNT,
                    Query(
                        f"increase(vgpu_device_ecc_errors_total{{{NODE}}}[1h])",
                        "GPU {{device_index}} {{kind}}",
                    ),
                ),
            ],
        ),
        (
            5,
            [
                table(
                    "Hardware",
                    "The node's GPUs and their driver.",
                    Column("GPU", label="device_index"),
                    Column("Name", label="name"),
                    Column("UUID", label="device_uuid"),
                    Column("Minor", label="minor"),
                    Column("Driver", label="driver_version"),
                    Column("CUDA", label="cuda_version"),
                    Column("Seen", f"vgpu_device_info{{{NODE}}}", COUNT),
                    sort="GPU",
                    ascending=True,
                )
            ],
        ),
        row("Exporter"),
        (
            8,
            [
                timeseries(
                    "Region files",
                    "Container directories by the state of their region file. In those that wait, "
                    "no CUDA call has been made yet.",
                    COUNT,
                    Query(f"sum by (state) (vgpumonitor_regions{{{EXPORTER}}})", "{{state}}"),
                ),
                timeseries(
                    "Errors",
                    "Per second: files and values that could not be used, by reason; NVML calls "
                    "that failed; process slots that stayed half-written.",
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
                timeseries(
                    "Time to collect",
                    "How long each part of a collection takes.",
                    SECONDS,
                    Query(
                        f"sum by (part) (vgpumonitor_collect_duration_seconds{{{EXPORTER}}})",
                        "{{part}}",
                    ),
                ),
                timeseries(
                    "Exporter's memory",
                    "Resident memory of the exporter.",
                    BYTES,
                    Query(f"process_resident_memory_bytes{{{EXPORTER}}}", "{{instance}}"),
                ),
            ],
        ),
    ),
)
