"""A real Prometheus scrapes the real exporter over the files of the real HAMi-core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from testing.exporter import running, serve_arguments
from testing.polling import eventually
from testing.prometheus import prometheus
from testing.region_files import put
from testing.tools import require
from testing.values import MIB

RELEASES = {
    "2.4.0": "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a0240",
    "2.6.0": "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a0260",
    "2.8.1": "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a0281",
    "2.9.0": "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a0290",
}
CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: vgpumonitor
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def file_of(containers: Path, release: str) -> Path:
    name = f"{RELEASES[release]}_train"
    return containers / name / f"{name}.cache"


def test_documented_families_and_a_restart(tmp_path: Path) -> None:
    containers = tmp_path / "containers"
    for release in RELEASES:
        put(f"hami-{release}-three-processes", file_of(containers, release))
    with (
        running(*serve_arguments(containers)) as exporter,
        prometheus(tmp_path, CONFIG.format(port=exporter.port)) as scraping,
    ):
        eventually(lambda: scraping.query("up == 1"))
        target = scraping.targets()[0]
        assert (target["health"], target["lastError"]) == ("up", "")

        def values(expression: str) -> dict[tuple[str, str], float]:
            return {
                (labels["podname"], labels["vdeviceid"]): value
                for labels, value in scraping.query(expression)
            }

        # Process k accounts on GPU d: context 300+10k+d MiB, module 7+k MiB, data
        # 1024(k+1)+64d MiB + 4096 bytes, 10+5k+d percent.
        used = {
            d: sum(
                (300 + 10 * k + d + 7 + k + 1024 * (k + 1) + 64 * d) * MIB + 4096 for k in range(3)
            )
            for d in (0, 1)
        }
        expected = {
            "vGPU_device_memory_usage_in_bytes": used,
            "vGPU_device_memory_limit_in_bytes": {0: 11520 * MIB, 1: 11520 * MIB},
            "Device_memory_desc_of_container": used,
            "Device_utilization_desc_of_container": {0: 45, 1: 48},
        }
        for family, by_device in expected.items():
            assert values(family) == {
                (uid, str(d)): value for uid in RELEASES.values() for d, value in by_device.items()
            }, family
        layouts_with_time = [uid for release, uid in RELEASES.items() if release != "2.4.0"]
        ages = values("Device_last_kernel_of_container")
        assert set(ages) == {(uid, d) for uid in layouts_with_time for d in ("0", "1")}
        # The recorded files have kernel times of 1795512575 to 1795512604.
        kernels = scraping.query(
            "max(timestamp(Device_last_kernel_of_container) - Device_last_kernel_of_container)"
        )
        assert 1795512590 <= kernels[0][1] <= 1795512610

        # The container restarts: koordlet recreates its directory.
        path = file_of(containers, "2.9.0")
        shutil.rmtree(path.parent)
        put("hami-2.9.0-mixed-exits", path)
        uid = RELEASES["2.9.0"]
        query = f'vGPU_device_memory_usage_in_bytes{{podname="{uid}"}}'
        alive = (310 + 8 + 2048 + 320 + 9 + 3072) * MIB + 2 * 4096
        eventually(lambda: [value for _, value in scraping.query(query)] == [alive])
        assert [labels["vdeviceid"] for labels, _ in scraping.query(query)] == ["0"]


#: What promtool says of the documented names, and of hami's: their own style, which is the
#: interface. Everything else is in order.
COMPLAINTS = {
    "HostCoreUtilization metric names should be written in 'snake_case' not 'camelCase'",
    "HostGPUMemoryUsage metric names should be written in 'snake_case' not 'camelCase'",
    "vGPU_device_memory_limit_in_bytes metric names should be written in 'snake_case' not "
    "'camelCase'",
    "vGPU_device_memory_usage_in_bytes metric names should be written in 'snake_case' not "
    "'camelCase'",
    "MigInfo metric names should be written in 'snake_case' not 'camelCase'",
}


def test_promtool_has_no_other_complaint() -> None:
    with running("demo", "--metrics=all", "--process-metrics") as exporter:
        eventually(lambda: exporter.samples().get("HostCoreUtilization"))
        text = exporter.get("/metrics")
    checked = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=60
    )
    complaints = set((checked.stdout + checked.stderr).decode().strip().splitlines())
    assert complaints == COMPLAINTS
