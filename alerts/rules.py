"""Recording rules and alerts, as data; ``python -m alerts.generate`` writes them as YAML.

Families of containers and pods don't name the node. Where a rule needs it, it joins on the
scrape's labels (cluster, job, instance), so that no join becomes ambiguous when two jobs scrape
an exporter. ``cluster`` is optional: without it the label is empty on both sides. The scrape has
to keep the exporter's own ``namespace``, ``pod`` and ``container`` (honor_labels: true).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Usual names of jobs that scrape the exporter: the chart's Service, its PodMonitor, and the
#: compose stack. A job of any other name is known by the exporters of it that answer.
JOBS = ".*(vgpumonitor|hami-daemon).*"
#: Where the runbook pages are published; the alert's name and .md are added. An example: set it
#: to where your copy of runbooks/ is served.
RUNBOOKS = "https://vgpumonitor.example/runbooks/"

#: Share of its limit at which a container is about to get an out-of-memory error.
MEMORY_NEAR_LIMIT = 0.95
#: A prediction is made only for containers that already use this share of their limit …
PREDICTED_FROM = 0.7
#: … this far ahead, from the slope over this window.
PREDICTED_SECONDS = 3600
PREDICTED_WINDOW = "30m"
#: Core utilization over core limit. HAMi-core's limiter regulates around the limit, not below
#: it.
CORE_OVER_LIMIT = 1.25
#: Share of ten minutes during which launches wait for a higher priority.
LAUNCHES_BLOCKED = 0.9
#: Seconds without a kernel launch after which a pod counts as idle.
IDLE_SECONDS = 3600
#: A container whose seven-day peak is below this share of its limit is oversized.
OVERSIZED = 0.25
#: Five-minute peaks that a container must have; seven days have 2016.
OVERSIZED_PEAKS = 1900
#: Bytes that dead processes may leave behind in a region.
DEAD_PROCESS_BYTES = 64 << 20
#: Share of a GPU's memory in use from which it counts as full.
CARD_FULL = 0.95
#: Sum of limits over a GPU's memory.
CARD_OVERCOMMITTED = 1.0
#: Mean core utilization of half an hour.
CARD_SATURATED = 0.95
#: Bytes on a GPU of processes that are in no container; a CUDA context alone takes a few hundred
#: MiB.
UNATTRIBUTED_BYTES = 1 << 30
#: Bytes of a container's processes that HAMi-core does not know of.
BYPASSED_BYTES = 256 << 20
#: Corrected ECC errors in a day that are more than background noise.
ECC_CORRECTED = 100
#: Share of ten minutes during which heat holds the clocks down.
THERMAL_THROTTLING = 0.5
#: Seconds since the last round after which feedback (every 5 s) and clean-up (every 30 s) count
#: as stopped.
FEEDBACK_SECONDS = 60
CLEANUP_SECONDS = 300


@dataclass(frozen=True)
class Recording:
    """``record`` is level:metric:operation."""

    record: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """``wait`` is how long the expression must hold. ``audience`` is who can act on it: the
    platform's operators, or the tenant whose pod it is."""

    name: str
    expr: str
    wait: str
    severity: Literal["critical", "warning", "info"]
    audience: Literal["platform", "tenant"]
    summary: str
    description: str


@dataclass(frozen=True)
class Group:
    """``interval`` None is Prometheus' evaluation_interval."""

    name: str
    rules: tuple[Recording | Alert, ...]
    interval: str | None = None


_SCRAPE = "cluster, job, instance"
_POD = f"{_SCRAPE}, namespace, pod"
_CONTAINER = f"{_POD}, container, device_uuid, mig_uuid"
_PER_CARD = "cluster, node, device_index, device_uuid"

_NODE = f"* on ({_SCRAPE}) group_left (node)\ninstance:vgpumonitor_node:info"
#: Matches the same container and device, and keeps the labels of the left side.
_OF_CONTAINER = f"on ({_CONTAINER}) group_left ()"


