"""The processes that hold memory of a device and are in no region, and whose they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vgpumonitor.region.model import GONE
from vgpumonitor.snapshot.model import UnattributedMemory
from vgpumonitor.snapshot.views import HostProcessesView
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.devices import Device
from vgpumonitor.sources.pods import PodsView


def outside_regions(
    devices: Iterable[Device], readings: Iterable[ContainerReading]
) -> frozenset[int]:
    """The host PIDs of the processes on ``devices`` that no slot in use names. A freed slot
    keeps the host PID of the process that had it."""
    found = {process.pid for device in devices for process in device.processes or ()}
    for reading in readings if found else ():
        for process in () if reading.region is None else reading.region.processes:
            if process.status != GONE:
                found.discard(process.hostpid)
    return frozenset(found)


def unattributed(
    devices: Iterable[Device],
    readings: Iterable[ContainerReading],
    pods: PodsView,
    host: HostProcessesView,
) -> tuple[UnattributedMemory, ...]:
    """The memory of the processes outside of regions. A process of a pod whose region has one
    with a host PID still unknown is taken for that one. A device whose processes the driver
    doesn't tell has no entry."""
    devices, readings = tuple(devices), tuple(readings)
    outside = outside_regions(devices, readings)
    unresolved = {
        reading.pod_uid
        for reading in (readings if outside else ())
        if reading.region is not None
        and any(
            process.status != GONE and process.hostpid <= 0 for process in reading.region.processes
        )
    }
    result = []
    for device in devices:
        if device.processes is None:
            continue
        # All others together have a series always, so that sums and alerts have a zero.
        memory: Counter[tuple[str, str]] = Counter({("", ""): 0})
        for found in device.processes:
            ref = host.pods.get(found.pid)
            if found.pid not in outside or (ref is not None and ref.pod_uid in unresolved):
                continue
            pod = None if ref is None else pods.pods.get(ref.pod_uid)
            names = ("", "") if ref is None else ("", ref.pod_uid)
            if pod is not None:
                names = pod.namespace, pod.name
            memory[names] += found.memory or 0
        result += [
            UnattributedMemory(device.uuid, device.index, namespace, name, size)
            for (namespace, name), size in memory.items()
        ]
    return tuple(result)
