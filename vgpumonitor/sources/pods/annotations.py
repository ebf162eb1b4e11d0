"""What schedulers write on a pod about its devices.

- ``scheduling.koordinator.sh/device-allocated``: Koordinator, JSON, devices by minor number,
  and by UUID (``id``) where the scheduler is new enough (Koordinator #2545).
- ``hami.io/vgpu-devices-allocated``: HAMi, devices by UUID, one list per container.
- ``volcano.sh/vgpu-ids-new``: Volcano, in the same form.
- ``hami.io/vgpu-mig-allocations``: HAMi with dynamic MIG, JSON. The source of its form is
  HAMi's ``pkg/device/nvidia`` (``MigAllocation``): a reservation, completed by the device
  plugin with the MIG device's UUID and instance IDs.

Whoever owns a pod can write its annotations, so everything here is bounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeGuard, TypeVar

from vgpumonitor.sources.pods.model import Allocation, MigAllocation
from vgpumonitor.sources.pods.quantity import parse_quantity
from vgpumonitor.vendors import NVIDIA

KOORDINATOR = "scheduling.koordinator.sh/device-allocated"
HAMI = "hami.io/vgpu-devices-allocated"
VOLCANO = "volcano.sh/vgpu-ids-new"
HAMI_MIG = "hami.io/vgpu-mig-allocations"
ANNOTATIONS = (KOORDINATOR, HAMI, VOLCANO, HAMI_MIG)

#: Kubernetes' own bound on all annotations of an object, in bytes.
MAX_LENGTH = 256 * 1024
#: Cards of one pod, and MIG devices: more than any node has.
MAX_DEVICES = 64
#: Errors told of one annotation.
MAX_ERRORS = 8
_MAX_MINOR = 1 << 20
_MAX_BYTES = (1 << 63) - 1
_MIB = 1 << 20

#: HAMi before 2.10, which has no annotation of MIG devices, appends the MIG template and slot:
#: ``GPU-…[1-0]``.
_HAMI_UUID = re.compile(rf"({NVIDIA.uuid})(?:\[[0-9]{{1,4}}-[0-9]{{1,4}}\])?")
_PLAIN_UUID = re.compile(NVIDIA.uuid)
_PROFILE = re.compile(r"[0-9a-z.+]{1,64}")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,12}")

_Found = TypeVar("_Found")
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class ParsedAllocations:
    """``allocations`` has one entry per device. ``limited`` says that by these annotations
    HAMi-core limits the pod's containers, where it is switched on for the pod at all; ``mig`` that
    they have MIG devices, which it does not limit. ``errors`` are (annotation, what was wrong and
    where); the rest of the annotation is used all the same."""

    allocations: tuple[Allocation, ...] = ()
    mig_allocations: tuple[MigAllocation, ...] = ()
    limited: bool = False
    mig: bool = False
    errors: tuple[tuple[str, str], ...] = ()


def parse_allocations(
    annotations: Mapping[str, Any], container_names: Sequence[str]
) -> ParsedAllocations:
    """The allocations in a pod's annotations. ``container_names`` are those of the pod's
    specification, init containers first, which is how HAMi counts them. Never raises."""
    koordinator, koordinator_errors = _read(annotations, KOORDINATOR, _koordinator)
    hami, hami_errors = _read(annotations, HAMI, _hami)
    volcano, volcano_errors = _read(annotations, VOLCANO, _hami)
    mig, mig_errors = _read(
        annotations, HAMI_MIG, lambda text, errors: _mig(text, container_names, errors)
    )
    hami = hami or volcano
    is_mig = bool(mig) or any(of_mig for _, of_mig in hami)
    return ParsedAllocations(
        # All say where the same pod was put, so that their sum would count it twice.
        # Koordinator's holds: koordlet limits the containers by it.
        tuple(allocation for allocation, _ in koordinator or hami),
        mig,
        # koordlet looks at the first entry alone.
        koordinator[0][1] if koordinator else bool(hami) and not is_mig,
        is_mig,
        koordinator_errors + hami_errors + volcano_errors + mig_errors,
    )


def _read(
    annotations: Mapping[str, Any],
    name: str,
    parse: Callable[[str, list[str]], tuple[_Found, ...]],
) -> tuple[tuple[_Found, ...], tuple[tuple[str, str], ...]]:
    """What ``parse`` finds in one annotation, and its errors. ``parse`` appends what is
    wrong with an entry to its list, and raises ValueError where nothing can be used."""
    text = annotations.get(name)
    if text is None or text == "":
        return (), ()
    errors: list[str] = []
    found: tuple[_Found, ...] = ()
    try:
        if not isinstance(text, str):
            raise ValueError(f"is {_shown(text)}, not a string")
        if len(text) > MAX_LENGTH:
            raise ValueError(f"has {len(text)} characters; more than {MAX_LENGTH} are not read")
        found = parse(text, errors)
    except (ValueError, RecursionError) as error:
        errors.append(str(error))
    told = errors[:MAX_ERRORS]
    if len(errors) > MAX_ERRORS:
        told.append(f"and {len(errors) - MAX_ERRORS} more errors")
    return found, tuple((name, message) for message in told)


def _koordinator(text: str, errors: list[str]) -> tuple[tuple[Allocation, bool], ...]:
    """Each device's allocation, and whether it is a part of the device's memory only."""
    document = _json(text)
    if not isinstance(document, dict):
        raise ValueError(f"is {_shown(document)}, not a JSON object")
    entries = document.get("gpu")
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"gpu is {_shown(entries)}, not a list")
    allocated = _PerDevice[int](errors)
    uuids: dict[int, str] = {}
    parts: dict[int, bool] = {}
    for place, entry in enumerate(entries):
        where = f"gpu[{place}]"
        if not isinstance(entry, dict):
            errors.append(f"{where} is {_shown(entry)}, not an object")
            continue
        minor, resources = entry.get("minor"), entry.get("resources")
        if not _is_number(minor, _MAX_MINOR):
            errors.append(f"{where}.minor is {_shown(minor)}, not a minor number")
            continue
        if resources is None:
            resources = {}
        if not isinstance(resources, dict):
            errors.append(f"{where}.resources is {_shown(resources)}, not an object")
            continue
        uuid = entry.get("id")
        if uuid is not None and uuid != "" and not _is_text(uuid, _PLAIN_UUID):
            errors.append(f"{where}.id is {_shown(uuid)}, not the UUID of a device")
            uuid = None
        if uuid:
            uuids[minor] = uuid
        allocated.add(
            where,
            minor,
            _amount(resources, "gpu-memory", where, errors),
            _amount(resources, "gpu-core", where, errors),
        )
        ratio = _amount(resources, "gpu-memory-ratio", where, errors)
        parts.setdefault(minor, ratio is None or ratio < 100)
    return tuple(
        (Allocation(uuids.get(minor, ""), minor, memory, core_ratio), parts[minor])
        for minor, memory, core_ratio in allocated.sums()
    )


def _amount(
    resources: Mapping[str, Any], name: str, where: str, errors: list[str]
) -> Decimal | None:
    """A resource of Koordinator's, under the name that schedulers give it now, or the old one."""
    name = next(
        (full for full in (f"koordinator.sh/{name}", f"kubernetes.io/{name}") if full in resources),
        name,
    )
    value = resources.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, str | int | float):
            raise ValueError(f"{_shown(value)} is not a quantity")
        amount = parse_quantity(value)
        if not 0 <= amount <= _MAX_BYTES:
            raise ValueError(f"{_shown(value)} is negative or beyond 2^63")
    except ValueError as error:
        errors.append(f"{where}.resources: {name}: {error}")
        return None
    return amount


