"""What HAMi-core's launches do in fact with the words that a monitor writes.

The source is ``rate_limiter`` of HAMi-core. In both orders nothing happens before HAMi-core has
found the host PID of its process. Then, up to HAMi 2.8.0, a launch waits while recent_kernel is
below 0, and afterwards looks at the limit; since 24fd045 (HAMi 2.8.1) it returns first where
there is no limit or the limit is lifted, and so waits only where a limit holds.
"""

from __future__ import annotations

from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.region.model import Region, RegionDevice, RegionProcess

_LATE = frozenset(layout.name for layout in LAYOUTS if layout.late_order)


def late_order(region: Region) -> bool:
    """Whether launches look at the limit before they wait."""
    return region.layout in _LATE


def is_limit(percent: int) -> bool:
    """Whether a core limit is one: 0 and 100 are none."""
    return 0 < percent < 100


def measures(slot: RegionProcess, core_limit: int) -> bool:
    """Whether HAMi-core measures the cores of the process: its watcher runs where there is a core
    limit, and does nothing for a process whose host PID it has not found."""
    return slot.hostpid > 0 and is_limit(core_limit)


def limit_holds(region: Region, device: RegionDevice, host_pid_known: bool) -> bool:
    """Whether the core limit holds on ``device``; ``host_pid_known`` says that HAMi-core knows
    the host PID of a live process."""
    return host_pid_known and region.utilization_switch == 1 and is_limit(device.sm_limit_percent)


def waits(region: Region, device: RegionDevice, host_pid_known: bool) -> bool:
    """Whether launches on ``device`` wait."""
    return (
        host_pid_known
        and region.recent_kernel < 0
        and (not late_order(region) or limit_holds(region, device, host_pid_known))
    )