#: The nodes whose processes the exporter can't see: there the driver's account is in no container.
_HIDDEN = "on (cluster, node) (vgpumonitor_host_processes_visible == 0)"


def _per_card(series: str) -> str:
    """The sum per GPU; what runs on a MIG device counts for the GPU that it is part of."""
    return f"""\
sum by ({_PER_CARD}) (
  label_replace(
    {series}
    * on ({_SCRAPE}, device_uuid) group_left (node, device_index, card_uuid)
    device:vgpu_card:info,
    "device_uuid", "$1", "card_uuid", "(.+)"
  )
)"""


def _allocated(family: str, limit: str) -> Recording:
    return Recording(
        f"pod_device:{family}:sum",
        f"""\
sum by ({_POD}, device_uuid) ({family})
or on (cluster, namespace, pod)
max by ({_POD}, device_uuid) ({limit})""",
    )


def _of_pod(family: str, of_driver: str, allocated: str) -> Recording:
    """What a pod uses: by the driver's account where there is one, otherwise by HAMi-core's. 0
    if it has an allocation and has made no CUDA call yet, which is known only where the
    exporter sees the host's processes."""
    return Recording(
        f"pod:{family}:sum",
        f"""\
sum by (cluster, node, namespace, pod) (
  container:{of_driver}:sum or container:{family}:sum
)
or
(0 * pod:{allocated}:sum unless {_HIDDEN})""",
    )


def _pods(family: str) -> Recording:
    return Recording(
        f"pod:{family}:sum",
        f"""\
sum by (cluster, node, namespace, pod) (
  pod_device:{family}:sum
  * on ({_SCRAPE}) group_left (node)
  instance:vgpumonitor_node:info
)""",
    )


_ALLOCATED = ("vgpu_allocated_memory_bytes", "vgpu_allocated_core_ratio")
_USED = ("vgpu_memory_used_bytes", "vgpu_core_utilization_ratio")
_USED_BY_DRIVER = ("vgpu_nvml_memory_used_bytes", "vgpu_nvml_core_utilization_ratio")
_WASTED = ("vgpu_wasted_memory_bytes", "vgpu_wasted_core_ratio")
_OF_CARDS = (
    ("vgpu_device_memory_total_bytes", "sum"),
    ("vgpu_device_memory_used_bytes", "sum"),
    ("vgpu_device_core_utilization_ratio", "avg"),
)

