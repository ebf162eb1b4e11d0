"""Recording rules and alerts, as data; ``python -m alerts.generate`` writes them as YAML.

Every series of a container names its node and device, so rules group by what they sum and need no
join to find it. ``job`` and ``instance`` are dropped with ``max`` before anything is summed or
looked back at: an exporter that two jobs scrape counts once, and one whose pod moved is the same.
``cluster`` is optional: without it the label is empty everywhere. The scrape has to keep the
exporter's own ``namespace``, ``pod`` and ``container`` (honor_labels: true).

A pod's series are by device and name its workload, so that all levels above are plain sums of them.
Each series that a rule reads or writes costs about the same, whatever is done with it: what two
rules need is recorded once, and a level is summed from the smallest that has what it needs.

Use has two witnesses: the driver, where it tells, otherwise HAMi-core. What neither tells has no
series, and is not taken for 0. What is idle is allocated and not used in the mean of 15 minutes;
a pod younger than that is neither.
"""

from __future__ import annotations

from alerts.config import JOBS
from alerts.hardware import HARDWARE
from alerts.model import AGO as _AGO
from alerts.model import CARD as _CARD
from alerts.model import GPU_TEXT as _GPU_TEXT
from alerts.model import NODE as _NODE
from alerts.model import PERCENT as _PERCENT
from alerts.model import TIMES as _TIMES
from alerts.model import UUID as _UUID
from alerts.model import Alert, Group, Recording
from alerts.model import at as _at
from alerts.model import once as _once
from alerts.model import once_above as _once_above
from vgpumonitor.diagnosis import KINDS

#: Peaks of an hour that a container must have to be called oversized; seven days have 168.
OVERSIZED_PEAKS = 158
#: What an hour of a GPU costs, where its model has a price of its own.
PRICE = "model:vgpu_gpu_hour_price:vector"

_SCRAPE = "cluster, job, instance"
_POD = f"{_NODE}, namespace, pod"
_POD_DEVICE = f"{_POD}, device_index, device_uuid"
#: What joins a pod's series with its workload.
_WITH_WORKLOAD = f"""\
* on ({_POD}) group_left (workload_kind, workload)
pod:vgpu_workload:info"""
_CONTAINER = f"{_POD}, container, device_index, device_uuid, mig_uuid"
_WORKLOAD = "cluster, namespace, workload_kind, workload"


def _best(family: str, of_driver: str, of_hami_core: str) -> Recording:
    return Recording(
        f"container:{family}:best",
        _once(_CONTAINER, f"\n  {of_driver}\n  or on ({_CONTAINER})\n  {of_hami_core}\n"),
    )


def _allocated(family: str, limit: str) -> Recording:
    """Where no annotation says what was allocated, the limit stands in. koordlet gives each
    container the limit of its pod, so the limits are not added up."""
    return Recording(
        f"pod:{family}:sum",
        f"""\
sum by ({_POD_DEVICE}) (
  max by ({_POD_DEVICE}, device_minor) (
    {family}
    or on ({_POD})
    {limit}
  )
)
{_WITH_WORKLOAD}""",
    )


def _of_card(family: str) -> Recording:
    """0 for a GPU of which nothing is allocated, which is known only where the pods are."""
    return Recording(
        f"card:{family}:sum",
        f"""\
sum by ({_CARD}) (pod:{family}:sum{{device_uuid!=""}})
or on ({_UUID})
(
  0 * card:vgpu_device_memory_total_bytes:max
  and on ({_NODE}) vgpumonitor_pod_source_synced_timestamp_seconds
)""",
    )


def _sums(level: str, labels: str, source: str, *families: str) -> tuple[Recording, ...]:
    return tuple(
        Recording(f"{level}:{family}:sum", f"sum by ({labels}) ({source}:{family}:sum)")
        for family in families
    )


def _idle(family: str, allocated: str, used: str) -> Recording:
    series = f"pod:{used}:sum"
    return Recording(
        f"pod:{family}:sum",
        f"""\
clamp_min(pod:{allocated}:sum - avg_over_time({series}[15m]), 0)
and
{series} offset 15m""",
    )


def _largest(record: str, series: str) -> Recording:
    """Of the shares that the workload's pods have of GPUs."""
    return Recording(record, f"max by ({_WORKLOAD}) ({series})")


