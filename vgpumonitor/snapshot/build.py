"""The joins put together: from what the sources say at one moment to the node's snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from vgpumonitor.remembered import Remembered
from vgpumonitor.snapshot.attribution import attribute
from vgpumonitor.snapshot.containers import Containers
from vgpumonitor.snapshot.model import Health, NodeSnapshot, PodAllocation, PodInfo
from vgpumonitor.snapshot.over import is_over
from vgpumonitor.snapshot.pods import allocations, device_names, mig_devices, pod_infos
from vgpumonitor.snapshot.views import SourceViews
from vgpumonitor.snapshot.xids import XidHistory
from vgpumonitor.sources.devices import Device, parts_of


class SnapshotBuilder:
    """Makes the snapshots of one node, each a function of the views, and of the containers that
    were there when a GPU had an XID. Containers, pods and allocations stay the same objects while
    they are the same."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._containers = Containers(node)
        self._pods: Remembered[tuple[PodInfo, ...]] = Remembered()
        self._allocations: Remembered[tuple[PodAllocation, ...]] = Remembered()
        self._xids = XidHistory()

    def build(self, views: SourceViews) -> NodeSnapshot:
        pods, identities = views.pods, views.identities
        shown = [
            reading
            for reading in views.containers.containers
            if not is_over(reading, pods, identities)
        ]
        attribution = attribute(views.devices, shown, pods, identities)
        containers = self._containers.update(
            shown,
            pods,
            identities,
            attribution,
            views.known_devices,
            _told(views.devices),
            views.containers.up,
        )
        names = device_names(views.known_devices)
        return NodeSnapshot(
            node=self._node,
            time=views.time,
            containers=containers,
            devices=views.devices,
            pods=self._pods.get(
                (containers, pods.pods, pods.deleted), lambda: pod_infos(containers, pods)
            ),
            allocations=self._allocations.get(
                (pods.pods, names), lambda: allocations(pods.pods.values(), names)
            ),
            unattributed=attribution.unattributed,
            mig_devices=mig_devices(containers, pods, views.known_devices),
            health=Health(
                containers=views.containers,
                region_errors=Counter(views.containers.errors) + self._containers.implausible,
                pod_source=views.pod_source,
                pods=pods,
                devices=views.device_health,
                feedback=views.feedback,
                cleanup=views.cleanup,
                host_processes_visible=identities.visible,
                seconds=views.seconds,
            ),
            xids=self._xids.update(views.xids, containers, views.devices, views.time),
        )


def _told(devices: Iterable[Device]) -> frozenset[str]:
    """The devices and MIG devices whose processes the driver tells."""
    return frozenset(part.uuid for part in parts_of(devices) if part.processes is not None)
