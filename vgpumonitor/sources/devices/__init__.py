"""Where devices are known from: one package per vendor's driver (``nvml``), each a
``DeviceSource``. What is right of the sources knows ``Device`` alone."""

from vgpumonitor.sources.devices.model import (
    Device,
    DeviceHealth,
    DeviceProcess,
    DeviceSource,
    MigDevice,
    ProcessUtilization,
    XidErrors,
    parts_of,
)

__all__ = [
    "Device",
    "DeviceHealth",
    "DeviceProcess",
    "DeviceSource",
    "MigDevice",
    "ProcessUtilization",
    "XidErrors",
    "parts_of",
]