def _hours(what: str, series: str, family: str) -> Recording:
    """GPU hours of five minutes, by the GPU's model; without one where the GPU that has a share of
    ``family`` is not known."""
    return Recording(
        f"workload:{what}:sum5m",
        f"""\
sum by ({_WORKLOAD}, name) (
  {series}
  * on ({_UUID}) group_left (name)
  (
    card:vgpu_device_info:group
    or on ({_UUID})
    group by ({_UUID}) (card:{family}:sum or pod:{family}:sum{{device_uuid=""}})
  )
)
/ 12""",
    )


_OF_LIMIT = "container:vgpu_memory_limit_used:ratio"
_ALLOCATED = ("vgpu_allocated_memory_bytes", "vgpu_allocated_core_ratio")
_USED = ("vgpu_memory_used_bytes", "vgpu_core_utilization_ratio")
_IDLE = ("vgpu_idle_memory_bytes", "vgpu_idle_core_ratio")
_NOW = (*_ALLOCATED, *_USED)
_OF_DEVICES = (
    "vgpu_device_memory_total_bytes",
    "vgpu_device_memory_used_bytes",
    "vgpu_device_core_utilization_ratio",
    "vgpu_device_memory_unattributed_bytes",
)
#: Their free memory can be had in the sizes of MIG profiles only.
_UNLESS_MIG = f"unless on ({_UUID}) vgpu_mig_device_info"

