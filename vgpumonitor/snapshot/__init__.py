"""The node at one moment: a frozen value (``model``), and how it is made (``build``) of what
the sources say (``views``): ``containers``, ``pods`` and ``unattributed`` are one join each.

Everything to the left of it gathers, everything to the right of it is a pure function of it.
"""

from vgpumonitor.snapshot.build import SnapshotBuilder
from vgpumonitor.snapshot.model import (
    Container,
    ContainerDevice,
    ContainerProcess,
    Health,
    MemoryUse,
    MigDeviceOfContainer,
    NodeSnapshot,
    PodAllocation,
    UnattributedMemory,
)
from vgpumonitor.snapshot.unattributed import outside_regions
from vgpumonitor.snapshot.views import HostProcessesView, SourceViews

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
    "SourceViews",
    "UnattributedMemory",
    "outside_regions",
]
