"""The exporter's sources as a process meets them: a driver that fails and hangs, an API server
that goes away, log directories."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testing import pods
from testing.apiserver import ApiServer, kubeconfig
from testing.exporter import Exporter, running, serve_arguments
from testing.nvml import simulated_nvml
from testing.pods import koordinator
from testing.polling import eventually
from testing.region_files import put
from testing.values import GIB, GPU, GPU_2, UID
from vgpumonitor.simulate.nvml.state import Memory, SimulatedDevice, SimulatedMig, SimulatedNvml
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup

MIG = "MIG-8664316c-6888-5063-1e4d-f2a09cfbf1aa"
LOST = 15  # NVML_ERROR_GPU_IS_LOST

Call = Callable[..., None]


def gpus(**more: object) -> SimulatedNvml:
    return SimulatedNvml(
        devices=tuple(
            SimulatedDevice(
                uuid=uuid,
                name="NVIDIA L40S",
                minor=minor,
                memory=Memory(46 * GIB, 20 * GIB),
                utilization=(50, 20),
            )
            for minor, uuid in enumerate((GPU, GPU_2))
        ),
        **more,  # type: ignore[arg-type]
    )


class TestNvml:
    def arguments(self, tmp_path: Path) -> list[str]:
        put("hami-2.9.0-three-processes", tmp_path / "containers" / f"{UID}_train" / "x.cache")
        arguments = serve_arguments(tmp_path / "containers")
        return [argument for argument in arguments if not argument.startswith("--nvml")]

    def test_a_lost_gpu_costs_its_own_series_alone(self, tmp_path: Path) -> None:
        env = simulated_nvml(gpus(), tmp_path)
        with running(*self.arguments(tmp_path), env=env) as exporter:
            eventually(lambda: exporter.value("HostGPUMemoryUsage", deviceuuid=GPU) == 20 * GIB)
            gpus(
                errors={
                    call: {"0": LOST}
                    for call in (
                        "nvmlDeviceGetMemoryInfo",
                        "nvmlDeviceGetUtilizationRates",
                        "nvmlDeviceGetComputeRunningProcesses",
                    )
                }
            ).write(tmp_path / "nvml.json")
            eventually(lambda: exporter.value("HostGPUMemoryUsage", deviceuuid=GPU) is None)
            assert exporter.value("HostGPUMemoryUsage", deviceuuid=GPU_2) == 20 * GIB
            assert exporter.value("vgpumonitor_nvml_up") == 1
            assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2
            gpus().write(tmp_path / "nvml.json")
            eventually(lambda: exporter.value("HostGPUMemoryUsage", deviceuuid=GPU) == 20 * GIB)

    def test_a_call_that_hangs_costs_a_bounded_wait(self, tmp_path: Path) -> None:
        env = simulated_nvml(gpus(), tmp_path)
        with running(*self.arguments(tmp_path), env=env) as exporter:
            eventually(lambda: exporter.value("HostGPUMemoryUsage", deviceuuid=GPU_2))
            gpus(hangs={"nvmlDeviceGetMemoryInfo": ("0",)}).write(tmp_path / "nvml.json")
            eventually(lambda: exporter.value("vgpumonitor_nvml_up") == 0)
            found = exporter.samples()
            assert "HostGPUMemoryUsage" not in found
            assert len(found["vGPU_device_memory_usage_in_bytes"]) == 2
            hung = exporter.value("vgpumonitor_nvml_errors_total", call="timeout")
            assert hung is not None
            assert hung >= 1
            gpus().write(tmp_path / "nvml.json")
            eventually(lambda: exporter.value("HostGPUMemoryUsage", deviceuuid=GPU) == 20 * GIB)

    def test_no_driver_then_one(self, tmp_path: Path) -> None:
        env = simulated_nvml(gpus(), tmp_path)
        (tmp_path / "nvml.json").unlink()
        with running(*self.arguments(tmp_path), env=env) as exporter:
            assert exporter.value("vgpumonitor_nvml_up") == 0
            assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2
            gpus().write(tmp_path / "nvml.json")
            eventually(lambda: exporter.value("vgpumonitor_nvml_up") == 1, 40)
            assert exporter.value("HostCoreUtilization", deviceuuid=GPU) == 50

    def test_mig_devices(self, tmp_path: Path) -> None:
        mig = SimulatedMig(
            uuid=MIG, profile="1g.10gb", gpu_instance_id=7, memory=Memory(10 * GIB, 3 * GIB)
        )
        gpu = SimulatedDevice(
            uuid=GPU, name="NVIDIA A100", memory=Memory(40 * GIB, GIB), mig_devices=(mig,)
        )
        env = simulated_nvml(SimulatedNvml(devices=(gpu,)), tmp_path)
        with running(*self.arguments(tmp_path), env=env) as exporter:
            eventually(
                lambda: exporter.value("vgpu_mig_device_memory_used_bytes", mig_uuid=MIG) == 3 * GIB
            )
            assert exporter.value(
                "vgpu_mig_device_info", profile="1g.10gb", gpu_instance_id="7", device_uuid=GPU
            )


@contextmanager
def api_server(*objects: dict[str, object]) -> Iterator[tuple[ApiServer, Call]]:
    """A server in a thread, and a way to call into its loop."""
    ready, stop = threading.Event(), threading.Event()
    made: list[tuple[ApiServer, asyncio.AbstractEventLoop]] = []

    async def serve() -> None:
        async with ApiServer() as server:
            for pod in objects:
                server.put(pod)
            made.append((server, asyncio.get_running_loop()))
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    server, loop = made[0]

    def call(action: Callable[..., object], *arguments: object) -> None:
        done = threading.Event()

        def act() -> None:
            action(*arguments)
            done.set()

        loop.call_soon_threadsafe(act)
        done.wait()

    try:
        yield server, call
    finally:
        stop.set()
        thread.join()


class TestKubernetes:
    def test_pods_come_change_and_go_and_the_server_goes_away(self, tmp_path: Path) -> None:
        containers = tmp_path / "containers"
        put("hami-2.9.0-three-processes", containers / f"{UID}_main" / "x.cache")
        placed = pods.pod(
            "train-0",
            UID,
            annotations=koordinator(0, "11Gi", 50),
        )
        with api_server(placed, pods.pod("elsewhere", node="node-2")) as (server, call):
            config = kubeconfig(tmp_path / "kubeconfig", server.url)
            arguments = serve_arguments(containers, "--pods=kubernetes", f"--kubeconfig={config}")
            with running(*arguments) as exporter:
                eventually(lambda: exporter.status("/readyz")[0] == 200)
                usage = "vGPU_device_memory_usage_in_bytes"
                labels = {"podnamespace": "team-a", "podname": "train-0", "vdeviceid": "0"}
                assert exporter.value(usage, **labels) is not None
                assert exporter.value("vgpu_allocated_memory_bytes", pod="train-0") == 11 * GIB
                assert len(exporter.samples()["vgpu_allocated_memory_bytes"]) == 1

                completed = pods.pod(
                    "train-0",
                    UID,
                    phase="Succeeded",
                    annotations=koordinator(0, "11Gi", 50),
                )
                call(server.put, completed)
                eventually(lambda: usage not in exporter.samples())
                assert "vgpu_allocated_memory_bytes" not in exporter.samples()

                call(server.put, placed)
                eventually(lambda: exporter.value(usage, **labels) is not None)
                stopped = threading.Event()
                call(
                    lambda: asyncio.ensure_future(server.stop()).add_done_callback(
                        lambda _: stopped.set()
                    )
                )
                stopped.wait(10)
                eventually(lambda: exporter.value("vgpumonitor_pod_source_up") == 0)
                # The last known pods stay in use.
                assert exporter.value(usage, **labels) is not None
                synced = exporter.value("vgpumonitor_pod_source_synced_timestamp_seconds")
                assert synced is not None
                assert synced <= time.time()


def test_pod_logs_name_the_pods(tmp_path: Path) -> None:
    containers, logs = tmp_path / "containers", tmp_path / "logs"
    put("hami-2.9.0-three-processes", containers / f"{UID}_train" / "x.cache")
    logs.mkdir()
    arguments = serve_arguments(containers, "--pods=pod-logs", f"--pod-logs-dir={logs}")
    with running(*arguments) as exporter:
        usage = "vGPU_device_memory_usage_in_bytes"
        assert exporter.value(usage, podname=UID, vdeviceid="0") is not None
        (logs / f"team-a_train-0_{UID}" / "train").mkdir(parents=True)
        eventually(
            lambda: exporter.value(usage, podnamespace="team-a", podname="train-0", vdeviceid="0")
        )


def test_pod_logs_and_processes_say_which_containers_ended(tmp_path: Path) -> None:
    """kubelet keeps the log directory of an init container that finished and of a container that
    crashed, and no source says so."""
    containers, logs = tmp_path / "containers", tmp_path / "log/pods"
    links = logs.with_name("containers")
    links.mkdir(parents=True)
    procfs = SimulatedProcfs(tmp_path / "proc")
    ids = {"init": "a" * 64, "crashed": "b" * 64, "idle": "c" * 64, "unnamed": ""}
    directory = logs / f"team-a_train-0_{UID}"
    for name, container_id in ids.items():
        put("hami-2.9.0-mixed-exits", containers / f"{UID}_{name}" / "x.cache")
        (directory / name).mkdir(parents=True)
        if container_id:
            (links / f"train-0_team-a_{name}-{container_id}.log").symlink_to(
                directory / name / "0.log"
            )
    # The pod's sandbox, and a container whose process never called CUDA.
    procfs.add(10, "pause", pod_cgroup(UID, "f" * 64), (1,))
    procfs.add(11, "sleep", pod_cgroup(UID, ids["idle"]), (1,))
    arguments = serve_arguments(containers, "--pods=pod-logs", f"--pod-logs-dir={logs}")
    arguments += [f"--procfs={procfs.directory}", "--process-liveness=auto"]

    def shown(exporter: Exporter) -> set[str]:
        series = exporter.samples().get("vgpu_memory_limit_bytes", {})
        return {dict(labels)["container"] for labels in series}

    with running(*arguments) as exporter:
        eventually(lambda: shown(exporter) == {"idle", "unnamed"})
        # The crashed container starts again, with another ID.
        again = "e" * 64
        procfs.add(12, "python3", pod_cgroup(UID, again), (1,))
        (links / f"train-0_team-a_crashed-{again}.log").symlink_to(directory / "crashed/1.log")
        eventually(lambda: shown(exporter) == {"crashed", "idle", "unnamed"})
        procfs.remove(11)
        eventually(lambda: shown(exporter) == {"crashed", "unnamed"})
