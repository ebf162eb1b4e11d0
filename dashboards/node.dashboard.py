# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One node: its GPUs, their containers, and the exporter's own health."""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    FULLNESS,
    NEEDS_VGPU,
    PLAIN,
    RATIO,
    SECONDS,
    TO_NAMESPACE,
    TO_POD,
    TOTAL,
    UP,
    Column,
    Mark,
    Query,
    alert_marks,
    alerts,
    alerts_by_severity,
    cluster_variable,
    gauge,
    grid,
    mapped,
    node_variable,
    row,
    stat,
    table,
    timeline,
    timeseries,
    variable,
    xid_marks,
)
from dashboards.panels import dashboard as build

NODE = 'cluster=~"$cluster", node="$node"'
DEVICE = f'{NODE}, device_index="$device"'
EXPORTER = 'cluster=~"$cluster", instance=~"$instance"'
CARD = "device_index, device_uuid"
CONTAINER = "namespace, pod, container"
ON_DEVICE = f"{CONTAINER}, device_index"
LEGEND = "{{pod}} {{container}}"
GPU = "GPU {{device_index}}"
USED = "container:vgpu_memory_used_bytes:best"
CORES = "container:vgpu_core_utilization_ratio:best"
TEMPERATURE = ((0.0, "green"), (80.0, "orange"), (90.0, "red"))
REPLACED = mapped((0, "fine", "green"), (1, "pending", "orange"), (2, "failed", "red"))
HELD_DOWN = mapped((1, "held down", "orange"))


def per_card(series: str) -> str:
    return f"max by ({CARD}) ({series})"


def per_container(series: str) -> str:
    """A container may be on several MIG devices of a GPU."""
    return f"sum by ({ON_DEVICE}) (max by ({ON_DEVICE}, mig_uuid) ({series}))"


def of_largest(series: str) -> str:
    """The ten containers of a GPU that have the most in the time range: the same ones at each
    moment, so that lines don't begin and end."""
    most = f"max_over_time({series}{{{DEVICE}}}[$__range] @ end())"
    return (
        f"sum by ({CONTAINER}) ({series}{{{DEVICE}}}) and on ({CONTAINER}) "
        f"topk(10, sum by ({CONTAINER}) ({most}))"
    )


def of_cards(family: str) -> str:
    return per_card(f"card:{family}{{{NODE}}}")


def of_gpu(family: str, more: str = "") -> str:
    """Of a family that the exporter serves, by card and ``more`` labels."""
    return f"max by ({CARD}{more}) (vgpu_device_{family}{{{NODE}}})"


def rate(family: str, more: str = "") -> str:
    return f"max by ({CARD}{more}) (rate(vgpu_device_{family}{{{NODE}}}[$__rate_interval]))"


def risen(family: str, more: str = "") -> str:
    return f"max by ({CARD}{more}) (increase(vgpu_device_{family}{{{NODE}}}[1h]))"


TOTAL_MEMORY = of_cards("vgpu_device_memory_total_bytes:max")


def clock(of: str) -> str:
    return f'max by ({CARD}) (vgpu_device_clock_{of}{{{NODE}, clock="sm"}})'


THROTTLED = f"max by ({CARD}, reason) (vgpu_device_throttled{{{NODE}}}) == 1"

