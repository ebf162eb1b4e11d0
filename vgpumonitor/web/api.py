"""The node's snapshot as JSON: what the page and ``vgpumonitor top`` show.

``snapshot.schema.json`` beside this module describes the document.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vgpumonitor import __version__
from vgpumonitor.diagnosis import Finding, findings
from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.region.model import Region
from vgpumonitor.snapshot import Container, ContainerDevice, ContainerProcess, NodeSnapshot
from vgpumonitor.sources.devices import Device
from vgpumonitor.xids import xid_of

if TYPE_CHECKING:
    from vgpumonitor.scrape import Scraper

#: Changes only when a consumer of the last version would break.
VERSION = 1

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Document = dict[str, Any]


def schema() -> bytes:
    """The JSON schema (draft 2020-12) of the document."""
    return (resources.files("vgpumonitor.web") / "snapshot.schema.json").read_bytes()


def api_routes(scraper: Scraper) -> list[web.RouteDef]:
    """``/api/v1/snapshot``, and its schema at ``/api/v1/schema``."""
    text = schema()

    async def serve_schema(_request: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/schema+json", headers=_HEADERS)

    return [
        web.get("/api/v1/snapshot", _Snapshot(scraper).answer),
        web.get("/api/v1/schema", serve_schema),
    ]


class _Snapshot:
    def __init__(self, scraper: Scraper) -> None:
        self._scraper = scraper
        self._renderer = HangTolerantThread("snapshot")

    async def answer(self, _request: web.Request) -> web.Response:
        snapshot = (await self._scraper.collect()).snapshot
        body = await asyncio.wrap_future(self._renderer.submit(lambda: _body(snapshot)))
        response = web.Response(body=body, content_type="application/json", headers=_HEADERS)
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression()
        return response


def _body(snapshot: NodeSnapshot) -> bytes:
    return json.dumps(snapshot_document(snapshot), separators=(",", ":")).encode()


def snapshot_document(snapshot: NodeSnapshot) -> Document:
    """The snapshot in values that JSON has, in the form of the schema."""
    active = _active_by_device(snapshot.containers)
    return {
        "version": VERSION,
        "exporter_version": __version__,
        "node": snapshot.node,
        "time": snapshot.time,
        "devices": _devices(snapshot),
        "containers": [_container(container, active) for container in snapshot.containers],
        "allocations": [
            {
                "namespace": allocated.namespace,
                "pod": allocated.pod,
                "device_uuid": allocated.device_uuid or None,
                "device_minor": allocated.device_minor,
                "memory_bytes": allocated.memory_bytes,
                "core_percent": None
                if allocated.core_ratio is None
                else allocated.core_ratio * 100,
            }
            for allocated in snapshot.allocations
        ],
        "mig_allocations": [
            {
                "namespace": mig.namespace,
                "pod": mig.pod,
                "container": mig.container,
                "device_uuid": mig.device_uuid,
                "mig_uuid": mig.mig_uuid,
                "profile": mig.profile,
                "gpu_instance_id": mig.gpu_instance_id,
                "compute_instance_id": mig.compute_instance_id,
            }
            for mig in snapshot.mig_devices
        ],
        "xid_errors": _xid_errors(snapshot),
        "sources": _sources(snapshot),
        "feedback": None
        if snapshot.health.feedback is None
        else {
            "rounds": snapshot.health.feedback.rounds,
            "last_round": snapshot.health.feedback.last_round,
        },
        "cleanup": None
        if snapshot.health.cleanup is None
        else {
            "removed": snapshot.health.cleanup.removed,
            "last_round": snapshot.health.cleanup.last_round,
        },
        "region_errors": {
            reason: count for reason, count in snapshot.health.region_errors.items() if count
        },
        "findings": findings_document(findings(snapshot)),
    }


def findings_document(found: Iterable[Finding]) -> list[Document]:
    """The findings in values that JSON has, in the form of the schema."""
    return [
        {
            "id": finding.kind.id,
            "severity": finding.kind.severity,
            "title": finding.kind.title,
            "why": finding.kind.why,
            "mend": finding.kind.mend,
            "document": finding.kind.document,
            "seen": [
                {"subject": _text(seen.subject), "text": _text(seen.text)} for seen in finding.seen
            ],
        }
        for finding in found
    ]


#: The names here of a container's figures.
_FIGURES = {
    "memory": "memory_used_bytes",
    "memory_limit": "memory_limit_bytes",
    "dead_memory": "dead_memory_bytes",
    "core_utilization": "core_utilization_percent",
}

#: A device's facts, by their names here; null for a device that the driver doesn't tell of.
_FACTS = {
    "vendor": "vendor",
    "index": "index",
    "minor": "minor",
    "name": "name",
    "driver_version": "driver_version",
    "cuda_version": "cuda_version",
    "memory_total_bytes": "memory_total",
    "memory_used_bytes": "memory_used",
    "memory_reserved_bytes": "memory_reserved",
    "core_utilization_percent": "core_utilization",
    "memory_utilization_percent": "memory_utilization",
    "up": "up",
    "serial": "serial",
    "pci_bus_id": "pci_bus_id",
    "power_watts": "power_watts",
    "power_limit_watts": "power_limit_watts",
    "temperature_celsius": "temperature_celsius",
    "memory_temperature_celsius": "memory_temperature_celsius",
}


def _devices(snapshot: NodeSnapshot) -> list[Document]:
    """Those that the driver tells of, then those that only regions name."""
    told = {
        uuid
        for device in snapshot.devices
        for uuid in (device.uuid, *(mig.uuid for mig in device.mig_devices))
    }
    used = {device.uuid for container in snapshot.containers for device in container.devices}
    return [_device(snapshot, device.uuid, device) for device in snapshot.devices] + [
        _device(snapshot, uuid, None) for uuid in sorted(used - told)
    ]


def _device(snapshot: NodeSnapshot, uuid: str, device: Device | None) -> Document:
    mig_devices = () if device is None else device.mig_devices
    throttled = {} if device is None else device.throttled
    return {
        "uuid": uuid,
        **{name: getattr(device, fact, None) for name, fact in _FACTS.items()},
        "ecc_errors": {} if device is None else dict(device.ecc_errors),
        "throttled": sorted(reason for reason, held in throttled.items() if held),
        "conditions": [] if device is None else _conditions(device),
        "dead_memory_bytes": _dead_memory(
            snapshot.containers, {uuid, *(mig.uuid for mig in mig_devices)}
        ),
        "unattributed_memory_bytes": snapshot.unattributed.get(uuid),
        "mig_devices": [
            {
                "uuid": mig.uuid,
                "name": mig.name,
                "gpu_instance_id": mig.gpu_instance_id,
                "compute_instance_id": mig.compute_instance_id,
                "memory_total_bytes": mig.memory_total,
                "memory_used_bytes": mig.memory_used,
            }
            for mig in mig_devices
        ],
    }


#: Percent of its cores from which a device's link must be awake.
_AWAKE = 10


def _conditions(device: Device) -> list[str]:
    """What is the matter with the device itself, in a few words each."""
    if not device.up:
        return ["lost"]
    found = []
    if device.row_remap_failed:
        found.append("row remap failed")
    if device.row_remap_pending:
        found.append("row remap pending")
    if device.page_retirement_pending:
        found.append("page retirement pending")
    width, most = device.pcie_width, device.max_pcie_width
    if width is not None and most is not None and width < most:
        found.append(f"PCIe x{width} of x{most}")
    generation, newest = device.pcie_generation, device.max_pcie_generation
    awake = (device.core_utilization or 0) >= _AWAKE
    if awake and generation is not None and newest is not None and generation < newest:
        found.append(f"PCIe generation {generation} of {newest}")
    return found


def _xid_errors(snapshot: NodeSnapshot) -> list[Document]:
    return [
        {
            "device_uuid": error.device_uuid,
            "device_index": error.device_index,
            "mig_uuid": error.mig_uuid or None,
            "xid": error.xid,
            "class": xid.of,
            "meaning": xid.meaning,
            "action": xid.action,
            "count": error.count,
            "last_time": error.last_time,
            "containers": [
                {"namespace": one.namespace, "pod": one.pod, "container": one.container}
                for one in error.containers
            ],
        }
        for error, xid in ((error, xid_of(error.xid)) for error in snapshot.xids)
    ]


def _dead_memory(containers: Iterable[Container], uuids: set[str]) -> int | None:
    """What the regions say; None where one of them can't be told."""
    sizes = [
        device.dead_memory
        for container in containers
        for device in container.devices
        if device.uuid in uuids and device.index is not None
    ]
    return sum([size for size in sizes if size is not None]) if None not in sizes else None


