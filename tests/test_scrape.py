"""One collection for all who ask, whatever hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from testing.region_files import put
from testing.values import GIB, GPU, OTHER, gpu
from vgpumonitor import scrape as scrape_module
from vgpumonitor.metrics.family import Family, NodeFamily, Sample
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.scrape import Scraper
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup
from vgpumonitor.snapshot import NodeSnapshot, ProcessIdentification
from vgpumonitor.sources.containers import ContainersDirectory, ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth, DeviceProcess, DeviceSource
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.processes import HostProcesses

NAME = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11_train"
TIMEOUTS = 'vgpumonitor_region_errors_total{node="node-1",reason="timeout"} '


FAMILIES = families_for("documented,vgpu")


def scraper_of(
    containers: ContainersDirectory,
    families: tuple[Family, ...] = FAMILIES,
    devices: DeviceSource | None = None,
    procfs: Path = Path("/proc"),
) -> Scraper:
    """Over ``containers``, without pods."""
    identification = ProcessIdentification(HostProcesses(procfs), "off")
    return Scraper("node-1", families, containers, NoPodSource(), devices, identification)


class Devices:
    """The same devices at each sample."""

    name = "test"

    def __init__(self, *devices: Device) -> None:
        self.known = devices

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def sample(self, timeout: float) -> tuple[Device, ...]:  # noqa: ASYNC109
        return self.known

    xids = ()

    def on_xid(self, call: Callable[[], object]) -> None: ...

    def health(self) -> DeviceHealth:
        return DeviceHealth(self.name, True, {})


async def text_of(scraper: Scraper) -> str:
    return b"".join(await (await scraper.collect()).text(False, frozenset(), False)).decode()


class HangingDisk(ContainersDirectory):
    """Reads wait while ``answers`` is clear."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.answers = threading.Event()
        self.asked = threading.Event()
        self.reads = 0

    def read(self) -> ContainersView:
        self.reads += 1
        self.asked.set()
        self.answers.wait(60)
        return super().read()


@pytest.fixture
def disk(tmp_path: Path) -> HangingDisk:
    put("hami-2.9.0-three-processes", tmp_path / NAME / "x.cache")
    return HangingDisk(tmp_path)


def value(text: str, start: str) -> float | None:
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) <= 1
    return float(found[0].rpartition(" ")[2]) if found else None


def test_a_disk_that_hangs(disk: HangingDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first scrape waits as long as the bound, those after it not at all; what is left out
    is counted, and there again once the disk answers."""

    async def run() -> None:
        scraper = scraper_of(disk)
        # After the first, one that waited would do so for longer than this test may take.
        for number, bound in enumerate((0.2, 3600.0, 3600.0), 1):
            monkeypatch.setattr(scrape_module, "DISK_TIMEOUT", bound)
            text = await text_of(scraper)
            assert "vgpu_region_info{" not in text
            assert value(text, TIMEOUTS) == number
        disk.answers.set()
        text = ""
        async with asyncio.timeout(20):
            while "vgpu_region_info{" not in text:
                await asyncio.sleep(0.02)
                text = await text_of(scraper)
        before = value(text, TIMEOUTS)
        assert value(await text_of(scraper), TIMEOUTS) == before

    asyncio.run(run())


def test_those_who_ask_at_once_share_a_collection(disk: HangingDisk) -> None:
    async def run() -> None:
        scraper = scraper_of(disk)
        asking = [asyncio.create_task(scraper.collect()) for _ in range(50)]
        await asyncio.to_thread(disk.asked.wait, 20)
        asking[0].cancel()  # Who gives up takes nothing from the others.
        disk.answers.set()
        first, *others = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert len(set(map(id, others))) == 1
        assert disk.reads == 1

    asyncio.run(run())


def test_what_was_found_lately_costs_no_scrape(
    disk: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.answers.set()
    disk.directory.joinpath(NAME, "x.cache").write_bytes(b"nothing of ours")

    async def found(scraper: Scraper) -> list[str]:
        return [finding.kind.id for finding in await scraper.findings()]

    async def run() -> None:
        scraper = scraper_of(disk)
        first = await found(scraper)
        assert "region-unreadable" in first
        assert await found(scraper) == first
        assert disk.reads == 1
        put("hami-2.9.0-three-processes", disk.directory / NAME / "x.cache")
        await scraper.collect()
        assert "region-unreadable" not in await found(scraper)
        assert disk.reads == 2
        monkeypatch.setattr(scrape_module, "FRESH", -1.0)
        await found(scraper)
        assert disk.reads == 3

    asyncio.run(run())


def test_one_who_gives_up_takes_the_text_from_nobody(tmp_path: Path) -> None:
    rendering, go_on = threading.Event(), threading.Event()

    def slow(_: NodeSnapshot) -> Iterable[Sample]:
        rendering.set()
        go_on.wait(60)
        return [((), 1)]

    async def run() -> None:
        families = (NodeFamily("slow", "help", (), samples=slow),)
        scraper = scraper_of(ContainersDirectory(tmp_path), families)
        scrape = await scraper.collect()
        first = asyncio.create_task(scrape.text(False, frozenset(), False))
        await asyncio.to_thread(rendering.wait, 20)
        # This text waits its turn, and would be cancelled with the one who asked for it first.
        asked = [asyncio.create_task(scrape.text(True, frozenset(), False)) for _ in range(2)]
        await asyncio.sleep(0)
        asked[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked[0]
        go_on.set()
        assert b"slow 1" in b"".join(await asked[1])
        assert b"slow 1" in b"".join(await first)

    asyncio.run(run())


def test_a_freed_slot_hides_no_pod(tmp_path: Path) -> None:
    """HAMi-core 2.9 frees a slot by its status: the PID that stays in it may be another's."""
    put("hami-2.9.0-mixed-exits", tmp_path / "containers" / NAME / "x.cache")
    procfs = SimulatedProcfs(tmp_path / "proc")
    procfs.add(100000, "python3", pod_cgroup(OTHER, "0" * 64), (7,))
    procfs.add(100001, "Xorg", "/system.slice/gdm.service")
    devices = Devices(gpu(processes=(DeviceProcess(100000, 3 * GIB), DeviceProcess(100001, GIB))))
    containers = ContainersDirectory(tmp_path / "containers")
    scraper = scraper_of(containers, devices=devices, procfs=procfs.directory)
    snapshot = asyncio.run(scraper.collect()).snapshot
    held = {
        container.pod_uid: device.driver.memory
        for container in snapshot.containers
        for device in container.devices
        if device.driver is not None
    }
    assert (held, snapshot.unattributed) == ({OTHER: 3 * GIB}, {GPU: GIB})
