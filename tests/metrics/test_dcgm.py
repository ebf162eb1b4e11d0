"""DCGM's fields, and the families that have them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.metrics.contract import LABELS
from vgpumonitor.metrics.dcgm import FIELDS, Field

BY_NAME = {field.name: field for field in FIELDS}

#: etc/default-counters.csv of dcgm-exporter, what is enabled there.
DEFAULT_COUNTERS = {
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
    "DCGM_FI_DEV_PCIE_RX_THROUGHPUT",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
}
#: etc/dcp-metrics-included.csv, what is enabled there alone.
WITH_PROFILING = {
    "DCGM_FI_DEV_FB_RESERVED",
    "DCGM_FI_DEV_RETIRED_SBE",
    "DCGM_FI_DEV_RETIRED_DBE",
    "DCGM_FI_DRIVER_VERSION",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
}


def test_all_that_dcgm_exporter_serves_unless_told_otherwise() -> None:
    assert {field.name for field in FIELDS if field.listed == "default"} == DEFAULT_COUNTERS
    assert {field.name for field in FIELDS if field.listed == "dcp"} == WITH_PROFILING


def test_each_field_stands_once_and_is_here_or_says_why_not() -> None:
    assert len(BY_NAME) == len(FIELDS)
    for field in FIELDS:
        assert field.family or field.note, field.name


def test_every_family_and_label_is_one_that_is_served() -> None:
    for field in FIELDS:
        for family in filter(None, (field.family, *field.minus)):
            labels = set(LABELS[family])
            wanted = {*field.labels, *filter(None, (field.label, field.over))}
            assert wanted <= labels, field.name


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("DCGM_FI_DEV_GPU_TEMP", "vgpu_device_temperature_celsius"),
        ("DCGM_FI_DEV_SM_CLOCK", 'vgpu_device_clock_hertz{clock="sm"} / 1000000'),
        ("DCGM_FI_DEV_GPU_UTIL", "vgpu_device_core_utilization_ratio * 100"),
        (
            "DCGM_FI_DEV_FB_FREE",
            "(vgpu_device_memory_total_bytes - vgpu_device_memory_used_bytes"
            " - vgpu_device_memory_reserved_bytes) / 1048576",
        ),
        (
            "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
            'rate(vgpu_device_pcie_bytes_total{direction="transmit"}[1m]) / 1000',
        ),
        (
            "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
            "sum without (direction) (rate(vgpu_device_nvlink_bytes_total[1m])) / 1024000",
        ),
        ("DCGM_FI_DEV_VGPU_LICENSE_STATUS", ""),
    ],
)
def test_the_expression_gives_dcgms_value(name: str, expression: str) -> None:
    assert BY_NAME[name].expression == expression


def test_a_scale_that_is_no_whole_number() -> None:
    field = Field("DCGM_FI_X", "no", "vgpu_x", scale=Fraction(3, 4))
    assert field.expression == "vgpu_x * 3 / 4"
