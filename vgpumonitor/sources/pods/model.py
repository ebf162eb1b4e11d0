"""What the exporter keeps of a pod, and what every pod source offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Allocation:
    """What the scheduler allocated to a pod on one device.

    ``device_uuid`` is empty where the annotation names the device by ``device_minor`` alone
    (Koordinator); ``device_minor`` is None where it names it by UUID (HAMi, Volcano).
    ``memory_bytes`` and ``core_ratio`` (1.0 is the whole device) are None where the
    annotation doesn't give them.
    """

    device_uuid: str
    device_minor: int | None
    memory_bytes: int | None
    core_ratio: float | None


@dataclass(frozen=True, slots=True)
class MigAllocation:
    """A MIG device that HAMi gave to a container; ``index`` is its place among the container's
    devices."""

    container: str
    index: int
    device_uuid: str
    mig_uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int


@dataclass(frozen=True, slots=True)
class PodContainer:
    """A container's state: ``finished`` is None where the source can't tell, ``finished_at`` (Unix
    seconds) where it isn't known. ``ids`` are those of the container and, where the source knows
    whether it finished, of the one before its last restart, as cgroups have them: 64 hexadecimal
    digits, without the runtime's name."""

    name: str
    finished: bool | None = False
    finished_at: float | None = None
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of this node. ``uid`` is the one in kubelet's and koordlet's paths: for a
    static pod its configuration hash (annotation ``kubernetes.io/config.hash``), not the
    UID of its mirror in the API.

    ``containers`` are those that have a status, ``container_names`` those of the
    specification without init containers. ``workload`` is the controller, of ``workload_kind``:
    a ReplicaSet's Deployment, otherwise the owner; the pod itself where it has none; both are
    empty where the source can't tell. ``limited`` says that HAMi-core is to limit its
    containers, ``mig`` that MIG devices do.
    """

    uid: str
    namespace: str
    name: str
    phase: str = ""
    containers: Mapping[str, PodContainer] = field(default_factory=dict)
    allocations: tuple[Allocation, ...] = ()
    mig_allocations: tuple[MigAllocation, ...] = ()
    container_names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    workload_kind: str = ""
    workload: str = ""
    limited: bool = False
    mig: bool = False

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodsView:
    """What a source knows now.

    ``pods`` is by UID. ``up`` is false while the source can't be reached or read; the
    last known pods stay. ``synced`` is the Unix time of the last complete or confirmed
    state, None before the first. ``annotation_errors`` counts wrong annotations by name, since the
    start; ``invalid`` are those that are wrong now, by their pod's UID: name, and what is wrong.
    ``deleted`` are the pods that left most recently: a UID that is in neither was never
    known. ``problem`` says why ``up`` is false, or what makes the pods suspicious although
    it is true; ``refused`` that the source's server denies access.
    """

    pods: Mapping[str, Pod] = field(default_factory=dict)
    up: bool = False
    synced: float | None = None
    annotation_errors: Mapping[str, int] = field(default_factory=dict)
    deleted: Mapping[str, Pod] = field(default_factory=dict)
    problem: str | None = None
    refused: bool = False
    invalid: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


class PodSource(Protocol):
    """A place that pods are known from. ``run`` keeps ``view`` current until cancelled,
    and outlives every failure of what it reads."""

    name: str

    @property
    def view(self) -> PodsView: ...

    async def run(self) -> None: ...
