"""A dcgm-exporter's text beside ours. The form is that of dcgm-exporter 3 and 4: with a label for
each text field, with the labels of a pod on each GPU that one has, and on MIG devices with the
GPU's UUID and the GPU instance."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.compare.texts import scrapes
from vgpumonitor.compare import dcgm
from vgpumonitor.compare.exposition import CompareError
from vgpumonitor.compare.kinds import Tolerance
from vgpumonitor.compare.matching import Comparison, compare

FIRST, SECOND = (
    "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52",
    "GPU-06357e72-c3ee-614b-775f-a89e18e8cc08",
)


def of_dcgm(name: str, value: float | str, uuid: str = FIRST, **more: str) -> str:
    labels = {
        "gpu": "0" if uuid == FIRST else "1",
        "UUID": uuid,
        "pci_bus_id": "00000000:07:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA A100-SXM4-80GB",
        "Hostname": "gpu-node-1",
        "DCGM_FI_DRIVER_VERSION": "535.154.05",
        **more,
    }
    text = ",".join(f'{label}="{of_label}"' for label, of_label in labels.items())
    return f"# TYPE {name} gauge\n{name}{{{text}}} {value}\n"


def of_ours(family: str, value: float, uuid: str = FIRST, **more: str) -> str:
    labels = {"node": "gpu-node-1", "device_index": "0", "device_uuid": uuid, **more}
    text = ",".join(f'{label}="{of_label}"' for label, of_label in labels.items())
    return f"{family}{{{text}}} {value}\n"


def info(uuid: str = FIRST) -> str:
    return of_ours("vgpu_device_info", 1, uuid, name="NVIDIA A100", driver_version="535.154.05")


def compared(
    theirs: str | Sequence[str], ours: str | Sequence[str], **tolerances: Tolerance
) -> Comparison:
    both = scrapes(
        (theirs,) if isinstance(theirs, str) else theirs, (ours,) if isinstance(ours, str) else ours
    )
    return compare(dcgm.translated(both), dcgm.DcgmTolerances(tolerances))


def differing(comparison: Comparison) -> list[str]:
    """The fields that differ, and those that only one side has."""
    names = [series.family for series in comparison.differences]
    return [*names, *comparison.only_a, *comparison.only_b]


MIB = 1 << 20


@pytest.mark.parametrize(
    ("field", "value", "ours", "off"),
    [
        (
            "DCGM_FI_DEV_SM_CLOCK",
            1410,
            of_ours("vgpu_device_clock_hertz", 1.41e9, clock="sm")
            + of_ours("vgpu_device_clock_hertz", 9e8, clock="memory"),
            of_ours("vgpu_device_clock_hertz", 1.2e9, clock="sm"),
        ),
        (
            "DCGM_FI_DEV_MAX_SM_CLOCK",
            1410,
            of_ours("vgpu_device_clock_max_hertz", 1.41e9, clock="sm"),
            of_ours("vgpu_device_clock_max_hertz", 1.4e9, clock="sm"),
        ),
        (
            "DCGM_FI_DEV_GPU_TEMP",
            54,
            of_ours("vgpu_device_temperature_celsius", 55),
            of_ours("vgpu_device_temperature_celsius", 57),
        ),
        (
            "DCGM_FI_DEV_POWER_USAGE",
            310.25,
            of_ours("vgpu_device_power_watts", 322),
            of_ours("vgpu_device_power_watts", 340),
        ),
        (
            "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
            123456789,
            of_ours("vgpu_device_energy_joules_total", 123456.789),
            of_ours("vgpu_device_energy_joules_total", 123456.8),
        ),
        (
            "DCGM_FI_DEV_GPU_UTIL",
            87,
            of_ours("vgpu_device_core_utilization_ratio", 0.85),
            of_ours("vgpu_device_core_utilization_ratio", 0.5),
        ),
        # DCGM's are whole MiB.
        (
            "DCGM_FI_DEV_FB_USED",
            41000,
            of_ours("vgpu_device_memory_used_bytes", 41000 * MIB + 500_000),
            of_ours("vgpu_device_memory_used_bytes", 41002 * MIB),
        ),
        (
            "DCGM_FI_DEV_FB_FREE",
            39000,
            of_ours("vgpu_device_memory_total_bytes", 81000 * MIB)
            + of_ours("vgpu_device_memory_used_bytes", 41000 * MIB)
            + of_ours("vgpu_device_memory_reserved_bytes", 1000 * MIB),
            of_ours("vgpu_device_memory_total_bytes", 81000 * MIB)
            + of_ours("vgpu_device_memory_used_bytes", 41000 * MIB),
        ),
        (
            "DCGM_FI_DEV_POWER_VIOLATION",
            5_000_000_000,
            of_ours("vgpu_device_throttled_seconds_total", 5, reason="power"),
            of_ours("vgpu_device_throttled_seconds_total", 5, reason="thermal"),
        ),
        (
            "DCGM_FI_DEV_XID_ERRORS",
            79,
            of_ours("vgpu_device_last_xid_timestamp_seconds", 1e9, xid="31")
            + of_ours("vgpu_device_last_xid_timestamp_seconds", 2e9, xid="79"),
            of_ours("vgpu_device_last_xid_timestamp_seconds", 3e9, xid="31")
            + of_ours("vgpu_device_last_xid_timestamp_seconds", 2e9, xid="79"),
        ),
        (
            "DCGM_FI_DEV_XID_ERRORS",
            0,
            "",
            of_ours("vgpu_device_last_xid_timestamp_seconds", 1e9, xid="13"),
        ),
    ],
)
def test_units_and_labels(field: str, value: float, ours: str, off: str) -> None:
    theirs = of_dcgm(field, value)
    comparison = compared(theirs, info() + ours)
    assert differing(comparison) == []
    assert {series.family for series in comparison.series} == {field, "DCGM_FI_DRIVER_VERSION"}
    assert differing(compared(theirs, info() + off)) == [field]


def test_either_side_may_be_the_dcgm_exporter() -> None:
    theirs = of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54)
    ours = info() + of_ours("vgpu_device_temperature_celsius", 60)
    assert [series.a for series in compared(theirs, ours).differences] == [(54.0,)]
    assert [series.a for series in compared(ours, theirs).differences] == [(60.0,)]


def test_another_driver_version_is_a_difference() -> None:
    theirs = of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54)
    ours = info().replace("535.154.05", "550.54.14")
    comparison = compared(theirs, ours + of_ours("vgpu_device_temperature_celsius", 54))
    assert [(series.labels, series.verdict) for series in comparison.differences] == [
        ((("UUID", FIRST), ("value", "535.154.05")), "only in A"),
        ((("UUID", FIRST), ("value", "550.54.14")), "only in B"),
    ]


def test_pods_that_share_a_gpu_are_one_gpu() -> None:
    theirs = "".join(
        of_dcgm("DCGM_FI_DEV_FB_USED", 500, container="main", namespace="team-a", pod=pod)
        for pod in ("train-0", "train-1")
    )
    comparison = compared(theirs, info() + of_ours("vgpu_device_memory_used_bytes", 500 * MIB))
    assert differing(comparison) == []
    assert len(comparison.series) == 2


def test_labels_of_the_old_form() -> None:
    theirs = f'DCGM_FI_DEV_FB_USED{{gpu="0", UUID="{FIRST}"}} 500\n'
    comparison = compared(theirs, of_ours("vgpu_device_memory_used_bytes", 500 * MIB))
    assert [series.verdict for series in comparison.series] == ["same"]


@pytest.mark.parametrize(
    "blank", ["9223372036854775794", "2147483632", "140737488355328", "140737488355330"]
)
def test_what_dcgm_does_not_know_is_not_compared(blank: str) -> None:
    theirs = of_dcgm("DCGM_FI_DEV_MEMORY_TEMP", blank) + of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54)
    ours = info() + of_ours("vgpu_device_temperature_celsius", 54)
    assert differing(compared(theirs, ours)) == []


def test_a_field_that_is_missing_here() -> None:
    theirs = of_dcgm("DCGM_FI_DEV_MEMORY_TEMP", 60) + of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54)
    theirs += of_dcgm("DCGM_FI_DEV_GPU_TEMP", 50, SECOND)
    comparison = compared(theirs, info() + of_ours("vgpu_device_temperature_celsius", 54))
    assert comparison.only_a == {"DCGM_FI_DEV_MEMORY_TEMP": 1}
    temperatures = [one for one in comparison.differences if one.family == "DCGM_FI_DEV_GPU_TEMP"]
    assert [(one.labels, one.verdict) for one in temperatures] == [
        ((("UUID", SECOND),), "only in A")
    ]


def test_what_dcgm_does_not_have_of_a_gpu_is_no_difference_but_the_gpu_itself_is() -> None:
    theirs = of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54) + of_dcgm("DCGM_FI_DEV_FB_USED", 5, SECOND)
    temperatures = "".join(
        of_ours("vgpu_device_temperature_celsius", 54, uuid) for uuid in (FIRST, SECOND, "GPU-new")
    )
    memory = of_ours("vgpu_device_memory_used_bytes", 5 * MIB, SECOND)
    comparison = compared(theirs, info() + info(SECOND) + temperatures + memory)
    assert [(one.labels, one.verdict) for one in comparison.differences] == [
        ((("UUID", "GPU-new"),), "only in B")
    ]


def test_mig_devices_are_matched_by_gpu_instance() -> None:
    instances = (("3", "2g.20gb", 1200), ("9", "1g.10gb", 40))
    theirs = "".join(
        of_dcgm(name, value, GPU_I_PROFILE=profile, GPU_I_ID=instance)
        for instance, profile, memory in instances
        for name, value in (
            ("DCGM_FI_DEV_FB_USED", memory),
            ("DCGM_FI_DEV_FB_FREE", 9000),
            ("DCGM_FI_DEV_GPU_TEMP", 54),
        )
    )
    ours = info() + of_ours("vgpu_device_temperature_celsius", 54)
    ours += of_ours("vgpu_device_memory_used_bytes", 1240 * MIB)
    ours += of_ours("vgpu_device_memory_total_bytes", 81920 * MIB)
    for instance, profile, memory in instances:
        mig = f"MIG-{instance}"
        ours += of_ours(
            "vgpu_mig_device_info", 1, mig_uuid=mig, profile=profile, gpu_instance_id=instance
        )
        ours += of_ours("vgpu_mig_device_memory_used_bytes", memory * MIB, mig_uuid=mig)
    comparison = compared(theirs, ours)
    assert [(one.family, one.labels[0], one.verdict) for one in comparison.series] == [
        ("DCGM_FI_DEV_FB_USED", ("GPU_I_ID", "3"), "same"),
        ("DCGM_FI_DEV_FB_USED", ("GPU_I_ID", "9"), "same"),
        ("DCGM_FI_DEV_GPU_TEMP", ("UUID", FIRST), "same"),
        ("DCGM_FI_DRIVER_VERSION", ("UUID", FIRST), "same"),
    ]
    off = ours.replace(f'mig_uuid="MIG-9"}} {40 * MIB}', f'mig_uuid="MIG-9"}} {90 * MIB}')
    assert [one.labels[0] for one in compared(theirs, off).differences] == [("GPU_I_ID", "9")]


def test_a_rate_beside_a_counter() -> None:
    """32 GB/s, in thousands of KiB: ours is the sum of both directions' counters, by time."""
    theirs = of_dcgm("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", 31250)
    ours = [
        info()
        + of_ours("vgpu_device_nvlink_bytes_total", 1e15 + 20e9 * second, direction="transmit")
        + of_ours("vgpu_device_nvlink_bytes_total", 1e15 + 12e9 * second, direction="receive")
        for second in range(3)
    ]
    assert differing(compared(theirs, ours[0])) == ["DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"]
    assert differing(compared([theirs] * 3, ours)) == []
    off = theirs.replace("31250", "15625")
    assert differing(compared([off] * 3, ours)) == ["DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"]