def _container(container: Container, active: Mapping[str, list[Container]]) -> Document:
    region, reading = container.region, container.reading
    blocked = _any(device.launches_blocked for device in container.devices)
    return {
        "namespace": container.namespace,
        "pod": container.pod,
        "container": container.container,
        "pod_uid": container.pod_uid,
        "pod_known": container.pod_known,
        "status": _status(container),
        "region_state": "none" if reading is None else reading.state,
        "error": None if reading is None or reading.error is None else _text(reading.error),
        "path": None if reading is None else _text(reading.path),
        "layout": None if region is None else region.layout,
        "priority": None if region is None else region.priority,
        "core_limit_enforced": _any(device.core_limit_enforced for device in container.devices),
        "launches_blocked": blocked,
        "blocked_by": _blocked_by(container, active) if blocked else [],
        "last_kernel_time": None if region is None else region.last_kernel_time or None,
        "devices": [_container_device(device) for device in container.devices],
        "processes": [_process(container, process) for process in container.processes],
        "problems": _problems(region),
    }


def _any(flags: Iterable[bool | None]) -> bool | None:
    """Whether any is true; None where none is known."""
    known = [flag for flag in flags if flag is not None]
    return any(known) if known else None


def _status(container: Container) -> str:
    """One word for what the container does; the schema says what each means."""
    reading = container.reading
    # One that got round HAMi-core works, and waits for nothing.
    works = reading is not None and reading.state == "waiting" and container.processes
    if reading is not None and container.region is None and not works:
        return reading.state
    if any(device.launches_blocked for device in container.devices):
        return "blocked"
    states = {process.state for process in container.processes} - {"dead"}
    if states & {"running", "unidentified", "bypassing"}:
        return "running"
    return "suspended" if states else "no_process"


