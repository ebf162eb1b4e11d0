"""Which series are the same, and which of them agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.compare.texts import compared, one
from vgpumonitor.compare.kinds import Tolerance, Tolerances, parse_tolerance
from vgpumonitor.compare.matching import Comparison, Series, SharedFamily

#: As HAMi's monitor up to 2.8 serves them.
VGPUMONITOR = """\
# HELP HostGPUMemoryUsage GPU device memory usage
# TYPE HostGPUMemoryUsage gauge
HostGPUMemoryUsage{deviceidx="0",deviceuuid="GPU-a",zone="vGPU"} 1e+09
HostGPUMemoryUsage{deviceidx="1",deviceuuid="GPU-b",zone="vGPU"} 2e+09
# TYPE Device_memory_desc_of_container counter
Device_memory_desc_of_container{context="1",data="2",module="3",offset="4",podname="p"} 10
go_goroutines 7
process_open_fds 4
promhttp_metric_handler_requests_total{code="200"} 3
"""
OURS = """\
# TYPE HostGPUMemoryUsage gauge
HostGPUMemoryUsage{nodeid="n",deviceidx="0",deviceuuid="GPU-a",devicetype="T",zone="vGPU"} 1e+09
HostGPUMemoryUsage{nodeid="n",deviceidx="1",deviceuuid="GPU-b",devicetype="T",zone="vGPU"} 3e+09
# TYPE Device_memory_desc_of_container gauge
Device_memory_desc_of_container{podname="p",context="9",module="0",data="1",offset="0"} 10
# TYPE vgpu_region_info gauge
vgpu_region_info{layout="1.1"} 1
vgpu_region_info{layout="1.2"} 1
vgpumonitor_collect_duration_seconds{part="disk"} 0.001
python_info{version="3"} 1
"""


def verdicts(comparison: Comparison) -> list[tuple[str, str]]:
    return [(series.family, series.verdict) for series in comparison.series]


def test_extra_labels_do_not_separate_series() -> None:
    comparison = compared(VGPUMONITOR, OURS)
    assert comparison.shared == (
        SharedFamily("Device_memory_desc_of_container", (), (), ("counter", "gauge")),
        SharedFamily("HostGPUMemoryUsage", (), ("devicetype", "nodeid"), ("gauge", "gauge")),
    )
    assert comparison.differences == [
        Series(
            "HostGPUMemoryUsage",
            (("deviceidx", "1"), ("deviceuuid", "GPU-b"), ("zone", "vGPU")),
            (2e9,),
            (3e9,),
            "differs",
        )
    ]
    assert verdicts(comparison) == [
        ("Device_memory_desc_of_container", "same"),
        ("HostGPUMemoryUsage", "same"),
        ("HostGPUMemoryUsage", "differs"),
    ]


def test_families_of_one_side_are_counted_and_are_no_series_that_differ() -> None:
    comparison = compared(VGPUMONITOR + "old 1\n", OURS)
    assert (comparison.only_a, comparison.only_b) == ({"old": 1}, {"vgpu_region_info": 2})
    assert {series.family for series in comparison.series}.isdisjoint(("old", "vgpu_region_info"))


def test_a_family_that_is_declared_and_has_no_series_is_one_that_the_side_has() -> None:
    """All memory of a container's GPU is missing, and with it the family's only series."""
    series = 'x_bytes{pod="p"} 1\n'
    comparison = compared("# TYPE x_bytes gauge\n", series)
    assert verdicts(comparison) == [("x_bytes", "only in B")]
    assert (comparison.only_a, comparison.only_b) == ({}, {})
    assert compared("y 1\n", series).only_b == {"x_bytes": 1}


def test_what_exporters_say_of_themselves_is_left_out() -> None:
    comparison = compared(VGPUMONITOR, VGPUMONITOR + "vgpumonitor_regions 1\nhami_build_info 1\n")
    assert (comparison.only_a, comparison.only_b) == ({}, {})


def test_labels_that_hold_values_name_no_series() -> None:
    name = "hami_container_device_memory_bytes"
    a = f'{name}{{pod="p",context_size="1",module_size="2",buffer_size="3",offset="4"}} 10\n'
    (series,) = (comparison := compared(a, f'{name}{{pod="p"}} 10\n')).series
    assert series.verdict == "same"
    assert comparison.shared[0].labels_only_a == (
        *("buffer_size", "context_size", "module_size", "offset"),
    )


def test_an_empty_label_is_an_absent_one() -> None:
    comparison = compared('a{x="",y="1"} 1\na{x="2",y="2"} 2\n', 'a{y="1"} 1\na{x="2",y="2"} 2\n')
    assert verdicts(comparison) == [("a", "same"), ("a", "same")]


def test_series_that_share_their_labels_are_paired_by_value() -> None:
    a = 'a{x="1"} 100\n'
    b = 'a{x="1",pid="1"} 5\na{x="1",pid="2"} 100\n'
    lonely = Series("a", (("pid", "1"), ("x", "1")), None, (5.0,), "only in B")
    shared = Series("a", (("x", "1"),), (100.0,), (100.0,), "same")
    assert compared(a, b).series == (shared, lonely)
    assert compared(a, b.replace(" 100", " 200")).series == (
        Series("a", (("x", "1"),), (100.0,), (5.0,), "differs"),
        Series("a", (("pid", "2"), ("x", "1")), None, (200.0,), "only in B"),
    )


@pytest.mark.parametrize(
    ("family", "a", "b", "agree"),
    [
        ("HostGPUMemoryUsage", 1e9, 1e9 + 1, False),
        ("vGPU_device_memory_usage_in_bytes", 0, 1, False),
        ("vgpu_memory_used_bytes", 2**40, 2**40 + 1, False),
        ("Device_utilization_desc_of_container", 50, 55, True),
        ("Device_utilization_desc_of_container", 50, 56, False),
        ("hami_host_gpu_utilization_ratio", 1, 5, True),
        ("vgpu_device_core_utilization_ratio", 0.5, 0.55, True),
        ("vgpu_device_core_utilization_ratio", 0.5, 0.56, False),
        ("vgpu_device_fan_speed_ratio", 0.5, 0.54, True),
        ("vgpu_core_limit_ratio", 0.5, 0.51, False),
        ("vgpu_device_temperature_celsius", 60, 62, True),
        ("vgpu_device_temperature_celsius", 60, 63, False),
        ("hami_host_gpu_power_usage_watts", 300, 314, True),
        ("vgpu_device_power_watts", 300, 320, False),
        ("vgpu_device_power_limit_watts", 300, 301, False),
        ("vgpu_device_clock_hertz", 1.98e9, 1.95e9, True),
        ("vgpu_device_clock_max_hertz", 1.98e9, 1.95e9, False),
        ("Device_last_kernel_of_container", 60.5, 59, True),
        ("Device_last_kernel_of_container", 60.5, 58, False),
        ("vgpu_last_kernel_timestamp_seconds", 1e9, 1e9 + 2, True),
        ("vgpu_device_xid_errors_total", 1, 2, False),
        ("anything", 1, 1.5, False),
        ("anything", math.nan, math.nan, True),
        ("anything", math.nan, 1, False),
        ("anything", math.inf, math.inf, True),
        ("anything", math.inf, 1e300, False),
    ],
)
def test_tolerance_of_each_kind_of_value(family: str, a: float, b: float, agree: bool) -> None:
    assert (one(f"{family} {a}\n", f"{family} {b}\n").verdict == "same") is agree
    assert (one(f"{family} {b}\n", f"{family} {a}\n").verdict == "same") is agree


@pytest.mark.parametrize(
    ("text", "kind", "tolerance"),
    [
        ("bytes=1048576", "bytes", Tolerance(absolute=1 << 20)),
        ("power=10%", "power", Tolerance(relative=0.1)),
        ("other=0", "other", Tolerance()),
    ],
)
def test_chosen_tolerance(text: str, kind: str, tolerance: Tolerance) -> None:
    assert parse_tolerance(text) == (kind, tolerance)


def test_chosen_tolerance_takes_the_place_of_the_default_of_its_kind_alone() -> None:
    tolerances = Tolerances({"utilization": Tolerance(absolute=10)})
    assert tolerances.of("HostCoreUtilization") == Tolerance(absolute=10)
    assert tolerances.of("vgpu_core_utilization_ratio") == Tolerance(absolute=0.1)
    assert tolerances.of("HostGPUMemoryUsage") == Tolerance()
    assert tolerances.of("vgpu_device_temperature_celsius") == Tolerance(absolute=2)


def bytes_of(*values: float | None) -> Sequence[str]:
    """A family of bytes in one scrape after the other; another family, where it has no value."""
    return [f"x_bytes {value}\n" if value is not None else "y 1\n" for value in values]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        # It stands still, and is not the same.
        ((5, 5, 5), (6, 6, 6), "differs"),
        # It moves, and what both showed overlaps, or doesn't.
        ((1, 9, 4), (5, 2, 8), "moved"),
        ((1, 3, 2), (4, 8, 5), "differs"),
        # One that moves may be seen by one side alone.
        ((1, 1, 9), (1, 1, 1), "moved"),
        # Two looks are not enough.
        ((1, 9), (5, 2), "differs"),
        # However much it moves, one is always 5 above the other.
        ((100, 900, 300), (105, 905, 305), "differs"),
        # It wasn't always there: compared where both have it.
        ((7, 7, 7), (None, 7, 7), "same"),
        ((7, 7, 7), (None, 8, 8), "differs"),
        ((7, None, None), (None, 7, 7), "moved"),
    ],
)
def test_values_that_move_agree_where_their_ranges_meet(
    a: Sequence[float | None], b: Sequence[float | None], verdict: str
) -> None:
    comparison = compared(bytes_of(*a), bytes_of(*b))
    assert [one.verdict for one in comparison.series if one.family == "x_bytes"] == [verdict]


def test_a_series_that_comes_or_goes_on_one_side_is_no_difference() -> None:
    steady = 'x{pod="p"} 1\n'
    comparison = compared([steady, steady + 'x{pod="q"} 1\n'], [steady, steady])
    assert [series.verdict for series in comparison.series] == ["same", "moved"]
    comparison = compared([steady + 'x{pod="q"} 1\n'] * 2, [steady, steady])
    assert [series.verdict for series in comparison.series] == ["same", "only in A"]
