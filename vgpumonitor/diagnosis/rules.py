"""What a snapshot shows to be wrong.

A scrape asks for it, of up to a thousand containers: each is looked at when it changed.
"""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from vgpumonitor.diagnosis import kinds
from vgpumonitor.diagnosis.examination import Examination, examine
from vgpumonitor.diagnosis.model import Finding, Found, Seen
from vgpumonitor.formatting import ago, percent, size
from vgpumonitor.region.launches import is_limit
from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.remembered import Remembered
from vgpumonitor.snapshot.identity import slots_in_use
from vgpumonitor.snapshot.model import Container, ContainerDevice, NodeSnapshot
from vgpumonitor.snapshot.over import unreliable
from vgpumonitor.sources.devices import Device, parts_of
from vgpumonitor.sources.pods import Pod
from vgpumonitor.sources.pods.objects import ISOLATION
from vgpumonitor.xids import xid_of

#: Seconds for which a container may have a directory and no region file before it is told.
WAITING = 600.0
#: Seconds after its last kernel in which a container counts as at work.
AT_WORK = 60.0
#: Bytes of dead processes that are told, and of processes in no container.
DEAD = 64 << 20
UNATTRIBUTED = 1 << 30
#: Seconds since the last round after which feedback (every 5 s) and clean-up (every 30 s) have
#: stopped.
FEEDBACK_ROUND, CLEANUP_ROUND = 60.0, 300.0
#: Seconds for which a word that another monitor wrote is told.
ANOTHER_MONITOR = 600.0
#: Seconds for which a directory that something else removed is told.
OTHERS_REMOVE = 86_400.0
#: Seconds after which a directory that nobody removed is told; HAMi removes them after 300.
LEFT = 3600.0
#: Seconds for which an XID is told.
XID = 86_400.0
#: Failures of an NVML call that are told (one may pass), and the seconds since the last.
FAILURES, FAILING = 2, 600.0
#: The last major version of the driver with which HAMi-core before HAMi 2.6.0 works.
OLD_DRIVER = 570

_SHIPPED_IN = {layout.name: layout.shipped_in for layout in LAYOUTS}
#: Of layouts that only releases before HAMi 2.6.0 write.
_OLD_LAYOUT = LAYOUTS[0].name

_last: tuple[weakref.ref[NodeSnapshot], tuple[Finding, ...]] | None = None


def findings(snapshot: NodeSnapshot, examination: Examination | None = None) -> tuple[Finding, ...]:
    """What is wrong, the worst first. Several readers ask about one snapshot, so that the answer
    to the last one is kept."""
    global _last
    if examination is None and _last is not None and _last[0]() is snapshot:
        return _last[1]
    found = Found()
    _directory(snapshot, found)
    _pods(snapshot, found, examination)
    _devices(snapshot, found, examination)
    _controllers(snapshot, found)
    _containers(snapshot, found)
    if not snapshot.health.host_processes_visible:
        found.add(
            kinds.HOST_PROCESSES_HIDDEN,
            "",
            "the procfs shows another PID namespace than the host's"
            if examination is None
            else examination.procfs,
        )
    if examination is not None:
        examine(snapshot, examination, found)
        return found.findings()
    told = found.findings()
    _last = weakref.ref(snapshot), told
    return told


def name_of(container: Container) -> str:
    return "/".join(filter(None, (container.namespace, container.pod, container.container)))


# The containers directory.


def _directory(snapshot: NodeSnapshot, found: Found) -> None:
    view = snapshot.health.containers
    if not view.up:
        kind = {
            "missing": kinds.CONTAINERS_MISSING,
            "removed": kinds.CONTAINERS_STALE,
        }.get(view.loss or "", kinds.CONTAINERS_UNREADABLE)
        found.add(kind, "", view.error or "it has not been looked at yet")
    if snapshot.health.cleanup is None and view.containers:
        listed = snapshot.health.pods.pods
        old = [
            reading
            for reading in view.containers
            if snapshot.time - reading.changed > LEFT and reading.pod_uid not in listed
        ]
        shown = {container.key for container in snapshot.containers} if old else set()
        left = [each.changed for each in old if (each.pod_uid, each.container) not in shown]
        if left:
            found.add(
                kinds.DIRECTORIES_LEFT,
                "",
                f"directories of pods that are gone: {len(left)}; the oldest changed "
                f"{ago(snapshot.time - min(left))}",
            )


