"""The containers: whose each is, which of its processes live, and what both witnesses say."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from vgpumonitor.region.launches import limit_holds, measures, waits
from vgpumonitor.region.model import SUSPENDED, Region, RegionProcess, wrapped
from vgpumonitor.remembered import Remembered
from vgpumonitor.snapshot.attribution import Attribution, Part
from vgpumonitor.snapshot.identity import Identities, Key, Unfound, slots_in_use
from vgpumonitor.snapshot.model import (
    Container,
    ContainerDevice,
    ContainerProcess,
    DriverProcess,
    DriverUse,
    MemoryUse,
    ProcessDeviceUse,
    ProcessState,
)
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.devices import Device, MigDevice, ProcessUtilization
from vgpumonitor.sources.pods import PodsView
from vgpumonitor.sources.processes import HostProcess

log = logging.getLogger(__name__)

#: HAMi's deviceMemoryScaling makes limits above the device's memory on purpose; times as much
#: is believed.
_SCALING = 16
#: Bytes that are believed where neither the device's memory nor a limit is known.
_UNKNOWN_MOST = 1 << 50


class _Place(Struct, frozen=True, gc=False):
    """Where the driver has a part: its GPU's UUID and index, its MIG UUID, its bytes."""

    device_uuid: str
    device_index: int | None
    mig_uuid: str
    total: int | None


class _Inputs(Struct, frozen=True, gc=False):
    """All that a container's value depends on. ``places`` are those of the region's devices and
    of the parts that only the driver tells of; ``driver`` is None where no driver tells of
    processes, and then nothing is known to bypass. ``accounted`` says whether what is in no slot
    went round HAMi-core: not where it isn't to limit the container, nor where the slots can't be
    read."""

    node: str
    key: Key
    names: tuple[str, str]
    pod_known: bool
    accounted: bool
    reading: ContainerReading | None
    identities: tuple[HostProcess | None, ...]
    unfound: Unfound
    places: Mapping[Part, _Place]
    driver: Mapping[Part, tuple[DriverProcess, ...]] | None

    def same_as(self, other: _Inputs) -> bool:
        # A region file gives the same object until its bytes change: its slots need no look.
        mine, theirs = (None if i.reading is None else i.reading.region for i in (self, other))
        return mine is theirs and self == other


class Containers:
    """Makes the containers of each snapshot. A container is the same object as in the last one
    while nothing that it depends on has changed, so that its text can be kept too.

    ``implausible`` counts the values left out because they can't be true, by reason, over all
    snapshots; what a container has of them is logged once.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._kept: dict[Key, tuple[_Inputs, Container]] = {}
        self._names: Remembered[dict[str, tuple[str, str]]] = Remembered()
        self._logged: dict[Key, tuple[tuple[str, ...], ...]] = {}
        self.implausible: Counter[str] = Counter()

    def update(
        self,
        readings: Iterable[ContainerReading],
        pods: PodsView,
        identities: Identities,
        attribution: Attribution,
        known_devices: Iterable[Device],
        told: frozenset[Part],
        complete: bool = True,
    ) -> tuple[Container, ...]:
        """``readings`` are those of containers that are not over, of all that have a directory if
        they are ``complete``; ``known_devices`` are named also while they are away; of the parts
        in ``told`` the driver tells the processes."""
        by_key: dict[Key, ContainerReading | None] = {
            (reading.pod_uid, reading.container): reading for reading in readings
        }
        for key in attribution.containers:
            by_key.setdefault(key, None)
        changed = [0.0 if reading is None else reading.changed for reading in by_key.values()]
        names = self._names.get(
            ([*by_key], changed, pods.pods, pods.deleted),
            lambda: _names(zip(by_key, changed, strict=True), pods),
        )
        places = _places(known_devices)
        # Containers that are over go first, so that those that came can have their memory.
        for key in self._kept.keys() - by_key.keys():
            del self._kept[key]
            self._logged.pop(key, None)
        containers = []
        for key, reading in by_key.items():
            region = None if reading is None else reading.region
            on_parts = attribution.containers.get(key, {})
            parts = [device.uuid for device in region.devices if device.uuid] if region else []
            pod = pods.pods.get(key[0])
            inputs = _Inputs(
                self._node,
                key,
                names[key[0]],
                pod is not None,
                (complete and pod is not None and pod.limited)
                if reading is None
                else _slots_are_known(reading),
                reading,
                identities.slots.get(key, ()),
                identities.unfound,
                {part: places[part] for part in (*parts, *on_parts) if part in places},
                {part: on_parts.get(part, ()) for part in {*parts, *on_parts} if part in told}
                if identities.visible
                else None,
            )
            last = self._kept.get(key)
            if last is None or not last[0].same_as(inputs):
                last = self._kept[key] = inputs, _container(inputs)
                self._log(last[1])
            containers.append(last[1])
        self.implausible.update(
            [
                "bad_utilization" if figure == "core_utilization" else "bad_memory"
                for container in containers
                for device in container.devices
                for figure in device.implausible
            ]
        )
        return tuple(containers)

    def _log(self, container: Container) -> None:
        """Says once what of a container can't be true."""
        found = tuple([device.implausible for device in container.devices])
        if found == self._logged.get(container.key, ()):
            return
        self._logged[container.key] = found
        for device in container.devices:
            if device.implausible:
                log.warning(
                    "region has figures that can't be true, which are left out",
                    extra={
                        "namespace": container.namespace,
                        "pod": container.pod,
                        "container": container.container,
                        "device": device.uuid,
                        "figures": ",".join(device.implausible),
                    },
                )


