"""The pods that have to do with devices, and what the scheduler allocated to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vgpumonitor.snapshot.model import (
    Container,
    Isolation,
    MigDeviceOfContainer,
    PodAllocation,
    PodInfo,
)
from vgpumonitor.sources.devices import Device
from vgpumonitor.sources.pods import Pod, PodsView


def pod_infos(containers: Iterable[Container], pods: PodsView) -> tuple[PodInfo, ...]:
    """Those with an allocation, a directory or a process on a device, each once."""
    of_uid: dict[str, list[Container]] = {}
    for container in containers:
        of_uid.setdefault(container.pod_uid, []).append(container)
    for uid, pod in pods.pods.items():
        if not pod.finished and (pod.allocations or pod.mig_allocations):
            of_uid.setdefault(uid, [])
    infos: dict[tuple[str, str], PodInfo] = {}
    for uid, mine in of_uid.items():
        found = pods.pods.get(uid) or pods.deleted.get(uid)
        # Of two pods with one name, the one that its containers are named by has it.
        names = (mine[0].namespace, mine[0].pod) if mine else None
        if names is None and found is not None:
            names = found.namespace, found.name
        if names is None or (names in infos and not mine):
            continue
        infos[names] = PodInfo(
            *names,
            uid,
            "" if found is None else found.workload_kind,
            "" if found is None else found.workload,
            _isolation(mine, found),
            {} if found is None else found.labels,
        )
    return tuple(infos.values())


def _isolation(containers: Iterable[Container], pod: Pod | None) -> Isolation:
    if any(container.reading is not None for container in containers) or (
        pod is not None and pod.limited
    ):
        return "hami-core"
    if (pod is not None and pod.mig) or any(
        device.mig_uuid for container in containers for device in container.devices
    ):
        return "mig"
    return "none"


@dataclass(frozen=True, slots=True)
class DeviceNames:
    """The UUIDs of devices by minor, and the indices by UUID, by that of a MIG device too."""

    uuids: Mapping[int, str]
    indices: Mapping[str, int]


def device_names(devices: Iterable[Device]) -> DeviceNames:
    devices = tuple(devices)
    indices = {device.uuid: device.index for device in devices}
    indices |= {mig.uuid: device.index for device in devices for mig in device.mig_devices}
    return DeviceNames(
        {device.minor: device.uuid for device in devices if device.minor is not None}, indices
    )


def allocations(pods: Iterable[Pod], devices: DeviceNames) -> tuple[PodAllocation, ...]:
    """Of the pods that are not over, with Koordinator's minors as UUIDs. Of two pods of one
    name, which only a file can list, the last counts: no series is twice."""
    found = {}
    for pod in pods:
        for allocated in () if pod.finished else pod.allocations:
            minor = allocated.device_minor
            uuid = allocated.device_uuid
            if not uuid and minor is not None:
                uuid = devices.uuids.get(minor, "")
            found[pod.namespace, pod.name, uuid, minor] = PodAllocation(
                pod.namespace,
                pod.name,
                uuid,
                devices.indices.get(uuid),
                minor,
                allocated.memory_bytes,
                allocated.core_ratio,
            )
    return tuple(found.values())


def mig_devices(
    containers: Iterable[Container], pods: PodsView, devices: Iterable[Device]
) -> tuple[MigDeviceOfContainer, ...]:
    """MIG devices of containers: by the annotation, which is all there is of HAMi's MIG pods,
    and by the regions that name one. A device of a container is there once."""
    found: dict[tuple[str, str, str, str], MigDeviceOfContainer] = {}
    migs = {mig.uuid: (device, mig) for device in devices for mig in device.mig_devices}
    by_key = {container.key: container for container in containers}
    for pod in pods.pods.values():
        if pod.finished:
            continue
        for mig in pod.mig_allocations:
            names = by_key.get((pod.uid, mig.container))
            namespace, name = (
                (pod.namespace, pod.name) if names is None else (names.namespace, names.pod)
            )
            found[namespace, name, mig.container, mig.mig_uuid] = MigDeviceOfContainer(
                namespace,
                name,
                mig.container,
                mig.index,
                mig.device_uuid,
                mig.mig_uuid,
                mig.profile,
                mig.gpu_instance_id,
                mig.compute_instance_id,
            )
    for each in _of_regions(by_key.values()):
        container, index, uuid = each
        if uuid in migs:
            device, part = migs[uuid]
            found.setdefault(
                (container.namespace, container.pod, container.container, uuid),
                MigDeviceOfContainer(
                    container.namespace,
                    container.pod,
                    container.container,
                    index,
                    device.uuid,
                    uuid,
                    part.name or "",
                    part.gpu_instance_id,
                    part.compute_instance_id,
                ),
            )
    return tuple(found.values())


def _of_regions(containers: Iterable[Container]) -> Iterator[tuple[Container, int, str]]:
    for container in containers:
        for device in container.devices:
            if device.index is not None and device.mig_uuid:
                yield container, device.index, device.mig_uuid
