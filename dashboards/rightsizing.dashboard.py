# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""What each workload should ask for, what that frees, and what its GPUs cost."""

from __future__ import annotations

from grafanalib.core import Table

from alerts.rules import PRICE
from dashboards.panels import (
    ALLOCATED,
    BYTES,
    COUNT,
    IDLE,
    NUMBER,
    RATIO,
    TO_NAMESPACE,
    TO_WORKLOAD,
    USED,
    Column,
    Query,
    choice,
    cluster_variable,
    gauge,
    grid,
    model_variable,
    namespace_variable,
    number,
    row,
    stat,
    table,
    timeseries,
    unknown,
)
from dashboards.panels import dashboard as build

CHOSEN = 'cluster=~"$cluster", namespace=~"$namespace"'
WORKLOAD = "cluster, namespace, workload_kind, workload"
NAMESPACE = "cluster, namespace"
HEADROOM = "(1 + $headroom / 100)"
#: Recorded once in five minutes; a look at the last one must reach as far back.
DAY = 288

MEMORY_PEAK = f"max_over_time(workload:vgpu_memory_used_bytes:max5m{{{CHOSEN}}}[7d])"
MEMORY_P95 = f"quantile_over_time(0.95, workload:vgpu_memory_used_bytes:max5m{{{CHOSEN}}}[7d])"
CORES_PEAK = f"max_over_time(workload:vgpu_core_utilization_ratio:avg5m{{{CHOSEN}}}[7d])"
CORES_P95 = f"quantile_over_time(0.95, workload:vgpu_core_utilization_ratio:avg5m{{{CHOSEN}}}[7d])"
DAYS = f"count_over_time(workload:vgpu_memory_used_bytes:max5m{{{CHOSEN}}}[7d]) / {DAY}"
ASK_MEMORY = f"{HEADROOM} * {MEMORY_PEAK}"
ASK_CORES = f"clamp({HEADROOM} * {CORES_P95}, 0.01, 1)"


def last(series: str) -> str:
    # Without the series' name, which would keep the columns of a row apart.
    # Three intervals of its group, so that a restart of Prometheus empties nothing.
    return f"max by ({WORKLOAD}) (last_over_time({series}{{{CHOSEN}}}[15m]))"


MEMORY_EACH = last("workload:vgpu_allocated_memory_bytes:max")
CORES_EACH = last("workload:vgpu_allocated_core_ratio:max")
SHARES = last("workload:vgpu_allocated_memory_bytes:count")
FREES_MEMORY = (
    f"clamp_min(workload:vgpu_allocated_memory_bytes:sum{{{CHOSEN}}} - {ASK_MEMORY} * {SHARES}, 0)"
)
FREES_CORES = (
    f"clamp_min(workload:vgpu_allocated_core_ratio:sum{{{CHOSEN}}} - {ASK_CORES} * {SHARES}, 0)"
)


def hours(what: str) -> str:
    return (
        f'sum_over_time(workload:vgpu_{what}_gpu_hours:sum5m{{{CHOSEN}, name=~"$model"}}[$__range])'
    )


def by(labels: str, expr: str) -> str:
    return f"sum by ({labels}) ({expr})"


def cost(what: str) -> str:
    """By the price of the GPU's model, or that of the variable where it has none of its own."""
    return (
        f"({hours(what)} * on (name) group_left () max by (name) ({PRICE}) "
        f"or {hours(what)} * $price)"
    )


def of_workloads(family: str) -> str:
    return f"sum(workload:{family}:sum{{{CHOSEN}}})"


def hours_table(title: str, description: str, labels: str, *names: Column) -> Table:
    return table(
        title,
        description,
        Column("Cluster", label="cluster", width=80),
        *names,
        Column("Allocated", by(labels, hours("allocated")), NUMBER),
        Column("Used", by(labels, hours("used")), NUMBER),
        Column("Idle", by(labels, hours("idle")), NUMBER, bar=True),
        Column("Cost", by(labels, cost("allocated")), NUMBER),
        Column("Idle cost", by(labels, cost("idle")), NUMBER),
        sort="Idle",
    )


