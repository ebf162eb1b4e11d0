"""Which process of the host is a slot's: proved, not believed.

HAMi-core writes into a slot the PID that its process has in the container, and the one that it
has on the host where it found it. The second is often missing, the container's own (HAMi-core
#112), another container's (two that start together get each other's), or by now that of another
process. So a process of the host is a slot's only where its cgroup names the slot's container
and the last number of its NSpid is the slot's PID. All that asks who lives asks here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from vgpumonitor.region.model import GONE, Region, RegionProcess
from vgpumonitor.remembered import Remembered
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.pods import PodsView
from vgpumonitor.sources.processes import ContainerRef, HostProcess, HostProcesses

#: A container by its pod's UID and its name.
Key = tuple[str, str]

#: The processes of each container's slots, and the slots without one by container and PID.
_Identified = tuple[dict[Key, tuple[HostProcess | None, ...]], list[tuple[Key, int]]]

#: What a slot without a process of the host is: its process does not exist, can't be told, or
#: exists because HAMi-core says so.
Unfound = Literal["dead", "unidentified", "believed"]


@dataclass(frozen=True, slots=True)
class Identities:
    """``slots`` has the process of each slot in use of each region, in their order, None where
    there is none. ``processes`` are those of the slots and those that were asked about, by their
    PID on the host; empty where the host's processes can't be seen (``visible``). ``ended`` are
    containers of which the host has no process any more, among those whose source of pods doesn't
    say whether they finished."""

    slots: Mapping[Key, tuple[HostProcess | None, ...]] = field(default_factory=dict)
    processes: Mapping[int, HostProcess] = field(default_factory=dict)
    visible: bool = False
    unfound: Unfound = "believed"
    ended: frozenset[Key] = frozenset()

    def lives(self, reading: ContainerReading) -> bool:
        """Whether any process of a region is known to live."""
        return any(self.slots.get((reading.pod_uid, reading.container), ()))


class SlotOwner(Struct, frozen=True, gc=False):
    """A container whose region has ``slots`` in use. ``own_ids`` are the IDs that its pod's
    status gives it, ``other_ids`` those that it gives to other containers of the pod."""

    key: Key
    slots: tuple[RegionProcess, ...]
    own_ids: frozenset[str] = frozenset()
    other_ids: frozenset[str] = frozenset()

    def has(self, container: ContainerRef | None) -> bool:
        """Whether a process whose cgroup names ``container`` is in this one. Where the cgroup
        has no ID, or one that the status doesn't know (yet), the pod alone decides."""
        if container is None or container.pod_uid != self.key[0]:
            return False
        return (
            not container.container_id
            or container.container_id in self.own_ids
            or container.container_id not in self.other_ids
        )


class ProcessIdentification:
    """Looks the processes of slots and devices up. For one thread at a time."""

    def __init__(
        self, processes: HostProcesses, liveness: Literal["auto", "on", "off"] = "auto"
    ) -> None:
        """``liveness`` on takes a process that is not found for dead even where PIDs don't seem
        to be the host's; off takes none for dead."""
        self._processes = processes
        self._liveness = liveness
        self._owners: Remembered[list[SlotOwner]] = Remembered()
        self._identified: Remembered[_Identified] = Remembered()
        self._untold: Remembered[dict[Key, frozenset[str]]] = Remembered()

    def look(
        self,
        readings: Iterable[ContainerReading],
        pods: PodsView,
        on_devices: Iterable[int] = (),
    ) -> Identities:
        """``on_devices`` are the PIDs of the processes that the drivers tell of."""
        visible = self._liveness == "on" or self._processes.visible()
        if not visible:
            return Identities(unfound="believed" if self._liveness == "off" else "unidentified")
        readings = tuple(readings)
        owners = self._owners.get(
            ([reading.region for reading in readings], pods.pods, pods.deleted),
            lambda: slot_owners(readings, pods),
        )
        on_devices = tuple(on_devices)
        asked = {slot.hostpid for owner in owners for slot in owner.slots}
        found = self._processes.look(asked.union(on_devices))
        slots, need = self._identified.get(
            (owners, found, on_devices), lambda: _identify(owners, found, on_devices)
        )
        untold = self._untold.get((pods.pods,), lambda: _untold(pods))
        silent = {
            key: untold[key]
            for key in ((each.pod_uid, each.container) for each in (readings if untold else ()))
            if key in untold and not any(slots.get(key, ()))
        }
        complete = True
        ended: frozenset[Key] = frozenset()
        if need or silent:
            places = {(pod_uid, pid) for (pod_uid, _), pid in need}
            others, complete = self._processes.look_over(
                frozenset([*need, *silent.items()]),
                lambda process: bool(silent) or _place_of(process) in places,
            )
            if complete and self._liveness != "off":
                ended = ended_of(silent, others)
            slots, _ = _identify(owners, found, on_devices, others)
            found = found | {
                each.pid: each for of in slots.values() for each in of if each is not None
            }
        else:
            self._processes.rest()
        if self._liveness == "off":
            unfound: Unfound = "believed"
        else:
            unfound = "dead" if complete else "unidentified"
        return Identities(slots, found, True, unfound, ended)


