"""What the scheduler allocated to the pods: memory and cores of devices, MIG devices."""

from __future__ import annotations

from collections.abc import Iterable

from vgpumonitor.snapshot.model import Container, MigDeviceOfContainer, PodAllocation
from vgpumonitor.sources.devices import Device
from vgpumonitor.sources.pods import Pod, PodsView


def allocations(pods: Iterable[Pod], devices: Iterable[Device]) -> tuple[PodAllocation, ...]:
    """Of the pods that are not over, with Koordinator's minors as UUIDs. Of two pods of one
    name, which only a file can list, the last counts: no series is twice."""
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
