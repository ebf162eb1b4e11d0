"""Reading what is written at the same moment: no half-done update in any sample."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.exporter import running, serve_arguments
from tests.hostile.writers import DEVICES, KINDS, PIDS, name_of, writing
from vgpumonitor.sources.containers.directory import ContainersDirectory

LAYOUTS = ("1.1-postinit", "1.2")
READS = 1000
#: Different states that have to be seen: the writers wrote all along.
STATES = 50
DESCRIPTION = re.compile(
    r'^Device_memory_desc_of_container\{.*ctrname="([^"]*)".*offset="(-?\d+)".*\} (\S+)$', re.M
)
OTHER = re.compile(r'^vgpu_memory_used_bytes\{.*container="([^"]*)".*kind="(\w+)".*\} (\S+)$', re.M)
TORN = re.compile(r"^vgpumonitor_torn_reads_total\{.*\} (\S+)$", re.M)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "containers"
    with writing(directory, LAYOUTS):
        yield directory


def test_every_read_is_whole_or_counted(containers: Path) -> None:
    inventory = ContainersDirectory(containers)
    torn = 0
    seen: dict[str, set[object]] = {layout: set() for layout in LAYOUTS}
    deadline = time.monotonic() + 30
    reads = 0
    # On a busy machine the writers may have no turn during all of the reads.
    while reads < READS or min(map(len, seen.values())) < STATES:
        assert time.monotonic() < deadline, seen
        reads += 1
        view = inventory.read()
        assert len(view.containers) == len(LAYOUTS)
        for entry in view.containers:
            region = entry.region
            assert region is not None
            torn += region.torn
            # A torn slot is there as it was last seen whole, if it ever was.
            assert len(region.processes) + region.missing == len(PIDS)
            assert region.missing <= region.torn
            for process in region.processes:
                for use in process.devices:
                    assert use.total == use.context + use.module + use.data
            seen[region.layout].add(tuple(process.devices for process in region.processes))
        assert view.torn_reads == torn
    print(f"{torn} of {reads * len(LAYOUTS) * len(PIDS)} slots torn")


def test_every_sample_is_whole(containers: Path) -> None:
    names = (
        "Device_memory_desc_of_container",
        "vgpu_memory_used_bytes",
        "vgpumonitor_torn_reads_total",
    )
    path = "/metrics?" + "&".join(f"name[]={name}" for name in names)
    expected = sorted(
        (name_of(layout).partition("_")[2], kind)
        for layout in LAYOUTS
        for kind in (*KINDS, "other")
        for _ in DEVICES
    )
    torn = 0.0
    values: set[str] = set()
    scrapes = 0
    seen_whole = False
    deadline = time.monotonic() + 60
    with running(*serve_arguments(containers)) as exporter:
        connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
        while scrapes < READS or len(values) < STATES:
            assert time.monotonic() < deadline
            scrapes += 1
            connection.request("GET", path)
            text = connection.getresponse().read().decode()
            described = DESCRIPTION.findall(text)
            seen_whole = seen_whole or len(described) == len(LAYOUTS) * len(DEVICES)
            if not seen_whole:
                continue  # A slot that was torn ever since the start has no value to keep.
            assert len(described) == len(LAYOUTS) * len(DEVICES)
            assert {offset for _, offset, _ in described} == {"0"}
            used = OTHER.findall(text)
            assert sorted((container, kind) for container, kind, _ in used) == expected
            assert {float(value) for _, kind, value in used if kind == "other"} == {0}
            now = float(TORN.findall(text)[0])
            assert now >= torn
            torn = now
            values.add(text)
        connection.close()
    print(f"{torn:.0f} of {scrapes * len(LAYOUTS) * len(PIDS)} slots torn")