def _hami(text: str, errors: list[str]) -> tuple[tuple[Allocation, bool], ...]:
    """Each device's allocation, and whether it is of MIG devices."""
    allocated = _PerDevice[str](errors)
    of_mig = set()
    for container, devices in enumerate(text.split(";")):
        for place, device in enumerate(devices.split(":")):
            if not device.strip():
                continue
            where = f"container {container}, device {place}"
            # Later fields than the fourth are none of any release so far.
            fields = [field.strip() for field in device.split(",")]
            if len(fields) < 4:
                errors.append(f"{where}: {_shown(device)} is not UUID,type,MiB,percent")
                continue
            uuid, _, memory, cores = fields[:4]
            if not uuid:
                continue  # HAMi's ",,0,0" stands for a container without a device.
            match = _HAMI_UUID.fullmatch(uuid)
            if match is None:
                errors.append(f"{where}: {_shown(uuid)} is not a GPU's UUID")
            elif not (_WHOLE_NUMBER.fullmatch(memory) and _WHOLE_NUMBER.fullmatch(cores)):
                errors.append(
                    f"{where}: {_shown(memory)} MiB and {_shown(cores)} percent are not both "
                    "whole numbers"
                )
            else:
                allocated.add(where, match[1], Decimal(memory) * _MIB, Decimal(cores))
                if match[0] != match[1]:
                    of_mig.add(match[1])
    return tuple(
        (Allocation(uuid, None, memory, core_ratio), uuid in of_mig)
        for uuid, memory, core_ratio in allocated.sums()
    )