def _names(directories: Iterable[tuple[Key, float]], pods: PodsView) -> dict[str, tuple[str, str]]:
    """Namespace and pod name by pod UID; of each container also when its directory changed. One
    pair of names stands for one UID: where several claim it, the one that the source lists now has
    it, then the one whose directory changed last; the others are named by their UID."""
    claims: defaultdict[tuple[str, str], list[tuple[bool, float, str]]] = defaultdict(list)
    names = {}
    for (uid, _), changed in directories:
        names[uid] = "", uid
        pod = pods.pods.get(uid) or pods.deleted.get(uid)
        if pod is not None:
            claims[pod.namespace, pod.name].append((uid in pods.pods, changed, uid))
    return names | {max(claim)[2]: owner for owner, claim in claims.items()}


def _slots_are_known(reading: ContainerReading) -> bool:
    """Whether all slots of the region could be read, or there is none yet."""
    if reading.region is None:
        return reading.error is None
    return not reading.region.missing


def _places(devices: Iterable[Device]) -> dict[Part, _Place]:
    places = {}
    for device in devices:
        places[device.uuid] = _Place(device.uuid, device.index, "", device.memory_total)
        for mig in device.mig_devices:
            places[mig.uuid] = _mig_place(device, mig)
    return places


def _mig_place(device: Device, mig: MigDevice) -> _Place:
    return _Place(device.uuid, device.index, mig.uuid, mig.memory_total)


def _place(part: Part, places: Mapping[Part, _Place]) -> _Place:
    return places.get(part) or _Place(part, None, part if part.startswith("MIG-") else "", None)


def _container(inputs: _Inputs) -> Container:
    reading = inputs.reading
    region = None if reading is None else reading.region
    slots = slots_in_use(region)
    states = [
        _state(slot, process, inputs.unfound)
        for slot, process in zip(slots, inputs.identities or [None] * len(slots), strict=True)
    ]
    devices = [] if region is None else _region_devices(inputs, region, slots, states)
    there = {device.uuid for device in devices}
    for part in sorted(inputs.driver or {}):
        if part not in there:
            place = _place(part, inputs.places)
            devices.append(
                ContainerDevice(
                    None,
                    part,
                    place.device_uuid,
                    place.device_index,
                    place.mig_uuid,
                    driver=_driver_use(inputs, part),
                    bypassed=_bypassed(inputs, part),
                )
            )
    return Container(
        inputs.node,
        *inputs.names,
        inputs.key[1],
        inputs.key[0],
        inputs.pod_known,
        reading,
        tuple(devices),
        (*_slot_processes(inputs, devices, slots, states), *_others(inputs, devices)),
    )


def _state(slot: RegionProcess, process: HostProcess | None, unfound: Unfound) -> ProcessState:
    if process is None and unfound != "believed":
        return unfound
    return "suspended" if slot.status == SUSPENDED else "running"


def _region_devices(
    inputs: _Inputs,
    region: Region,
    slots: tuple[RegionProcess, ...],
    states: list[ProcessState],
) -> list[ContainerDevice]:
    live = [slot for slot, state in zip(slots, states, strict=True) if state != "dead"]
    dead = [slot for slot, state in zip(slots, states, strict=True) if state == "dead"]
    host_pid_known = any(slot.hostpid > 0 for slot in live)
    devices = []
    for index, device in enumerate(region.devices):
        if device.uuid is None:
            continue
        place = _place(device.uuid, inputs.places)
        implausible: list[str] = []
        limit = _believed(
            "memory_limit",
            device.memory_limit_bytes,
            _UNKNOWN_MOST if place.total is None else _SCALING * place.total,
            implausible,
        )
        most = limit or _UNKNOWN_MOST
        if place.total is not None:
            most = max(place.total, limit or 0)
        devices.append(
            ContainerDevice(
                index,
                device.uuid,
                place.device_uuid,
                place.device_index,
                place.mig_uuid,
                limit,
                device.sm_limit_percent,
                None if region.missing else _memory_use(live, index, most, implausible),
                None
                if region.missing
                else _core_utilization(device.sm_limit_percent, live, index, implausible),
                None
                if region.missing or "unidentified" in states
                else _believed(
                    "dead_memory",
                    wrapped(sum([slot.devices[index].total for slot in dead])),
                    most,
                    implausible,
                ),
                limit_holds(region, device, host_pid_known),
                waits(region, device, host_pid_known),
                _driver_use(inputs, device.uuid),
                _bypassed(inputs, device.uuid),
                tuple(dict.fromkeys(implausible)),
            )
        )
    return devices