# Pods, and which of them should have a directory.


def _pods(snapshot: NodeSnapshot, found: Found, examination: Examination | None) -> None:
    health = snapshot.health
    pods = health.pods
    if health.pod_source == "none":
        found.add(kinds.PODS_SOURCE_NONE, "", "--pods=none, or nothing else was there")
    elif not pods.up:
        since = (
            "never read" if pods.synced is None else f"last read {ago(snapshot.time - pods.synced)}"
        )
        found.add(
            kinds.PODS_REFUSED if pods.refused else kinds.PODS_UNREADABLE,
            "",
            f"{health.pod_source}, {since}: {pods.problem or 'no answer yet'}",
        )
    elif pods.problem is not None:
        found.add(kinds.PODS_OF_ANOTHER_NODE, "", pods.problem)
    for uid, errors in pods.invalid.items():
        pod = pods.pods.get(uid)
        if pod is not None and not pod.finished:
            for annotation, error in errors:
                found.add(
                    kinds.ANNOTATION_INVALID,
                    f"{pod.namespace}/{pod.name}",
                    f"{annotation}: {error}",
                )
    _missing_directories(snapshot, found, examination)


def _missing_directories(
    snapshot: NodeSnapshot, found: Found, examination: Examination | None
) -> None:
    view = snapshot.health.containers
    if not view.up and view.loss != "missing":
        return  # What is in it is not known.
    with_directory = {reading.pod_uid for reading in view.containers}
    without: dict[bool, list[Pod]] = {True: [], False: []}
    others: dict[bool, int] = {True: 0, False: 0}
    totals = {device.uuid: device.memory_total for device in snapshot.devices}
    for pod in snapshot.health.pods.pods.values():
        if not pod.allocations or not _runs(pod):
            continue
        koordinator = any(each.device_minor is not None for each in pod.allocations)
        if pod.uid in with_directory:
            others[koordinator] += pod.limited
        elif pod.limited:
            without[koordinator].append(pod)
        elif koordinator and ISOLATION not in pod.labels:
            _shares_without_limit(pod, snapshot, totals, found)
    if not without[True] and not without[False]:
        return
    on_devices: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for container in snapshot.containers:
        for device in container.devices:
            if device.driver is not None:
                on_devices[container.pod_uid][device.device_uuid] = None
    for koordinator, kind in (
        (True, kinds.KOORDINATOR_NO_DIRECTORIES),
        (False, kinds.HAMI_NO_DIRECTORIES),
    ):
        for pod in without[koordinator]:
            found.add(
                kinds.NO_DIRECTORY if others[koordinator] else kind,
                f"{pod.namespace}/{pod.name}",
                _without_directory(pod, snapshot, tuple(on_devices[pod.uid]), koordinator),
            )
    if found.has(kinds.KOORDINATOR_NO_DIRECTORIES) and examination is not None:
        for gate in examination.gates():
            found.add(kinds.KOORDINATOR_NO_DIRECTORIES, "koordlet", gate)


def _runs(pod: Pod) -> bool:
    return pod.phase == "Running" and not all(
        container.finished for container in pod.containers.values()
    )


def _shares_without_limit(
    pod: Pod, snapshot: NodeSnapshot, totals: Mapping[str, int | None], found: Found
) -> None:
    for allocated in snapshot.allocations:
        total = totals.get(allocated.device_uuid)
        if (
            (allocated.namespace, allocated.pod) == (pod.namespace, pod.name)
            and allocated.memory_bytes is not None
            and total is not None
            and allocated.memory_bytes < 0.98 * total
        ):
            found.add(
                kinds.ISOLATION_NOT_REQUESTED,
                f"{pod.namespace}/{pod.name}",
                f"allocated {size(allocated.memory_bytes)} of {size(total)} of "
                f"{_gpu(allocated.device_index, allocated.device_uuid)}",
            )
            return


