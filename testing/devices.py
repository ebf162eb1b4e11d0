"""A simulated GPU that tells everything that NVML can tell of one."""

from __future__ import annotations

from collections.abc import Mapping

from vgpumonitor.simulate.nvml.state import Memory, ProcessSample, SimulatedDevice

GIB = 1 << 30
ALL_LINKS = 0xFFFFFFFF

#: By number, those of NVLink by number and scope: nvml.h, NVML_FI_*.
_FIELDS: Mapping[int, int | Mapping[int, int]] = {
    number: value
    for values in (
        {82: 55, 83: 1_234_500, 94: 17, 197: 1 << 45, 198: 1 << 44},
        {74: 5_000_000_000, 75: 1_500_000_000, 76: 0, 77: 4, 78: 6, 79: 8, 80: 10, 81: 12},
        {269: 1_000_000_000, 270: 2_000_000_000, 271: 3_000_000_000},
        {138: {ALL_LINKS: 1 << 30}, 139: {ALL_LINKS: 1 << 29}},
        {38: 1, 45: 2, 52: 3, 59: 4, 160: 5},
        {29: 6, 30: 7, 31: 1, 142: 8, 143: 9, 144: 1, 145: 0},
    )
    for number, value in values.items()
}

FULL = SimulatedDevice(
    uuid="GPU-8664316c-6888-5063-1e4d-f2a09cfbf100",
    name="NVIDIA H100 80GB HBM3",
    minor=3,
    serial="1654922001234",
    vbios_version="96.00.74.00.01",
    pci_bus_id="00000000:3B:00.0",
    memory=Memory(80 * GIB, 20 * GIB, GIB),
    utilization=(75, 30),
    encoder=(12, 167_000),
    decoder=(3, 1_000_000),
    compute={100: 8 * GIB, 101: 12 * GIB},
    graphics={102: GIB},
    process_samples=(ProcessSample(pid=100, timestamp=1 << 52, sm=40, memory=20),),
    power_milliwatts=250_500,
    enforced_power_limit_milliwatts=650_000,
    temperature=61,
    temperature_thresholds=(95, 92),
    clocks=(1980, 1981, 2619, 1545),
    max_clocks=(1990, 1991, 2620, 1546),
    fan_speeds=(44, 46),
    performance_state=2,
    throttle=0x01 | 0x04 | 0x40,
    ecc=(3, 1),
    pcie_generation=4,
    pcie_width=8,
    max_pcie_generation=5,
    max_pcie_width=16,
    field_values=_FIELDS,
)
