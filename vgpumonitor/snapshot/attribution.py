"""Whose the processes on the devices are, and what the driver says of each container."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vgpumonitor.snapshot.identity import Identities, Key
from vgpumonitor.snapshot.model import DriverProcess
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.devices import Device, DeviceProcess
from vgpumonitor.sources.pods import PodsView

#: A device, or a MIG device of it, by its own UUID.
Part = str


@dataclass(frozen=True, slots=True)
class Attribution:
    """``containers`` has the processes of each container that has any on a device, by the part
    that they are on. ``unattributed`` is the memory in bytes of the processes in no container
    of the node's Kubernetes, by device UUID; a device is missing where that can't be told."""

    containers: Mapping[Key, Mapping[Part, tuple[DriverProcess, ...]]] = field(default_factory=dict)
    unattributed: Mapping[str, int] = field(default_factory=dict)


def attribute(
    devices: Iterable[Device],
    readings: Iterable[ContainerReading],
    pods: PodsView,
    identities: Identities,
) -> Attribution:
    """A process is its slot's container's; one that has no slot is that of the container which
    its cgroup names. Where the host's processes can't be seen, nothing can be told."""
    if not identities.visible:
        return Attribution()
    slot_keys = {
        process.pid: key
        for key, processes in identities.slots.items()
        for process in processes
        if process is not None
    }
    directories: defaultdict[str, list[str]] = defaultdict(list)
    for reading in readings:
        directories[reading.pod_uid].append(reading.container)
    owners: dict[int, Key | None] = {}

    def owner(pid: int) -> Key | None:
        if pid not in owners:
            owners[pid] = slot_keys.get(pid) or _container_of(pid, identities, pods, directories)
        return owners[pid]

    found: defaultdict[Key, defaultdict[Part, list[DriverProcess]]] = defaultdict(
        lambda: defaultdict(list)
    )
    unattributed = {}
    for device in devices:
        if device.processes is None:
            continue
        alone: dict[int, int | None] = {}
        for part, process in _processes(device):
            key = owner(process.pid)
            if key is None:
                alone[process.pid] = process.memory
                continue
            host = identities.processes.get(process.pid)
            found[key][part].append(
                DriverProcess(
                    process.pid,
                    0 if host is None else host.inner_pid,
                    process.memory,
                    process.utilization,
                    process.pid in slot_keys,
                )
            )
        sizes = [size for size in alone.values() if size is not None]
        if len(sizes) == len(alone):
            unattributed[device.uuid] = sum(sizes)
    return Attribution(
        {
            key: {part: tuple(processes) for part, processes in parts.items()}
            for key, parts in found.items()
        },
        unattributed,
    )


def _processes(device: Device) -> Iterator[tuple[Part, DeviceProcess]]:
    """Each process of a device and the part that it is on. With MIG, the driver tells of a
    process on its MIG device, and of all of them together on the device."""
    on_parts = set()
    for mig in device.mig_devices:
        for process in mig.processes or ():
            on_parts.add(process.pid)
            yield mig.uuid, process
    for process in device.processes or ():
        if process.pid not in on_parts:
            yield device.uuid, process


def _container_of(
    pid: int, identities: Identities, pods: PodsView, directories: Mapping[str, list[str]]
) -> Key | None:
    """The container that the cgroup of a process names. Its name is empty where the pod has
    several, and nothing tells which."""
    process = identities.processes.get(pid)
    ref = None if process is None else process.container
    if ref is None:
        return None
    pod = pods.pods.get(ref.pod_uid) or pods.deleted.get(ref.pod_uid)
    if pod is not None:
        for container in pod.containers.values():
            if ref.container_id in container.ids:
                return ref.pod_uid, container.name
    names = list(pod.container_names) if pod is not None else []
    names = names or directories.get(ref.pod_uid, [])
    return ref.pod_uid, names[0] if len(names) == 1 else ""