RECORDING = (
    Group(
        "vgpu.levels",
        "1m",
        (
            Recording(
                "container:vgpu_memory_used_bytes:sum",
                _once(_CONTAINER, "sum without (kind) (vgpu_memory_used_bytes)"),
            ),
            _best(_USED[0], "vgpu_nvml_memory_used_bytes", "container:vgpu_memory_used_bytes:sum"),
            _best(_USED[1], "vgpu_nvml_core_utilization_ratio", _USED[1]),
            Recording(
                "container:vgpu_memory_limit_bytes:max",
                _once(_CONTAINER, "vgpu_memory_limit_bytes"),
            ),
            # HAMi-core's account is what it compares with the limit.
            Recording(
                _OF_LIMIT,
                "container:vgpu_memory_used_bytes:sum / container:vgpu_memory_limit_bytes:max",
            ),
            # A pod has one workload; two exporters may differ about it for a moment.
            Recording(
                "pod:vgpu_workload:info",
                f"""\
topk by ({_POD}) (1,
  group by ({_POD}, workload_kind, workload) (vgpu_pod_info)
)""",
            ),
            # A pod without a region and without a process that the driver knows uses nothing,
            # where the exporter would see one.
            Recording(
                f"pod:{_USED[0]}:sum",
                f"""\
(
  sum by ({_POD_DEVICE}) (container:{_USED[0]}:best)
  or
  0 * max by ({_POD_DEVICE}) (
    {_ALLOCATED[0]}{{device_uuid!=""}}
    unless on ({_POD}) vgpu_region_info
    and on ({_NODE}) (vgpumonitor_host_processes_visible == 1)
    and on ({_NODE}) (vgpumonitor_nvml_up == 1)
  )
)
{_WITH_WORKLOAD}""",
            ),
            Recording(
                f"pod:{_USED[1]}:sum",
                f"""\
sum by ({_POD_DEVICE}) (container:{_USED[1]}:best)
{_WITH_WORKLOAD}
or
(pod:{_USED[0]}:sum == 0)""",
            ),
            Recording(
                "card:vgpu_device_info:group", f"group by ({_UUID}, name) (vgpu_device_info)"
            ),
            *(Recording(f"card:{family}:max", _once(_CARD, family)) for family in _OF_DEVICES),
        ),
    ),
    # What changes when a pod comes or goes, sums, and means of a quarter of an hour.
    Group(
        "vgpu.sums",
        "3m",
        (
            _allocated(_ALLOCATED[0], "container:vgpu_memory_limit_bytes:max"),
            _allocated(_ALLOCATED[1], "vgpu_core_limit_ratio"),
            *_sums("workload", _WORKLOAD, "pod", *_NOW),
            *_sums("namespace", "cluster, namespace", "workload", *_NOW),
            *(_of_card(family) for family in _ALLOCATED),
            *_sums("card", _CARD, "pod", *_USED),
            Recording(
                "card:vgpu_free_memory_bytes:sum",
                f"""\
clamp_min(card:vgpu_device_memory_total_bytes:max - card:{_ALLOCATED[0]}:sum, 0)
{_UNLESS_MIG}""",
            ),
            Recording(
                "card:vgpu_free_core_ratio:sum",
                f"clamp_min(1 - card:{_ALLOCATED[1]}:sum, 0)\n{_UNLESS_MIG}",
            ),
            # The smaller of the two shares: what a pod that asks for as much of both can have.
            Recording(
                "card:vgpu_free_ratio:min",
                """\
card:vgpu_free_memory_bytes:sum / card:vgpu_device_memory_total_bytes:max
<= card:vgpu_free_core_ratio:sum
or
card:vgpu_free_core_ratio:sum""",
            ),
            Recording(
                "node:vgpu_device_info:count",
                f"count by ({_NODE}) (card:vgpu_device_memory_total_bytes:max)",
            ),
            *(
                Recording(f"node:{family}:sum", f"sum by ({_NODE}) (card:{family}:max)")
                for family in _OF_DEVICES[:2]
            ),
            Recording(
                "node:vgpu_device_core_utilization_ratio:avg",
                f"avg by ({_NODE}) (card:vgpu_device_core_utilization_ratio:max)",
            ),
            *_sums("node", _NODE, "card", *_USED),
            # An allocation whose GPU is not known counts too.
            *(
                Recording(
                    f"node:{family}:sum",
                    f"""\
sum by ({_NODE}) (
  card:{family}:sum
  or
  pod:{family}:sum{{device_uuid=""}}
)""",
                )
                for family in _ALLOCATED
            ),
            *(
                Recording(f"node:{family}:max", f"max by ({_NODE}) (card:{family}:{operation})")
                for family, operation in (
                    ("vgpu_free_memory_bytes", "sum"),
                    ("vgpu_free_core_ratio", "sum"),
                    ("vgpu_free_ratio", "min"),
                )
            ),
            Recording(
                "cluster:vgpu_device_info:count", "sum by (cluster) (node:vgpu_device_info:count)"
            ),
            *_sums("cluster", "cluster", "node", *_OF_DEVICES[:2], *_NOW),
            *(_idle(*families) for families in zip(_IDLE, _ALLOCATED, _USED, strict=True)),
            *_sums("workload", _WORKLOAD, "pod", *_IDLE),
            *_sums("namespace", "cluster, namespace", "workload", *_IDLE),
            *_sums("node", _NODE, "pod", *_IDLE),
            *_sums("cluster", "cluster", "node", *_IDLE),
        ),
    ),
    # One sample in five minutes, so that looking back over a day stays cheap; and what stays
    # unknown for as long as nothing changes.
    Group(
        "vgpu.history",
        "5m",
        (
            Recording(
                "node:vgpumonitor_build_info:group", f"group by ({_NODE}) (vgpumonitor_build_info)"
            ),
            Recording("card:vgpu_device_seen:group", "card:vgpu_device_info:group"),
            Recording(
                "card:vgpu_device_ecc_errors_total:max",
                _once(f"{_CARD}, kind", "vgpu_device_ecc_errors_total"),
            ),
            Recording(
                "container:vgpu_memory_used_bytes:max5m",
                "max_over_time(container:vgpu_memory_used_bytes:best[5m])",
            ),
            *(_largest(f"workload:{family}:max", f"pod:{family}:sum") for family in _ALLOCATED),
            _largest(f"workload:{_USED[0]}:max5m", f"max_over_time(pod:{_USED[0]}:sum[5m])"),
            _largest(f"workload:{_USED[1]}:avg5m", f"avg_over_time(pod:{_USED[1]}:sum[5m])"),
            Recording(
                f"workload:{_ALLOCATED[0]}:count",
                f"count by ({_WORKLOAD}) (pod:{_ALLOCATED[0]}:sum)",
            ),
            # What sums of use leave out: what neither witness tells of.
            Recording(
                "pod:vgpu_use_unknown:group",
                "\nor\n".join(
                    f"""\
label_replace(
  group by ({_POD}, workload_kind, workload) (
    pod:{allocated}:sum unless pod:{used}:sum
  ),
  "resource", "{resource}", "", ""
)"""
                    for resource, allocated, used in zip(
                        ("memory", "cores"), _ALLOCATED, _USED, strict=True
                    )
                ),
            ),
            _hours("vgpu_allocated_gpu_hours", f"pod:{_ALLOCATED[1]}:sum", _ALLOCATED[1]),
            _hours("vgpu_used_gpu_hours", f"avg_over_time(pod:{_USED[1]}:sum[5m])", _USED[1]),
            _hours("vgpu_idle_gpu_hours", f"pod:{_IDLE[1]}:sum", _ALLOCATED[1]),
        ),
    ),
    # For what looks back over a week at every container.
    Group(
        "vgpu.hours",
        "1h",
        (
            Recording(
                "container:vgpu_memory_used_bytes:max1h",
                "max_over_time(container:vgpu_memory_used_bytes:max5m[1h])",
            ),
        ),
    ),
)