def test_a_counter_that_is_30_s_old() -> None:
    """dcgm-exporter shows what it read last, so that ours is ahead until it reads again."""
    theirs = [of_dcgm("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1000 * n) for n in (10, 10, 10, 40)]
    ours = [info() + of_ours("vgpu_device_energy_joules_total", n) for n in (37, 38, 39, 40)]
    name = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    assert differing(compared(theirs[:3], ours[:3])) == [name]
    assert differing(compared(theirs, ours)) == []


def test_what_is_not_compared_and_why() -> None:
    theirs = "".join(
        of_dcgm(name, 1)
        for name in (
            "DCGM_FI_DEV_GPU_TEMP",
            "DCGM_FI_PROF_SM_ACTIVE",
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
            "DCGM_FI_DEV_MADE_UP",
        )
    )
    (both,) = scrapes((theirs,), (info(),))
    assert [(one.name, one.reason) for one in dcgm.not_compared(both)] == [
        (
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
            dcgm.BY_NAME["DCGM_FI_DEV_CLOCKS_EVENT_REASONS"].note,
        ),
        ("DCGM_FI_DEV_MADE_UP", "not in the table of names"),
        ("DCGM_FI_PROF_SM_ACTIVE", "needs DCGM's profiling"),
    ]


@pytest.mark.parametrize(
    ("theirs", "word"),
    [(info(), "neither serves"), (of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54), "both serve")],
)
def test_one_side_is_a_dcgm_exporter(theirs: str, word: str) -> None:
    other = info() if word == "neither serves" else theirs
    with pytest.raises(CompareError) as caught:
        compared(theirs, other)
    assert caught.value.message == (
        f"{word} DCGM's fields (DCGM_FI_…): expected one dcgm-exporter, and one vgpumonitor"
    )


@pytest.mark.parametrize(
    "ours",
    [
        "",
        'nvidia_smi_temperature_gpu{uuid="604ac76c"} 44\n',
        'vgpu_device_info{node="gpu-node-1"} 2\nvgpu_device_temperature_celsius{node="n"} 54\n',
    ],
    ids=["nothing", "another exporter", "sums over GPUs"],
)
def test_the_other_side_is_ours(ours: str) -> None:
    theirs = of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54)
    for texts, side in (((theirs, ours), "B"), ((ours, theirs), "A")):
        with pytest.raises(CompareError) as caught:
            compared(*texts)
        assert caught.value.message == (
            f"{side} serves nothing of a GPU (vgpu_device_…): expected a vgpumonitor with the set "
            "vgpu (serve --metrics) that sees the GPUs"
        )


def test_sums_over_gpus_beside_ours_are_left_out() -> None:
    sums = 'vgpu_device_info{node="n"} 2\nvgpu_device_temperature_celsius{node="n"} 99\n'
    ours = info() + of_ours("vgpu_device_temperature_celsius", 54) + sums
    assert differing(compared(of_dcgm("DCGM_FI_DEV_GPU_TEMP", 54), ours)) == []
