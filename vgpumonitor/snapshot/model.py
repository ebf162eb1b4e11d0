"""The node at one moment: the values that everything is rendered from, and no word of how.

HAMi-core's own names end at the region: above it a host process is a ``host_pid``, the use of
multiprocessors ``core_utilization``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from vgpumonitor.region.model import Region
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth, ProcessUtilization
from vgpumonitor.sources.pods import PodsView

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth


class MemoryUse(Struct, frozen=True, gc=False):
    """HAMi-core's account in bytes, summed over the live processes. A figure that can't be true
    is None, and hides no other."""

    context: int | None = 0
    module: int | None = 0
    data: int | None = 0
    total: int | None = 0

    @property
    def other(self) -> int | None:
        """The total less its named parts; 0 where a half-done update makes that negative."""
        if self.total is None or self.context is None or self.module is None or self.data is None:
            return None
        return max(0, self.total - self.context - self.module - self.data)


class DriverProcess(Struct, frozen=True, gc=False):
    """A process of a container as the driver tells of it: its PIDs on the host and inside, its
    bytes and utilization, and whether it is in a slot of the container's region."""

    pid: int
    inner_pid: int
    memory: int | None
    utilization: ProcessUtilization | None
    in_slot: bool


class DriverUse(Struct, frozen=True, gc=False):
    """What the driver says of a container's processes on a device: bytes, None where it can't
    tell of each, and the sum of their utilization in percent, None likewise."""

    memory: int | None
    utilization: ProcessUtilization | None


class ContainerDevice(Struct, frozen=True, gc=False):
    """One device of a container: of its region, or one that only the driver tells of, whose
    ``index`` (the place in the region) is None.

    ``uuid`` is what the container sees: a GPU or a MIG device. ``device_uuid`` and
    ``device_index`` are the GPU's, ``mig_uuid`` the MIG device's, empty where it is none; where
    no driver can name the GPU, ``device_uuid`` is ``uuid`` and the index None.

    Of the region: ``memory_limit`` in bytes, 0 where there is none; ``core_limit`` in percent, 0
    or 100 where there is none; ``memory`` and the next two are None where a process was never seen
    whole; ``core_utilization`` in percent, None where HAMi-core does not measure each process;
    ``dead_memory`` in bytes, None where a process is unidentified; ``core_limit_enforced`` and
    ``launches_blocked`` as they are in fact. What can't be true is None, and named in
    ``implausible``. All are None without a region.

    Of the driver: ``driver``, None where the container has no process there; ``bypassed`` is
    what it says of the processes that should be in a slot and are not, in bytes, None where
    that can't be told, as of a region that can't be read, or HAMi-core is not to limit the
    container.
    """

    index: int | None
    uuid: str
    device_uuid: str
    device_index: int | None
    mig_uuid: str
    memory_limit: int | None = None
    core_limit: int | None = None
    memory: MemoryUse | None = None
    core_utilization: int | None = None
    dead_memory: int | None = None
    core_limit_enforced: bool | None = None
    launches_blocked: bool | None = None
    driver: DriverUse | None = None
    bypassed: int | None = None
    implausible: tuple[str, ...] = ()


ProcessState = Literal["running", "suspended", "dead", "unidentified", "bypassing"]


class ProcessDeviceUse(Struct, frozen=True, gc=False):
    """What a process has of a device of its container: ``place`` is that of the device in the
    container's ``devices``. HAMi-core's account (bytes and percent) is None for a process in no
    slot, or where it can't be true; the driver's where it doesn't tell of the process there."""

    place: int
    memory: int | None
    core_utilization: int | None
    driver_memory: int | None
    driver_core_utilization: int | None


class ContainerProcess(Struct, frozen=True, gc=False):
    """A slot in use, or a process that is on a device and in no slot (``bypassing``; in a
    container without a region it is simply running). ``pid`` is inside of the container;
    ``host_pid`` is 0 where it isn't known."""

    pid: int
    host_pid: int
    state: ProcessState
    uses: tuple[ProcessDeviceUse, ...]


class Container(Struct, frozen=True, eq=False, gc=False):
    """A container of ``node``, named by its pod: by the pod's UID and an empty namespace where
    no source knows it. ``reading`` is what its directory says, None where it has none and is
    known by its processes on a device."""

    node: str
    namespace: str
    pod: str
    container: str
    pod_uid: str
    pod_known: bool
    reading: ContainerReading | None
    devices: tuple[ContainerDevice, ...]
    processes: tuple[ContainerProcess, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.pod_uid, self.container

    @property
    def region(self) -> Region | None:
        """None while there is no readable file."""
        return None if self.reading is None else self.reading.region


Isolation = Literal["hami-core", "mig", "none"]


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod that has an allocation, a directory or a process on a device. Without a source that
    knows it, it is named by its UID, and ``workload`` is empty."""

    namespace: str
    pod: str
    uid: str
    workload_kind: str
    workload: str
    isolation: Isolation
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PodAllocation:
    """What the scheduler allocated to a pod of one device, with the device's UUID (empty where
    the driver can't name it), its index (None likewise) and minor (None where the annotation
    gives none)."""

    namespace: str
    pod: str
    device_uuid: str
    device_index: int | None
    device_minor: int | None
    memory_bytes: int | None
    core_ratio: float | None


@dataclass(frozen=True, slots=True)
class MigDeviceOfContainer:
    """A MIG device in a container: from its pod's annotation, or from a region that names it;
    ``index`` is its place among the container's devices."""

    namespace: str
    pod: str
    container: str
    index: int
    device_uuid: str
    mig_uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int


class XidContainer(Struct, frozen=True, gc=False):
    """The names of a container that may be gone."""

    namespace: str
    pod: str
    container: str


class DeviceXid(Struct, frozen=True, gc=False):
    """What a GPU had of one XID (``vgpumonitor.xids``) since the start, and of the last one, at
    ``last_time`` (Unix seconds): the MIG device, empty where it was of the whole GPU, and the
    containers that were on it."""

    device_index: int
    device_uuid: str
    mig_uuid: str
    xid: int
    count: int
    last_time: float
    containers: tuple[XidContainer, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """How the sources and controllers fare. ``pod_source`` is the source's name;
    ``region_errors`` counts by reason what could not be used. What is switched off is None.
    ``seconds`` are the durations of the scrape's parts."""

    containers: ContainersView
    region_errors: Mapping[str, int]
    pod_source: str
    pods: PodsView
    devices: DeviceHealth | None = None
    feedback: FeedbackHealth | None = None
    cleanup: CleanupHealth | None = None
    host_processes_visible: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class NodeSnapshot:
    """``time`` is the one clock reading, Unix seconds. ``unattributed`` is the memory in bytes of
    processes in no container of the node's Kubernetes, by device UUID; a device is missing
    where that can't be told. ``xids`` are in the order of their last time, the last first."""

    node: str
    time: float
    containers: tuple[Container, ...]
    devices: tuple[Device, ...]
    pods: tuple[PodInfo, ...]
    allocations: tuple[PodAllocation, ...]
    unattributed: Mapping[str, int]
    mig_devices: tuple[MigDeviceOfContainer, ...]
    health: Health
    xids: tuple[DeviceXid, ...] = ()