def _believed(figure: str, size: int, most: int, implausible: list[str]) -> int | None:
    if size <= most:
        return size
    implausible.append(figure)
    return None


def _memory_use(
    live: Iterable[RegionProcess], index: int, most: int, implausible: list[str]
) -> MemoryUse:
    """The sums over the live processes on device ``index``. One process' count may have wrapped
    below zero, where HAMi-core accounts without a lock: it is right again in the sum."""
    context = module = data = total = 0
    for slot in live:
        use = slot.devices[index]
        context += use.context
        module += use.module
        data += use.data
        total += use.total
    return MemoryUse(
        *[
            _believed("memory", wrapped(size), most, implausible)
            for size in (context, module, data, total)
        ]
    )


def _core_utilization(
    core_limit: int, live: Collection[RegionProcess], index: int, implausible: list[str]
) -> int | None:
    """Percent, summed, where HAMi-core measures all of them: a part of a sum is a false value."""
    shares = [slot.devices[index].sm_util for slot in live if measures(slot, core_limit)]
    if max(shares, default=0) > 100:
        implausible.append("core_utilization")
        return None
    return sum(shares) if shares and len(shares) == len(live) else None


def _driver_use(inputs: _Inputs, part: Part) -> DriverUse | None:
    processes = (inputs.driver or {}).get(part)
    if not processes:
        return None
    sizes = [process.memory for process in processes]
    utilizations = [process.utilization for process in processes]
    return DriverUse(
        sum([size for size in sizes if size is not None]) if None not in sizes else None,
        None
        if None in utilizations
        else ProcessUtilization(
            sum([each.core for each in utilizations if each is not None]),
            sum([each.memory_controller for each in utilizations if each is not None]),
            sum([each.encoder for each in utilizations if each is not None]),
            sum([each.decoder for each in utilizations if each is not None]),
        ),
    )


def _bypassed(inputs: _Inputs, part: Part) -> int | None:
    """What the processes hold that are in no slot of the region, or have none to be in."""
    processes = (inputs.driver or {}).get(part)
    if processes is None or not inputs.accounted:
        return None
    sizes = [process.memory for process in processes if not process.in_slot]
    return sum([size for size in sizes if size is not None]) if None not in sizes else None


def _slot_processes(
    inputs: _Inputs,
    devices: list[ContainerDevice],
    slots: tuple[RegionProcess, ...],
    states: list[ProcessState],
) -> list[ContainerProcess]:
    by_pid = {
        (part, process.pid): process
        for part, processes in (inputs.driver or {}).items()
        for process in processes
    }
    found = []
    identities = inputs.identities or (None,) * len(slots)
    for slot, state, process in zip(slots, states, identities, strict=True):
        if process is not None:
            host_pid = process.pid
        else:
            host_pid = max(0, slot.hostpid) if state != "dead" else 0
        uses = []
        for place, device in enumerate(devices):
            if device.index is None:
                continue
            use = slot.devices[device.index]
            driver = by_pid.get((device.uuid, host_pid)) if process is not None else None
            core = None if driver is None or driver.utilization is None else driver.utilization.core
            measured = measures(slot, device.core_limit or 0)
            uses.append(
                ProcessDeviceUse(
                    place,
                    use.total if use.total <= _UNKNOWN_MOST else None,
                    use.sm_util if measured and use.sm_util <= 100 else None,
                    None if driver is None else driver.memory,
                    core,
                )
            )
        found.append(ContainerProcess(slot.pid, host_pid, state, tuple(uses)))
    return found


def _others(inputs: _Inputs, devices: list[ContainerDevice]) -> list[ContainerProcess]:
    """The processes on devices that are in no slot."""
    found: defaultdict[tuple[int, int], list[ProcessDeviceUse]] = defaultdict(list)
    for place, device in enumerate(devices):
        for process in (inputs.driver or {}).get(device.uuid, ()):
            if not process.in_slot:
                core = None if process.utilization is None else process.utilization.core
                found[process.inner_pid, process.pid].append(
                    ProcessDeviceUse(place, None, None, process.memory, core)
                )
    state: ProcessState = "bypassing" if inputs.accounted else "running"
    return [ContainerProcess(*pids, state, tuple(uses)) for pids, uses in found.items()]