RECORDING = (
    Group(
        "vgpu.levels",
        (
            # Without NVML the name is the target's node label, or at worst its host.
            Recording(
                "instance:vgpumonitor_node:info",
                f"""\
group by ({_SCRAPE}, node) (vgpu_device_info)
or on ({_SCRAPE})
group by ({_SCRAPE}, node) (vgpumonitor_build_info{{node!=""}})
or on ({_SCRAPE})
label_replace(
  group by ({_SCRAPE}) (vgpumonitor_build_info),
  "node", "$1", "instance", "(.+?)(?::[0-9]+)?"
)""",
            ),
            Recording(
                "device:vgpu_card:info",
                f"""\
label_replace(
  group by ({_SCRAPE}, node, device_index, device_uuid) (vgpu_device_info),
  "card_uuid", "$1", "device_uuid", "(.+)"
)
or
group by ({_SCRAPE}, node, device_index, device_uuid, card_uuid) (
  label_replace(
    label_replace(vgpu_mig_device_info, "card_uuid", "$1", "device_uuid", "(.+)"),
    "device_uuid", "$1", "mig_uuid", "(.+)"
  )
)""",
            ),
            *(
                Recording(f"container:{family}:sum", f"sum by ({_CONTAINER}) ({family})\n{_NODE}")
                for family in (*_USED, *_USED_BY_DRIVER)
            ),
            # Where no annotation says what was allocated, the limit stands in. koordlet gives
            # each container the limit of its pod, so the limits are not added up.
            _allocated(_ALLOCATED[0], "vgpu_memory_limit_bytes"),
            _allocated(_ALLOCATED[1], "vgpu_core_limit_ratio"),
            *(_pods(family) for family in _ALLOCATED),
            *(
                _of_pod(*families)
                for families in zip(_USED, _USED_BY_DRIVER, _ALLOCATED, strict=True)
            ),
            *(
                Recording(
                    f"namespace:{family}:sum",
                    f"sum by (cluster, namespace) (pod:{family}:sum)",
                )
                for family in (*_ALLOCATED, *_USED)
            ),
            # What is allocated and not used; a pod that uses more than its allocation wastes none.
            *(
                Recording(
                    f"namespace:{wasted}:sum",
                    f"""\
sum by (cluster, namespace) (
  clamp_min(pod:{allocated}:sum - pod:{used}:sum, 0)
)""",
                )
                for wasted, allocated, used in zip(_WASTED, _ALLOCATED, _USED, strict=True)
            ),
            *(
                Recording(f"card:{family}:sum", _per_card(f"{source}:{family}:sum"))
                for source, families in (("pod_device", _ALLOCATED), ("container", _USED))
                for family in families
            ),
            Recording(
                "card:vgpu_memory_limit_bytes:sum",
                _per_card(f"sum by ({_SCRAPE}, device_uuid) (vgpu_memory_limit_bytes)"),
            ),
            Recording(
                "card:vgpu_device_memory_unattributed_bytes:sum",
                f"sum by ({_PER_CARD}) (vgpu_device_memory_unattributed_bytes)",
            ),
            *(
                Recording(f"card:{family}:{operation}", f"{operation} by ({_PER_CARD}) ({family})")
                for family, operation in _OF_CARDS
            ),
            *(
                Recording(
                    f"node:{family}:{operation}",
                    f"{operation} by (cluster, node) (card:{family}:{operation})",
                )
                for family, operation in _OF_CARDS
            ),
            Recording(
                "node:vgpu_device_info:count",
                "count by (cluster, node) (card:vgpu_device_memory_total_bytes:sum)",
            ),
            *(
                Recording(f"node:{family}:sum", f"sum by (cluster, node) (pod:{family}:sum)")
                for family in (*_ALLOCATED, *_USED)
            ),
        ),
    ),
    # One sample in five minutes, so that looking back over seven days stays cheap.
    Group(
        "vgpu.peaks",
        (
            Recording(
                "container:vgpu_memory_used_bytes:max5m",
                "max_over_time(container:vgpu_memory_used_bytes:sum[5m])",
            ),
        ),
        interval="5m",
    ),
)

_CONTAINER_TEXT = (
    "Container {{ $labels.container }} of {{ $labels.namespace }}/{{ $labels.pod }} "
    "on {{ $labels.node }} (device {{ $labels.device_uuid }})"
)
_POD_TEXT = "Pod {{ $labels.namespace }}/{{ $labels.pod }} on {{ $labels.node }}"
_GPU_TEXT = "GPU {{ $labels.device_index }} of {{ $labels.node }} ({{ $labels.device_uuid }})"
_EXPORTER_TEXT = "The exporter of {{ $labels.node }} ({{ $labels.instance }})"

_THERMAL = '{reason=~"(hw|sw)_thermal_slowdown"}'
_BY_POD = "on (cluster, namespace, pod)"