def _mig(text: str, container_names: Sequence[str], errors: list[str]) -> tuple[MigAllocation, ...]:
    entries = _json(text)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"is {_shown(entries)}, not a JSON list")
    found: dict[tuple[int, int, str], MigAllocation] = {}
    for place, entry in enumerate(entries):
        where = f"[{place}]"
        if not isinstance(entry, dict):
            errors.append(f"{where} is {_shown(entry)}, not an object")
            continue
        if not any(key in entry for key in ("migUUID", "gpuInstanceID", "computeInstanceID")):
            continue  # Only reserved so far.
        wrong = [
            f"{where}.{key} is {_shown(entry.get(key))}, not {what}"
            for key, valid, what in (
                ("containerIndex", _is_number(entry.get("containerIndex"), 1 << 20), "a number"),
                ("deviceIndex", _is_number(entry.get("deviceIndex"), 1 << 20), "a number"),
                ("gpuUUID", _is_text(entry.get("gpuUUID"), _PLAIN_UUID), "a GPU's UUID"),
                ("migUUID", _is_text(entry.get("migUUID"), _PLAIN_UUID), "a MIG device's UUID"),
                ("profile", _is_text(entry.get("profile"), _PROFILE), "a MIG profile"),
                ("gpuInstanceID", _is_number(entry.get("gpuInstanceID"), 1 << 32), "a number"),
                (
                    "computeInstanceID",
                    _is_number(entry.get("computeInstanceID"), 1 << 32),
                    "a number",
                ),
            )
            if not valid
        ]
        if wrong:
            errors.extend(wrong)
        elif entry["containerIndex"] >= len(container_names):
            errors.append(
                f"{where}.containerIndex is {entry['containerIndex']}, and the pod has "
                f"{len(container_names)} containers"
            )
        elif len(found) == MAX_DEVICES:
            errors.append(f"{where}: more than {MAX_DEVICES} MIG devices")
            break
        else:
            container = entry["containerIndex"]
            # An entry that stands there twice is one device.
            found[container, entry["deviceIndex"], entry["migUUID"]] = MigAllocation(
                container_names[container],
                entry["deviceIndex"],
                entry["gpuUUID"],
                entry["migUUID"],
                entry["profile"],
                entry["gpuInstanceID"],
                entry["computeInstanceID"],
            )
    return tuple(found[key] for key in sorted(found))


class _PerDevice(Generic[_Key]):
    """Sums per device, in the order in which the devices came."""

    def __init__(self, errors: list[str]) -> None:
        self._errors = errors
        self._devices: dict[_Key, tuple[Decimal | None, Decimal | None]] = {}

    def add(self, where: str, device: _Key, memory: Decimal | None, core: Decimal | None) -> None:
        """Memory in bytes, core in percent of the device."""
        if device not in self._devices and len(self._devices) == MAX_DEVICES:
            self._errors.append(f"{where}: more than {MAX_DEVICES} GPUs")
            return
        before = self._devices.get(device, (None, None))
        self._devices[device] = _sum(before[0], memory), _sum(before[1], core)

    def sums(self) -> Iterable[tuple[_Key, int | None, float | None]]:
        for device, (memory, core) in self._devices.items():
            # Rounded up, as Kubernetes' Quantity.Value does.
            yield (
                device,
                None if memory is None else math.ceil(memory),
                None if core is None else float(core / 100),
            )


def _sum(before: Decimal | None, more: Decimal | None) -> Decimal | None:
    if before is None or more is None:
        return more if before is None else before
    return before + more


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error


def _is_number(value: object, end: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def _is_text(value: object, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _shown(value: object) -> str:
    """A value in a message, cut to a length that a log line can bear."""
    text = repr(value[:64] if isinstance(value, str) else value)
    return text if len(text) <= 48 else text[:48] + "…"
