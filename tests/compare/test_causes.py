"""Differences by what they have in common."""

from __future__ import annotations

from tests.compare.texts import causes_of
from vgpumonitor.compare.causes import Cause

DOCUMENTED = (
    "vGPU_device_memory_usage_in_bytes",
    "vGPU_device_memory_limit_in_bytes",
    "Device_memory_desc_of_container",
    "Device_utilization_desc_of_container",
)


def container(number: int, device: str = "GPU-a", **values: float) -> str:
    """Its documented series; ``usage`` and ``utilization`` are values of it."""
    labels = f'podnamespace="n",podname="p{number}",ctrname="c",deviceuuid="{device}"'
    usage = values.get("usage", 1000)
    value_of = dict(
        zip(DOCUMENTED, (usage, 5000, usage, values.get("utilization", 30)), strict=True)
    )
    return "".join(f"{name}{{{labels}}} {value}\n" for name, value in value_of.items())


def region(number: int, layout: str) -> str:
    return f'vgpu_region_info{{namespace="n",pod="p{number}",container="c",layout="{layout}"}} 1\n'


def gpu(device: str, memory: float) -> str:
    return (
        f'HostGPUMemoryUsage{{deviceuuid="{device}"}} {memory}\n'
        f'hami_host_gpu_memory_used_bytes{{device_uuid="{device}"}} {memory}\n'
    )


def shown(found: list[Cause]) -> list[tuple[str, tuple[str, ...], int, int]]:
    return [(cause.kind, cause.names, len(cause.series), cause.total) for cause in found]


def test_nothing_differs() -> None:
    assert causes_of(container(1), container(1)) == []


def test_a_layout_that_one_side_can_not_read() -> None:
    old = "".join(map(container, range(5)))
    new = "".join(map(container, range(5, 55)))
    layouts = "".join(region(n, "1.1" if n < 5 else "1.1-postinit") for n in range(55))
    found = causes_of(old, old + new + layouts)
    assert shown(found) == [("layout", ("1.1-postinit",), 200, 200)]


def test_a_container_whose_file_one_side_has_no_longer() -> None:
    a = container(1) + container(2, usage=9000, utilization=90) + container(3)
    b = "".join(map(container, (1, 2, 3)))
    assert shown(causes_of(a, b)) == [("container", ("n", "p2", "c"), 3, 4)]


def test_a_layout_of_one_container_is_that_container() -> None:
    a, b = container(1, usage=9000, utilization=90) + container(2), container(1) + container(2)
    layouts = region(1, "1.2") + region(2, "1.1")
    assert shown(causes_of(a, b + layouts)) == [("container", ("n", "p1", "c"), 3, 4)]


def test_a_container_that_one_side_does_not_have() -> None:
    a = "".join(map(container, range(3)))
    assert shown(causes_of(a, a + container(3))) == [("container", ("n", "p3", "c"), 4, 4)]


def test_a_pod_of_several_containers() -> None:
    a = "".join(map(container, range(3)))
    pod = container(3) + container(3).replace('ctrname="c"', 'ctrname="d"')
    assert shown(causes_of(a, a + pod)) == [("pod", ("n", "p3"), 8, 8)]


def test_a_gpu_that_one_side_lost() -> None:
    one = "".join(container(n, "GPU-a") for n in range(3)) + gpu("GPU-a", 10)
    other = "".join(container(n, "GPU-b") for n in range(3, 6)) + gpu("GPU-b", 20)
    assert shown(causes_of(one + other, one)) == [("device", ("GPU-b",), 14, 14)]


def test_a_constant_offset() -> None:
    """The driver's reserve, in both families that have it."""
    devices = [f"GPU-{n}" for n in range(4)]
    a = "".join(gpu(uuid, 1000 * n) for n, uuid in enumerate(devices)) + container(1, "GPU-0")
    b = "".join(gpu(uuid, 1000 * n - 640) for n, uuid in enumerate(devices))
    assert shown(causes_of(a, b + container(1, "GPU-0"))) == [("offset", ("-640",), 8, 8)]


def test_a_family_whose_values_are_others() -> None:
    a = "".join(container(n, utilization=10 * n) for n in range(1, 6))
    b = "".join(container(n) for n in range(1, 6))
    assert shown(causes_of(a, b)) == [("family", (DOCUMENTED[3],), 4, 5)]


def test_each_difference_has_one_cause() -> None:
    layouts = "".join(region(n, "1.2" if n > 3 else "1.1") for n in range(8))
    gpus = "".join(gpu(f"GPU-{n}", 1000 * n) for n in range(4))
    a = "".join(map(container, range(4))) + gpus
    b = container(0, usage=1) + "".join(map(container, range(1, 8)))
    b += "".join(gpu(f"GPU-{n}", 1000 * n + 7) for n in range(4)) + layouts
    found = causes_of(a, b)
    assert shown(found) == [
        ("layout", ("1.2",), 16, 16),
        ("offset", ("+7",), 8, 8),
        ("container", ("n", "p0", "c"), 2, 4),
    ]
    every = [series for cause in found for series in cause.series]
    assert len(every) == len(set(every)) == 26
