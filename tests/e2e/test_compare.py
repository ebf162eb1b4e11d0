"""Two exporters on one node whose containers change all the time, compared as a user would."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testing.exporter import Exporter, running
from testing.nvml import simulated_nvml
from testing.polling import eventually
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.simulate.nvml.state import SimulatedNvml


@contextmanager
def changing(node: SimulatedNode) -> Iterator[None]:
    """A second of the node's life each 20 ms."""
    stop = threading.Event()
    thread = threading.Thread(target=node.run, args=(stop, 0.02))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def exporter(node: SimulatedNode, metrics: str, nvml: Mapping[str, str]) -> Iterator[Exporter]:
    with running(
        "serve",
        f"--containers-dir={node.containers_dir}",
        f"--procfs={node.procfs_dir}",
        f"--pods=file:{node.pods_file}",
        f"--node-name={node.node_name}",
        f"--metrics={metrics}",
        env=nvml,
    ) as made:
        eventually(lambda: made.status("/readyz")[0] == 200)
        eventually(lambda: len(made.samples().get("HostGPUMemoryUsage", {})) == len(node.cards))
        yield made


def test_two_that_agree_on_a_node_that_changes(tmp_path: Path) -> None:
    with SimulatedNode(tmp_path / "node", containers=40) as node, ExitStack() as stack:
        # What it writes stays until the node's next second.
        nvml = simulated_nvml(SimulatedNvml(), node.directory)
        stack.enter_context(changing(node))
        documented = stack.enter_context(exporter(node, "documented", nvml))
        all_sets = stack.enter_context(exporter(node, "all", nvml))
        # All that can differ here is when each side looked.
        compare = "-m", "vgpumonitor", "compare", documented.url, all_sets.url, "--wait=60"
        done = subprocess.run(
            [sys.executable, *compare], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "Only in B, " in done.stdout
        strict = subprocess.run([sys.executable, *compare, "--strict"], check=False)
        assert strict.returncode == 1
