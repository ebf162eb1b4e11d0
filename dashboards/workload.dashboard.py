# ruff: noqa: N999 - grafanalib's name for a dashboard's source
"""One namespace, workload, or some of its pods: is it near its limits, held up, or idle?"""

from __future__ import annotations

from dashboards.panels import (
    BYTES,
    COUNT,
    FULLNESS,
    NEEDS_VGPU,
    NUMBER,
    RATIO,
    SECONDS,
    TO_NODE,
    UNWANTED,
    Column,
    Query,
    alert_marks,
    alerts,
    alerts_by_severity,
    cluster_variable,
    gauge,
    grid,
    mapped,
    namespace_variable,
    ranked,
    row,
    stat,
    table,
    timeline,
    timeseries,
    unknown,
    variable,
    xid_marks,
)
from dashboards.panels import dashboard as build

IN_NAMESPACE = 'cluster=~"$cluster", namespace="$namespace"'
PODS = f'{IN_NAMESPACE}, pod=~"$pod"'
DEVICES = 'cluster=~"$cluster", node=~"$node", device_uuid=~"$gpu"'
#: The ten pods that hold the most memory, use the most cores, and wait longest.
LARGEST = f'{IN_NAMESPACE}, pod=~"$largest"'
BUSIEST = f'{IN_NAMESPACE}, pod=~"$busiest"'
WAITING = f'{IN_NAMESPACE}, pod=~"$waiting"'
CONTAINER = "pod, container"
DEVICE = "pod, container, node, device_index"
LEGEND = "{{pod}} {{container}}"
#: HAMi-core's account is what it compares with the limit.
HELD = f"container:vgpu_memory_used_bytes:sum{{{PODS}}}"
OF_LIMIT = "container:vgpu_memory_limit_used:ratio"
USED = f"container:vgpu_memory_used_bytes:best{{{PODS}}}"
CORES = "container:vgpu_core_utilization_ratio:best"
LIMIT = f"container:vgpu_memory_limit_bytes:max{{{PODS}}}"
LAST = "vgpu_last_kernel_timestamp_seconds"


def once(family: str, where: str = PODS) -> str:
    """Of each container and device, however often its exporter is scraped."""
    return f"max by ({DEVICE}, mig_uuid) ({family}{{{where}}})"


def of_container(operation: str, expr: str) -> str:
    return f"{operation} by ({CONTAINER}) ({expr})"


def of_device(operation: str, expr: str) -> str:
    return f"{operation} by ({DEVICE}) ({expr})"


def of_pod(family: str) -> str:
    return f"sum by (node, namespace, pod) (pod:{family}:sum{{{PODS}}})"


def of_pods(family: str) -> str:
    return f"sum(pod:{family}:sum{{{PODS}}})"


def peak(series: str) -> str:
    """Of each pod, in the time range."""
    return f"max by (pod) (max_over_time({series}{{{PODS}}}[$__range]))"


CORE_LIMIT = "vgpu_core_limit_ratio"
SHARE_OF_CORE_LIMIT = (
    f"{of_device('sum', f'{CORES}{{{BUSIEST}}}')} / {of_device('max', once(CORE_LIMIT, BUSIEST))} "
    f"and on ({DEVICE}) {of_device('max', f'vgpu_core_limit_enforced{{{BUSIEST}}}')} == 1"
)