def slots_in_use(region: Region | None) -> tuple[RegionProcess, ...]:
    """A freed slot keeps the PIDs and the byte counts of the process that had it."""
    if region is None:
        return ()
    return tuple([each for each in region.processes if each.status != GONE and each.pid])


def _place_of(process: HostProcess) -> tuple[str, int] | None:
    """The pod and the PID inside, by which a slot's process is searched."""
    return (process.container.pod_uid, process.inner_pid) if process.container else None


def _untold(pods: PodsView) -> dict[Key, frozenset[str]]:
    """IDs of the containers whose source of pods doesn't say whether they finished."""
    return {
        (uid, name): container.ids
        for uid, pod in pods.pods.items()
        for name, container in pod.containers.items()
        if container.finished is None
    }


def ended_of(
    containers: Mapping[Key, frozenset[str]], processes: Iterable[HostProcess]
) -> frozenset[Key]:
    """Those of the ``containers`` that have none of the ``processes``, which are all that the
    host has in pods. None where no cgroup, or none of the pod, names a container."""
    seen = {each.container for each in processes if each.container is not None}
    ids = {container.container_id for container in seen} - {""}
    unclear = {container.pod_uid for container in seen if not container.container_id}
    return frozenset(
        key for key, own in containers.items() if ids and key[0] not in unclear and not own & ids
    )


def slot_owners(readings: Iterable[ContainerReading], pods: PodsView) -> list[SlotOwner]:
    owners = []
    for reading in readings:
        slots = slots_in_use(reading.region)
        if slots:
            pod = pods.pods.get(reading.pod_uid) or pods.deleted.get(reading.pod_uid)
            own: frozenset[str] = frozenset()
            other: frozenset[str] = frozenset()
            for container in () if pod is None else pod.containers.values():
                if container.name == reading.container:
                    own = container.ids
                else:
                    other |= container.ids
            owners.append(SlotOwner((reading.pod_uid, reading.container), slots, own, other))
    return owners


def identify(
    owners: Sequence[SlotOwner],
    asked: Mapping[int, HostProcess],
    on_devices: Iterable[int] = (),
    others: Iterable[HostProcess] = (),
) -> dict[Key, tuple[HostProcess | None, ...]]:
    """The process of each slot: the one at its host PID, otherwise one of those that are on a
    device (``on_devices``, PIDs of the host), otherwise one of the ``others``. No process is two
    slots'. ``asked`` are the processes at the host PIDs and on the devices."""
    return _identify(owners, asked, on_devices, others)[0]


def _identify(
    owners: Sequence[SlotOwner],
    asked: Mapping[int, HostProcess],
    on_devices: Iterable[int],
    others: Iterable[HostProcess] = (),
) -> _Identified:
    """Also the slots without a process, by their container and PID."""
    found: dict[Key, list[HostProcess | None]] = {o.key: [None] * len(o.slots) for o in owners}
    taken: set[int] = set()
    unfound: list[tuple[SlotOwner, int]] = []
    for owner in owners:
        for place, slot in enumerate(owner.slots):
            process = asked.get(slot.hostpid)
            if process is not None and _fits(owner, slot, process) and process.pid not in taken:
                taken.add(process.pid)
                found[owner.key][place] = process
            else:
                unfound.append((owner, place))
    candidates = (asked[pid] for pid in on_devices if pid in asked)
    for some in (candidates, others) if unfound else ():
        by_pid: defaultdict[tuple[str, int] | None, list[HostProcess]] = defaultdict(list)
        for process in some:
            by_pid[_place_of(process)].append(process)
        remaining = []
        for owner, place in unfound:
            slot = owner.slots[place]
            for process in by_pid.get((owner.key[0], slot.pid), ()):
                if process.pid not in taken and _fits(owner, slot, process):
                    taken.add(process.pid)
                    found[owner.key][place] = process
                    break
            else:
                remaining.append((owner, place))
        unfound = remaining
    return (
        {key: tuple(processes) for key, processes in found.items()},
        [(owner.key, owner.slots[place].pid) for owner, place in unfound],
    )


def _fits(owner: SlotOwner, slot: RegionProcess, process: HostProcess) -> bool:
    return process.inner_pid == slot.pid and owner.has(process.container)
