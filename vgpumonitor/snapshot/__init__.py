"""The node at one moment: a frozen value (``model``), and how it is made (``build``) of what
the sources say (``views``). ``identity`` says which process of the host is a slot's,
``attribution`` whose the processes on the devices are, ``over`` which containers are history;
``containers`` and ``pods`` are the joins.

Everything to the left of it gathers, everything to the right of it is a pure function of it.
"""

from vgpumonitor.snapshot.build import SnapshotBuilder
from vgpumonitor.snapshot.identity import Identities, ProcessIdentification
from vgpumonitor.snapshot.model import (
    Container,
    ContainerDevice,
    ContainerProcess,
    DeviceXid,
    DriverUse,
    Health,
    MemoryUse,
    MigDeviceOfContainer,
    NodeSnapshot,
    PodAllocation,
    PodInfo,
    ProcessDeviceUse,
    ProcessState,
    XidContainer,
)
from vgpumonitor.snapshot.views import SourceViews

__all__ = [
    "Container",
    "ContainerDevice",
    "ContainerProcess",
    "DeviceXid",
    "DriverUse",
    "Health",
    "Identities",
    "MemoryUse",
    "MigDeviceOfContainer",
    "NodeSnapshot",
    "PodAllocation",
    "PodInfo",
    "ProcessDeviceUse",
    "ProcessIdentification",
    "ProcessState",
    "SnapshotBuilder",
    "SourceViews",
    "XidContainer",
]