dashboard = build(
    "vgpu-rightsizing",
    "GPU sharing / Rightsizing",
    "For each workload: what it was allocated, what it used in seven days, what to ask for "
    "instead, and what that frees. GPU hours allocated, used and idle in the time range, and their "
    "cost. Needs the recording rules.",
    [
        cluster_variable(),
        namespace_variable(),
        model_variable(),
        choice("headroom", "Headroom, %", "0", "10", "20", "30", "50", "100", default="20"),
        number("price", "Price of a GPU hour", "1"),
    ],
    grid(
        (
            5,
            [
                stat(
                    "GPU hours",
                    "Cores that pods on the chosen models were allocated in the time range, used, "
                    "and left idle in the mean of 15 minutes, as hours of whole GPUs. Pods that "
                    "were allocated memory only have none; where use is not known, neither used "
                    "nor idle counts.",
                    NUMBER,
                    Query(f"sum({hours('allocated')})", "allocated", color=ALLOCATED),
                    Query(f"sum({hours('used')})", "used", color=USED),
                    Query(f"sum({hours('idle')})", "idle", color=IDLE),
                ),
                stat(
                    "Cost",
                    "GPU hours times the price of the GPU's model: that of the rules' prices where "
                    "it has one there, otherwise the one above.",
                    NUMBER,
                    Query(f"sum({cost('allocated')})", "allocated", color=ALLOCATED),
                    Query(f"sum({cost('idle')})", "idle", color=IDLE),
                ),
                stat(
                    "Pods whose use is not known",
                    "Neither HAMi-core nor the driver tells what they use now. They are in what is "
                    "allocated, and left out of everything else here.",
                    COUNT,
                    unknown(CHOSEN, "memory", "memory"),
                    unknown(CHOSEN, "cores", "cores"),
                ),
                gauge(
                    "Hours used",
                    "Share that was used of the GPU hours of which it is known: used, and idle.",
                    Query(f"sum({hours('used')}) / (sum({hours('used')}) + sum({hours('idle')}))"),
                    ((0.0, "red"), (0.3, "orange"), (0.6, "green")),
                ),
                stat(
                    "Memory that can be freed",
                    "What the workloads were allocated beyond their peak of seven days and the "
                    "headroom.",
                    BYTES,
                    Query(f"sum({FREES_MEMORY})"),
                ),
                stat(
                    "GPUs that can be freed",
                    "Cores that the workloads were allocated beyond their 95th percentile of seven "
                    "days and the headroom, in whole GPUs.",
                    NUMBER,
                    Query(f"sum({FREES_CORES})"),
                ),
            ],
        ),
        (
            11,
            [
                table(
                    "What to ask for: memory",
                    "For each share of a GPU that a pod of the workload has: what it was "
                    "allocated, the 95th percentile and the peak of the largest in seven days, "
                    "and the peak with the headroom: nothing where nothing was used. Frees is the "
                    "sum over the workload's shares of now. Days is how much of the seven days is "
                    "known.",
                    Column("Namespace", label="namespace", link=TO_NAMESPACE, width=120),
                    Column("Kind", label="workload_kind", width=105),
                    Column("Workload", label="workload", link=TO_WORKLOAD),
                    Column("Shares", SHARES, COUNT, width=70),
                    Column("Allocated", MEMORY_EACH, BYTES, width=95),
                    Column("95 %", MEMORY_P95, BYTES, width=95),
                    Column("Peak", MEMORY_PEAK, BYTES, width=95),
                    Column("Ask for", f"{ASK_MEMORY} > 0", BYTES, width=95),
                    Column("Frees", FREES_MEMORY, BYTES, bar=True, width=130),
                    Column("Days", DAYS, NUMBER, width=60),
                    sort="Frees",
                ),
            ],
        ),
        (
            11,
            [
                table(
                    "What to ask for: cores",
                    "For each share of a GPU that a pod of the workload has: what it was "
                    "allocated, the 95th percentile and the peak of five-minute means in seven "
                    "days, and the 95th percentile with the headroom: nothing where nothing was "
                    "used, otherwise at least 1 %, since schedulers take 0 for no limit. Frees is "
                    "the sum over the workload's shares of now, in whole GPUs.",
                    Column("Namespace", label="namespace", link=TO_NAMESPACE, width=120),
                    Column("Kind", label="workload_kind", width=105),
                    Column("Workload", label="workload", link=TO_WORKLOAD),
                    Column("Shares", SHARES, COUNT, width=70),
                    Column("Allocated", CORES_EACH, RATIO, width=95),
                    Column("95 %", CORES_P95, RATIO, width=80),
                    Column("Peak", CORES_PEAK, RATIO, width=80),
                    Column("Ask for", f"{ASK_CORES} and {CORES_PEAK} > 0", RATIO, width=80),
                    Column("Frees", FREES_CORES, NUMBER, bar=True, width=130),
                    sort="Frees",
                ),
            ],
        ),
        row("GPU hours and cost"),
        (
            10,
            [
                hours_table(
                    "Workloads",
                    "GPU hours of each workload in the time range, and their cost.",
                    WORKLOAD,
                    Column("Namespace", label="namespace", link=TO_NAMESPACE, width=120),
                    Column("Kind", label="workload_kind", width=105),
                    Column("Workload", label="workload", link=TO_WORKLOAD),
                ),
            ],
        ),
        (
            10,
            [
                hours_table(
                    "Namespaces",
                    "GPU hours of each namespace in the time range, by model, and their cost.",
                    f"{NAMESPACE}, name",
                    Column("Namespace", label="namespace", link=TO_NAMESPACE),
                    Column("Model", label="name"),
                ),
            ],
        ),
        row("Over time"),
        (
            9,
            [
                timeseries(
                    "Memory",
                    "Of the chosen namespaces: allocated, used, and idle in the mean of 15 "
                    "minutes.",
                    BYTES,
                    Query(
                        of_workloads("vgpu_allocated_memory_bytes"), "allocated", color=ALLOCATED
                    ),
                    Query(of_workloads("vgpu_memory_used_bytes"), "used", color=USED),
                    Query(of_workloads("vgpu_idle_memory_bytes"), "idle", color=IDLE),
                    many=False,
                ),
                timeseries(
                    "GPUs",
                    "Of the chosen namespaces, in whole GPUs: cores allocated, used, and idle in "
                    "the mean of 15 minutes.",
                    NUMBER,
                    Query(of_workloads("vgpu_allocated_core_ratio"), "allocated", color=ALLOCATED),
                    Query(of_workloads("vgpu_core_utilization_ratio"), "used", color=USED),
                    Query(of_workloads("vgpu_idle_core_ratio"), "idle", color=IDLE),
                    many=False,
                ),
            ],
        ),
    ),
    since="now-7d",
)
