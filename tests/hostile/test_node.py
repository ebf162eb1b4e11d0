"""What goes wrong with a node: each state is told, and ends by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from testing.exporter import Exporter, free_port
from testing.region_files import put
from tests.hostile.sandbox import in_mounts_of, started, unshare
from tests.test_scrape import scraper_of, text_of
from vgpumonitor import scrape as scrape_module
from vgpumonitor import serve
from vgpumonitor.region.model import Region
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.settings import Settings
from vgpumonitor.sources.containers.directory import ContainersDirectory

REGION = "hami-2.9.0-three-processes"
NEXT = "hami-2.6.0-three-processes"


def name_of(number: int) -> str:
    return f"22222222-3333-4444-8555-{number:012x}_c{number}"


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    directory = tmp_path / "containers"
    for number in range(3):
        put(REGION, directory / name_of(number) / "x.cache")
    return directory


def ok(exporter: Exporter) -> float | None:
    return exporter.value("vgpumonitor_regions", state="ok")


def errors(exporter: Exporter, reason: str) -> float:
    return exporter.value("vgpumonitor_region_errors_total", reason=reason) or 0


def test_the_containers_directory_is_mounted_over_and_back(
    containers: Path, tmp_path: Path
) -> None:
    """The exporter sees what is mounted now, at the next scrape, both ways."""
    wrapper = unshare("--mount")
    with started(containers, tmp_path / "log", wrapper=wrapper) as exporter:
        assert ok(exporter) == 3
        in_mounts_of(exporter, "mount", "-t", "tmpfs", "none", str(containers))
        assert ok(exporter) == 0
        new = containers / name_of(7)
        in_mounts_of(exporter, "cp", "-r", str(_copy(tmp_path)), str(new))
        assert exporter.value("vgpu_region_info", container="c7", layout="1.1") == 1
        in_mounts_of(exporter, "umount", "--lazy", str(containers))
        assert ok(exporter) == 3
        assert exporter.value("vgpu_region_info", container="c7") is None
        put(NEXT, containers / name_of(8) / "x.cache")
        assert ok(exporter) == 4


def test_the_containers_directory_is_removed_and_made_again_under_the_mount(
    containers: Path, tmp_path: Path
) -> None:
    """As Koordinator does on a reinstallation: the exporter's mount shows the removed one."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    wrapper = [*unshare("--mount"), "sh", "-c", script]
    wrapper += [str(containers), str(mounted)]
    with started(mounted, tmp_path / "log", wrapper=wrapper) as exporter:
        assert ok(exporter) == 3
        assert exporter.status("/readyz")[0] == 200
        shutil.rmtree(containers)
        containers.mkdir()
        put(NEXT, containers / name_of(7) / "x.cache")
        assert ok(exporter) == 0
        assert errors(exporter, "no_directory") > 0
        assert exporter.status("/readyz")[0] == 503
        # A restart mends it, and kubelet has to see that, but not at every blink.
        assert exporter.status("/healthz")[0] == 200


