"""The node at one moment: the value that everything renders, and the join that makes it.

A snapshot is a pure function of what the sources gave and one clock reading. The join
keeps the container values of the last one, and gives the same object again while nothing
that it depends on has changed, so that what was rendered from it can be kept too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from vgpumonitor.region.model import GONE, SUSPENDED, ProcessDevice, Region, RegionProcess
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices.nvml.source import Device, NvmlHealth, NvmlSample
from vgpumonitor.sources.pods import Pod, PodsView
from vgpumonitor.sources.processes import ContainerRef

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth

#: finishedAt has whole seconds: a directory changed this much later belongs to a new start.
_FINISHED_RESOLUTION = 1.0


class MemoryUse(Struct, frozen=True, gc=False):
    """Bytes, summed over processes. ``nvml`` is what NVML says that they hold."""

    context: int = 0
    module: int = 0
    data: int = 0
    total: int = 0
    nvml: int = 0

    @property
    def other(self) -> int:
        """The total less its named parts; 0 where a half-done update makes that negative."""
        return max(0, self.total - self.context - self.module - self.data)


class ContainerDevice(Struct, frozen=True, gc=False):
    """One card of a container that has a valid UUID; ``index`` is its place in the region.
    ``labels`` are namespace, pod, container and UUID, made once since each family has them;
    ``vdevice_labels`` have the index before the UUID.

    ``memory_limit`` 0 is no limit, ``core_limit`` (percent) 0 or 100 none. ``memory_limit``
    and ``memory`` are None where they hold a count that the card can't have, ``core_utilization``
    (percent) where a process claims more than 100. ``dead_memory`` is in bytes.
    """

    index: int
    uuid: str
    labels: tuple[str, str, str, str]
    vdevice_labels: tuple[str, str, str, str, str]
    memory_limit: int | None
    core_limit: int
    memory: MemoryUse | None
    core_utilization: int | None
    dead_memory: int


class ContainerProcess(Struct, frozen=True, gc=False):
    """A process in use of a region. ``state`` is running, suspended or dead. ``uses`` are those
    of the region's devices; ``cards`` are the places of the valid ones in it, and their UUIDs."""

    pid: int
    host_pid: int
    state: str
    uses: tuple[ProcessDevice, ...]
    cards: tuple[tuple[int, str], ...]

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by device UUID."""
        return {uuid: self.uses[index].total for index, uuid in self.cards}

    @property
    def core_utilization(self) -> dict[str, int]:
        """Percent by device UUID."""
        return {uuid: self.uses[index].sm_util for index, uuid in self.cards}


class Container(Struct, frozen=True, eq=False, gc=False):
    """A container with a directory, named by its pod: by the pod's UID and an empty
    namespace where no source knows it. ``region`` is None while there is no readable file;
    ``state`` and ``error`` are the inventory's."""

    namespace: str
    pod: str
    container: str
    pod_uid: str
    pod_known: bool
    state: str
    error: str | None
    path: str
    region: Region | None
    devices: tuple[ContainerDevice, ...]
    processes: tuple[ContainerProcess, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.pod_uid, self.container

    @property
    def labels(self) -> tuple[str, str, str]:
        return self.namespace, self.pod, self.container


@dataclass(frozen=True, slots=True)
class PodAllocation:
    """What a pod was allocated of a card, with the card's UUID (empty where NVML can't name
    it) and minor (None where the annotation gives none)."""

    namespace: str
    pod: str
    device_uuid: str
    device_minor: int | None
    memory_bytes: int | None
    core_ratio: float | None


@dataclass(frozen=True, slots=True)
class UnattributedMemory:
    """Bytes on a card of processes that are in no region, by the pod that their cgroup
    names; namespace and pod are empty for all others together."""

    device_uuid: str
    device_index: int
    namespace: str
    pod: str
    memory: int


@dataclass(frozen=True, slots=True)
class MigDeviceOfContainer:
    """A MIG device in a container: from its pod's annotation."""

    namespace: str
    pod: str
    container: str
    index: int
    device_uuid: str
    mig_uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int


@dataclass(frozen=True, slots=True)
class Health:
    """How the sources and actions fare. ``pod_source`` is the source's name; ``pods`` and
    ``inventory`` are their views. What is switched off is None. ``seconds`` are the
    durations of the collection's parts."""

    inventory: ContainersView
    region_errors: Mapping[str, int]
    pod_source: str
    pods: PodsView
    nvml: NvmlHealth | None = None
    liveness: bool = False
    feedback: FeedbackHealth | None = None
    gc: CleanupHealth | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """``time`` is the one clock reading, Unix seconds. ``nvml`` is None while NVML gives
    nothing."""

    node: str
    time: float
    containers: tuple[Container, ...]
    nvml: NvmlSample | None
    allocations: tuple[PodAllocation, ...]
    unattributed: tuple[UnattributedMemory, ...]
    mig_devices: tuple[MigDeviceOfContainer, ...]
    health: Health

    @property
    def devices(self) -> tuple[Device, ...]:
        return () if self.nvml is None else self.nvml.devices


@dataclass(frozen=True, slots=True)
class HostProcessesView:
    """The host's processes: ``live`` PIDs, None where liveness is off, and the pod of each
    NVML process that was looked up."""

    live: frozenset[int] | None = None
    pods: Mapping[int, ContainerRef] = field(default_factory=dict)


class _Inputs(Struct, frozen=True, gc=False):
    """What a container's value depends on."""

    entry: ContainerReading
    pod: Pod | None
    names: tuple[str, str]
    dead: frozenset[int]
    totals: tuple[int | None, ...]

    def same_as(self, other: _Inputs) -> bool:
        return (
            self.entry is other.entry
            and self.pod is other.pod
            and self.names == other.names
            and self.dead == other.dead
            and self.totals == other.totals
        )


class SnapshotBuilder:
    """Makes snapshots. It keeps the containers of the last one, and the running count of
    values that were left out because they can't be true."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._kept: dict[tuple[str, str], tuple[_Inputs, Container]] = {}
        self._implausible: Counter[str] = Counter()

    def snapshot(
        self,
        time: float,
        inventory: ContainersView,
        pod_source: str,
        pods: PodsView,
        nvml: NvmlSample | None,
        known_devices: Iterable[Device],
        nvml_health: NvmlHealth | None,
        host: HostProcessesView,
        disk_timeouts: int = 0,
        feedback: FeedbackHealth | None = None,
        gc: CleanupHealth | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> NodeSnapshot:
        """``known_devices`` name cards (UUID, minor, memory) also while one or NVML is away;
        ``disk_timeouts`` counts the collections that went without the containers."""
        devices = tuple(known_devices)
        containers = self._containers(inventory, pods, host, card_totals(devices))
        return NodeSnapshot(
            node=self._node,
            time=time,
            containers=containers,
            nvml=nvml,
            allocations=allocations(pods.pods.values(), devices),
            unattributed=()
            if nvml is None
            else unattributed(nvml.devices, inventory.containers, pods, host),
            mig_devices=mig_devices(containers, pods),
            health=Health(
                inventory,
                Counter(inventory.errors) + self._implausible + Counter(timeout=disk_timeouts),
                pod_source,
                pods,
                nvml_health,
                host.live is not None,
                feedback,
                gc,
                seconds or {},
            ),
        )

    def _containers(
        self,
        inventory: ContainersView,
        pods: PodsView,
        host: HostProcessesView,
        totals: Mapping[str, int],
    ) -> tuple[Container, ...]:
        shown = [entry for entry in inventory.containers if not finished(entry, pods, host)]
        names = name_containers(shown, pods)
        containers = []
        # What is over goes first, so that what came can have its memory.
        for key in self._kept.keys() - names.keys():
            del self._kept[key]
        for entry in shown:
            key = entry.pod_uid, entry.container
            region = entry.region
            inputs = _Inputs(
                entry,
                pods.pods.get(entry.pod_uid),
                names[key],
                frozenset() if region is None else dead_host_pids(region, host.live),
                ()
                if region is None
                else tuple(totals.get(device.uuid or "") for device in region.devices),
            )
            last = self._kept.get(key)
            if last is None or not last[0].same_as(inputs):
                last = self._kept[key] = inputs, make_container(inputs)
            container = last[1]
            if region is not None:
                self._count_implausible(container)
            containers.append(container)
        return tuple(containers)

    def _count_implausible(self, container: Container) -> None:
        for device in container.devices:
            if device.memory is None or device.memory_limit is None:
                self._implausible["bad_memory"] += 1
            if device.core_utilization is None:
                self._implausible["bad_utilization"] += 1


def finished(entry: ContainerReading, pods: PodsView, host: HostProcessesView) -> bool:
    """Whether this container is over, so that what its directory holds is history.

    A pod that left a source is over unless one of its processes is known to live (a pod
    deleted by force may still hold its card). A pod that no source ever knew is not.
    """
    pod = pods.pods.get(entry.pod_uid)
    if pod is None:
        return entry.pod_uid in pods.deleted and not (
            host.live is not None
            and entry.region is not None
            and any(process.hostpid in host.live for process in entry.region.processes)
        )
    if pod.finished:
        return True
    status = pod.containers.get(entry.container)
    if status is None or not status.finished:
        return False
    # The source may lag behind kubelet, or be away: a directory that changed later is new.
    return status.finished_at is None or (
        entry.changed <= status.finished_at + _FINISHED_RESOLUTION
    )


def name_containers(
    entries: Iterable[ContainerReading], pods: PodsView
) -> dict[tuple[str, str], tuple[str, str]]:
    """Namespace and pod name by (pod UID, container). One pair of names stands for one UID:
    where several claim it, the one that the source lists now has it, then the one whose
    directory changed last; the others are named by their UID."""
    claims: defaultdict[tuple[str, str], list[tuple[bool, float, str]]] = defaultdict(list)
    entries = list(entries)
    for entry in entries:
        pod = pods.pods.get(entry.pod_uid) or pods.deleted.get(entry.pod_uid)
        if pod is not None:
            listed = entry.pod_uid in pods.pods
            claims[pod.namespace, pod.name].append((listed, entry.changed, entry.pod_uid))
    owners = {max(claim)[2]: names for names, claim in claims.items()}
    return {
        (entry.pod_uid, entry.container): owners.get(entry.pod_uid, ("", entry.pod_uid))
        for entry in entries
    }


def dead_host_pids(region: Region, live: frozenset[int] | None) -> frozenset[int]:
    """Host PIDs of the processes in use that don't exist; empty where ``live`` is None."""
    if live is None:
        return frozenset()
    return frozenset(
        process.hostpid
        for process in region.processes
        if process.status != GONE and process.hostpid > 0 and process.hostpid not in live
    )


def card_totals(devices: Iterable[Device]) -> dict[str, int]:
    """Memory in bytes by UUID, of the cards and MIG devices whose memory NVML knows."""
    totals = {}
    for device in devices:
        if device.memory_total is not None:
            totals[device.uuid] = device.memory_total
        for mig in device.mig_devices:
            if mig.memory_total is not None:
                totals[mig.uuid] = mig.memory_total
    return totals


def make_container(inputs: _Inputs) -> Container:
    entry, (namespace, pod) = inputs.entry, inputs.names
    region = entry.region
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
                (namespace, pod, entry.container, device.uuid),
                (namespace, pod, entry.container, str(index), device.uuid),
                device.memory_limit_bytes if limit_fits else None,
                device.sm_limit_percent,
                memory_use(live, index, total),
                core_utilization(live, index),
                sum(process.devices[index].total for process in dead),
            )
        )
    cards = tuple([(device.index, device.uuid) for device in devices])
    return Container(
        namespace,
        pod,
        entry.container,
        entry.pod_uid,
        inputs.pod is not None,
        entry.state,
        entry.error,
        entry.path,
        region,
        tuple(devices),
        tuple(
            ContainerProcess(
                process.pid,
                process.hostpid,
                state or ("suspended" if process.status == SUSPENDED else "running"),
                process.devices,
                cards,
            )
            for processes, state in ((live, None), (dead, "dead"))
            for process in processes
        ),
    )


