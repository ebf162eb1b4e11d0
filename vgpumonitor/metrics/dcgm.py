"""What dcgm-exporter's names are called here: the fields of its two lists of counters,
etc/default-counters.csv and etc/dcp-metrics-included.csv, and those that people often add.

Units are those of dcgm_fields.h and of the calls that DCGM makes (DcgmCacheManager.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

#: Where dcgm-exporter has a field: enabled in its default list; enabled only in its list with
#: profiling; commented out in one of them; in neither.
Listed = Literal["default", "dcp", "commented", "no"]

#: How the field's value is made of the samples of ``family``:
#: - value: it is DCGM's value
#: - rate: its increase per second is; DCGM has no counter, but a rate
#: - label: the label ``label`` of the sample with the largest value is
#: - mask: each is one bit of it
#: - text: the label ``label`` is it; in dcgm-exporter too, on each series
Form = Literal["value", "rate", "label", "mask", "text"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of DCGM, and the family that has it: the samples whose labels are ``labels``,
    summed over the label ``over``, less those of the families ``minus``, times ``scale``.
    Without a ``family`` it is not here, and ``note`` says why; otherwise what differs."""

    name: str
    listed: Listed
    family: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    scale: Fraction = Fraction(1)
    minus: tuple[str, ...] = ()
    form: Form = "value"
    label: str = ""
    over: str = ""
    note: str = ""

    @property
    def expression(self) -> str:
        """PromQL that gives the field's value, empty where there is none."""
        if not self.family:
            return ""
        matchers = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        series = self.family + (f"{{{matchers}}}" if matchers else "")
        if self.form == "rate":
            series = f"rate({series}[1m])"
        if self.over:
            series = f"sum without ({self.over}) ({series})"
        series = " - ".join((series, *self.minus))
        if self.scale == 1:
            return series
        if self.minus:
            series = f"({series})"
        times = f" * {self.scale.numerator}" if self.scale.numerator != 1 else ""
        per = f" / {self.scale.denominator}" if self.scale.denominator != 1 else ""
        return series + times + per


_MIB = Fraction(1, 1 << 20)
_MHZ = Fraction(1, 1_000_000)
_PERCENT = Fraction(100)
_MILLI, _NANO = Fraction(1_000), Fraction(1_000_000_000)

_PROFILING = "needs DCGM's profiling"
_VOLATILE = "since the driver was loaded; here are the errors over the GPU's life"
_VIOLATION = "nanoseconds, although older headers say microseconds"
_PCIE_RATE = (
    "a rate; DCGM no longer supports it, since the call takes 20 ms. Here is a counter, where "
    "the driver has one"
)
_PCIE_PROFILED = (
    "a rate, by profiling. Here is the driver's own counter, where it has one: near, not equal"
)
_PROFILED: tuple[tuple[str, Listed], ...] = (
    ("PIPE_TENSOR_ACTIVE", "dcp"),
    ("SM_ACTIVE", "commented"),
    ("SM_OCCUPANCY", "commented"),
    ("PIPE_FP64_ACTIVE", "commented"),
    ("PIPE_FP32_ACTIVE", "commented"),
    ("PIPE_FP16_ACTIVE", "commented"),
)
_LINK_COUNTER = "up to Hopper; NVLink 5 counts other kinds"
_INFOROM = "says nothing of the GPU's health, and changes with a new VBIOS only"

