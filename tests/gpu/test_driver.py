"""What the driver says, as nvidia-smi says it; and what only processes on the GPU can show."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from testing.polling import eventually
from testing.values import GIB, MIB
from tests.gpu.conftest import GpuNode, memory_of, smi, smi_report
from vgpumonitor.region.writer import RegionWriter

#: nvidia-smi's field, the family's labels and what a unit of it is here. These don't change while
#: the test runs.
STEADY = {
    "memory.total": ("vgpu_device_memory_total_bytes", {}, MIB),
    "memory.used": ("vgpu_device_memory_used_bytes", {}, MIB),
    "memory.reserved": ("vgpu_device_memory_reserved_bytes", {}, MIB),
    "enforced.power.limit": ("vgpu_device_power_limit_watts", {}, 1),
    "clocks.max.sm": ("vgpu_device_clock_max_hertz", {"clock": "sm"}, 1e6),
    "clocks.max.memory": ("vgpu_device_clock_max_hertz", {"clock": "memory"}, 1e6),
    "pcie.link.gen.gpumax": ("vgpu_device_pcie_link_generation_max", {}, 1),
    "pcie.link.width.max": ("vgpu_device_pcie_link_width_max", {}, 1),
    "pcie.link.width.current": ("vgpu_device_pcie_link_width", {}, 1),
    "ecc.errors.corrected.aggregate.total": (
        "vgpu_device_ecc_errors_total",
        {"kind": "corrected"},
        1,
    ),
    "ecc.errors.uncorrected.aggregate.total": (
        "vgpu_device_ecc_errors_total",
        {"kind": "uncorrected"},
        1,
    ),
}
#: How far these may be from nvidia-smi's, which looks a moment later.
MOVING = {
    "temperature.gpu": ("vgpu_device_temperature_celsius", {}, 1, 3),
    "temperature.memory": ("vgpu_device_memory_temperature_celsius", {}, 1, 3),
    "power.draw.instant": ("vgpu_device_power_watts", {}, 1, 60),
    "clocks.mem": ("vgpu_device_clock_hertz", {"clock": "memory"}, 1e6, 1e6),
}
#: What a GPU of a data centre has beside those.
FURTHER = (
    "vgpu_device_core_utilization_ratio",
    "vgpu_device_energy_joules_total",
    "vgpu_device_performance_state",
    "vgpu_device_throttled",
    "vgpu_device_throttled_seconds_total",
    "vgpu_device_temperature_threshold_celsius",
    "vgpu_device_pcie_replays_total",
    "vgpu_device_processes",
    "vgpu_device_memory_unattributed_bytes",
)


def test_a_gpus_readings_are_nvidia_smis(node: GpuNode) -> None:
    exporter = node.exporter
    (info,) = (dict(labels) for labels in exporter.samples()["vgpu_device_info"])
    ((name, uuid, driver, vbios, serial, bus),) = smi(
        "name,uuid,driver_version,vbios_version,serial,pci.bus_id"
    )
    assert info == {
        "node": "node-1",
        "device_index": "0",
        "device_uuid": uuid,
        "name": name,
        "driver_version": driver,
        "cuda_version": smi_report()["CUDA Version"],
        "minor": smi_report()["Minor Number"],
        "serial": "" if serial == "[N/A]" else serial,
        "vbios_version": vbios,
        "pci_bus_id": bus,
    }
    fields = (*STEADY, *MOVING)
    (row,) = smi(",".join(fields))
    for field, text in zip(fields, row, strict=True):
        family, labels, unit, *tolerance = (STEADY | MOVING)[field]
        value = exporter.value(family, **labels)
        if text in ("[N/A]", "[Not Supported]"):
            assert value is None, field
        else:
            # Sizes are cut to MiB there.
            expected = pytest.approx(float(text) * unit, abs=(tolerance or [unit])[0])
            assert value == expected, field
    assert not [family for family in FURTHER if family not in exporter.samples()]
    assert not exporter.samples().get("vgpumonitor_nvml_errors_total")


def test_both_witnesses_of_a_container_and_who_bypasses_hami_core(
    node: GpuNode, region: RegionWriter
) -> None:
    """The slot's host PID is not found: cgroup and PID namespace prove whose it is."""
    exporter = node.exporter
    _, host_pid, pid = node.start(str(GIB), "busy")
    region.register(pid)
    region.allocate(pid, 0, "data", GIB)
    assert exporter.value("vgpu_processes", state="running") == 1
    assert exporter.value("vgpu_memory_used_bytes", kind="data") == GIB
    assert exporter.value("vgpu_nvml_memory_used_bytes", container="train") == memory_of(host_pid)
    assert exporter.value("vgpu_memory_bypassed_bytes") == 0
    assert exporter.value("vgpu_device_memory_unattributed_bytes") == 0
    eventually(lambda: (exporter.value("vgpu_nvml_core_utilization_ratio") or 0) > 0.5)
    eventually(lambda: (exporter.value("vgpu_device_core_utilization_ratio") or 0) > 0.5)

    _, bypassing, _ = node.start(str(2 * GIB))
    of_both = memory_of(host_pid) + memory_of(bypassing)
    assert exporter.value("vgpu_memory_bypassed_bytes") == memory_of(bypassing)
    assert exporter.value("vgpu_nvml_memory_used_bytes", container="train") == of_both
    assert memory_of(bypassing) > 2 * GIB

    _, of_host, _ = node.start(str(GIB), contained=False)
    assert exporter.value("vgpu_device_memory_unattributed_bytes") == memory_of(of_host)
    assert exporter.value("vgpu_device_processes") == 3

    os.kill(host_pid, signal.SIGKILL)
    eventually(lambda: exporter.value("vgpu_processes", state="dead") == 1)
    assert exporter.value("vgpu_dead_process_memory_bytes") == GIB
    eventually(
        lambda: (
            exporter.value("vgpu_nvml_memory_used_bytes", container="train") == memory_of(bypassing)
        )
    )


