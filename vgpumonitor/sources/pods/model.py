"""What the exporter keeps of a pod, and what every pod source offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Allocation:
    """What the scheduler allocated a pod of one card.

    ``device_uuid`` is empty where the annotation names the card by ``device_minor``
    (Koordinator); ``device_minor`` is None where it names it by UUID (HAMi).
    ``memory_bytes`` and ``core_ratio`` (1.0 is the whole card) are None where the
    annotation doesn't give them.
    """

    device_uuid: str
    device_minor: int | None
    memory_bytes: int | None
    core_ratio: float | None


@dataclass(frozen=True, slots=True)
class MigAllocation:
    """A MIG device that HAMi gave to a container."""

    container: str
    device_uuid: str
    mig_uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int


@dataclass(frozen=True, slots=True)
class PodContainer:
    """A container's state: ``finished_at`` (Unix seconds) is None where it isn't known."""

    name: str
    finished: bool = False
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of this node. ``uid`` is the one in kubelet's and koordlet's paths: for a
    static pod its configuration hash (annotation ``kubernetes.io/config.hash``), not the
    UID of its mirror in the API."""

    uid: str
    namespace: str
    name: str
    phase: str = ""
    containers: Mapping[str, PodContainer] = field(default_factory=dict)
    allocations: tuple[Allocation, ...] = ()
    mig_allocations: tuple[MigAllocation, ...] = ()

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodsView:
    """What a source knows now.

    ``pods`` is by UID. ``up`` is false while the source can't be reached or read; the
    last known pods stay. ``synced`` is the Unix time of the last complete or confirmed
    state, None before the first. ``annotation_errors`` counts wrong annotations by name.
    ``deleted`` are the pods that left most recently: a UID that is in neither was never
    known. ``problem`` says why ``up`` is false, or what makes the pods suspicious although
    it is true.
    """

    pods: Mapping[str, Pod] = field(default_factory=dict)
    up: bool = False
    synced: float | None = None
    annotation_errors: Mapping[str, int] = field(default_factory=dict)
    deleted: Mapping[str, Pod] = field(default_factory=dict)
    problem: str | None = None


class PodSource(Protocol):
    """A place that pods are known from. ``run`` keeps ``view`` current until cancelled,
    and outlives every failure of what it reads."""

    name: str

    @property
    def view(self) -> PodsView: ...

    async def run(self) -> None: ...
