"""What the second witness costs: the driver's account and the host's processes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.node import cpu_seconds, serving, simulated
from benchmarks.table import Row
from testing.exporter import Exporter
from testing.nvml import STATE_VARIABLE, library
from testing.tools import require


def rows(containers: int = 100, times: int = 60) -> list[Row]:
    """Two exporters over one node, scraped in turns: with the simulated driver and the host's
    processes, and with HAMi-core's account alone."""
    with simulated(containers) as node:
        driver = {
            "LD_LIBRARY_PATH": f"{library().parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
            STATE_VARIABLE: str(node.nvml_state),
        }
        alone = ("--process-liveness=off", f"--procfs={node.directory}/no-proc")
        with (
            serving(node, "--nvml=auto", env=driver) as both,
            serving(node, *alone) as one,
        ):
            exporters = (both, one)
            used: tuple[list[float], list[float]] = ([], [])
            for turn in range(times):
                node.step()
                for place in (0, 1) if turn % 2 else (1, 0):
                    pid = exporters[place].process.pid
                    before = cpu_seconds(pid)
                    exporters[place].get("/metrics")
                    used[place].append(cpu_seconds(pid) - before)
            calls = [_calls(exporter) for exporter in exporters]
            sizes = [len(exporter.get("/metrics")) / 1e6 for exporter in exporters]
    two, single = (median(seconds) * 1000 for seconds in used)
    return [
        Row(
            f"scrape of {containers} containers, all changed, with the second witness",
            f"{two:.1f} ms of CPU",
            f"{single:.1f} ms without, {two / single:.2f} times; medians of {times} in turns; "
            f"{sizes[0]:.2f} and {sizes[1]:.2f} MB of text; what the simulated "
            "driver takes to read its state is among it",
        ),
        Row(
            "system calls of that scrape",
            f"{calls[0]:.0f}",
            f"{calls[1]:.0f} without the second witness",
        ),
    ]


def _calls(exporter: Exporter, scrapes: int = 10) -> float:
    """System calls per scrape, by all threads."""
    with tempfile.NamedTemporaryFile() as output:
        tracing = subprocess.Popen(
            [require("strace"), "-f", "-o", output.name, "-p", str(exporter.process.pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracing.stderr is not None
        for line in tracing.stderr:
            if "attached" in line:
                break
        for _ in range(scrapes):
            exporter.get("/metrics")
        tracing.terminate()
        tracing.wait()
        return sum(1 for line in Path(output.name).open(errors="replace") if "(" in line) / scrapes