_CONTAINER_TEXT = (
    "Container {{ $labels.container }} of {{ $labels.namespace }}/{{ $labels.pod }} "
    "on GPU {{ $labels.device_index }} of {{ $labels.node }}"
)
_POD_TEXT = "Pod {{ $labels.namespace }}/{{ $labels.pod }} on {{ $labels.node }}"
_EXPORTER_TEXT = "The exporter of {{ $labels.node }}"
_BYTES = "{{ $value | humanize1024 }}B"

_THERMAL = '{reason=~"(hw|sw)_thermal_slowdown"}'
#: hw_slowdown is also set by heat.
_POWER = '{reason=~"hw_power_brake_slowdown|hw_slowdown"}'
_MALFORMED = '{reason=~"bad_.+|unknown_layout"}'
#: The exporters that answer, whatever their jobs are named, with their nodes.
_ANSWERING = (
    f"on ({_SCRAPE}) group_left (node)\ngroup by ({_SCRAPE}, node) (vgpumonitor_build_info)"
)
#: A pod with the label vgpu-alerts: "off", which the exporter has with --pod-labels=vgpu-alerts.
_UNLESS_MUTED = f'unless on ({_POD}) vgpu_pod_info{{label_vgpu_alerts="off"}}'
#: GPUs on which several containers share the memory; MIG devices have memory of their own.
_SHARED = f"""\
and on ({_UUID})
(count by ({_UUID}) (container:vgpu_memory_used_bytes:best{{mig_uuid=""}} > 0) > 1)"""
_SEEN = "last_over_time(card:vgpu_device_seen:group[1d])"
_LIMIT = "container:vgpu_memory_limit_bytes:max"
_CORE_LIMIT = _once(_CONTAINER, "vgpu_core_limit_ratio")
_DOWN = f"""\
(
  up{{job=~"{JOBS}"}} == 0
  or
  up == 0
  and on (cluster, job)
  group by (cluster, job) (last_over_time(vgpumonitor_build_info[1h]))
)"""


#: Findings that have no alert of their own.
_OTHER_FINDINGS = f'{{severity!="info", id!~"{"|".join(kind.id for kind in KINDS if kind.alert)}"}}'


def _throttled(reasons: str) -> str:
    share = f"avg_over_time(vgpu_device_throttled{reasons}[10m])"
    return _once_above(_CARD, share, "throttling")


def _risen(kind: str, window: str) -> str:
    """By a whole number, which increase() would not give."""
    errors = f'card:vgpu_device_ecc_errors_total:max{{kind="{kind}"}}'
    return f"{errors} - min_over_time({errors}[{window}])"


def _predicted(window: str) -> str:
    return f"predict_linear({_OF_LIMIT}[{window}], 3600) > 1"


