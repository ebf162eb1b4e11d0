"""What NVML's part of a scrape costs with 8 GPUs that tell everything: the real pynvml over the
simulated library, in a process of its own, since the loader reads its path only at the start."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from msgspec import structs

from benchmarks.table import Row
from testing.devices import FULL
from testing.nvml import simulated_nvml
from vgpumonitor.simulate.nvml.state import SimulatedNvml
from vgpumonitor.sources.devices.nvml import NvmlSource

GPUS = 8


def rows(times: int = 200) -> list[Row]:
    devices = tuple(
        structs.replace(FULL, uuid=f"{FULL.uuid[:-1]}{index}", minor=index) for index in range(GPUS)
    )
    with TemporaryDirectory() as directory:
        state = SimulatedNvml(devices=devices)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.devices", str(times)],
            env={**os.environ, **simulated_nvml(state, Path(directory))},
            capture_output=True,
            text=True,
            check=True,
        )
    first, later = json.loads(done.stdout)
    return [
        Row(
            f"CPU of a look at {GPUS} GPUs through NVML",
            f"{later * 1000:.1f} ms",
            f"one that asks for everything takes {first / later:.1f} times as long "
            f"({first * 1000:.1f} ms); the simulated library's own work is in both; "
            f"median of {times}",
        )
    ]


def _look(times: int) -> tuple[float, float]:
    """CPU seconds of a look that asks for everything, and of an ordinary one."""

    async def all_looks(rare_interval: float) -> float:
        source = NvmlSource(rare_interval=rare_interval)
        source.start()
        assert await source.sample(30.0)
        took = []
        for _ in range(times):
            began = time.process_time()
            await source.sample(30.0)
            took.append(time.process_time() - began)
        source.stop()
        return median(took)

    return asyncio.run(all_looks(0.0)), asyncio.run(all_looks(3600.0))


if __name__ == "__main__":
    json.dump(_look(int(sys.argv[1])), sys.stdout)