def memory_use(
    processes: Iterable[RegionProcess], index: int, total: int | None
) -> MemoryUse | None:
    """The sums over ``processes`` on device ``index``; None where one is above ``total``,
    the card's memory in bytes."""
    context = module = data = used = nvml = 0
    for process in processes:
        use = process.devices[index]
        context += use.context
        module += use.module
        data += use.data
        used += use.total
        nvml += use.monitor_used
    if total is not None and max(context, module, data, used, nvml) > total:
        return None
    return MemoryUse(context, module, data, used, nvml)


def core_utilization(processes: Iterable[RegionProcess], index: int) -> int | None:
    """SM percent, summed; None where a process claims more than a card has."""
    shares = [process.devices[index].sm_util for process in processes]
    return None if max(shares, default=0) > 100 else sum(shares)


def allocations(pods: Iterable[Pod], devices: Iterable[Device]) -> tuple[PodAllocation, ...]:
    """What the pods that are not over were allocated, with Koordinator's minors as UUIDs. Of
    two pods of one name, which only a file can list, the last counts: no series is twice."""
    uuids = {device.minor: device.uuid for device in devices if device.minor is not None}
    found = {}
    for pod in pods:
        for allocated in () if pod.finished else pod.allocations:
            minor = allocated.device_minor
            uuid = allocated.device_uuid
            if not uuid and minor is not None:
                uuid = uuids.get(minor, "")
            found[pod.namespace, pod.name, uuid, minor] = PodAllocation(
                pod.namespace,
                pod.name,
                uuid,
                minor,
                allocated.memory_bytes,
                allocated.core_ratio,
            )
    return tuple(found.values())


