"""The node at one moment: the values that everything is rendered from, and no word of how.

HAMi-core's own names end at the region: above it a host process is a ``host_pid``, the use of
multiprocessors ``core_utilization``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from vgpumonitor.region.model import ProcessDevice, Region
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth
from vgpumonitor.sources.pods import PodsView

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth


class MemoryUse(Struct, frozen=True, gc=False):
    """Bytes, summed over processes. ``driver`` is what the driver told HAMi-core that they
    hold."""

    context: int = 0
    module: int = 0
    data: int = 0
    total: int = 0
    driver: int = 0

    @property
    def other(self) -> int:
        """The total less its named parts; 0 where a half-done update makes that negative."""
        return max(0, self.total - self.context - self.module - self.data)


class ContainerDevice(Struct, frozen=True, gc=False):
    """One device of a container that has a valid UUID; ``index`` is its place in the region.

    ``memory_limit`` 0 is no limit, ``core_limit`` (percent) 0 or 100 none. ``memory_limit``
    and ``memory`` are None where they hold a count that the device can't have,
    ``core_utilization`` (percent) where a process claims more than 100. ``dead_memory`` is in
    bytes.
    """

    index: int
    uuid: str
    memory_limit: int | None
    core_limit: int
    memory: MemoryUse | None
    core_utilization: int | None
    dead_memory: int


class ContainerProcess(Struct, frozen=True, gc=False):
    """A process in use of a region. ``state`` is running, suspended or dead. ``uses`` are those
    of the region's devices; ``places`` are the valid ones' indices in it, and their UUIDs."""

    pid: int
    host_pid: int
    state: str
    uses: tuple[ProcessDevice, ...]
    places: tuple[tuple[int, str], ...]

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by device UUID."""
        return {uuid: self.uses[index].total for index, uuid in self.places}

    @property
    def core_utilization(self) -> dict[str, int]:
        """Percent by device UUID."""
        return {uuid: self.uses[index].sm_util for index, uuid in self.places}


class Container(Struct, frozen=True, eq=False, gc=False):
    """A container, named by its pod: by the pod's UID and an empty namespace where no source
    knows it. ``reading`` is what its directory says."""

    namespace: str
    pod: str
    container: str
    pod_uid: str
    pod_known: bool
    reading: ContainerReading
    devices: tuple[ContainerDevice, ...]
    processes: tuple[ContainerProcess, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.pod_uid, self.container

    @property
    def region(self) -> Region | None:
        """None while there is no readable file."""
        return self.reading.region


@dataclass(frozen=True, slots=True)
class PodAllocation:
    """What the scheduler allocated to a pod of one device, with the device's UUID (empty where
    the driver can't name it) and minor (None where the annotation gives none)."""

    namespace: str
    pod: str
    device_uuid: str
    device_minor: int | None
    memory_bytes: int | None
    core_ratio: float | None


@dataclass(frozen=True, slots=True)
class UnattributedMemory:
    """Bytes on a device of processes that are in no region, by the pod that their cgroup
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
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """``time`` is the one clock reading, Unix seconds."""

    node: str
    time: float
    containers: tuple[Container, ...]
    devices: tuple[Device, ...]
    allocations: tuple[PodAllocation, ...]
    unattributed: tuple[UnattributedMemory, ...]
    mig_devices: tuple[MigDeviceOfContainer, ...]
    health: Health