def test_without_its_directory_for_a_minute_the_exporter_is_not_healthy(
    containers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = os.open(containers, os.O_RDONLY)
    shown = Path(f"/proc/self/fd/{descriptor}")
    exporter = serve.build(Settings(containers_dir=shown, pods="none", nvml="off"))
    exporter.containers.read()
    assert exporter.health() is None
    shutil.rmtree(containers)
    exporter.containers.read()
    assert exporter.health() is None
    monkeypatch.setattr(serve, "UNLINKED_GRACE", 0.0)
    assert exporter.health() == (
        f"can't look at the containers directory {shown}: it was removed under its mount"
    )
    os.close(descriptor)


def _copy(tmp_path: Path) -> Path:
    return put(NEXT, tmp_path / "copy" / "x.cache").parent


def test_the_disk_of_the_containers_is_full(containers: Path, tmp_path: Path) -> None:
    """HAMi-core can write a part of its file only: that container is told of, the others have
    their series, and it has its own once there is room."""
    script = f"mount -t tmpfs -o size=3m none {containers}"
    source = tmp_path / "source"
    put(REGION, source / name_of(0) / "x.cache")
    put(NEXT, source / name_of(1) / "x.cache")
    wrapper = unshare("--mount")
    with started(containers, tmp_path / "log", wrapper=wrapper, script=script) as exporter:
        in_mounts_of(exporter, "cp", "-r", str(source / name_of(0)), str(containers))
        in_mounts_of(exporter, "mkdir", str(containers / name_of(1)))
        copy = ("cp", str(source / name_of(1) / "x.cache"), str(containers / name_of(1)))
        with pytest.raises(subprocess.CalledProcessError) as caught:
            in_mounts_of(exporter, *copy)
        assert "No space left" in caught.value.stderr
        assert exporter.value("vgpumonitor_regions", state="unreadable") == 1
        assert errors(exporter, "truncated") > 0
        assert exporter.value("vgpu_region_info", container="c0", layout="1.2") == 1
        in_mounts_of(exporter, "mount", "-o", "remount,size=8m", str(containers))
        in_mounts_of(exporter, *copy)
        assert ok(exporter) == 2
        assert exporter.value("vgpu_region_info", container="c1", layout="1.1") == 1


def test_the_disk_of_the_log_is_full(containers: Path, tmp_path: Path) -> None:
    """What can't be logged is lost, and nothing else."""
    script = "exec >/dev/full 2>&1"
    with started(containers, tmp_path / "log", script=script) as exporter:
        for number in range(3, 6):
            (containers / name_of(number)).mkdir()
            (containers / name_of(number) / "x.cache").write_bytes(b"\xff" * 2008953)
            assert exporter.value("vgpumonitor_regions", state="unreadable") == number - 2
            assert ok(exporter) == 3
        put(NEXT, containers / name_of(3) / "x.cache")
        assert ok(exporter) == 4
        exporter.process.send_signal(signal.SIGTERM)
        assert exporter.process.wait(10) == 0
        assert exporter.log == ""


def test_no_more_watches(containers: Path, tmp_path: Path) -> None:
    """In a user namespace, whose own limit counts for it alone."""
    script = "echo 0 > /proc/sys/user/max_inotify_watches"
    wrapper = unshare("--user", "--map-root-user")
    with started(containers, tmp_path / "log", wrapper=wrapper, script=script) as exporter:
        for number in range(3, 8):
            put(REGION, containers / name_of(number) / "x.cache")
            assert ok(exporter) == number + 1
        shutil.rmtree(containers / name_of(0))
        put(NEXT, containers / name_of(0) / "x.cache")
        assert exporter.value("vgpu_region_info", container="c0", layout="1.1") == 1
        shutil.rmtree(containers / name_of(1))
        assert ok(exporter) == 7
        assert exporter.log.count("can't watch a directory for events") == 1


def test_no_inotify_instance(containers: Path, tmp_path: Path) -> None:
    script = "echo 0 > /proc/sys/user/max_inotify_instances"
    wrapper = unshare("--user", "--map-root-user")
    with started(containers, tmp_path / "log", wrapper=wrapper, script=script) as exporter:
        assert ok(exporter) == 3
        put(REGION, containers / name_of(3) / "x.cache")
        assert ok(exporter) == 4
        assert exporter.log.count("can't watch a directory for events") == 1


def test_descriptors_exhausted(containers: Path, tmp_path: Path) -> None:
    """The containers that still fit keep their series, a scrape is answered, and the others
    come once there is room."""
    for number in range(3, 60):
        put(REGION, containers / name_of(number) / "x.cache")
    with (
        started(containers, tmp_path / "log", script="ulimit -n 48") as exporter,
        ExitStack() as stack,
    ):
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", exporter.port)))
            found = ok(exporter)
            assert found is not None
            assert 10 <= found <= 36
            assert exporter.value("vgpumonitor_regions", state="unreadable") == 60 - found
        assert errors(exporter, "descriptors") > 0
        logged = exporter.log.count("reason=descriptors")
        assert logged <= 60
        for number in range(50):
            shutil.rmtree(containers / name_of(number))
        assert ok(exporter) == 10
        assert exporter.log.count("reason=descriptors") == logged


def test_killed_and_started_again(containers: Path, tmp_path: Path) -> None:
    port = free_port()
    with started(containers, tmp_path / "first", port=port) as exporter:
        assert ok(exporter) == 3
        exporter.process.send_signal(signal.SIGKILL)
        exporter.process.wait()
        shutil.rmtree(containers / name_of(0))
        with started(containers, tmp_path / "second", port=port) as again:
            assert ok(again) == 2


def test_the_clock_is_set_back_and_forth(containers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missing, and no age is negative."""
    now = time.time()
    scraper = scraper_of(ContainersDirectory(containers))
    for offset in (0.0, -40 * 365 * 86400.0, 3600.0, 40 * 365 * 86400.0, -3600.0, 0.0):
        clock = SimpleNamespace(
            time=lambda offset=offset: now + offset, perf_counter=time.perf_counter
        )
        monkeypatch.setattr(scrape_module, "time", clock)
        lines = asyncio.run(text_of(scraper)).splitlines()
        assert sum(line.startswith("vgpu_memory_used_bytes{") for line in lines) == 3 * 2 * 4
        ages = [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("Device_last_kernel_of_container{")
        ]
        assert len(ages) == 3 * 2
        assert min(ages) >= 0


def test_a_directory_goes_while_others_are_read(
    containers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = ContainersDirectory(containers)
    assert len(inventory.read().containers) == 3
    real = RegionFile.read

    def removing(file: RegionFile, size: int) -> Region:
        # Whichever comes first removes the other two.
        path = Path(os.readlink(f"/proc/self/fd/{file.fileno()}")).parent
        for other in containers.iterdir():
            if other != path:
                shutil.rmtree(other)
        return real(file, size)

    monkeypatch.setattr(RegionFile, "read", removing)
    assert [entry.state for entry in inventory.read().containers] == ["ok"]