def _without_directory(
    pod: Pod, snapshot: NodeSnapshot, used: tuple[str, ...], koordinator: bool
) -> str:
    """What is there and what is not: koordlet's gates leave different traces."""
    if not used:
        return "runs, has no directory, and no process of it is on a GPU"
    indices = {device.uuid: device.index for device in snapshot.devices}
    text = f"has no directory, and processes on {_gpus(used, indices)}"
    allocated = {
        each.device_uuid
        for each in snapshot.allocations
        if (each.namespace, each.pod) == (pod.namespace, pod.name) and each.device_uuid
    }
    if not koordinator or len(snapshot.devices) < 2 or not allocated:
        return text
    if not set(used) <= allocated:
        return (
            f"{text}, allocated {_gpus(tuple(sorted(allocated)), indices)}: koordlet's gate "
            "GPUEnvInject is off, or NRI is"
        )
    return (
        f"{text}, as allocated: koordlet's gate GPUEnvInject seems to be on, and "
        "HamiCoreVGPUMonitor is not"
    )


# The driver and the GPUs.


def _devices(snapshot: NodeSnapshot, found: Found, examination: Examination | None) -> None:
    health = snapshot.health.devices
    if health is not None:
        if health.lock_file is not None:
            found.add(kinds.NVML_RELEASED, "", f"the lock file is {health.lock_file}")
        elif not health.up:
            found.add(kinds.NVML_DOWN, "", health.error or "it has not answered yet")
            for trace in () if examination is None else examination.driver:
                found.add(kinds.NVML_DOWN, "", trace)
        elif not snapshot.devices:
            found.add(kinds.NO_GPU, "", f"{health.source} counts 0 GPUs")
        # A GPU that is lost fails in each.
        down = {device.uuid for device in snapshot.devices if not device.up}
        for (call, uuid), failed_at in health.failed_at.items():
            count = health.errors.get((call, uuid), 0)
            if (
                count >= FAILURES
                and uuid not in down
                and snapshot.time - failed_at < FAILING
                and call not in ("nvmlInit", "timeout")
            ):
                found.add(
                    kinds.NVML_CALLS_FAIL,
                    uuid,
                    f"{call} failed {count} times (last: {ago(snapshot.time - failed_at)})",
                )
    for device in snapshot.devices:
        _health(device, found)
    for error in snapshot.xids:
        xid = xid_of(error.xid)
        since = snapshot.time - error.last_time
        if xid.of in ("reset", "hardware", "unknown") and since < XID:
            found.add(
                kinds.GPU_XID,
                _gpu(error.device_index, error.device_uuid),
                f"XID {xid.code} {ago(since)}: {xid.meaning}. {xid.action}",
            )
    _allocations(snapshot, found)
    for uuid, bytes_ in snapshot.unattributed.items():
        if bytes_ > UNATTRIBUTED:
            index = next((d.index for d in snapshot.devices if d.uuid == uuid), None)
            found.add(kinds.MEMORY_UNATTRIBUTED, _gpu(index, uuid), size(bytes_))


def _health(device: Device, found: Found) -> None:
    gpu = f"{_gpu(device.index, device.uuid)} ({device.uuid})"
    if not device.up:
        found.add(kinds.GPU_LOST, gpu, "the driver knew it and does not answer for it any more")
    if device.row_remap_failed:
        found.add(kinds.GPU_MEMORY_DAMAGED, gpu, "the remapping of a memory row failed")
    if device.row_remap_pending:
        found.add(kinds.GPU_MEMORY_DAMAGED, gpu, "the remapping of a memory row is pending")
    if device.page_retirement_pending:
        found.add(kinds.GPU_MEMORY_DAMAGED, gpu, "the retirement of a memory page is pending")


