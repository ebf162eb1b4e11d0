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

from msgspec import Struct

from vgpumonitor.region.model import RegionProcess
from vgpumonitor.sources.processes import ContainerRef, HostProcess, HostProcessesView

#: A container by its pod's UID and its name.
Key = tuple[str, str]


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


#: The host's process of each slot of a container, in the slots' order; None where there is none.
Identities = Mapping[Key, tuple[HostProcess | None, ...]]


def identify(
    owners: Sequence[SlotOwner], host: HostProcessesView, on_devices: Iterable[int] = ()
) -> Identities:
    """The process of each slot: the one at its host PID, otherwise one of those that have a
    device open (``on_devices``, PIDs of the host), otherwise any. No process is two slots'.
    """
    found: dict[Key, list[HostProcess | None]] = {o.key: [None] * len(o.slots) for o in owners}
    taken: set[int] = set()
    open_slots: list[tuple[SlotOwner, int]] = []
    for owner in owners:
        for place, slot in enumerate(owner.slots):
            process = host.processes.get(slot.hostpid)
            if process is not None and _fits(owner, slot, process) and process.pid not in taken:
                taken.add(process.pid)
                found[owner.key][place] = process
            else:
                open_slots.append((owner, place))
    if not open_slots:
        return {key: tuple(processes) for key, processes in found.items()}
    for candidates in (
        [host.processes[pid] for pid in on_devices if pid in host.processes],
        host.others,
    ):
        by_pid: defaultdict[tuple[str, int], list[HostProcess]] = defaultdict(list)
        for process in candidates:
            if process.container is not None:
                by_pid[process.container.pod_uid, process.inner_pid].append(process)
        remaining = []
        for owner, place in open_slots:
            slot = owner.slots[place]
            for process in by_pid.get((owner.key[0], slot.pid), ()):
                if process.pid not in taken and _fits(owner, slot, process):
                    taken.add(process.pid)
                    found[owner.key][place] = process
                    break
            else:
                remaining.append((owner, place))
        open_slots = remaining
    return {key: tuple(processes) for key, processes in found.items()}


def _fits(owner: SlotOwner, slot: RegionProcess, process: HostProcess) -> bool:
    return process.inner_pid == slot.pid and owner.has(process.container)