def _container_device(device: ContainerDevice) -> Document:
    memory, driver = device.memory, device.driver
    utilization = None if driver is None else driver.utilization
    return {
        "index": device.index,
        "uuid": device.uuid,
        "device_uuid": device.device_uuid,
        "device_index": device.device_index,
        "mig_uuid": device.mig_uuid or None,
        "memory_used_bytes": None if memory is None else memory.total,
        "memory_limit_bytes": device.memory_limit or None,
        "memory_by_kind": None
        if memory is None
        else {
            "context": memory.context,
            "module": memory.module,
            "data": memory.data,
            "other": memory.other,
        },
        "dead_memory_bytes": device.dead_memory,
        "core_utilization_percent": device.core_utilization,
        "core_limit_percent": device.core_limit if device.core_limit not in (0, 100) else None,
        "driver": None
        if driver is None
        else {
            "memory_used_bytes": driver.memory,
            "core_utilization_percent": None if utilization is None else utilization.core,
            "memory_controller_utilization_percent": None
            if utilization is None
            else utilization.memory_controller,
            "encoder_utilization_percent": None if utilization is None else utilization.encoder,
            "decoder_utilization_percent": None if utilization is None else utilization.decoder,
        },
        "bypassed_memory_bytes": device.bypassed,
        "implausible": [_FIGURES[figure] for figure in device.implausible],
    }


def _process(container: Container, process: ContainerProcess) -> Document:
    return {
        "pid": process.pid or None,
        "host_pid": process.host_pid or None,
        "state": process.state,
        "devices": [
            {
                "uuid": container.devices[use.place].uuid,
                "memory_used_bytes": use.memory,
                "core_utilization_percent": use.core_utilization,
                "driver_memory_used_bytes": use.driver_memory,
                "driver_core_utilization_percent": use.driver_core_utilization,
            }
            for use in process.uses
        ],
    }


def _problems(region: Region | None) -> list[Document]:
    if region is None:
        return []
    problems = [
        {"reason": reason, "message": _text(message)} for reason, message in region.problems
    ]
    if region.torn:
        message = (
            f"{region.torn} process slots stayed half-written: {region.missing} are left out, the "
            "others are as they were last seen whole"
        )
        problems.append({"reason": "torn", "message": message})
    return problems


def _active_by_device(containers: Iterable[Container]) -> Mapping[str, list[Container]]:
    """The containers that launched kernels since the last rounds of feedback, by device."""
    active: defaultdict[str, list[Container]] = defaultdict(list)
    for container in containers:
        if container.region is not None and container.region.recent_kernel > 0:
            for device in container.devices:
                active[device.uuid].append(container)
    return active


def _blocked_by(container: Container, active: Mapping[str, list[Container]]) -> list[Document]:
    """Those with a higher priority (a lower number, not below 0) that are active on one of
    the container's devices: for them its launches wait."""
    assert container.region is not None
    own = container.region.priority
    found = {
        other.key: other
        for device in container.devices
        for other in active.get(device.uuid, ())
        if other.region is not None and 0 <= other.region.priority < own
    }
    return [
        {
            "namespace": other.namespace,
            "pod": other.pod,
            "container": other.container,
            "priority": other.region.priority,
        }
        for other in found.values()
        if other.region is not None
    ]


def _sources(snapshot: NodeSnapshot) -> list[Document]:
    health = snapshot.health
    devices = health.devices
    return [
        {
            "name": "containers directory",
            "up": health.containers.up,
            "synced": None,
            "error": None if health.containers.error is None else _text(health.containers.error),
        },
        {
            "name": f"pods ({health.pod_source})",
            "up": health.pods.up,
            "synced": health.pods.synced,
            "error": health.pods.problem,
        },
        {
            "name": "GPUs" if devices is None else f"GPUs ({devices.source})",
            "up": None if devices is None else devices.up,
            "synced": None,
            "error": None,
        },
    ]


def _text(text: str) -> str:
    """Without the lone surrogates that stand for a file name's bytes: JSON has none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