def _allocations(snapshot: NodeSnapshot, found: Found) -> None:
    memory: Counter[str] = Counter()
    cores: defaultdict[str, float] = defaultdict(float)
    for allocated in snapshot.allocations:
        memory[allocated.device_uuid] += allocated.memory_bytes or 0
        cores[allocated.device_uuid] += allocated.core_ratio or 0.0
    for device in snapshot.devices:
        gpu = _gpu(device.index, device.uuid)
        if device.memory_total is not None and memory[device.uuid] > device.memory_total:
            found.add(
                kinds.GPU_OVER_ALLOCATED,
                gpu,
                f"{size(memory[device.uuid])} of {size(device.memory_total)} of memory",
            )
        if cores[device.uuid] > 1.005:
            found.add(
                kinds.GPU_OVER_ALLOCATED, gpu, f"{percent(cores[device.uuid] * 100)} of its cores"
            )


# Feedback and clean-up.


def _controllers(snapshot: NodeSnapshot, found: Found) -> None:
    feedback, cleanup = snapshot.health.feedback, snapshot.health.cleanup
    if feedback is not None:
        last = feedback.last_round
        if last is not None and snapshot.time - last > FEEDBACK_ROUND:
            found.add(kinds.FEEDBACK_STOPPED, "", f"the last round was {ago(snapshot.time - last)}")
        other = feedback.last_other
        if other is not None and snapshot.time - other < ANOTHER_MONITOR:
            found.add(
                kinds.FEEDBACK_TWICE,
                "",
                f"words that neither feedback nor HAMi-core wrote: {feedback.others} since the "
                f"start, the last {ago(snapshot.time - other)}",
            )
    if cleanup is not None:
        last = cleanup.last_round
        if last is not None and snapshot.time - last > CLEANUP_ROUND:
            found.add(kinds.CLEANUP_STOPPED, "", f"the last round was {ago(snapshot.time - last)}")
        other = cleanup.last_by_others
        if other is not None and snapshot.time - other < OTHERS_REMOVE:
            found.add(
                kinds.CLEANUP_TWICE,
                "",
                f"directories that something else removed: {cleanup.by_others} since the start, "
                f"the last {ago(snapshot.time - other)}",
            )


# Containers.


def _containers(snapshot: NodeSnapshot, found: Found) -> None:
    pods = snapshot.health.pods
    node = _Node(
        snapshot.time,
        pods.synced if unreliable(pods) is None else None,
        {part.uuid: part.memory_total for part in parts_of(snapshot.devices)},
        {part.uuid for part in parts_of(snapshot.devices) if part.processes is not None},
        next((d.driver_version for d in snapshot.devices if d.driver_version), None),
        {reading.pod_uid for reading in snapshot.health.containers.containers},
    )
    _settled.look(snapshot.containers, node, found)
    _shared(snapshot, found)


class _Settled:
    """What was seen of the containers of the last snapshot, as far as only a change of a container
    or of the node's GPUs can make it another."""

    def __init__(self) -> None:
        self._last: tuple[object, dict[Container, tuple[tuple[str, Seen], ...]]] = None, {}

    def look(self, containers: Iterable[Container], node: _Node, found: Found) -> None:
        facts = node.totals, node.told, node.driver, node.synced is None
        last, before = self._last
        if last != facts:
            before = {}
        now = {}
        own = Found()
        for container in containers:
            seen = before.get(container)
            if seen is None:
                _look_at(container, node, own)
                seen = own.let_go()
            # Others are judged by the time, or by when the pods were listed.
            if container.region is not None and (container.pod_known or node.synced is None):
                now[container] = seen
            found.take(seen)
        self._last = facts, now


_settled = _Settled()


class _Node(Struct, frozen=True):
    """What a container is judged by: the time, when the list of pods was complete (None where it
    doesn't tell which are gone), each device's memory, the devices of which the driver tells the
    processes, its version, and the pods that have a directory."""

    time: float
    synced: float | None
    totals: Mapping[str, int | None]
    told: Collection[str]
    driver: str | None
    with_directory: Collection[str]


