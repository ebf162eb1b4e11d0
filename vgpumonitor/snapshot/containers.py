"""The containers: which are over, whose each is, which of its processes live, and the sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from vgpumonitor.region.model import GONE, SUSPENDED, Region, RegionProcess
from vgpumonitor.snapshot.model import Container, ContainerDevice, ContainerProcess, MemoryUse
from vgpumonitor.snapshot.views import HostProcessesView
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.devices import Device, MigDevice
from vgpumonitor.sources.pods import PodsView

#: finishedAt has whole seconds: a directory changed this much later belongs to a new start.
_FINISHED_RESOLUTION = 1.0


class _Inputs(Struct, frozen=True, gc=False):
    """All that a container's value depends on. ``totals`` are the bytes of the region's
    devices, None where they are not known."""

    reading: ContainerReading
    pod_known: bool
    names: tuple[str, str]
    dead: frozenset[int]
    totals: tuple[int | None, ...]

    def same_as(self, other: _Inputs) -> bool:
        # A region file gives the same object until its bytes change: its slots need no look.
        return self.reading.region is other.reading.region and self == other


class Containers:
    """Makes the containers of each snapshot. A container is the same object as in the last one
    while nothing that it depends on has changed, so that its text can be kept too.

    ``implausible`` counts the values left out because they can't be true, by reason, over all
    snapshots.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[_Inputs, Container]] = {}
        self.implausible: Counter[str] = Counter()

    def update(
        self,
        readings: Iterable[ContainerReading],
        pods: PodsView,
        host: HostProcessesView,
        devices: Iterable[Device],
    ) -> tuple[Container, ...]:
        """``devices`` are those whose memory is known, also while they are away."""
        totals = _memory_totals(devices)
        shown = [reading for reading in readings if not _finished(reading, pods, host)]
        names = _names(shown, pods)
        # Containers that are over go first, so that those that came can have their memory.
        for key in self._kept.keys() - names.keys():
            del self._kept[key]
        containers = []
        for reading in shown:
            key = reading.pod_uid, reading.container
            region = reading.region
            inputs = _Inputs(
                reading,
                reading.pod_uid in pods.pods,
                names[key],
                frozenset() if region is None else _dead_host_pids(region, host.live),
                ()
                if region is None
                else tuple([totals.get(device.uuid or "") for device in region.devices]),
            )
            last = self._kept.get(key)
            if last is None or not last[0].same_as(inputs):
                last = self._kept[key] = inputs, _container(inputs)
            containers.append(last[1])
        self.implausible.update(
            [reason for container in containers for reason in _implausible(container)]
        )
        return tuple(containers)


def _implausible(container: Container) -> Iterator[str]:
    for device in container.devices:
        if device.memory is None or device.memory_limit is None:
            yield "bad_memory"
        if device.core_utilization is None:
            yield "bad_utilization"


def _finished(reading: ContainerReading, pods: PodsView, host: HostProcessesView) -> bool:
    """Whether this container is over, so that what its directory holds is history.

    A pod that left a source is over unless one of its processes is known to live (a pod
    deleted by force may still hold its device). A pod that no source ever knew is not.
    """
    pod = pods.pods.get(reading.pod_uid)
    if pod is None:
        return reading.pod_uid in pods.deleted and not (
            host.live is not None
            and reading.region is not None
            and any(process.hostpid in host.live for process in reading.region.processes)
        )
    if pod.finished:
        return True
    status = pod.containers.get(reading.container)
    if status is None or not status.finished:
        return False
    # The source may lag behind kubelet, or be away: a directory that changed later is new.
    return status.finished_at is None or (
        reading.changed <= status.finished_at + _FINISHED_RESOLUTION
    )


def _names(
    readings: Iterable[ContainerReading], pods: PodsView
) -> dict[tuple[str, str], tuple[str, str]]:
    """Namespace and pod name by (pod UID, container). One pair of names stands for one UID:
    where several claim it, the one that the source lists now has it, then the one whose
    directory changed last; the others are named by their UID."""
    claims: defaultdict[tuple[str, str], list[tuple[bool, float, str]]] = defaultdict(list)
    readings = list(readings)
    for reading in readings:
        pod = pods.pods.get(reading.pod_uid) or pods.deleted.get(reading.pod_uid)
        if pod is not None:
            listed = reading.pod_uid in pods.pods
            claims[pod.namespace, pod.name].append((listed, reading.changed, reading.pod_uid))
    owners = {max(claim)[2]: names for names, claim in claims.items()}
    return {
        (reading.pod_uid, reading.container): owners.get(reading.pod_uid, ("", reading.pod_uid))
        for reading in readings
    }


def _dead_host_pids(region: Region, live: frozenset[int] | None) -> frozenset[int]:
    """Host PIDs of the processes in use that don't exist; empty where ``live`` is None."""
    if live is None:
        return frozenset()
    return frozenset(
        process.hostpid
        for process in region.processes
        if process.status != GONE and process.hostpid > 0 and process.hostpid not in live
    )


def _memory_totals(devices: Iterable[Device]) -> Mapping[str, int]:
    """Bytes by UUID, of the devices and MIG devices whose memory is known."""
    totals = {}
    for device in devices:
        parts: list[Device | MigDevice] = [device, *device.mig_devices]
        for part in parts:
            if part.memory_total is not None:
                totals[part.uuid] = part.memory_total
    return totals


def _container(inputs: _Inputs) -> Container:
    reading, (namespace, pod) = inputs.reading, inputs.names
    region = reading.region
    live: list[RegionProcess] = []
    dead: list[RegionProcess] = []
    for process in () if region is None else region.processes:
        if process.status != GONE:
            (dead if process.hostpid in inputs.dead else live).append(process)
    devices = []
    for index, device in enumerate(() if region is None else region.devices):
        if device.uuid is None:
            continue
        total = inputs.totals[index]
        limit_fits = total is None or device.memory_limit_bytes <= total
        devices.append(
            ContainerDevice(
                index,
                device.uuid,
                memory_limit=device.memory_limit_bytes if limit_fits else None,
                core_limit=device.sm_limit_percent,
                memory=_memory_use(live, index, total),
                core_utilization=_core_utilization(live, index),
                dead_memory=sum([process.devices[index].total for process in dead]),
            )
        )
    places = tuple([(device.index, device.uuid) for device in devices])
    return Container(
        namespace,
        pod,
        reading.container,
        reading.pod_uid,
        inputs.pod_known,
        reading,
        tuple(devices),
        tuple(
            [
                ContainerProcess(
                    process.pid,
                    process.hostpid,
                    state or ("suspended" if process.status == SUSPENDED else "running"),
                    process.devices,
                    places,
                )
                for processes, state in ((live, None), (dead, "dead"))
                for process in processes
            ]
        ),
    )


def _memory_use(
    processes: Iterable[RegionProcess], index: int, total: int | None
) -> MemoryUse | None:
    """The sums over ``processes`` on device ``index``; None where one is above ``total``,
    the device's memory in bytes."""
    context = module = data = used = driver = 0
    for process in processes:
        use = process.devices[index]
        context += use.context
        module += use.module
        data += use.data
        used += use.total
        driver += use.monitor_used
    if total is not None and max(context, module, data, used, driver) > total:
        return None
    return MemoryUse(context, module, data, used, driver)


def _core_utilization(processes: Iterable[RegionProcess], index: int) -> int | None:
    """Percent, summed; None where a process claims more than a device has."""
    shares = [process.devices[index].sm_util for process in processes]
    return None if max(shares, default=0) > 100 else sum(shares)
