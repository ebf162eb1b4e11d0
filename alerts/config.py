"""What an installation changes of the alerts. ``make alerts`` writes the rule files from it.

The chart's values (``prometheusRule``) override the same things without Python: each threshold
stands in its expression with its name in a comment behind it, ``> 0.95 # memory_near_limit``,
where the chart finds it.
"""

from __future__ import annotations

#: Usual names of jobs that scrape the exporter: the chart's Service, its PodMonitor, and the
#: compose stack. A job of any other name is known by the exporters of it that answer.
JOBS = ".*(vgpumonitor|hami-daemon).*"

#: Where the runbook pages are published; the alert's name and .md are added. An example: set it
#: to where your copy of runbooks/ is served.
RUNBOOKS = "https://vgpumonitor.example/runbooks/"

#: Names of alerts to leave out.
DISABLED: frozenset[str] = frozenset()

#: Thresholds of some namespaces, by a regular expression of their names, for alerts about
#: containers and pods: {"batch-.*": {"idle_seconds": 14400}}. The expressions should not match the
#: same namespace.
NAMESPACES: dict[str, dict[str, float]] = {}

#: What an hour of a GPU costs, by its model as ``vgpu_device_info`` names it, where models differ:
#: {"NVIDIA L40S": 0.9}. The dashboard Rightsizing has a variable for the price of all others.
PRICES: dict[str, float] = {}

THRESHOLDS: dict[str, float] = {
    # Seconds that a scrape may take. Prometheus gives up after 10 where nobody says otherwise.
    "scrape_seconds": 5,
    # Starts of an exporter in an hour that are more than an upgrade.
    "exporter_starts": 3,
    # Seconds after which a list of pods is outdated that its source still reads: a file that nobody
    # writes any more. The API server is asked again every few minutes.
    "pods_seconds": 3600,
    # Seconds since the last round after which feedback (every 5 s) and clean-up (every 30 s)
    # count as stopped.
    "feedback_seconds": 60,
    "cleanup_seconds": 300,
    # Share of its limit at which a container's next allocation may fail, …
    "memory_near_limit": 0.95,
    # … if it grew by this share of its limit in half an hour. Frameworks that cache fill their
    # limit at the start and stay there.
    "memory_growth": 0.01,
    # A prediction is made only for containers that already use this share of their limit.
    "memory_predicted_from": 0.7,
    # Share of its limit that a container holds, by the driver's account where it tells: more than
    # the rounding of two accounts.
    "memory_over_limit": 1.1,
    # Bytes of a container's processes that HAMi-core does not know of.
    "memory_bypassed_bytes": 256 << 20,
    # Core utilization over core limit. HAMi-core's limiter regulates around the limit, not below
    # it, …
    "core_over_limit": 1.25,
    # … and NVML's samples resolve no less than this share of a GPU.
    "core_over_limit_share": 0.05,
    # Share of ten minutes during which launches wait for a higher priority.
    "launches_blocked": 0.9,
    # Seconds since the last kernel launch after which a pod counts as idle.
    "idle_seconds": 3600,
    # A container whose seven-day peak is below this share of its limit is oversized.
    "oversized": 0.25,
    # Bytes that dead processes may leave behind in a region.
    "dead_process_bytes": 64 << 20,
    # Share of a GPU's memory in use from which it counts as full.
    "card_full": 0.95,
    # Allocated memory over a GPU's memory.
    "card_overcommitted": 1,
    # Mean core utilization of half an hour, …
    "card_saturated": 0.95,
    # … and the mean from which a container counts as one of those that share the cores.
    "active_container": 0.05,
    # Bytes on a GPU of processes that are in no container; a CUDA context alone takes a few
    # hundred MiB.
    "unattributed_bytes": 1 << 30,
    # Corrected ECC errors in a day that are more than background noise.
    "ecc_corrected": 100,
    # Share of ten minutes during which heat, or the power supply, holds the clocks down.
    "throttling": 0.5,
    # Seconds for which an alert stays after an XID: of a program, …
    "xid_application_seconds": 3600,
    # … and of a GPU that is broken or needs a reset, unless the exporter restarts, as it does with
    # the node.
    "xid_seconds": 86400,
    # Mean core utilization of 15 minutes from which a PCIe link should have its full speed.
    "pcie_load": 0.5,
    # Errors of NVLinks in an hour: those after which data is sent again, and all others.
    "nvlink_sent_again": 100,
    "nvlink_errors": 0,
    # Degrees Celsius at which a fan has to turn.
    "fan_celsius": 75,
    # Share of a fan's full speed, as the mean of half an hour.
    "fan_at_limit": 0.95,
}
