"""Counters and sensors that NVML gives by number, many in one call: those that only it has, and
those that would take a call each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vgpumonitor.sources.devices.nvml.client import NvmlClient


class Field(NamedTuple):
    """A field's number (nvml.h, NVML_FI_*), and the part of the device that is meant."""

    number: int
    scope: int = 0


#: The sum over a device's links.
_ALL_LINKS = 0xFFFFFFFF

MEMORY_TEMPERATURE = Field(82)
ENERGY = Field(83)
PCIE_REPLAYS = Field(94)
#: Nanoseconds, by what nvml.h calls performance policies, and by newer drivers also by clock
#: event reasons.
VIOLATIONS = {
    "power": Field(74),
    "thermal": Field(75),
    "sync_boost": Field(76),
    "board_limit": Field(77),
    "low_utilization": Field(78),
    "reliability": Field(79),
    "app_clocks": Field(80),
    "base_clocks": Field(81),
    "sw_thermal_slowdown": Field(269),
    "hw_thermal_slowdown": Field(270),
    "hw_power_brake_slowdown": Field(271),
}
PCIE_BYTES = {"transmit": Field(197), "receive": Field(198)}
#: KiB of payload; and bytes, where only NVLink 5's own counters are there.
NVLINK_KIB = {"transmit": Field(138, _ALL_LINKS), "receive": Field(139, _ALL_LINKS)}
NVLINK_BYTES = {"transmit": Field(202, _ALL_LINKS), "receive": Field(204, _ALL_LINKS)}
#: Up to ``ecc_data`` those of NVLink up to 4, after that NVLink 5's. Errors that its forward error
#: correction mends are not among them: they are daily fare.
NVLINK_ERRORS = {
    "crc_flit": Field(38),
    "crc_data": Field(45),
    "replay": Field(52),
    "recovery": Field(59),
    "ecc_data": Field(160),
    "malformed_packet": Field(206, _ALL_LINKS),
    "buffer_overrun": Field(207, _ALL_LINKS),
    "receive": Field(208, _ALL_LINKS),
    "link_integrity": Field(211, _ALL_LINKS),
    "link_recovery_failed": Field(214, _ALL_LINKS),
}
RETIRED_PAGES = {"single_bit": Field(29), "double_bit": Field(30)}
PAGE_RETIREMENT_PENDING = Field(31)
REMAPPED_ROWS = {"corrected": Field(142), "uncorrected": Field(143)}
ROW_REMAP_PENDING, ROW_REMAP_FAILED = Field(144), Field(145)

#: What changes all the time.
_CURRENT = (
    MEMORY_TEMPERATURE,
    ENERGY,
    PCIE_REPLAYS,
    *VIOLATIONS.values(),
    *PCIE_BYTES.values(),
    *NVLINK_KIB.values(),
    *NVLINK_BYTES.values(),
    *NVLINK_ERRORS.values(),
)
#: What changes once in months.
_RARE = (
    *RETIRED_PAGES.values(),
    PAGE_RETIREMENT_PENDING,
    *REMAPPED_ROWS.values(),
    ROW_REMAP_PENDING,
    ROW_REMAP_FAILED,
)

_CALL = "nvmlDeviceGetFieldValues"
#: The members of nvmlValue_t, by nvmlValueType_t.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_UNSIGNED_INT = 1
#: No memory is hotter; drivers that don't know give such numbers.
_MOST_CELSIUS = 200


class FieldReader:
    """The fields of one device."""

    def __init__(self, client: NvmlClient, uuid: str) -> None:
        self._client = client
        self._uuid = uuid
        #: Those of _CURRENT that the device has; None before it was asked.
        self._there: list[Field] | None = None
        self._rare: Mapping[Field, int] = {}
        self._failing: set[Field] = set()

    def read(self, handle: Any, rare: bool) -> Mapping[Field, int]:
        """What the device tells. Only if ``rare``, and at first, are those asked for that change
        rarely, and those that it lacked: NVLink comes up later than the driver. Raises
        DriverGoneError."""
        if not rare and self._there is not None:
            return {**self._rare, **(self._ask(handle, self._there) or {})}
        found = self._ask(handle, [*_CURRENT, *_RARE])
        if found is None:
            return self._rare
        self._there = [field for field in _CURRENT if field in found or field in self._failing]
        self._rare = {field: found[field] for field in _RARE if field in found}
        return found

    def _ask(self, handle: Any, fields: list[Field]) -> dict[Field, int] | None:
        """None where the call as a whole failed."""
        answers = self._client.call(self._uuid, (_CALL, handle, fields)) if fields else ()
        if answers is None:
            return None
        values = {
            field: self._value(field, answer) for field, answer in zip(fields, answers, strict=True)
        }
        return {field: value for field, value in values.items() if value is not None}

    def _value(self, field: Field, answer: Any) -> int | None:
        """None where the device lacks it, or failed to tell."""
        code = answer.nvmlReturn
        nvml = self._client.nvml
        if code == nvml.NVML_SUCCESS or code in (
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_INVALID_ARGUMENT,
            nvml.NVML_ERROR_NOT_FOUND,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_DEPRECATED,
        ):
            if field in self._failing:
                self._failing.discard(field)
                self._client.record(_CALL, self._uuid, None, _name(field))
        else:
            self._failing.add(field)
            self._client.record(_CALL, self._uuid, nvml.NVMLError(code), _name(field))
        if code != nvml.NVML_SUCCESS or answer.valueType >= len(_MEMBERS):
            return None
        if field == MEMORY_TEMPERATURE:
            # Drivers of release 545 say that it is a double, and give an integer.
            celsius = int(answer.value.uiVal)
            return celsius if celsius <= _MOST_CELSIUS else None
        if field in PCIE_BYTES.values() and answer.valueType == _UNSIGNED_INT:
            # 4 GiB pass in less than a second: how often it wrapped since the last look, nobody
            # can tell.
            return None
        return int(getattr(answer.value, _MEMBERS[answer.valueType]))


def _name(field: Field) -> str:
    return f"field {field.number}"
