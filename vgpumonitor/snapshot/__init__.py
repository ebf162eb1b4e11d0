"""The node at one moment: a frozen value, and how it is made of what the sources say.

Everything to the left of it gathers, everything to the right of it is a pure function of it.
"""

from vgpumonitor.snapshot.build import (
    Container,
    ContainerDevice,
    ContainerProcess,
    Health,
    HostProcessesView,
    MemoryUse,
    MigDeviceOfContainer,
    NodeSnapshot,
    PodAllocation,
    SnapshotBuilder,
    UnattributedMemory,
)

__all__ = [
    "Container",
    "ContainerDevice",
    "ContainerProcess",
    "Health",
    "HostProcessesView",
    "MemoryUse",
    "MigDeviceOfContainer",
    "NodeSnapshot",
    "PodAllocation",
    "SnapshotBuilder",
    "UnattributedMemory",
]
