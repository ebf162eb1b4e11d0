"""Small nodes, made of the tests' builders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from testing.values import GIB, GPU, UID, gpu, pods_view, snapshot
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth, DeviceProcess, ProcessUtilization
from vgpumonitor.sources.pods import Allocation, Pod, PodContainer, PodsView
from vgpumonitor.sources.pods.objects import ISOLATION
from vgpumonitor.sources.processes import ContainerRef

NVML = DeviceHealth("NVML", True, {})


def pod(
    uid: str = UID,
    name: str = "train-0",
    *allocations: Allocation,
    limited: bool = True,
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> Pod:
    """A pod that runs, with 20 GiB and half of the cores of the GPU of minor 3 where nothing else
    is allocated to it."""
    return Pod(
        uid,
        "team-a",
        name,
        containers={"train": PodContainer("train")},
        allocations=allocations or (Allocation("", 3, 20 * GIB, 0.5),),
        container_names=("train",),
        labels={ISOLATION: "HAMi-core"} if labels is None else labels,
        limited=limited,
        **{"phase": "Running", **more},
    )


def hami_pod(uid: str = UID, name: str = "train-0", memory: int = 20 * GIB) -> Pod:
    return pod(uid, name, Allocation(GPU, None, memory, 0.5), labels={})


def busy(pid: int, memory: int = GIB, core: int = 60) -> DeviceProcess:
    """A process on a GPU."""
    return DeviceProcess(pid, memory, ProcessUtilization(core))


def node(
    *readings: ContainerReading,
    pods: PodsView | None = None,
    gpus: Iterable[Device] | None = None,
    live: Iterable[int] | None = (100,),
    on_devices: Mapping[int, ContainerRef | None] | None = None,
    directory: ContainersView | None = None,
    **health: Any,
) -> NodeSnapshot:
    """A node with one GPU, on which all is well unless said otherwise. Where ``live`` is None the
    host's processes can't be seen; ``health`` are fields of the snapshot's."""
    made = snapshot(
        *readings,
        pods=pods_view(pod()) if pods is None else pods,
        gpus=[gpu()] if gpus is None else gpus,
        live=live,
        on_devices=on_devices,
    )
    containers = made.health.containers if directory is None else directory
    return replace(
        made,
        health=replace(
            made.health, **{"devices": NVML, "containers": containers, "cleanup": None, **health}
        ),
    )