def test_a_container_that_waits_uses_no_cores_which_is_known(
    node: GpuNode, region: RegionWriter
) -> None:
    _, host_pid, pid = node.start(str(GIB))
    region.register(pid)
    region.set_hostpid(pid, host_pid)
    region.allocate(pid, 0, "data", GIB)
    assert exporter_is(node, "vgpu_nvml_core_utilization_ratio", 0)
    assert exporter_is(node, "vgpu_nvml_memory_used_bytes", memory_of(host_pid))


def exporter_is(node: GpuNode, family: str, value: float) -> bool:
    return bool(eventually(lambda: node.exporter.value(family, container="train") == value))


def test_an_xid_is_told_with_the_container_that_was_there(
    node: GpuNode, region: RegionWriter
) -> None:
    process, host_pid, pid = node.start(str(GIB), "fault")
    region.register(pid)
    region.set_hostpid(pid, host_pid)
    assert exporter_is(node, "vgpu_nvml_memory_used_bytes", memory_of(host_pid))
    began = time.time()
    assert process.stdin is not None
    process.stdin.close()

    def errors() -> dict[str, float]:
        found = node.exporter.samples().get("vgpu_device_xid_errors_total", {})
        return {dict(labels)["xid"]: value for labels, value in found.items()}

    # 31 is a fault of the GPU's memory management: an address that the process doesn't have.
    assert eventually(errors) == {"31": 1}
    last = node.exporter.value("vgpu_device_last_xid_timestamp_seconds", xid="31")
    assert last is not None
    assert began - 1 < last < time.time() + 1
    (told,) = json.loads(node.exporter.get("/api/v1/snapshot"))["xid_errors"]
    assert told["containers"] == [{"namespace": "team-a", "pod": "train-0", "container": "train"}]
