"""Real exporters, compared as a user would."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pynvml

from testing.exporter import Exporter, running, serve_arguments
from testing.nvml import simulated_nvml
from testing.polling import eventually
from testing.values import GIB, GPU, GPU_2, MIB
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.simulate.nvml.state import (
    Memory,
    SimulatedDevice,
    SimulatedMig,
    SimulatedNvml,
)


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
        eventually(lambda: len(made.samples().get("HostGPUMemoryUsage", {})) == len(node.gpus))
        yield made


def compared(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "compare", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_that_agree_on_a_node_that_changes(tmp_path: Path) -> None:
    with SimulatedNode(tmp_path / "node", containers=40) as node, ExitStack() as stack:
        # What it writes stays until the node's next second.
        nvml = simulated_nvml(SimulatedNvml(), node.directory)
        stack.enter_context(changing(node))
        documented = stack.enter_context(exporter(node, "documented", nvml))
        all_sets = stack.enter_context(exporter(node, "all", nvml))
        # All that can differ here is when each side looked.
        both = documented.url, all_sets.url, "--wait=60"
        done = compared(*both)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "Only in B, " in done.stdout
        assert compared(*both, "--strict").returncode == 1


WHOLE_GPU = SimulatedDevice(
    uuid=GPU,
    name="NVIDIA A100-SXM4-80GB",
    minor=0,
    memory=Memory(total=80 * GIB, used=41 * GIB + 300_000, reserved=600 * MIB),
    utilization=(87, 41),
    encoder=(3, 167_000),
    decoder=(0, 167_000),
    power_milliwatts=310_250,
    enforced_power_limit_milliwatts=400_000,
    temperature=54,
    clocks=(1410, 1410, 1593, 1275),
    max_clocks=(1410, 1410, 1593, 1290),
    performance_state=0,
    ecc=(5, 0),
    field_values={
        pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: 123_456_789,
        pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER: 2,
        pynvml.NVML_FI_DEV_REMAPPED_COR: 1,
        pynvml.NVML_FI_DEV_REMAPPED_UNC: 0,
        pynvml.NVML_FI_DEV_REMAPPED_PENDING: 0,
        pynvml.NVML_FI_DEV_REMAPPED_FAILURE: 0,
    },
)
MIG_GPU = SimulatedDevice(
    uuid=GPU_2,
    name="NVIDIA A100-SXM4-80GB",
    minor=1,
    memory=Memory(total=80 * GIB, used=3 * GIB),
    temperature=40,
    power_milliwatts=90_000,
    mig_devices=(
        SimulatedMig(
            uuid="MIG-8a1e9b4c-5d0f-4a53-9f02-3b7c1d2e4f50",
            profile="2g.20gb",
            gpu_instance_id=3,
            memory=Memory(total=20 * GIB, used=2 * GIB),
        ),
        SimulatedMig(
            uuid="MIG-8a1e9b4c-5d0f-4a53-9f02-3b7c1d2e4f51",
            profile="1g.10gb",
            gpu_instance_id=9,
            memory=Memory(total=10 * GIB, used=1 * GIB),
        ),
    ),
)
#: What dcgm-exporter's default counters say of these two, in its units.
OF_GPU = {
    "DCGM_FI_DEV_SM_CLOCK": 1410,
    "DCGM_FI_DEV_MEM_CLOCK": 1593,
    "DCGM_FI_DEV_GPU_TEMP": 54,
    "DCGM_FI_DEV_POWER_USAGE": 310.25,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 123_456_789,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 2,
    "DCGM_FI_DEV_GPU_UTIL": 87,
    "DCGM_FI_DEV_MEM_COPY_UTIL": 41,
    "DCGM_FI_DEV_ENC_UTIL": 3,
    "DCGM_FI_DEV_DEC_UTIL": 0,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_FB_FREE": 80 * 1024 - 41 * 1024 - 600,
    "DCGM_FI_DEV_FB_USED": 41 * 1024,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 1,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS": 0,
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.86,
}
OF_INSTANCE = {"3": 2 * 1024, "9": 1024}


def dcgm_text(of_gpu: Mapping[str, float]) -> str:
    def sample(name: str, value: float, number: int, uuid: str, more: str = "") -> str:
        return (
            f'{name}{{gpu="{number}",UUID="{uuid}",pci_bus_id="00000000:0{number}:00.0",'
            f'device="nvidia{number}",modelName="NVIDIA A100-SXM4-80GB",{more}'
            f'Hostname="node-1",DCGM_FI_DRIVER_VERSION="570.124.06"}} {value}\n'
        )

    lines = [sample(name, value, 0, GPU) for name, value in of_gpu.items()]
    for instance, used in OF_INSTANCE.items():
        more = f'GPU_I_PROFILE="1g",GPU_I_ID="{instance}",'
        lines.append(sample("DCGM_FI_DEV_FB_USED", used, 1, GPU_2, more))
        lines.append(sample("DCGM_FI_DEV_GPU_TEMP", 40, 1, GPU_2, more))
        lines.append(sample("DCGM_FI_DEV_POWER_USAGE", 90, 1, GPU_2, more))
    return "".join(lines)


class _Text(BaseHTTPRequestHandler):
    text = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(text: str) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Text", (_Text,), {"text": text}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_dcgm_exporter_beside_this_one(tmp_path: Path) -> None:
    nvml = simulated_nvml(SimulatedNvml(devices=(WHOLE_GPU, MIG_GPU)), tmp_path)
    with running(*serve_arguments(tmp_path / "containers"), "--nvml=auto", env=nvml) as ours:
        eventually(lambda: len(ours.samples().get("vgpu_device_info", {})) == 2)
        with serving(dcgm_text(OF_GPU)) as dcgm:
            done = compared("--dcgm", dcgm, ours.url)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout
            # Each of the first GPU's but the license and the profiling, four of the other's,
            # and both GPUs' driver version.
            assert done.stdout.endswith(f"\n{len(OF_GPU) - 2 + 4 + 2} series agree\n")
        with serving(dcgm_text({**OF_GPU, "DCGM_FI_DEV_FB_USED": 40 * 1024})) as dcgm:
            done = compared("--dcgm", dcgm, ours.url, "--wait=0")
            assert done.returncode == 1
            assert f'DCGM_FI_DEV_FB_USED{{UUID="{GPU}"}}  A 40960  B 41984' in done.stdout