ALERTS = (
    Group(
        "vgpu.exporter",
        # What lasts for ten minutes is seen no later; a minute would cost twice as much.
        "2m",
        (
            Alert(
                "VgpuMonitorDown",
                # With the node that the exporter last named, where it has answered.
                f"""\
{_DOWN}
* on ({_SCRAPE}) group_left (node)
topk by ({_SCRAPE}) (1, group by ({_SCRAPE}, node) (last_over_time(vgpumonitor_build_info[1h])))
or on ({_SCRAPE})
{_DOWN}""",
                "10m",
                "critical",
                "platform",
                "A vgpumonitor can't be scraped",
                "The exporter {{ if $labels.node }}of {{ $labels.node }} {{ end }}at "
                "{{ $labels.instance }} (job {{ $labels.job }}) has not answered Prometheus for "
                "10 minutes: nothing is known of that node's GPUs.",
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
                "VgpuMonitorRestarting",
                # Each start is later than the one before. Not changes(), which in VictoriaMetrics
                # counts a series' first sample too.
                f"""\
{
                    _once(
                        _NODE,
                        f'''
  resets((-process_start_time_seconds)[1h:1m])
  * {_ANSWERING}
''',
                    )
                }
> {_at("exporter_starts")}""",
                "0s",
                "warning",
                "platform",
                "An exporter restarts again and again",
                f"{_EXPORTER_TEXT} was restarted {_TIMES} times in the last hour: its series have "
                "gaps.",
            ),
            Alert(
                "VgpuMonitorScrapeSlow",
                f"""\
{
                    _once(
                        _NODE,
                        f'''
  avg_over_time(scrape_duration_seconds[10m])
  * {_ANSWERING}
''',
                    )
                }
> {_at("scrape_seconds")}""",
                "10m",
                "warning",
                "platform",
                "Scrapes of an exporter take too long",
                f"{_EXPORTER_TEXT} takes {_AGO} to answer a scrape: Prometheus may give up before "
                "it has.",
            ),
            Alert(
                "VgpuMonitorRegionsUnreadable",
                f'{_once(_NODE, """vgpumonitor_regions{state="unreadable"}""")} > 0',
                "10m",
                "warning",
                "platform",
                "Region files of containers can't be read",
                f"{_EXPORTER_TEXT} can't read the region files of {{{{ $value }}}} containers: "
                "they have no series.",
            ),
            Alert(
                "VgpuMonitorRegionsMalformed",
                f"""\
{_once(f"{_NODE}, reason", f"increase(vgpumonitor_region_errors_total{_MALFORMED}[10m]) > 0")}""",
                "10m",
                "warning",
                "platform",
                "Region files have contents that can't be true",
                f"{_EXPORTER_TEXT} left out values of region files {_TIMES} times in 10 minutes "
                "({{ $labels.reason }}): some containers lack series.",
            ),
            Alert(
                "VgpuMonitorDirectoryMissing",
                f"""\
{_once(_NODE, '''increase(vgpumonitor_region_errors_total{reason="no_directory"}[10m])''')}
> 0""",
                "10m",
                "warning",
                "platform",
                "The containers directory can't be read",
                f"{_EXPORTER_TEXT} failed to read its containers directory {_TIMES} times in 10 "
                "minutes: no container of the node has series.",
            ),
            Alert(
                "VgpuMonitorNvmlDown",
                f"{_once(_NODE, 'vgpumonitor_nvml_up')} == 0",
                "10m",
                "critical",
                "platform",
                "NVML does not answer",
                f"{_EXPORTER_TEXT} has had no answer from NVML for 10 minutes: the driver is gone, "
                "hangs, or can't be seen from the exporter's container.",
            ),
            Alert(
                "VgpuMonitorNvmlErrors",
                f"""\
{_once(f"{_NODE}, call, device_uuid", "increase(vgpumonitor_nvml_errors_total[10m])")}
> 0""",
                "10m",
                "warning",
                "platform",
                "Calls of NVML fail",
                f"{_EXPORTER_TEXT} had {_TIMES} failures of {{{{ $labels.call }}}} for "
                "{{ $labels.device_uuid }} in 10 minutes: the GPU lacks series.",
            ),
            Alert(
                "VgpuMonitorPodSourceStale",
                f"{_once(_NODE, 'vgpumonitor_pod_source_up')} == 0",
                "10m",
                "warning",
                "platform",
                "The exporter's list of pods is stale",
                f"{_EXPORTER_TEXT} has not been able to read pods for 10 minutes: new containers "
                "have no pod name and no allocation, and clean-up pauses.",
            ),
            Alert(
                "VgpuMonitorPodsOutdated",
                f"""\
time() - {_once(_NODE, "vgpumonitor_pod_source_synced_timestamp_seconds")}
> {_at("pods_seconds")}
unless on ({_NODE})
(vgpumonitor_pod_source_up == 0)""",
                "10m",
                "warning",
                "platform",
                "The exporter's list of pods is old",
                f"{_EXPORTER_TEXT} reads a list of pods that was complete {_AGO} ago: allocations "
                "of pods that came or went since are missing or wrong.",
            ),
            Alert(
                "VgpuMonitorAnnotationErrors",
                # For as long as it is wrong, and of pods that were gone before the next scrape.
                f"""\
{_once(_NODE, 'vgpumonitor_findings{id="annotation-invalid"}')} > 0
or
sum by ({_NODE}) (
  {_once(f"{_NODE}, annotation", "increase(vgpumonitor_annotation_errors_total[15m])")}
)
> 0""",
                "0s",
                "warning",
                "platform",
                "An allocation of a pod can't be understood",
                f"{_EXPORTER_TEXT} could not understand an annotation that says what a pod was "
                "allocated: what the pod has is not known.",
            ),
            Alert(
                "VgpuMonitorFinding",
                f"{_once(f'{_NODE}, id', f'vgpumonitor_findings{_OTHER_FINDINGS}')} > 0",
                "15m",
                "warning",
                "platform",
                "An exporter finds something wrong on its node",
                f"{_EXPORTER_TEXT} has found {{{{ $labels.id }}}} in {{{{ $value }}}} places for "
                "15 minutes: `vgpumonitor doctor` says what it is and what to do.",
            ),
            Alert(
                "VgpuMonitorFeedbackStopped",
                f"""\
time() - {_once(_NODE, "vgpumonitor_feedback_last_round_timestamp_seconds")}
> {_at("feedback_seconds")}""",
                "2m",
                "warning",
                "platform",
                "Feedback has stopped",
                f"{_EXPORTER_TEXT} finished its last round of feedback {_AGO} ago: priorities and "
                "core limits stay as they are, and blocked containers stay blocked.",
            ),
            Alert(
                "VgpuMonitorFeedbackFailing",
                f"""\
{_once(_NODE, "increase(vgpumonitor_feedback_failures_total[10m])")}
> 0""",
                "10m",
                "warning",
                "platform",
                "Feedback can't write into region files",
                f"{_EXPORTER_TEXT} failed {_TIMES} times in 10 minutes to write into a region "
                "file: a container may stay blocked, or keep a lifted limit.",
            ),
            Alert(
                "VgpuMonitorCleanupStopped",
                f"""\
time() - {_once(_NODE, "vgpumonitor_gc_last_round_timestamp_seconds")}
> {_at("cleanup_seconds")}""",
                "5m",
                "warning",
                "platform",
                "Clean-up has stopped",
                f"{_EXPORTER_TEXT} finished its last round of clean-up {_AGO} ago: directories of "
                "containers that are gone accumulate.",
            ),
            Alert(
                "VgpuMonitorCleanupFailing",
                f"""\
{_once(_NODE, "increase(vgpumonitor_gc_failures_total[30m])")}
> 0""",
                "30m",
                "warning",
                "platform",
                "Clean-up can't remove directories",
                f"{_EXPORTER_TEXT} failed {_TIMES} times in 30 minutes to remove the directory of "
                "a container that is gone.",
            ),
        ),
    ),
    Group(
        "vgpu.workload",
        "2m",
        (
            Alert(
                "VgpuMemoryNearLimit",
                f"""\
({_OF_LIMIT} > {_at("memory_near_limit")}
)
>
({_OF_LIMIT} offset 30m + {_at("memory_growth")}
)
{_UNLESS_MUTED}""",
                "5m",
                "warning",
                "tenant",
                "GPU memory of a container grows and is near its limit",
                f"{_CONTAINER_TEXT} uses {_PERCENT} of its GPU memory limit and grew in the last "
                "30 minutes: the next allocation may fail with an out-of-memory error.",
            ),
            Alert(
                "VgpuMemoryLimitPredicted",
                # Over half an hour and over its last ten minutes, and not without that history:
                # a job that fills its memory at the start has stopped growing by then.
                f"""\
({_predicted("30m")})
and
({_predicted("10m")})
and
{_OF_LIMIT} offset 30m
and
({_OF_LIMIT} > {_at("memory_predicted_from")}
)
{_UNLESS_MUTED}""",
                "15m",
                "info",
                "tenant",
                "GPU memory of a container will reach its limit within an hour",
                f"{_CONTAINER_TEXT} grows: at the pace of the last 30 minutes it will be at "
                f"{_PERCENT} of its GPU memory limit in an hour.",
            ),
            Alert(
                "VgpuMemoryOverLimit",
                f"""\
container:vgpu_memory_used_bytes:best / {_LIMIT}
> {_at("memory_over_limit")}""",
                "10m",
                "warning",
                "platform",
                "A container holds more GPU memory than its limit",
                f"{_CONTAINER_TEXT} holds {_PERCENT} of its GPU memory limit: the limit does not "
                "hold, and others may lack the memory.",
            ),
            Alert(
                "VgpuMemoryBypassed",
                f"""\
{_once_above(_CONTAINER, "vgpu_memory_bypassed_bytes", "memory_bypassed_bytes")}""",
                "10m",
                "warning",
                "platform",
                "A container has GPU memory that HAMi-core does not know of",
                f"{_CONTAINER_TEXT} has {_BYTES} in processes that are not in its region: its "
                "limits do not hold for them.",
            ),
            Alert(
                "VgpuDeadProcessMemory",
                f"""\
{_once_above(_CONTAINER, "vgpu_dead_process_memory_bytes", "dead_process_bytes")}
{_UNLESS_MUTED}""",
                "15m",
                "warning",
                "tenant",
                "Dead processes count against a container's GPU memory limit",
                f"{_CONTAINER_TEXT} has {_BYTES} of its limit taken up by processes that no longer "
                "exist.",
            ),
            Alert(
                "VgpuCoreOverLimit",
                f"""\
(
  avg_over_time(container:vgpu_core_utilization_ratio:best[15m]) - {_CORE_LIMIT}
  > {_at("core_over_limit_share")}
)
/ {_CORE_LIMIT} + 1
> {_at("core_over_limit")}
and
{_once(_CONTAINER, "vgpu_core_limit_enforced == 1")}""",
                # For as long as the mean looks back, the limit held whenever it was looked at.
                "15m",
                "warning",
                "platform",
                "A container exceeds its GPU core limit",
                f"{_CONTAINER_TEXT} used {_PERCENT} of its core limit in the last 15 minutes, "
                "although the limit is enforced.",
            ),
            Alert(
                "VgpuLaunchesBlocked",
                f"""\
{_once_above(_CONTAINER, "avg_over_time(vgpu_launches_blocked[10m])", "launches_blocked")}
{_UNLESS_MUTED}""",
                "20m",
                "warning",
                "tenant",
                "Kernel launches wait for a higher priority",
                f"{_CONTAINER_TEXT} could not launch kernels for {_PERCENT} of the last 10 "
                "minutes: containers of a higher priority keep the GPU busy.",
            ),
        ),
    ),
    Group(
        "vgpu.unused",
        "5m",
        (
            Alert(
                "VgpuIdle",
                # Some releases of HAMi-core don't record the last kernel, and without HAMi-core
                # nothing does: an hour of utilization stands in for it.
                f"""\
(sum by ({_POD}) (pod:vgpu_allocated_memory_bytes:sum) > 0)
and on ({_POD})
(
  time() - {_once(_POD, "vgpu_last_kernel_timestamp_seconds")} > {_at("idle_seconds")}
  or
  (pod:vgpu_memory_used_bytes:sum > 0)
  and
  pod:vgpu_core_utilization_ratio:sum offset 1h
  unless on ({_POD})
  vgpu_last_kernel_timestamp_seconds
)
unless on ({_POD})
(max_over_time(pod:vgpu_core_utilization_ratio:sum[1h]) > 0)
{_UNLESS_MUTED}""",
                "5m",
                "info",
                "tenant",
                "A pod holds GPU memory and launches no kernels",
                f"{_POD_TEXT} holds {_BYTES} of GPU memory and has launched no kernel for more "
                "than an hour.",
            ),
            Alert(
                "VgpuNeverUsed",
                f"""\
(sum by ({_POD}) (pod:vgpu_allocated_memory_bytes:sum) > 0)
and
(sum by ({_POD}) (pod:vgpu_memory_used_bytes:sum) == 0)
unless on ({_POD})
vgpu_region_info
{_UNLESS_MUTED}""",
                "1h",
                "info",
                "tenant",
                "A pod has a GPU allocated and has never used it",
                f"{_POD_TEXT} has {_BYTES} of GPU memory allocated and has made no CUDA call in an "
                "hour.",
            ),
        ),
    ),
    Group(
        "vgpu.card",
        "2m",
        (
            Alert(
                "VgpuCardMemoryFull",
                f"""\
card:vgpu_device_memory_used_bytes:max / card:vgpu_device_memory_total_bytes:max
> {_at("card_full")}
{_SHARED}""",
                "10m",
                "warning",
                "platform",
                "The memory of a shared GPU is nearly full",
                f"{_GPU_TEXT} has {_PERCENT} of its memory in use: its containers can run out of "
                "memory below their limits.",
            ),
            Alert(
                "VgpuCardOvercommitted",
                f"""\
card:vgpu_allocated_memory_bytes:sum / card:vgpu_device_memory_total_bytes:max
> {_at("card_overcommitted")}
{_UNLESS_MIG}""",
                "15m",
                "info",
                "platform",
                "More memory of a GPU is allocated than it has",
                f"{_GPU_TEXT} has {_PERCENT} of its memory allocated to pods.",
            ),
            Alert(
                "VgpuCardSaturated",
                f"""\
avg_over_time(card:vgpu_device_core_utilization_ratio:max[30m]) > {_at("card_saturated")}
and on ({_UUID})
(
  count by ({_UUID}) (
    avg_over_time(container:vgpu_core_utilization_ratio:best[30m]) > {_at("active_container")}
  )
  > 1
)""",
                "15m",
                "info",
                "platform",
                "Containers contend for the cores of a GPU",
                f"{_GPU_TEXT} was {_PERCENT} busy in the last 30 minutes with more than one "
                "container: they wait for each other.",
            ),
            Alert(
                "VgpuMemoryUnattributed",
                f"""\
card:vgpu_device_memory_unattributed_bytes:max
> {_at("unattributed_bytes")}""",
                "15m",
                "warning",
                "platform",
                "GPU memory of processes in no container",
                f"{_GPU_TEXT} has {_BYTES} in use by processes that are in no container of the "
                "node's Kubernetes: no limit applies to them.",
            ),
            Alert(
                "VgpuCardThermalThrottling",
                _throttled(_THERMAL),
                "5m",
                "warning",
                "platform",
                "Heat holds the clocks of a GPU down",
                f"{_GPU_TEXT} ran with clocks held down by heat for {_PERCENT} of the last 10 "
                "minutes.",
            ),
            Alert(
                "VgpuCardPowerBrake",
                f"""\
{_throttled(_POWER)}
unless
{_throttled(_THERMAL)}""",
                "5m",
                "warning",
                "platform",
                "The power supply holds the clocks of a GPU down",
                f"{_GPU_TEXT} ran with clocks held down by a hardware slowdown that is not heat "
                f"for {_PERCENT} of the last 10 minutes: look at its power supply and cables.",
            ),
        ),
    ),
    HARDWARE,
    Group(
        "vgpu.days",
        "5m",
        (
            Alert(
                "VgpuMonitorMissing",
                f"""\
last_over_time(node:vgpumonitor_build_info:group[1d])
unless on ({_NODE})
vgpumonitor_build_info""",
                "15m",
                "critical",
                "platform",
                "A node has no exporter any more",
                "Node {{ $labels.node }} had an exporter within the last day, and Prometheus has "
                "none to scrape now: nothing is known of its GPUs. It stays silent again a day "
                "after a node was removed on purpose.",
            ),
            Alert(
                "VgpuCardLost",
                # One that the exporter knows to be lost, or, after the exporter was started anew,
                # one that NVML does not show, unless it is silent. Not one that another node has.
                f"""\
(
  {_SEEN}
  and on ({_UUID})
  (vgpu_device_up == 0)
  or
  {_SEEN}
  and on ({_NODE})
  (vgpumonitor_nvml_up == 1)
)
unless on (cluster, device_uuid)
(vgpu_device_up == 1)""",
                "10m",
                "critical",
                "platform",
                "A GPU is lost",
                "GPU {{ $labels.device_uuid }} ({{ $labels.name }}) was on {{ $labels.node }} "
                "within the last day, and NVML does not reach it any more: it has fallen off the "
                "bus, or was removed.",
            ),
            Alert(
                "VgpuCardEccUncorrected",
                f"{_risen('uncorrected', '1h')} > 0",
                "0s",
                "critical",
                "platform",
                "A GPU has memory errors that ECC could not correct",
                f"{_GPU_TEXT} had {_TIMES} uncorrected ECC errors in the last hour: results "
                "computed on it may be wrong, and the driver kills its processes.",
            ),
            Alert(
                "VgpuCardEccCorrected",
                f"""\
{_risen("corrected", "1d")}
> {_at("ecc_corrected")}""",
                "0s",
                "info",
                "platform",
                "A GPU has many corrected memory errors",
                f"{_GPU_TEXT} had {_TIMES} corrected ECC errors in the last day.",
            ),
            Alert(
                "VgpuOversized",
                f"""\
max_over_time(container:vgpu_memory_used_bytes:max1h[7d]) / {_LIMIT}
< {_at("oversized")}
and
(count_over_time(container:vgpu_memory_used_bytes:max1h[7d]) >= {OVERSIZED_PEAKS})
{_UNLESS_MUTED}""",
                "0s",
                "info",
                "tenant",
                "A container needs far less GPU memory than its limit",
                f"{_CONTAINER_TEXT} used at most {_PERCENT} of its GPU memory limit in 7 days.",
            ),
        ),
    ),
)