def unattributed(
    devices: Iterable[Device],
    entries: Iterable[ContainerReading],
    pods: PodsView,
    host: HostProcessesView,
) -> tuple[UnattributedMemory, ...]:
    """NVML's processes that are in no region. A process of a pod whose region has one with
    a host PID still unknown is taken for that one. A card whose processes NVML doesn't tell
    has no entry."""
    in_regions: set[int] = set()
    unresolved: set[str] = set()
    for entry in entries:
        for process in () if entry.region is None else entry.region.processes:
            if process.status != GONE and process.hostpid > 0:
                in_regions.add(process.hostpid)
            elif process.status != GONE:
                unresolved.add(entry.pod_uid)
    result = []
    for device in devices:
        if device.processes is None:
            continue
        # All others together have a series always, so that sums and alerts have a zero.
        memory: Counter[tuple[str, str]] = Counter({("", ""): 0})
        for found in device.processes:
            ref = host.pods.get(found.pid)
            if found.pid in in_regions or (ref is not None and ref.pod_uid in unresolved):
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


def mig_devices(
    containers: Iterable[Container], pods: PodsView
) -> tuple[MigDeviceOfContainer, ...]:
    """MIG devices by the annotation of the containers' pods."""
    result = []
    for container in containers:
        pod = pods.pods.get(container.pod_uid)
        allocated = [] if pod is None else list(pod.mig_allocations)
        mine = [mig for mig in allocated if mig.container == container.container]
        indices = {device.uuid: device.index for device in container.devices}
        result += [
            MigDeviceOfContainer(
                container.namespace,
                container.pod,
                container.container,
                indices.get(mig.mig_uuid, place),
                mig.device_uuid,
                mig.mig_uuid,
                mig.profile,
                mig.gpu_instance_id,
                mig.compute_instance_id,
            )
            for place, mig in enumerate(mine)
        ]
    return tuple(result)
