"""The joins put together: from what the sources say at one moment to the node's snapshot."""

from __future__ import annotations

from collections import Counter

from vgpumonitor.snapshot.containers import Containers
from vgpumonitor.snapshot.model import Health, NodeSnapshot
from vgpumonitor.snapshot.pods import allocations, mig_devices
from vgpumonitor.snapshot.unattributed import unattributed
from vgpumonitor.snapshot.views import SourceViews


class SnapshotBuilder:
    """Makes the snapshots of one node, each a function of the views and of the containers in
    the last one, which stay the same objects while they are the same."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._containers = Containers()

    def build(self, views: SourceViews) -> NodeSnapshot:
        readings = views.containers.containers
        containers = self._containers.update(
            readings, views.pods, views.processes, views.known_devices
        )
        return NodeSnapshot(
            node=self._node,
            time=views.time,
            containers=containers,
            devices=views.devices,
            allocations=allocations(views.pods.pods.values(), views.known_devices),
            unattributed=unattributed(views.devices, readings, views.pods, views.processes),
            mig_devices=mig_devices(containers, views.pods),
            health=Health(
                containers=views.containers,
                region_errors=Counter(views.containers.errors) + self._containers.implausible,
                pod_source=views.pod_source,
                pods=views.pods,
                devices=views.device_health,
                feedback=views.feedback,
                cleanup=views.cleanup,
                seconds=views.seconds,
            ),
        )
