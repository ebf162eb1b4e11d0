"""What is fuzzed: each target takes any bytes, and raises only where something is wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import bcrypt

from testing.values import entry, snapshot
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.region.layouts import LAYOUTS, MAGIC, MAX_DEVICES, MAX_PROCESSES, Layout
from vgpumonitor.region.model import REASONS, Region, RegionError
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.sources.pods import annotations as pod_annotations
from vgpumonitor.sources.pods import objects
from vgpumonitor.sources.pods.model import Allocation
from vgpumonitor.web import config as web_configuration

CORPUS = Path(__file__).parent / "corpus"
UUIDS = (
    b"GPU-8664316c-6888-5063-1e4d-f2a09cfbf100",
    b"GPU-8664316c-6888-5063-1e4d-f2a09cfbf101",
)
#: Bytes of one patch of a region: where (1), offset in it (2), and what (8).
PATCH = 11


def region(data: bytes) -> None:
    """A sound region file of the layout that byte 0 names, with two GPUs and three
    processes, and then PATCHes: in the head, in a slot in use, in the tail, or to the file's
    size. Through the descriptor, the reader, the join and every metric family."""
    layout = LAYOUTS[(data[0] if data else 0) % len(LAYOUTS)]
    fd = os.memfd_create("region")
    _sound(fd, layout)
    for at in range(1, len(data) - PATCH + 1, PATCH):
        place = int.from_bytes(data[at + 1 : at + 3], "little")
        value = data[at + 3 : at + PATCH]
        match data[at] % 4:
            case 0:
                os.pwrite(fd, value, place % layout.procs_offset)
            case 1:
                os.pwrite(fd, value, layout.procs_offset + place % (4 * layout.slot_size))
            case 2:
                os.pwrite(fd, value, layout.tail_offset + place % layout.tail_size)
            case _:
                os.ftruncate(fd, int.from_bytes(value, "little") % (4 << 20))
    try:
        file = RegionFile(fd)
    except RegionError as error:
        _check_reason(error)
        return
    try:
        size = os.fstat(file.fileno()).st_size
        try:
            first = file.read(size)
        except RegionError as error:
            _check_reason(error)
            return
        _check(first)
        assert first.torn or file.read(size) is first
        text = Exposition(families_for("all", process_metrics=True)).render(
            snapshot(entry(first)), True, frozenset()
        )
        assert text[-1].endswith(b"# EOF\n")
    finally:
        file.close()


def _sound(fd: int, layout: Layout) -> None:
    head = layout.head(initialized_flag=MAGIC, device_num=len(UUIDS))
    if layout.major_minor is not None:
        head.major_version, head.minor_version = layout.major_minor
    for number, uuid in enumerate(UUIDS):
        head.uuids[number][: len(uuid)] = uuid
        head.limit[number] = 1 << 30
    os.ftruncate(fd, layout.size + 1)
    os.pwrite(fd, bytes(head), 0)
    for number in range(3):
        slot = layout.slot(pid=number + 1, hostpid=number + 100, status=1)
        os.pwrite(fd, bytes(slot), layout.procs_offset + number * layout.slot_size)
    os.pwrite(fd, bytes(layout.tail(proc_num=3)), layout.tail_offset)


def _check(found: Region) -> None:
    assert len(found.devices) <= MAX_DEVICES
    assert len(found.processes) + found.torn <= MAX_PROCESSES
    uuids = [device.uuid for device in found.devices if device.uuid is not None]
    assert len(set(uuids)) == len(uuids)
    for uuid in uuids:
        assert uuid.startswith(("GPU-", "MIG-"))
        assert uuid.isascii()
        assert uuid.isprintable()
    for process in found.processes:
        assert len(process.devices) == len(found.devices)
        assert process.seqlock is None or process.seqlock % 2 == 0
    assert {reason for reason, _ in found.problems} <= REASONS.keys()


def _check_reason(error: RegionError) -> None:
    assert error.reason in REASONS


def annotation_texts(data: bytes) -> None:
    """The three annotations, separated by zero bytes."""
    texts = (part.decode(errors="replace") for part in data.split(b"\0", 2))
    found = pod_annotations.parse_allocations(
        dict(zip(pod_annotations.ANNOTATIONS, texts, strict=False)), ("init", "main", "side")
    )
    _check_allocations(found.allocations)
    assert len(found.mig_allocations) <= pod_annotations.MAX_DEVICES
    assert len(found.errors) <= len(pod_annotations.ANNOTATIONS) * (pod_annotations.MAX_ERRORS + 1)
    for name, message in found.errors:
        assert name in pod_annotations.ANNOTATIONS
        assert len(message) < 1024


def _check_allocations(found: tuple[Allocation, ...]) -> None:
    assert len(found) <= pod_annotations.MAX_DEVICES
    for allocation in found:
        assert allocation.memory_bytes is None or 0 <= allocation.memory_bytes < 1 << 70
        assert allocation.core_ratio is None or 0 <= allocation.core_ratio < math.inf


def pods(data: bytes) -> None:
    """A document as the API and kubectl give it."""
    try:
        items = objects.split_list(data).items
    except ValueError:
        return
    for item in items:
        try:
            obj = objects.decode(item)
            objects.node_of(obj)
            pod, errors = objects.pod_from_object(obj)
        except ValueError:
            continue
        assert pod.uid
        assert pod.namespace
        assert pod.name
        _check_allocations(pod.allocations)
        assert all(isinstance(part, str) for error in errors for part in error)


def _check_place(message: str) -> None:
    assert message.startswith("web.yml:")


def web_config(data: bytes) -> None:
    def read(path: Path) -> bytes:
        """The names in the configuration are looked at, and nothing else is read."""
        if path == Path("web.yml"):
            return data
        path.stat()
        raise FileNotFoundError(2, "No such file or directory", str(path))

    try:
        config = web_configuration.parse(Path("web.yml"), read)
    except web_configuration.WebConfigError as error:
        _check_place(str(error))
        return
    assert all(text.isprintable() for text in config.http_server_config.sent.values())
    for hashed in config.basic_auth_users.values():
        # The library's own opinion, at the lowest cost.
        bcrypt.hashpw(b"", f"{hashed[:4]}04{hashed[6:29]}".encode())
    assert not config.rate_limit.seconds or config.rate_limit.burst >= 1


TARGETS: dict[str, Callable[[bytes], None]] = {
    "region": region,
    "annotations": annotation_texts,
    "pods": pods,
    "web_config": web_config,
}
