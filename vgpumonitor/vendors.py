"""What belongs to a vendor of devices rather than to whoever names one: HAMi-core's regions,
pod annotations and the driver all identify a device by its vendor's UUID."""

from __future__ import annotations

from typing import NamedTuple


class Vendor(NamedTuple):
    """``uuid`` is a regular expression for the UUIDs that its driver gives to devices."""

    name: str
    uuid: str


_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

#: nvmlDeviceGetUUID: of a GPU or a MIG device, and of a MIG device before driver 470.
NVIDIA = Vendor("NVIDIA", rf"(?:(?:GPU|MIG)-{_UUID}|MIG-GPU-{_UUID}/[0-9]{{1,3}}/[0-9]{{1,3}})")