dashboard = build(
    "vgpu-workload",
    "GPU sharing / Workload",
    "A namespace, a workload, or some of its pods: memory and cores against their limits, time "
    "since the last kernel launch, and what holds them up.",
    [
        cluster_variable(),
        namespace_variable(every=False),
        variable(
            "workload", f"vgpu_pod_info{{{IN_NAMESPACE}}}, workload", "Workload", any_value=".*"
        ),
        # Without a value for All: the pods of the chosen workloads, one by one.
        variable("pod", f'vgpu_pod_info{{{IN_NAMESPACE}, workload=~"$workload"}}, pod', "Pod"),
        variable("node", f"vgpu_pod_info{{{PODS}}}, node", "", hidden=True),
        variable("gpu", f"{USED}, device_uuid", "", hidden=True),
        ranked("largest", f"topk(10, {peak('container:vgpu_memory_used_bytes:sum')})", "pod"),
        ranked("busiest", f"topk(10, {peak(CORES)})", "pod"),
        ranked("waiting", f"bottomk(10, min by (pod) ({LAST}{{{PODS}}}))", "pod"),
    ],
    grid(
        (
            5,
            [
                stat(
                    "Pods",
                    "Pods that have a GPU allocated or use one, those of them that have made no "
                    "CUDA call yet, and those whose use of memory or cores is not known.",
                    COUNT,
                    Query(f"count(group by (namespace, pod) (vgpu_pod_info{{{PODS}}}))", "pods"),
                    Query(
                        f"count({of_pod('vgpu_memory_used_bytes')} == 0 "
                        f"unless on (pod) vgpu_region_info{{{PODS}}}) or vector(0)",
                        "not yet used",
                    ),
                    unknown(PODS),
                ),
                stat(
                    "Memory",
                    "What the scheduler has allocated to the pods, and what they use.",
                    BYTES,
                    Query(of_pods("vgpu_allocated_memory_bytes"), "allocated"),
                    Query(of_pods("vgpu_memory_used_bytes"), "used"),
                ),
                stat(
                    "GPUs",
                    "Cores that the scheduler has allocated to the pods, what they use now, and "
                    "what they left idle in the mean of 15 minutes, in whole GPUs.",
                    NUMBER,
                    Query(of_pods("vgpu_allocated_core_ratio"), "allocated"),
                    Query(of_pods("vgpu_core_utilization_ratio"), "used"),
                    Query(of_pods("vgpu_idle_core_ratio"), "idle"),
                ),
                gauge(
                    "Out-of-memory risk",
                    "Share of its limit that the container nearest to its limit uses.",
                    Query(f"max({OF_LIMIT}{{{PODS}}})"),
                ),
                stat(
                    "Last kernel",
                    "How long ago any of the pods last launched a kernel. Not known where "
                    "HAMi-core does not record launches.",
                    SECONDS,
                    Query(f"time() - max({LAST}{{{PODS}}})"),
                    thresholds=((0.0, "green"), (3600.0, "orange")),
                ),
                stat(
                    "Blocked",
                    "Containers whose kernel launches are waiting for a higher priority.",
                    COUNT,
                    Query(
                        f"sum({of_container('max', f'vgpu_launches_blocked{{{PODS}}}')}) "
                        "or vector(0)"
                    ),
                    thresholds=UNWANTED,
                ),
                alerts_by_severity(PODS),
            ],
        ),
        (
            11,
            [
                table(
                    "Containers",
                    "Where each container runs, what it uses and its limits, and its peak in the "
                    "time range. Where the peak is far below the limit, others could have the "
                    "difference.",
                    Column("Pod", label="pod"),
                    Column("Container", label="container"),
                    Column("Node", label="node", link=TO_NODE, width=120),
                    Column("GPU", label="device_index", width=60),
                    Column("Memory used", of_device("sum", USED), BYTES, width=120),
                    Column(
                        "Peak",
                        of_device(
                            "max", f"max_over_time({USED.replace(':best', ':max5m')}[$__range])"
                        ),
                        BYTES,
                    ),
                    Column("Limit", of_device("max", LIMIT), BYTES),
                    Column(
                        "Of limit",
                        of_device("max", f"{OF_LIMIT}{{{PODS}}}"),
                        RATIO,
                        bar=True,
                        thresholds=FULLNESS,
                    ),
                    Column("Cores used", of_device("sum", f"{CORES}{{{PODS}}}"), RATIO, bar=True),
                    Column("Core limit", of_device("max", once(CORE_LIMIT)), RATIO),
                    Column("Priority", of_device("max", once("vgpu_priority")), COUNT),
                    sort="Memory used",
                )
            ],
        ),
        (6, [alerts(PODS, "vgpumonitor's alerts that are firing now for the pods.")]),
        row("Memory"),
        (
            9,
            [
                timeseries(
                    "Share of the memory limit",
                    "Of the containers of the ten pods that used the most memory in the time "
                    "range. At 100 % allocations fail.",
                    RATIO,
                    Query(of_container("max", f"{OF_LIMIT}{{{LARGEST}}}"), LEGEND),
                    thresholds=FULLNESS,
                    top=1,
                    most=2,
                ),
                timeseries(
                    "Memory by kind",
                    "By HAMi-core's account. Data is the program's own memory, context what each "
                    "process takes on each GPU, module its kernels. Shown against the sum of the "
                    "limits.",
                    BYTES,
                    Query(
                        f"sum by (kind) (max by ({DEVICE}, kind) "
                        f"(vgpu_memory_used_bytes{{{PODS}}}))",
                        "{{kind}}",
                    ),
                    Query(f"sum({LIMIT})", "limits", dashed=True, color="text"),
                    stacked=True,
                    many=False,
                    hint=NEEDS_VGPU,
                ),
            ],
        ),
        (
            9,
            [
                timeseries(
                    "Share of the memory limit in an hour",
                    "What the containers of the ten pods that used the most memory in the time "
                    "range will use in an hour if they go on as in the last 30 minutes. Above "
                    "100 % they run out of memory. Containers that are younger than that, or use "
                    "less than half of their limit, have no line.",
                    RATIO,
                    Query(
                        of_container(
                            "max",
                            f"clamp(predict_linear({OF_LIMIT}{{{LARGEST}}}[30m], 3600), 0, 2) "
                            f"and {OF_LIMIT}{{{LARGEST}}} offset 30m "
                            f"and ({OF_LIMIT}{{{LARGEST}}} > 0.5)",
                        ),
                        LEGEND,
                    ),
                    thresholds=FULLNESS,
                    top=1,
                    most=2,
                    hint="no container uses more than half of its limit for half an hour",
                ),
                timeseries(
                    "HAMi-core and the driver",
                    "What HAMi-core counts for the pods' processes, what the driver says that "
                    "they hold, and what of that is in processes that HAMi-core does not know.",
                    BYTES,
                    Query(f"sum({HELD})", "HAMi-core"),
                    Query(f"sum({once('vgpu_nvml_memory_used_bytes')})", "driver"),
                    Query(f"sum({once('vgpu_memory_bypassed_bytes')})", "bypassed", color="red"),
                    Query(
                        f"sum({once('vgpu_dead_process_memory_bytes')})",
                        "of dead processes",
                        color="orange",
                    ),
                    many=False,
                    hint=NEEDS_VGPU,
                ),
            ],
        ),
        row("Cores"),
        (
            9,
            [
                timeseries(
                    "Share of the core limit",
                    "Core utilization over the limit, of the containers of the ten pods that used "
                    "the most cores in the time range. No line while the limit does not hold: a "
                    "container that is alone on its GPU may exceed it.",
                    RATIO,
                    Query(of_container("max", SHARE_OF_CORE_LIMIT), LEGEND),
                    thresholds=((0.0, "green"), (1.25, "red")),
                    top=1,
                    most=2,
                    hint="no core limit held in the time range",
                ),
                timeseries(
                    "Core utilization",
                    "Of the containers of the ten pods that used the most in the time range, on "
                    "their busiest GPU.",
                    RATIO,
                    Query(of_container("max", f"{CORES}{{{BUSIEST}}}"), LEGEND),
                    top=1,
                ),
            ],
        ),
        (
            8,
            [
                timeline(
                    "Launches blocked",
                    "When a container's kernel launches waited in fact for a higher priority. "
                    "Containers that never waited, or can't be made to wait, have no row.",
                    Query(
                        of_container("max", f"vgpu_launches_blocked{{{PODS}}}") + " == 1", LEGEND
                    ),
                    mapped((1, "blocked", "red")),
                    hint="never in the time range",
                ),
                timeline(
                    "Core limit enforced",
                    "When the core limit held in fact, and when it did not: there is none, it was "
                    "lifted because the container was alone on its GPU, or HAMi-core has not found "
                    "its process. Of the ten pods that used the most cores.",
                    Query(of_container("max", f"vgpu_core_limit_enforced{{{BUSIEST}}}"), LEGEND),
                    mapped((1, "enforced", "green"), (0, "does not hold", "blue")),
                    hint=NEEDS_VGPU,
                ),
                timeline(
                    "Clocks of the pods' GPUs held down",
                    "When, and why, the clocks of a GPU that the pods use were held down. Reasons "
                    "that never applied in the time range have no row.",
                    Query(
                        "max by (node, device_index, reason) (vgpu_device_throttled"
                        f"{{{DEVICES}}} and on (node, device_uuid) {USED}) == 1",
                        "{{node}} GPU {{device_index}} {{reason}}",
                    ),
                    mapped((1, "held down", "orange")),
                    hint="never in the time range",
                ),
            ],
        ),
        (
            8,
            [
                timeseries(
                    "Time since the last kernel",
                    "How long ago each container last launched a kernel, for the ten pods that "
                    "have waited longest. Containers whose HAMi-core does not record launches "
                    "have no line.",
                    SECONDS,
                    Query(f"time() - {of_container('max', f'{LAST}{{{WAITING}}}')}", LEGEND),
                    hint=NEEDS_VGPU,
                ),
                timeseries(
                    "Processes",
                    "Processes of the pods, by state.",
                    COUNT,
                    Query(
                        "sum by (state) (max by (pod, container, state) "
                        f"(vgpu_processes{{{PODS}}})) > 0",
                        "{{state}}",
                    ),
                    stacked=True,
                    many=False,
                    hint=NEEDS_VGPU,
                ),
            ],
        ),
    ),
    marks=[
        alert_marks(PODS),
        xid_marks(
            DEVICES, f" and on (cluster, node, device_uuid) vgpu_allocated_memory_bytes{{{PODS}}}"
        ),
    ],
)