def _look_at(container: Container, node: _Node, found: Found) -> None:
    reading, region = container.reading, container.region
    bypassed = dead = 0
    limited = implausible = False
    for device in container.devices:
        bypassed += device.bypassed or 0
        dead += device.dead_memory or 0
        limited = limited or is_limit(device.core_limit or 0)
        implausible = implausible or bool(device.implausible)
    if region is None:
        if reading is None:
            # A pod without any directory is reported as a whole.
            if bypassed and container.pod_uid in node.with_directory:
                text = f"{_by_device(container)}, and no directory"
                found.add(kinds.HAMI_CORE_NOT_LOADED, name_of(container), text)
            return
        if reading.state == "unreadable":
            kind = (
                kinds.REGION_LAYOUT_UNKNOWN
                if reading.reason == "unknown_layout"
                else kinds.REGION_UNREADABLE
            )
            found.add(kind, name_of(container), f"{reading.error} ({reading.path})")
        elif bypassed:
            found.add(
                kinds.HAMI_CORE_NOT_LOADED,
                name_of(container),
                f"{_by_device(container)}, and no region file in {reading.path}",
            )
        elif node.time - reading.changed > WAITING:
            found.add(
                kinds.NO_CUDA_CALL,
                name_of(container),
                f"its directory was made or changed {ago(node.time - reading.changed)}",
            )
        return
    if bypassed:
        found.add(kinds.PROCESS_BYPASSES, name_of(container), _by_device(container))
    if region.problems or region.missing or implausible:
        _invalid(container, found)
    if region.layout == _OLD_LAYOUT and _major(node.driver) > OLD_DRIVER:
        found.add(
            kinds.DRIVER_TOO_NEW,
            name_of(container),
            f"driver {node.driver}, HAMi-core of {_SHIPPED_IN[region.layout]}",
        )
    for device in container.devices:
        total = node.totals.get(device.uuid)
        if total is not None and device.memory_limit is not None and device.memory_limit > total:
            found.add(
                kinds.MEMORY_OVERSUBSCRIBED,
                name_of(container),
                f"limit {size(device.memory_limit)}, {_device(device)} has {size(total)}",
            )
    if dead > DEAD:
        found.add(kinds.DEAD_PROCESS_MEMORY, name_of(container), f"{size(dead)} of dead processes")
    for process in container.processes:
        if process.state in ("running", "suspended"):
            break
    else:
        return
    if limited:
        _host_pids(container, found)
    else:
        _unmeasured(container, node, found)
    if (
        not container.pod_known
        and node.synced is not None
        and reading is not None
        and reading.changed < node.synced
    ):
        pids = [str(process.host_pid) for process in container.processes if process.host_pid]
        found.add(
            kinds.PROCESS_OUTLIVES_POD, name_of(container), f"host PIDs: {', '.join(pids) or '?'}"
        )


def _by_device(container: Container) -> str:
    return ", ".join(
        f"{size(device.bypassed)} on {_device(device)}"
        for device in container.devices
        if device.bypassed
    )


def _invalid(container: Container, found: Found) -> None:
    region = container.region
    assert region is not None
    texts = [message for _, message in region.problems]
    if region.missing:
        texts.append(f"process slots never seen whole: {region.missing}")
    texts += [
        f"{figure.replace('_', ' ')} on {_device(device)} is more than there can be"
        for device in container.devices
        for figure in device.implausible
    ]
    for text in texts:
        found.add(kinds.REGION_INVALID, name_of(container), text)


def _host_pids(container: Container, found: Found) -> None:
    slots = slots_in_use(container.region)
    wrong = []
    for slot, process in zip(slots, container.processes, strict=False):
        if process.state not in ("running", "suspended"):
            continue
        if slot.hostpid <= 0:
            wrong.append(f"process {slot.pid}: HAMi-core found none")
        elif process.host_pid not in (0, slot.hostpid):
            wrong.append(
                f"process {slot.pid}: HAMi-core has {slot.hostpid}, it is {process.host_pid}"
            )
    if wrong:
        found.add(kinds.HOST_PID_UNKNOWN, name_of(container), "; ".join(wrong))


