"""A row for each container on each device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vgpumonitor.formatting import short_uuid
from vgpumonitor.top.fetch import Document


@dataclass(frozen=True, slots=True)
class Row:
    """One container on one device. Memory is in bytes, cores in percent, ``idle`` in seconds
    since the last kernel; None where it is unknown, and of a limit also where there is none
    (``no_memory_limit``, ``no_core_limit``). What HAMi-core accounts for and what the driver says
    are two figures; ``bypassed`` is what the driver says of processes that HAMi-core
    does not account for. ``blocked_by`` are the pods for which a blocked container waits."""

    namespace: str
    pod: str
    container: str
    device: str | None
    memory: int | None
    driver_memory: int | None
    memory_limit: int | None
    cores: int | None
    driver_cores: int | None
    core_limit: int | None
    no_memory_limit: bool
    no_core_limit: bool
    bypassed: int | None
    idle: float | None
    state: str
    blocked_by: tuple[str, ...] = ()

    @property
    def used_memory(self) -> int | None:
        """The driver's figure where there is one."""
        return self.memory if self.driver_memory is None else self.driver_memory

    @property
    def used_cores(self) -> int | None:
        return self.cores if self.driver_cores is None else self.driver_cores

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.namespace, self.pod, self.container) if part)

    @property
    def text(self) -> str:
        """What filters look at."""
        device = "" if self.device is None else f"gpu {self.device}"
        bypasses = " bypasses" if self.bypassed else ""
        return f"{self.name} {device} {self.state.replace('_', ' ')}{bypasses}".lower()


def memory_share(row: Row) -> float | None:
    """The part of its limit that is used."""
    if row.used_memory is None or not row.memory_limit:
        return None
    return row.used_memory / row.memory_limit


#: The orders by name: the key that chooses one, what is compared, and whether the largest comes
#: first.
SORTS: dict[str, tuple[str, Callable[[Row], Any], bool]] = {
    "memory": ("m", lambda row: row.used_memory, True),
    "cores": ("c", lambda row: row.used_cores, True),
    "idle": ("i", lambda row: row.idle, True),
    "name": ("n", lambda row: row.name, False),
    "limit": ("l", memory_share, True),
    "gpu": ("g", lambda row: row.device, False),
    "state": ("s", lambda row: row.state, False),
}


def rows_of(document: Document) -> list[Row]:
    """The rows of a snapshot document."""
    names = {}
    for device in document["devices"]:
        name = short_uuid(device["uuid"]) if device["index"] is None else str(device["index"])
        names[device["uuid"]] = name
        for mig in device["mig_devices"]:
            names[mig["uuid"]] = f"{name} MIG {mig['gpu_instance_id']}"
    return [
        Row(
            found["namespace"],
            found["pod"],
            found["container"],
            names.get(device["uuid"], device["uuid"]) if device else None,
            device.get("memory_used_bytes"),
            driver.get("memory_used_bytes"),
            device.get("memory_limit_bytes"),
            device.get("core_utilization_percent"),
            driver.get("core_utilization_percent"),
            device.get("core_limit_percent"),
            *_no_limits(device),
            device.get("bypassed_memory_bytes"),
            None if last is None else document["time"] - last,
            found["status"],
            tuple(other["pod"] for other in found["blocked_by"]),
        )
        for found in document["containers"]
        for last in [found["last_kernel_time"]]
        # A container that has no device yet has a row all the same.
        for device in found["devices"] or [{}]
        for driver in [device.get("driver") or {}]
    ]


def _no_limits(device: Document) -> tuple[bool, bool]:
    """Whether it is known that there is no limit of memory, and none of cores: a region says so
    of its devices alone, and what can't be true says nothing."""
    if device.get("index") is None:
        return False, False
    no_memory = device["memory_limit_bytes"] is None
    return (
        no_memory and "memory_limit_bytes" not in device["implausible"],
        device["core_limit_percent"] is None,
    )