FIELDS: tuple[Field, ...] = (
    Field(
        "DCGM_FI_DEV_SM_CLOCK", "default", "vgpu_device_clock_hertz", {"clock": "sm"}, scale=_MHZ
    ),
    Field(
        "DCGM_FI_DEV_MEM_CLOCK",
        "default",
        "vgpu_device_clock_hertz",
        {"clock": "memory"},
        scale=_MHZ,
    ),
    Field(
        "DCGM_FI_DEV_VIDEO_CLOCK", "no", "vgpu_device_clock_hertz", {"clock": "video"}, scale=_MHZ
    ),
    Field(
        "DCGM_FI_DEV_MAX_SM_CLOCK", "no", "vgpu_device_clock_max_hertz", {"clock": "sm"}, scale=_MHZ
    ),
    Field(
        "DCGM_FI_DEV_MAX_MEM_CLOCK",
        "no",
        "vgpu_device_clock_max_hertz",
        {"clock": "memory"},
        scale=_MHZ,
    ),
    Field(
        "DCGM_FI_DEV_MAX_VIDEO_CLOCK",
        "no",
        "vgpu_device_clock_max_hertz",
        {"clock": "video"},
        scale=_MHZ,
    ),
    Field("DCGM_FI_DEV_MEMORY_TEMP", "default", "vgpu_device_memory_temperature_celsius"),
    Field("DCGM_FI_DEV_GPU_TEMP", "default", "vgpu_device_temperature_celsius"),
    Field(
        "DCGM_FI_DEV_SLOWDOWN_TEMP",
        "no",
        "vgpu_device_temperature_threshold_celsius",
        {"threshold": "slowdown"},
    ),
    Field(
        "DCGM_FI_DEV_SHUTDOWN_TEMP",
        "no",
        "vgpu_device_temperature_threshold_celsius",
        {"threshold": "shutdown"},
    ),
    Field(
        "DCGM_FI_DEV_FAN_SPEED",
        "no",
        "vgpu_device_fan_speed_ratio",
        {"fan": "0"},
        scale=_PERCENT,
        note="the first fan; here is every one",
    ),
    Field("DCGM_FI_DEV_POWER_USAGE", "default", "vgpu_device_power_watts"),
    Field("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "no", "vgpu_device_power_limit_watts"),
    Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "default",
        "vgpu_device_energy_joules_total",
        scale=_MILLI,
    ),
    Field("DCGM_FI_DEV_PSTATE", "no", "vgpu_device_performance_state"),
    Field(
        "DCGM_FI_DEV_PCIE_TX_THROUGHPUT",
        "default",
        "vgpu_device_pcie_bytes_total",
        {"direction": "transmit"},
        scale=Fraction(1, 1000),
        form="rate",
        note=_PCIE_RATE,
    ),
    Field(
        "DCGM_FI_DEV_PCIE_RX_THROUGHPUT",
        "default",
        "vgpu_device_pcie_bytes_total",
        {"direction": "receive"},
        scale=Fraction(1, 1000),
        form="rate",
        note=_PCIE_RATE,
    ),
    Field("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "default", "vgpu_device_pcie_replays_total"),
    Field("DCGM_FI_DEV_PCIE_LINK_GEN", "no", "vgpu_device_pcie_link_generation"),
    Field("DCGM_FI_DEV_PCIE_LINK_WIDTH", "no", "vgpu_device_pcie_link_width"),
    Field("DCGM_FI_DEV_PCIE_MAX_LINK_GEN", "no", "vgpu_device_pcie_link_generation_max"),
    Field("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", "no", "vgpu_device_pcie_link_width_max"),
    Field("DCGM_FI_DEV_GPU_UTIL", "default", "vgpu_device_core_utilization_ratio", scale=_PERCENT),
    Field(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "default",
        "vgpu_device_memory_controller_utilization_ratio",
        scale=_PERCENT,
    ),
    Field(
        "DCGM_FI_DEV_ENC_UTIL", "default", "vgpu_device_encoder_utilization_ratio", scale=_PERCENT
    ),
    Field(
        "DCGM_FI_DEV_DEC_UTIL", "default", "vgpu_device_decoder_utilization_ratio", scale=_PERCENT
    ),
    Field(
        "DCGM_FI_DEV_XID_ERRORS",
        "default",
        "vgpu_device_last_xid_timestamp_seconds",
        form="label",
        label="xid",
        note="the number of the last XID, 0 before the first; here every XID is counted, in "
        "`vgpu_device_xid_errors_total`",
    ),
    Field(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "no",
        "vgpu_device_throttled",
        form="mask",
        note="a mask; here is one series for each reason that is a trouble of the GPU",
    ),
    Field(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "no",
        "vgpu_device_throttled",
        form="mask",
        note="the newer name of DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
    ),
    *(
        Field(
            f"DCGM_FI_DEV_{name}_VIOLATION",
            "commented",
            "vgpu_device_throttled_seconds_total",
            {"reason": reason},
            scale=_NANO,
            note=_VIOLATION,
        )
        for name, reason in (
            ("POWER", "power"),
            ("THERMAL", "thermal"),
            ("SYNC_BOOST", "sync_boost"),
            ("BOARD_LIMIT", "board_limit"),
            ("LOW_UTIL", "low_utilization"),
            ("RELIABILITY", "reliability"),
        )
    ),
    Field(
        "DCGM_FI_DEV_FB_FREE",
        "default",
        "vgpu_device_memory_total_bytes",
        minus=("vgpu_device_memory_used_bytes", "vgpu_device_memory_reserved_bytes"),
        scale=_MIB,
    ),
    Field("DCGM_FI_DEV_FB_USED", "default", "vgpu_device_memory_used_bytes", scale=_MIB),
    Field("DCGM_FI_DEV_FB_RESERVED", "dcp", "vgpu_device_memory_reserved_bytes", scale=_MIB),
    Field("DCGM_FI_DEV_FB_TOTAL", "no", "vgpu_device_memory_total_bytes", scale=_MIB),
    Field("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "commented", note=_VOLATILE),
    Field("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "commented", note=_VOLATILE),
    Field(
        "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
        "commented",
        "vgpu_device_ecc_errors_total",
        {"kind": "corrected"},
    ),
    Field(
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        "commented",
        "vgpu_device_ecc_errors_total",
        {"kind": "uncorrected"},
    ),
    Field(
        "DCGM_FI_DEV_RETIRED_SBE",
        "dcp",
        "vgpu_device_retired_pages_total",
        {"cause": "single_bit"},
        note="up to Turing; later GPUs remap rows",
    ),
    Field(
        "DCGM_FI_DEV_RETIRED_DBE",
        "dcp",
        "vgpu_device_retired_pages_total",
        {"cause": "double_bit"},
        note="up to Turing; later GPUs remap rows",
    ),
    Field(
        "DCGM_FI_DEV_RETIRED_PENDING",
        "commented",
        "vgpu_device_page_retirement_pending",
        note="whether there are any, despite its help",
    ),
    Field(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "default",
        "vgpu_device_remapped_rows_total",
        {"kind": "uncorrected"},
    ),
    Field(
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "default",
        "vgpu_device_remapped_rows_total",
        {"kind": "corrected"},
    ),
    Field("DCGM_FI_DEV_ROW_REMAP_FAILURE", "default", "vgpu_device_row_remap_failed"),
    Field("DCGM_FI_DEV_ROW_REMAP_PENDING", "no", "vgpu_device_row_remap_pending"),
    *(
        Field(
            f"DCGM_FI_DEV_NVLINK_{name}_ERROR_COUNT_TOTAL",
            "commented",
            "vgpu_device_nvlink_errors_total",
            {"kind": kind},
            note=_LINK_COUNTER,
        )
        for name, kind in (
            ("CRC_FLIT", "crc_flit"),
            ("CRC_DATA", "crc_data"),
            ("REPLAY", "replay"),
            ("RECOVERY", "recovery"),
        )
    ),
    Field(
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
        "default",
        "vgpu_device_nvlink_bytes_total",
        scale=Fraction(1, 1_024_000),
        form="rate",
        over="direction",
        note="a rate, in thousands of KiB each second; here is a counter, by direction",
    ),
    Field(
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_L0",
        "commented",
        note="one link; here all of a GPU's links are summed",
    ),
    Field(
        "DCGM_FI_DEV_VGPU_LICENSE_STATUS",
        "default",
        note="a licence of NVIDIA's vGPU software, which GPUs shared through HAMi-core don't need",
    ),
    Field("DCGM_FI_DRIVER_VERSION", "dcp", "vgpu_device_info", form="text", label="driver_version"),
    Field("DCGM_FI_DEV_SERIAL", "commented", "vgpu_device_info", form="text", label="serial"),
    Field(
        "DCGM_FI_DEV_VBIOS_VERSION",
        "commented",
        "vgpu_device_info",
        form="text",
        label="vbios_version",
    ),
    Field("DCGM_FI_NVML_VERSION", "commented", note="NVML is of the driver: its version begins so"),
    Field("DCGM_FI_DEV_BRAND", "commented", note="the name begins with it: `vgpu_device_info`"),
    *(
        Field(name, "commented", note=_INFOROM)
        for name in (
            "DCGM_FI_DEV_OEM_INFOROM_VER",
            "DCGM_FI_DEV_ECC_INFOROM_VER",
            "DCGM_FI_DEV_POWER_INFOROM_VER",
            "DCGM_FI_DEV_INFOROM_IMAGE_VER",
        )
    ),
    Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "dcp",
        note=f"{_PROFILING}; nearest is `vgpu_device_core_utilization_ratio`",
    ),
    Field(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "dcp",
        note=f"{_PROFILING}; nearest is `vgpu_device_memory_controller_utilization_ratio`",
    ),
    *(Field(f"DCGM_FI_PROF_{name}", listed, note=_PROFILING) for name, listed in _PROFILED),
    Field(
        "DCGM_FI_PROF_PCIE_TX_BYTES",
        "dcp",
        "vgpu_device_pcie_bytes_total",
        {"direction": "transmit"},
        form="rate",
        note=_PCIE_PROFILED,
    ),
    Field(
        "DCGM_FI_PROF_PCIE_RX_BYTES",
        "dcp",
        "vgpu_device_pcie_bytes_total",
        {"direction": "receive"},
        form="rate",
        note=_PCIE_PROFILED,
    ),
)