def _unmeasured(container: Container, node: _Node, found: Found) -> None:
    for device in container.devices:
        if device.index is None or (device.driver is None and device.uuid in node.told):
            continue  # No process of it is there.
        utilization = None if device.driver is None else device.driver.utilization
        if utilization is not None and not utilization.core:
            continue
        told = (
            "the driver does not tell it either"
            if utilization is None
            else f"the driver says {percent(utilization.core)}"
        )
        found.add(
            kinds.UTILIZATION_UNMEASURED,
            name_of(container),
            f"no core limit on {_device(device)}; {told}",
        )


class _Sharers(Struct, frozen=True):
    """The containers that share a GPU, by its UUID: where their layouts differ, and where the core
    limit of one is lifted."""

    mixed: dict[str, list[tuple[Container, ContainerDevice]]]
    lifted: dict[str, list[tuple[Container, ContainerDevice]]]


_sharers: Remembered[_Sharers] = Remembered()


def _shared(snapshot: NodeSnapshot, found: Found) -> None:
    """What only several containers on one GPU show."""
    containers = snapshot.containers
    sharers = _sharers.get((containers,), lambda: _sharers_of(containers))
    for several in sharers.mixed.values():
        _mixed(several, found)
    feedback = snapshot.health.feedback
    if feedback is None or feedback.dry_run:
        for several in sharers.lifted.values():
            _lifted(several, snapshot.time, found)


def _sharers_of(containers: Iterable[Container]) -> _Sharers:
    by_device: defaultdict[str, list[tuple[Container, ContainerDevice]]] = defaultdict(list)
    layouts: defaultdict[str, set[str]] = defaultdict(set)
    lifted = set()
    for container in containers:
        region = container.region
        if region is None:
            continue
        for device in container.devices:
            if device.index is not None:
                by_device[device.uuid].append((container, device))
                layouts[device.uuid].add(region.layout)
                if not region.utilization_switch and is_limit(device.core_limit or 0):
                    lifted.add(device.uuid)
    return _Sharers(
        {uuid: by_device[uuid] for uuid, several in layouts.items() if len(several) > 1},
        {uuid: by_device[uuid] for uuid in sorted(lifted)},
    )


def _mixed(sharers: list[tuple[Container, ContainerDevice]], found: Found) -> None:
    counts = Counter(each.region.layout for each, _ in sharers if each.region is not None)
    found.add(
        kinds.LAYOUTS_MIXED,
        _device(sharers[0][1]),
        "; ".join(f"{_SHIPPED_IN[layout]}: {count}" for layout, count in sorted(counts.items())),
    )


def _lifted(sharers: Iterable[tuple[Container, ContainerDevice]], now: float, found: Found) -> None:
    at_work = [each for each in sharers if _works(*each, now)]
    if len(at_work) < 2:
        return
    for container, device in at_work:
        region = container.region
        if (
            region is not None
            and is_limit(device.core_limit or 0)
            and not region.utilization_switch
        ):
            found.add(
                kinds.CORE_LIMIT_LIFTED,
                name_of(container),
                f"limit {percent(device.core_limit)} on {_device(device)}, where {len(at_work)} "
                f"containers are at work; HAMi-core of {_SHIPPED_IN[region.layout]}",
            )


def _works(container: Container, device: ContainerDevice, now: float) -> bool:
    driver = device.driver
    if driver is not None and driver.utilization is not None:
        return driver.utilization.core > 0
    region = container.region
    if region is None:
        return False
    return region.recent_kernel > 0 or (
        region.last_kernel_time is not None and now - region.last_kernel_time < AT_WORK
    )


# Names.


def _gpus(uuids: Iterable[str], indices: Mapping[str, int]) -> str:
    return ", ".join(_gpu(indices.get(uuid), uuid) for uuid in uuids)


def _gpu(index: int | None, uuid: str) -> str:
    return uuid if index is None else f"GPU {index}"


def _device(device: ContainerDevice) -> str:
    name = _gpu(device.device_index, device.device_uuid)
    return f"{name} ({device.mig_uuid})" if device.mig_uuid else name


def _major(version: str | None) -> int:
    digits = "" if version is None else version.partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