ALERTS = (
    Group(
        "vgpu.exporter",
        (
            Alert(
                "VgpuMonitorDown",
                f"""\
up{{job=~"{JOBS}"}} == 0
or
(
  up == 0
  and on (cluster, job)
  group by (cluster, job) (last_over_time(vgpumonitor_build_info[1h]))
)""",
                "5m",
                "warning",
                "platform",
                "A vgpumonitor can't be scraped",
                "The exporter at {{ $labels.instance }} (job {{ $labels.job }}) has not answered "
                "Prometheus for 5 minutes: nothing is known of that node's GPUs.",
            ),
            Alert(
                "VgpuMonitorAbsent",
                f'absent(up{{job=~"{JOBS}"}})\nand\nabsent(vgpumonitor_build_info)',
                "10m",
                "critical",
                "platform",
                "Prometheus has no exporter to scrape",
                "Prometheus has known no vgpumonitor target for 10 minutes: no alert about GPUs "
                "can fire.",
            ),
            Alert(
                "VgpuMonitorRegionsUnreadable",
                f'vgpumonitor_regions{{state="unreadable"}}\n{_NODE}\n> 0',
                "10m",
                "warning",
                "platform",
                "Region files of containers can't be read",
                f"{_EXPORTER_TEXT} can't read the region files of {{{{ $value }}}} containers: "
                "they have no series.",
            ),
            Alert(
                "VgpuMonitorDirectoryMissing",
                f"""\
increase(vgpumonitor_region_errors_total{{reason="no_directory"}}[10m])
{_NODE}
> 0""",
                "10m",
                "warning",
                "platform",
                "The containers directory can't be read",
                f"{_EXPORTER_TEXT} failed to read its containers directory {{{{ $value | humanize "
                f"}}}} times in 10 minutes: no container of the node has series.",
            ),
            Alert(
                "VgpuMonitorNvmlDown",
                f"vgpumonitor_nvml_up\n{_NODE}\n== 0",
                "10m",
                "critical",
                "platform",
                "NVML does not answer",
                f"{_EXPORTER_TEXT} has had no answer from NVML for 10 minutes: the driver is gone, "
                "hangs, or can't be seen from the exporter's container.",
            ),
            Alert(
                "VgpuMonitorPodSourceStale",
                f"vgpumonitor_pod_source_up\n{_NODE}\n== 0",
                "10m",
                "warning",
                "platform",
                "The exporter's list of pods is stale",
                f"{_EXPORTER_TEXT} has not been able to read pods for 10 minutes: new containers "
                "have no pod name and no allocation, and clean-up pauses.",
            ),
            Alert(
                "VgpuMonitorFeedbackStopped",
                f"""\
(time() - vgpumonitor_feedback_last_round_timestamp_seconds)
{_NODE}
> {FEEDBACK_SECONDS}""",
                "2m",
                "warning",
                "platform",
                "Feedback has stopped",
                f"{_EXPORTER_TEXT} finished its last round of feedback "
                "{{ $value | humanizeDuration }} ago: priorities and core limits stay as they "
                "are, and blocked containers stay blocked.",
            ),
            Alert(
                "VgpuMonitorCleanupStopped",
                f"""\
(time() - vgpumonitor_gc_last_round_timestamp_seconds)
{_NODE}
> {CLEANUP_SECONDS}""",
                "5m",
                "warning",
                "platform",
                "Clean-up has stopped",
                f"{_EXPORTER_TEXT} finished its last round of clean-up "
                "{{ $value | humanizeDuration }} ago: directories of containers that are gone "
                "accumulate.",
            ),
        ),
    ),
    Group(
        "vgpu.workload",
        (
            Alert(
                "VgpuMemoryNearLimit",
                f"""\
container:vgpu_memory_used_bytes:sum
/ {_OF_CONTAINER}
vgpu_memory_limit_bytes
> {MEMORY_NEAR_LIMIT}""",
                "5m",
                "warning",
                "tenant",
                "GPU memory of a container is near its limit",
                f"{_CONTAINER_TEXT} uses {{{{ $value | humanizePercentage }}}} of its GPU memory "
                "limit: the next allocation may fail with an out-of-memory error.",
            ),
            Alert(
                "VgpuMemoryLimitPredicted",
                f"""\
(
  predict_linear(
    container:vgpu_memory_used_bytes:sum[{PREDICTED_WINDOW}], {PREDICTED_SECONDS}
  )
  / {_OF_CONTAINER}
  vgpu_memory_limit_bytes
  > 1
)
and on ({_CONTAINER})
(
  container:vgpu_memory_used_bytes:sum
  / {_OF_CONTAINER}
  vgpu_memory_limit_bytes
  > {PREDICTED_FROM}
)""",
                "15m",
                "info",
                "tenant",
                "GPU memory of a container will reach its limit within an hour",
                f"{_CONTAINER_TEXT} grows: at the pace of the last {PREDICTED_WINDOW} it will be "
                "at {{ $value | humanizePercentage }} of its GPU memory limit in an hour.",
            ),
            Alert(
                "VgpuCoreOverLimit",
                f"""\
(
  avg_over_time(container:vgpu_core_utilization_ratio:sum[15m])
  / {_OF_CONTAINER}
  vgpu_core_limit_ratio
  > {CORE_OVER_LIMIT}
)
and on ({_CONTAINER})
(min_over_time(vgpu_core_limit_enforced[15m]) == 1)""",
                "10m",
                "warning",
                "platform",
                "A container exceeds its GPU core limit",
                f"{_CONTAINER_TEXT} used {{{{ $value | humanizePercentage }}}} of its core limit "
                "in the last 15 minutes, although the limit is enforced.",
            ),
            Alert(
                "VgpuLaunchesBlocked",
                f"avg_over_time(vgpu_launches_blocked[10m])\n{_NODE}\n> {LAUNCHES_BLOCKED}",
                "20m",
                "warning",
                "tenant",
                "Kernel launches wait for a higher priority",
                f"{_CONTAINER_TEXT} could not launch kernels for {{{{ $value | "
                "humanizePercentage }} of the last 10 minutes: containers of a higher priority "
                "keep the GPU busy.",
            ),
            Alert(
                "VgpuIdle",
                f"""\
(pod:vgpu_allocated_memory_bytes:sum > 0)
and {_BY_POD}
(
  (
    time() - max by (cluster, namespace, pod) (vgpu_last_kernel_timestamp_seconds)
    > {IDLE_SECONDS}
  )
  or
  (
    (
      max by (cluster, namespace, pod) (
        max_over_time(vgpu_core_utilization_ratio[{IDLE_SECONDS}s])
      )
      == 0
    )
    and {_BY_POD} (vgpu_core_utilization_ratio offset {IDLE_SECONDS}s)
    unless {_BY_POD} (vgpu_last_kernel_timestamp_seconds)
  )
)
unless {_BY_POD} (max_over_time(vgpu_nvml_core_utilization_ratio[{IDLE_SECONDS}s]) > 0)""",
                "5m",
                "info",
                "tenant",
                "A pod holds GPU memory and launches no kernels",
                f"{_POD_TEXT} holds {{{{ $value | humanize1024 }}}}B of GPU memory and has "
                "launched no kernel for more than an hour.",
            ),
            Alert(
                "VgpuNeverUsed",
                f"""\
(pod:vgpu_allocated_memory_bytes:sum > 0)
unless {_BY_POD} (vgpu_region_info)
unless {_BY_POD} (vgpu_nvml_memory_used_bytes)
unless {_HIDDEN}""",
                "1h",
                "info",
                "tenant",
                "A pod has a GPU allocated and has never used it",
                f"{_POD_TEXT} has {{{{ $value | humanize1024 }}}}B of GPU memory allocated and has "
                "made no CUDA call in an hour.",
            ),
            Alert(
                "VgpuMemoryBypassed",
                f"vgpu_memory_bypassed_bytes\n{_NODE}\n> {BYPASSED_BYTES}",
                "10m",
                "warning",
                "platform",
                "A container has GPU memory that HAMi-core does not know of",
                f"{_CONTAINER_TEXT} has {{{{ $value | humanize1024 }}}}B in processes that are not "
                "in its region: its limits do not hold for them.",
            ),
            Alert(
                "VgpuDeadProcessMemory",
                f"vgpu_dead_process_memory_bytes\n{_NODE}\n> {DEAD_PROCESS_BYTES}",
                "15m",
                "warning",
                "tenant",
                "Dead processes count against a container's GPU memory limit",
                f"{_CONTAINER_TEXT} has {{{{ $value | humanize1024 }}}}B of its limit taken up by "
                "processes that no longer exist.",
            ),
        ),
    ),
    Group(
        "vgpu.oversized",
        (
            Alert(
                "VgpuOversized",
                f"""\
(
  max_over_time(container:vgpu_memory_used_bytes:max5m[7d])
  / {_OF_CONTAINER}
  vgpu_memory_limit_bytes
  < {OVERSIZED}
)
and on ({_CONTAINER})
(count_over_time(container:vgpu_memory_used_bytes:max5m[7d]) >= {OVERSIZED_PEAKS})""",
                "0s",
                "info",
                "tenant",
                "A container needs far less GPU memory than its limit",
                f"{_CONTAINER_TEXT} used at most {{{{ $value | humanizePercentage }}}} of its GPU "
                "memory limit in 7 days.",
            ),
        ),
        interval="15m",
    ),
    Group(
        "vgpu.card",
        (
            Alert(
                "VgpuCardMemoryFull",
                f"""\
vgpu_device_memory_used_bytes
/ on ({_SCRAPE}, device_uuid) group_left ()
vgpu_device_memory_total_bytes
> {CARD_FULL}""",
                "10m",
                "warning",
                "platform",
                "The memory of a GPU is nearly full",
                f"{_GPU_TEXT} has {{{{ $value | humanizePercentage }}}} of its memory in use: "
                "containers can run out of memory below their limits.",
            ),
            Alert(
                "VgpuCardOvercommitted",
                f"""\
card:vgpu_memory_limit_bytes:sum
/ on ({_PER_CARD})
card:vgpu_device_memory_total_bytes:sum
> {CARD_OVERCOMMITTED}""",
                "15m",
                "info",
                "platform",
                "The memory limits on a GPU add up to more than its memory",
                f"{_GPU_TEXT} has containers whose memory limits add up to {{{{ $value | "
                "humanizePercentage }} of its memory.",
            ),
            Alert(
                "VgpuCardSaturated",
                f"avg_over_time(vgpu_device_core_utilization_ratio[30m]) > {CARD_SATURATED}",
                "15m",
                "info",
                "platform",
                "The cores of a GPU are saturated",
                f"{_GPU_TEXT} was {{{{ $value | humanizePercentage }}}} busy in the last 30 "
                "minutes: its containers wait for each other.",
            ),
            Alert(
                "VgpuMemoryUnattributed",
                f"vgpu_device_memory_unattributed_bytes > {UNATTRIBUTED_BYTES}",
                "15m",
                "warning",
                "platform",
                "GPU memory of processes in no container",
                f"{_GPU_TEXT} has {{{{ $value | humanize1024 }}}}B in use by processes that are "
                "in no container of the node's Kubernetes: no limit applies to them.",
            ),
            Alert(
                "VgpuCardEccUncorrected",
                'increase(vgpu_device_ecc_errors_total{kind="uncorrected"}[1h]) > 0',
                "0s",
                "critical",
                "platform",
                "A GPU has memory errors that ECC could not correct",
                f"{_GPU_TEXT} had {{{{ $value | humanize }}}} uncorrected ECC errors in the last "
                "hour: results computed on it may be wrong, and the driver kills its processes.",
            ),
            Alert(
                "VgpuCardEccCorrected",
                f'increase(vgpu_device_ecc_errors_total{{kind="corrected"}}[1d]) > {ECC_CORRECTED}',
                "0s",
                "info",
                "platform",
                "A GPU has many corrected memory errors",
                f"{_GPU_TEXT} had {{{{ $value | humanize }}}} corrected ECC errors in the last "
                "day.",
            ),
            Alert(
                "VgpuCardThermalThrottling",
                f"""\
max by ({_SCRAPE}, node, device_index, device_uuid) (
  avg_over_time(vgpu_device_throttled{_THERMAL}[10m])
)
> {THERMAL_THROTTLING}""",
                "5m",
                "warning",
                "platform",
                "Heat holds the clocks of a GPU down",
                f"{_GPU_TEXT} ran with clocks held down by heat for {{{{ $value | "
                "humanizePercentage }} of the last 10 minutes.",
            ),
        ),
    ),
)