dashboard = build(
    "vgpu-node",
    "GPU sharing / Node",
    "Each GPU of a node with its containers, and the memory that no container accounts for.",
    [
        cluster_variable(),
        node_variable(every=False),
        variable("device", f"vgpu_device_info{{{NODE}}}, device_index", "GPU"),
        # What Prometheus and prometheus-client say of the exporter does not name the node.
        variable("instance", f"vgpumonitor_build_info{{{NODE}}}, instance", "", hidden=True),
    ],
    grid(
        (
            5,
            [
                stat(
                    "Exporter",
                    "Whether Prometheus can scrape the node's exporter, whether NVML answers it, "
                    "and whether it can read the pods or serves what it last knew.",
                    COUNT,
                    Query(f"max(up{{{EXPORTER}}})", "exporter"),
                    Query(f"max(vgpumonitor_nvml_up{{{NODE}}})", "NVML"),
                    Query(f"max(vgpumonitor_pod_source_up{{{NODE}}})", "pods"),
                    mappings=UP,
                ),
                stat(
                    "GPUs, containers",
                    "GPUs of the node, and containers that have a region or a process on one.",
                    COUNT,
                    Query(f"node:vgpu_device_info:count{{{NODE}}}", "GPUs"),
                    Query(f"count(count by ({CONTAINER}) ({USED}{{{NODE}}}))", "containers"),
                ),
                gauge(
                    "Memory allocated",
                    "Share of the memory of the node's GPUs that the scheduler has allocated to "
                    "pods.",
                    Query(
                        f"sum(node:vgpu_allocated_memory_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                ),
                gauge(
                    "Memory used",
                    "Share of the memory of the node's GPUs that is in use, according to NVML.",
                    Query(
                        f"sum(node:vgpu_device_memory_used_bytes:sum{{{NODE}}}) "
                        f"/ sum(node:vgpu_device_memory_total_bytes:sum{{{NODE}}})"
                    ),
                ),
                gauge(
                    "Cores used",
                    "Mean core utilization of the node's GPUs, according to NVML.",
                    Query(f"avg(node:vgpu_device_core_utilization_ratio:avg{{{NODE}}})"),
                    PLAIN,
                ),
                stat(
                    "In no container",
                    "GPU memory of processes that are in no container of the node's Kubernetes.",
                    BYTES,
                    Query(f"sum({of_cards('vgpu_device_memory_unattributed_bytes:max')})"),
                    thresholds=((0.0, "green"), (float(1 << 30), "orange")),
                ),
                stat(
                    "Hottest GPU",
                    "Temperature of the hottest GPU of the node.",
                    "celsius",
                    Query(f"max(vgpu_device_temperature_celsius{{{NODE}}})"),
                    thresholds=TEMPERATURE,
                ),
                alerts_by_severity(NODE),
            ],
        ),
        (
            9,
            [
                table(
                    "GPUs",
                    "Each GPU now. Slowed by counts why its clocks are held down at this moment.",
                    Column("GPU", label="device_index", width=60),
                    Column("Model", label="name"),
                    Column("Driver", label="driver_version", width=120),
                    Column(
                        "Allocated",
                        f"{of_cards('vgpu_allocated_memory_bytes:sum')} / {TOTAL_MEMORY}",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column(
                        "Used",
                        f"{of_cards('vgpu_device_memory_used_bytes:max')} / {TOTAL_MEMORY}",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column(
                        "Cores",
                        of_cards("vgpu_device_core_utilization_ratio:max"),
                        RATIO,
                        bar=True,
                    ),
                    Column("Memory", TOTAL_MEMORY, BYTES),
                    Column(
                        "In no container",
                        of_cards("vgpu_device_memory_unattributed_bytes:max"),
                        BYTES,
                        width=125,
                    ),
                    Column(
                        "Containers",
                        f"count by ({CARD}) ({USED}{{{NODE}}} > 0)",
                        COUNT,
                        width=95,
                    ),
                    Column(
                        "Processes",
                        f"max by ({CARD}, name, driver_version) (vgpu_device_info{{{NODE}}}) "
                        f"* on ({CARD}) group_left () "
                        + per_card(f"vgpu_device_processes{{{NODE}}}"),
                        COUNT,
                        width=95,
                    ),
                    Column(
                        "Temperature",
                        per_card(f"vgpu_device_temperature_celsius{{{NODE}}}"),
                        "celsius",
                        width=110,
                        thresholds=TEMPERATURE,
                    ),
                    Column(
                        "Power", per_card(f"vgpu_device_power_watts{{{NODE}}}"), "watt", width=85
                    ),
                    Column("Slowed by", f"count by ({CARD}) ({THROTTLED})", COUNT, width=95),
                    sort="GPU",
                    ascending=True,
                )
            ],
        ),
        (
            11,
            [
                table(
                    "Containers",
                    "What each container on the node uses now, and its limits.",
                    Column("GPU", label="device_index", width=60),
                    Column("Namespace", label="namespace", link=TO_NAMESPACE, width=150),
                    Column("Pod", label="pod", link=TO_POD),
                    Column("Container", label="container"),
                    Column("Memory used", per_container(f"{USED}{{{NODE}}}"), BYTES, width=120),
                    Column(
                        "Memory limit",
                        per_container(f"container:vgpu_memory_limit_bytes:max{{{NODE}}}"),
                        BYTES,
                        width=120,
                    ),
                    Column(
                        "Of limit",
                        per_container(f"{USED}{{{NODE}}}")
                        + " / "
                        + per_container(f"container:vgpu_memory_limit_bytes:max{{{NODE}}}"),
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column("Cores used", per_container(f"{CORES}{{{NODE}}}"), RATIO, bar=True),
                    Column(
                        "Core limit",
                        per_container(f"vgpu_core_limit_ratio{{{NODE}}}"),
                        RATIO,
                    ),
                    sort="Memory used",
                )
            ],
        ),
        (6, [alerts(NODE, "vgpumonitor's alerts that are firing now for the node.")]),
        (
            6,
            [
                table(
                    "Findings",
                    "What the exporter itself finds wrong on the node, and in how many places. "
                    "vgpumonitor doctor and the exporter's page say where; docs/troubleshooting.md "
                    "says what to do.",
                    Column("Severity", label="severity", width=110),
                    Column("Finding", label="id"),
                    Column(
                        "Places",
                        f"max by (severity, id) (vgpumonitor_findings{{{NODE}}}) > 0",
                        COUNT,
                    ),
                    sort="Severity",
                    ascending=True,
                    none="none",
                )
            ],
        ),
        row("All GPUs"),
        (
            8,
            [
                timeseries(
                    "Memory used",
                    "Share of each GPU's memory that is in use, according to NVML.",
                    RATIO,
                    Query(f"{of_cards('vgpu_device_memory_used_bytes:max')} / {TOTAL_MEMORY}", GPU),
                    thresholds=FULLNESS,
                    top=1,
                ),
                timeseries(
                    "Core utilization",
                    "Core utilization of each GPU, according to NVML.",
                    RATIO,
                    Query(of_cards("vgpu_device_core_utilization_ratio:max"), GPU),
                    top=1,
                ),
            ],
        ),
        (
            8,
            [
                timeseries(
                    "Temperature",
                    "Of each GPU, and of its memory where it has a sensor there.",
                    "celsius",
                    Query(of_gpu("temperature_celsius"), GPU),
                    Query(of_gpu("memory_temperature_celsius"), GPU + " memory"),
                    hint=NEEDS_VGPU,
                ),
                timeseries(
                    "Power",
                    "Power draw of each GPU.",
                    "watt",
                    Query(per_card(f"vgpu_device_power_watts{{{NODE}}}"), GPU),
                    hint=NEEDS_VGPU,
                ),
            ],
        ),
        (
            7,
            [
                timeline(
                    "Clocks held down",
                    "When, and why, a GPU's clocks are held down. GPUs and reasons that never "
                    "were in the time range have no row.",
                    Query(THROTTLED, GPU + " {{reason}}"),
                    HELD_DOWN,
                    hint="never in the time range",
                ),
                timeseries(
                    "Memory in no container",
                    "Memory of processes that are in no container of the node's Kubernetes.",
                    BYTES,
                    Query(of_cards("vgpu_device_memory_unattributed_bytes:max"), GPU),
                    top=1 << 30,
                ),
                timeseries(
                    "Errors of memory and links",
                    "Memory errors that ECC found, transfers over PCIe that were repeated, and "
                    "errors of NVLinks, in the preceding hour. What had no errors has no line.",
                    COUNT,
                    Query(f"{risen('ecc_errors_total', ', kind')} > 0", GPU + " {{kind}}"),
                    Query(f"{risen('pcie_replays_total')} > 0", GPU + " PCIe replays"),
                    Query(
                        f"{risen('nvlink_errors_total', ', kind')} > 0", GPU + " NVLink {{kind}}"
                    ),
                    hint="none in the time range",
                ),
            ],
        ),
        row("Hardware"),
        (
            9,
            [
                table(
                    "State of the hardware",
                    "Of each GPU now: how close its clocks and fans are to their limits, its link "
                    "to the host, and whether faulty memory was replaced. What no GPU of the node "
                    "has, such as fans, has no column. An idle GPU lowers its clocks and its "
                    "link's generation to save power.",
                    Column("GPU", label="device_index"),
                    Column(
                        "SM clock",
                        f"{clock('hertz')} / {clock('max_hertz')}",
                        RATIO,
                        bar=True,
                    ),
                    Column(
                        "Power of its limit",
                        f"{of_gpu('power_watts')} / {of_gpu('power_limit_watts')}",
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column(
                        "Memory",
                        of_gpu("memory_temperature_celsius"),
                        "celsius",
                        width=85,
                        thresholds=TEMPERATURE,
                    ),
                    Column("Fans", of_gpu("fan_speed_ratio"), RATIO),
                    Column("P-state", of_gpu("performance_state"), COUNT),
                    Column("PCIe gen.", of_gpu("pcie_link_generation"), COUNT, width=90),
                    Column("Gen. max", of_gpu("pcie_link_generation_max"), COUNT, width=90),
                    Column("Lanes", of_gpu("pcie_link_width"), COUNT, width=70),
                    Column("Lanes max", of_gpu("pcie_link_width_max"), COUNT, width=95),
                    Column(
                        "Rows remapped",
                        f"sum by ({CARD}) ({of_gpu('remapped_rows_total', ', kind')})",
                        COUNT,
                        width=125,
                    ),
                    Column(
                        "Remapping",
                        f"clamp_max({of_gpu('row_remap_pending')} + 2 * "
                        f"{of_gpu('row_remap_failed')}, 2)",
                        COUNT,
                        width=100,
                        mappings=REPLACED,
                    ),
                    Column(
                        "Pages retired",
                        f"sum by ({CARD}) ({of_gpu('retired_pages_total', ', cause')})",
                        COUNT,
                        width=115,
                    ),
                    Column(
                        "Retirement",
                        of_gpu("page_retirement_pending"),
                        COUNT,
                        width=100,
                        mappings=REPLACED,
                    ),
                    sort="GPU",
                    ascending=True,
                    none=NEEDS_VGPU,
                )
            ],
        ),
        (
            8,
            [
                timeseries(
                    "SM clocks",
                    "Clock of each GPU's multiprocessors.",
                    "hertz",
                    Query(clock("hertz"), GPU),
                    hint=NEEDS_VGPU,
                ),
                timeseries(
                    "PCIe and NVLink",
                    "What each GPU receives and transmits per second, from and to the host over "
                    "PCIe, and over all its NVLinks where it has some. GPUs whose driver counts "
                    "PCIe's bytes in 32 bits only (H100, H200) have no line for it.",
                    "Bps",
                    Query(rate("pcie_bytes_total", ", direction"), GPU + " PCIe {{direction}}"),
                    Query(rate("nvlink_bytes_total", ", direction"), GPU + " NVLink {{direction}}"),
                    hint=NEEDS_VGPU,
                ),
                table(
                    "XIDs",
                    "Critical errors that the driver told of since the exporter started. The "
                    "exporter's page says what each means and what to do.",
                    Column("GPU", label="device_index", width=60),
                    Column("XID", label="xid", width=70),
                    Column(
                        "Times",
                        f"{of_gpu('xid_errors_total', ', xid')} > 0",
                        COUNT,
                        thresholds=((0.0, "orange"),),
                    ),
                    Column(
                        "Last",
                        f"1000 * {of_gpu('last_xid_timestamp_seconds', ', xid')}",
                        "dateTimeFromNow",
                    ),
                    sort="Last",
                    none="none since the exporter started",
                ),
            ],
        ),
        row("Each GPU"),
        (
            9,
            [
                timeseries(
                    "GPU $device: memory",
                    "What the ten largest containers use and what processes in no container use, "
                    "stacked, against the GPU's memory. Whatever else NVML reports in use belongs "
                    "to the driver.",
                    BYTES,
                    Query(of_largest(USED), LEGEND),
                    Query(
                        f"sum(card:vgpu_device_memory_unattributed_bytes:max{{{DEVICE}}}) > 0",
                        "in no container",
                        color="orange",
                    ),
                    Query(
                        f"sum(card:vgpu_device_memory_total_bytes:max{{{DEVICE}}})",
                        "the GPU's memory",
                        dashed=True,
                        color=TOTAL,
                    ),
                    stacked=True,
                    repeat="device",
                ),
            ],
        ),
        (
            9,
            [
                timeseries(
                    "GPU $device: cores",
                    "Core utilization of the ten containers that use the most, and of the whole "
                    "GPU according to NVML. The table above has their limits; a container that is "
                    "alone on its GPU may exceed its limit.",
                    RATIO,
                    Query(of_largest(CORES), LEGEND),
                    Query(
                        f"max(card:vgpu_device_core_utilization_ratio:max{{{DEVICE}}})",
                        "the GPU",
                        dashed=True,
                        color=TOTAL,
                    ),
                    top=1,
                    repeat="device",
                    hint="no data: the driver does not tell it of MIG devices, and otherwise it "
                    "needs --metrics=vgpu and the recording rules",
                ),
            ],
        ),
        row(
            "Exporter",
            (
                8,
                [
                    timeseries(
                        "Region files",
                        "Container directories by the state of their region file. In those that "
                        "wait, no CUDA call has been made yet.",
                        COUNT,
                        Query(f"max by (state) (vgpumonitor_regions{{{NODE}}})", "{{state}}"),
                        many=False,
                        hint=NEEDS_VGPU,
                    ),
                    timeseries(
                        "Errors",
                        "Per second: files and values that could not be used, by reason; NVML "
                        "calls that failed; process slots that stayed half-written. Reasons that "
                        "did not occur have no line.",
                        "ops",
                        Query(
                            "max by (reason) (rate(vgpumonitor_region_errors_total"
                            f"{{{NODE}}}[$__rate_interval])) > 0",
                            "{{reason}}",
                        ),
                        Query(
                            "max by (call) (rate(vgpumonitor_nvml_errors_total"
                            f"{{{NODE}}}[$__rate_interval])) > 0",
                            "{{call}}",
                        ),
                        Query(
                            f"max(rate(vgpumonitor_torn_reads_total{{{NODE}}}[$__rate_interval]))",
                            "half-written",
                        ),
                        hint=NEEDS_VGPU,
                    ),
                    timeseries(
                        "Time to collect",
                        "How long each part of a collection takes.",
                        SECONDS,
                        Query(
                            f"max by (part) (vgpumonitor_collect_duration_seconds{{{NODE}}})",
                            "{{part}}",
                        ),
                        many=False,
                        hint=NEEDS_VGPU,
                    ),
                    timeseries(
                        "Memory of the exporter",
                        "Resident memory of the exporter.",
                        BYTES,
                        Query(f"max(process_resident_memory_bytes{{{EXPORTER}}})", "resident"),
                        many=False,
                    ),
                ],
            ),
        ),
    ),
    marks=[
        alert_marks(NODE),
        xid_marks(NODE),
        Mark(
            "Exporter's version",
            f"group by (version) (vgpumonitor_build_info{{{NODE}}}) "
            f"unless group by (version) (vgpumonitor_build_info{{{NODE}}} offset 5m)",
            "vgpumonitor {{version}}",
            "The exporter was started, or is another version.",
            "blue",
        ),
        Mark(
            "Driver",
            f"group by (driver_version) (vgpu_device_info{{{NODE}}}) "
            f"unless group by (driver_version) (vgpu_device_info{{{NODE}}} offset 5m)",
            "driver {{driver_version}}",
            "The driver was started, or is another version.",
            "purple",
        ),
        Mark(
            "Number of GPUs",
            f"node:vgpu_device_info:count{{{NODE}}} "
            f"!= node:vgpu_device_info:count{{{NODE}}} offset 5m",
            "another number of GPUs",
            "The node has another number of GPUs than five minutes before.",
            "orange",
        ),
    ],
)
