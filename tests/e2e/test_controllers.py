"""``serve --feedback`` and ``serve --gc`` as a process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from testing import pods
from testing.exporter import running, serve_arguments
from testing.polling import eventually
from testing.region_files import put
from testing.values import GPU
from vgpumonitor.region.layouts import V1_1_POSTINIT, V1_2
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter

HIGH = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11"
LOW = "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a7e22"


def test_feedback_blocks_the_lower_priority_and_releases_it_at_the_end(tmp_path: Path) -> None:
    containers = tmp_path / "containers"

    def region(uid: str, layout: object, priority: int) -> RegionWriter:
        path = containers / f"{uid}_main" / f"{uid}_main.cache"
        path.parent.mkdir(parents=True)
        device = RegionDevice(GPU, 1 << 30, 50)
        return RegionWriter(path, layout, [device], int(time.time()), priority)  # type: ignore[arg-type]

    with region(HIGH, V1_2, 0) as high, region(LOW, V1_1_POSTINIT, 1) as low:
        # Nobody waits in a container without a process that HAMi-core found on the host.
        low.register(7)
        low.set_hostpid(7, 1007)
        with running(*serve_arguments(containers, "--feedback")) as exporter:

            def blocks() -> bool:
                high.mark_launch(int(time.time()))
                return exporter.value("vgpu_launches_blocked", pod=LOW) == 1

            eventually(blocks, 30)
            assert low.blocked
            assert exporter.value("vgpu_launches_blocked", pod=HIGH) == 0
            assert exporter.value("vgpu_core_limit_enforced", pod=LOW) == 1
            writes = exporter.value("vgpumonitor_feedback_writes_total", field="recent_kernel")
            assert writes is not None
            assert writes >= 1
            assert exporter.value("vgpumonitor_feedback_rounds_total")
            last = exporter.value("vgpumonitor_feedback_last_round_timestamp_seconds")
            assert last is not None
            assert abs(time.time() - last) < 60
            exporter.process.send_signal(signal.SIGTERM)
            assert exporter.process.wait(10) == 0
        assert not low.blocked


def test_feedback_in_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    containers = tmp_path / "containers"
    path = put("hami-2.9.0-three-processes", containers / f"{HIGH}_main" / "x.cache")
    before = path.read_bytes()
    with running(*serve_arguments(containers, "--feedback", "--dry-run")) as exporter:
        eventually(
            lambda: exporter.value("vgpumonitor_feedback_writes_total", field="utilization_switch"),
            30,
        )
    assert path.read_bytes() == before


def test_gc_removes_the_directory_of_a_pod_that_is_gone_and_no_other(tmp_path: Path) -> None:
    containers = tmp_path / "containers"
    gone, kept = containers / f"{LOW}_main", containers / f"{HIGH}_main"
    for directory in (gone, kept):
        path = put("hami-2.9.0-mixed-exits", directory / "x.cache")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    listed = pods.write(tmp_path / "pods.json", pods.pod("here", HIGH))
    (tmp_path / "proc" / "2").mkdir(parents=True)
    (tmp_path / "proc" / "2" / "comm").write_text("kthreadd\n")
    arguments = serve_arguments(
        containers,
        f"--pods=file:{listed}",
        "--gc",
        "--gc-grace=1",
        f"--procfs={tmp_path / 'proc'}",
    )
    with running(*arguments) as exporter:

        def removed() -> bool:
            # Each look at the list has to be newer than the directory, by the grace.
            pods.write(listed, pods.pod("here", HIGH))
            return not gone.exists()

        eventually(removed, 60)
        eventually(lambda: exporter.value("vgpumonitor_gc_removed_total") == 1)
        assert exporter.value("vgpumonitor_gc_failures_total") == 0
        assert f"{LOW}_main" in exporter.log
        # Rounds went on for longer than the grace, and all of them kept it.
        since = time.time()

        def later_round() -> bool:
            last = exporter.value("vgpumonitor_gc_last_round_timestamp_seconds")
            return last is not None and last > since + 1

        eventually(later_round, 30)
        assert kept.exists()
