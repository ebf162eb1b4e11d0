from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing.values import MIB
from vgpumonitor.sources.pods import Allocation, MigAllocation
from vgpumonitor.sources.pods.annotations import (
    ANNOTATIONS,
    HAMI,
    HAMI_MIG,
    KOORDINATOR,
    MAX_DEVICES,
    VOLCANO,
    parse_allocations,
)

ONE = "GPU-903ecef4-bb8d-d7fe-65e2-e327e6258e76"
TWO = "GPU-11111111-2222-3333-4444-555555555555"
MIG = "MIG-a5fa6120-f6fa-51b6-9820-a42112640629"


def koordinator(*entries: Any, **more: Any) -> dict[str, str]:
    return {KOORDINATOR: json.dumps({"gpu": list(entries), **more})}


def entry(minor: Any = 1, **resources: Any) -> dict[str, Any]:
    return {
        "minor": minor,
        "resources": {
            f"koordinator.sh/{key.replace('_', '-')}": value for key, value in resources.items()
        },
    }


def test_koordinator() -> None:
    text = (
        '{"gpu":[{"minor":1,"resources":{"koordinator.sh/gpu-core":"50",'
        '"koordinator.sh/gpu-memory":"11520Mi","koordinator.sh/gpu-memory-ratio":"50"}}]}'
    )
    parsed = parse_allocations({KOORDINATOR: text}, ["main"])
    assert parsed.allocations == (Allocation("", 1, 11520 * MIB, 0.5),)
    assert parsed.errors == ()


def test_koordinator_values_may_be_numbers() -> None:
    parsed = parse_allocations(
        koordinator(entry(0, gpu_core=12.5, gpu_memory=1073741824)), ["main"]
    )
    assert parsed.allocations == (Allocation("", 0, 1 << 30, 0.125),)
    assert parsed.errors == ()


def test_koordinator_sums_a_gpu_and_keeps_gpus_apart() -> None:
    parsed = parse_allocations(
        koordinator(
            entry(3, gpu_core="30", gpu_memory="1Gi"),
            entry(0, gpu_core="100", gpu_memory="8Gi"),
            entry(3, gpu_core="20", gpu_memory="512Mi"),
        ),
        ["main"],
    )
    assert parsed.allocations == (
        Allocation("", 3, 1536 * MIB, 0.5),
        Allocation("", 0, 8192 * MIB, 1.0),
    )


def test_koordinator_with_a_ratio_only_says_no_bytes() -> None:
    parsed = parse_allocations(koordinator(entry(2, gpu_memory_ratio="50")), ["main"])
    assert parsed.allocations == (Allocation("", 2, None, None),)
    assert parsed.errors == ()


def test_koordinator_names_the_device_by_its_uuid_too() -> None:
    parsed = parse_allocations(koordinator({**entry(1, gpu_core="50"), "id": ONE}), ["main"])
    assert parsed.allocations == (Allocation(ONE, 1, None, 0.5),)
    assert parsed.errors == ()


def test_koordinator_with_a_wrong_uuid_has_its_minor() -> None:
    parsed = parse_allocations(koordinator({**entry(1, gpu_core="50"), "id": "GPU-1"}), ["main"])
    assert parsed.allocations == (Allocation("", 1, None, 0.5),)
    assert parsed.errors == ((KOORDINATOR, "gpu[0].id is 'GPU-1', not the UUID of a device"),)


def test_koordinator_by_its_old_names() -> None:
    old = {"kubernetes.io/gpu-core": "50", "kubernetes.io/gpu-memory": "1Gi"}
    parsed = parse_allocations(koordinator({"minor": 0, "resources": old}), ["main"])
    assert parsed.allocations == (Allocation("", 0, 1 << 30, 0.5),)
    assert parsed.errors == ()


@pytest.mark.parametrize(
    ("entries", "limited"),
    [
        ((entry(0, gpu_memory_ratio="50"),), True),
        ((entry(0, gpu_core="100", gpu_memory_ratio="100"),), False),
        # koordlet looks at the first entry alone.
        ((entry(1, gpu_memory_ratio=100), entry(0, gpu_memory_ratio=50)), False),
        ((entry(1, gpu_memory_ratio=50), entry(0, gpu_memory_ratio=100)), True),
    ],
)
def test_koordinator_leaves_whole_devices_unlimited(entries: Any, limited: bool) -> None:
    assert parse_allocations(koordinator(*entries), ["main"]).limited is limited


@pytest.mark.parametrize("name", [HAMI, VOLCANO])
def test_hami_and_volcano_limit_all(name: str) -> None:
    parsed = parse_allocations({name: f"{ONE},NVIDIA,500,5:;"}, ["main"])
    assert parsed.allocations == (Allocation(ONE, None, 500 * MIB, 0.05),)
    assert (parsed.limited, parsed.mig) == (True, False)


def test_mig_is_not_limited_by_hami_core() -> None:
    by_annotation = {
        HAMI: f"{ONE},NVIDIA,10240,0:;",
        HAMI_MIG: json.dumps([mig_entry(containerIndex=0)]),
    }
    # HAMi before 2.10 says it in the UUID alone.
    for written in (by_annotation, {HAMI: f";{ONE}[1-0],NVIDIA,10240,0:;"}):
        parsed = parse_allocations(written, ["main"])
        assert (parsed.limited, parsed.mig) == (False, True)


def test_koordinator_s_other_devices_are_none_of_a_gpu() -> None:
    other = [{"minor": 0, "resources": {"koordinator.sh/rdma": "1"}}]
    assert parse_allocations({KOORDINATOR: json.dumps({"rdma": other})}, []).allocations == ()
    parsed = parse_allocations(koordinator(entry(gpu_core="5"), rdma=other, fpga="?"), [])
    assert parsed.allocations == (Allocation("", 1, None, 0.05),)
    assert parsed.errors == ()


def test_bytes_are_rounded_up() -> None:
    parsed = parse_allocations(koordinator(entry(gpu_memory="1500m")), [])
    assert parsed.allocations[0].memory_bytes == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is [], not a JSON object"),
        ('{"gpu": {}}', "gpu is {}, not a list"),
        ("[" * 100_000, "recursion"),
        ('{"gpu": [{"minor": ' + "9" * 5000 + "}]}", "is not valid JSON"),
        ("x" * 300_000, "has 300000 characters"),
        (7, "is 7, not a string"),
    ],
)
def test_a_wrong_koordinator_annotation(text: Any, message: str) -> None:
    parsed = parse_allocations({KOORDINATOR: text, HAMI: f"{ONE},NVIDIA,500,5:;"}, [])
    # The other annotation is used.
    assert parsed.allocations == (Allocation(ONE, None, 500 * MIB, 0.05),)
    ((annotation, said),) = parsed.errors
    assert annotation == KOORDINATOR
    assert message in said


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (3, "gpu[0] is 3, not an object"),
        ({"resources": {}}, "gpu[0].minor is None, not a minor number"),
        (entry(True), "gpu[0].minor is True, not a minor number"),
        (entry(-1), "gpu[0].minor is -1, not a minor number"),
        (entry(10**9), "gpu[0].minor is 1000000000, not a minor number"),
        ({"minor": 0, "resources": 5}, "gpu[0].resources is 5, not an object"),
    ],
)
def test_a_wrong_koordinator_entry_is_lost_alone(wrong: Any, message: str) -> None:
    parsed = parse_allocations(koordinator(wrong, entry(7, gpu_core="10")), [])
    assert parsed.allocations == (Allocation("", 7, None, 0.1),)
    assert parsed.errors == ((KOORDINATOR, message),)


@pytest.mark.parametrize("value", ["lots", "-1Gi", "1e40", [], 2**64])
def test_a_wrong_koordinator_amount_is_lost_alone(value: Any) -> None:
    parsed = parse_allocations(koordinator(entry(7, gpu_core="10", gpu_memory=value)), [])
    assert parsed.allocations == (Allocation("", 7, None, 0.1),)
    ((_, message),) = parsed.errors
    assert message.startswith("gpu[0].resources: koordinator.sh/gpu-memory: ")


def test_hami() -> None:
    parsed = parse_allocations({HAMI: f"{ONE},NVIDIA,500,5:;"}, ["main"])
    assert parsed.allocations == (Allocation(ONE, None, 500 * MIB, 0.05),)
    assert parsed.errors == ()


def test_hami_s_containers_are_added_up() -> None:
    text = f";{ONE},NVIDIA,1000,10:{TWO},NVIDIA,2000,0:;,,0,0:;{ONE},NVIDIA,24,15:;"
    parsed = parse_allocations({HAMI: text}, ["init", "one", "none", "two"])
    assert parsed.allocations == (
        Allocation(ONE, None, 1024 * MIB, 0.25),
        Allocation(TWO, None, 2000 * MIB, 0.0),
    )
    assert parsed.errors == ()


def test_hami_s_mig_slot_is_no_part_of_the_uuid() -> None:
    parsed = parse_allocations({HAMI: f"{ONE}[1-0],NVIDIA,10240,0:;"}, [])
    assert parsed.allocations == (Allocation(ONE, None, 10240 * MIB, 0.0),)


@pytest.mark.parametrize("text", ["", ";", ":;", ";;,,0,0:;,,0,0:;"])
def test_hami_without_a_gpu(text: str) -> None:
    parsed = parse_allocations({HAMI: text}, ["main"])
    assert parsed.allocations == ()
    assert parsed.errors == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("GPU-1", "container 1, device 0: 'GPU-1' is not UUID,type,MiB,percent"),
        ("card,NVIDIA,1,1", "container 1, device 0: 'card' is not a GPU's UUID"),
        (
            f"{TWO},NVIDIA,-1,1",
            "container 1, device 0: '-1' MiB and '1' percent are not both whole numbers",
        ),
        (
            f"{TWO},NVIDIA,5,1.5",
            "container 1, device 0: '5' MiB and '1.5' percent are not both whole numbers",
        ),
        (
            f"{TWO},NVIDIA,{'9' * 5000},1",
            f"container 1, device 0: '{'9' * 47}… MiB and '1' percent are not both whole numbers",
        ),
    ],
)
def test_a_wrong_hami_device_is_lost_alone(wrong: str, message: str) -> None:
    parsed = parse_allocations({HAMI: f";{wrong}:{ONE},NVIDIA,500,5:;"}, [])
    assert parsed.allocations == (Allocation(ONE, None, 500 * MIB, 0.05),)
    assert parsed.errors == ((HAMI, message),)


def test_a_pod_with_both_annotations_is_counted_once() -> None:
    both = {**koordinator(entry(gpu_core="50", gpu_memory="1Gi")), HAMI: f"{ONE},NVIDIA,500,5:;"}
    parsed = parse_allocations(both, [])
    assert parsed.allocations == (Allocation("", 1, 1 << 30, 0.5),)
    assert parsed.errors == ()


def mig_entry(**changes: Any) -> dict[str, Any]:
    return {
        "containerIndex": 1,
        "deviceIndex": 0,
        "gpuUUID": ONE,
        "profile": "1g.24gb",
        "placement": {"start": 9, "size": 3},
        "migUUID": MIG,
        "gpuInstanceID": 6,
        "computeInstanceID": 0,
        **changes,
    }


def test_hami_s_mig_devices_go_to_containers_by_index_init_containers_first() -> None:
    second = mig_entry(deviceIndex=1, gpuInstanceID=7, profile="2g.48gb+me")
    parsed = parse_allocations({HAMI_MIG: json.dumps([second, mig_entry()])}, ["init", "main"])
    assert parsed.mig_allocations == (
        MigAllocation("main", 0, ONE, MIG, "1g.24gb", 6, 0),
        MigAllocation("main", 1, ONE, MIG, "2g.48gb+me", 7, 0),
    )
    assert parsed.errors == ()


def test_a_mig_entry_twice_is_one_device() -> None:
    parsed = parse_allocations({HAMI_MIG: json.dumps([mig_entry(), mig_entry()])}, ["init", "main"])
    assert parsed.mig_allocations == (MigAllocation("main", 0, ONE, MIG, "1g.24gb", 6, 0),)


def test_a_mig_device_that_is_only_reserved_is_none_yet() -> None:
    reserved = {
        key: value
        for key, value in mig_entry().items()
        if key not in ("migUUID", "gpuInstanceID", "computeInstanceID")
    }
    parsed = parse_allocations({HAMI_MIG: json.dumps([reserved])}, ["init", "main"])
    assert parsed.mig_allocations == ()
    assert parsed.errors == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (mig_entry(gpuInstanceID=None), "[0].gpuInstanceID is None, not a number"),
        (mig_entry(containerIndex=9), "[0].containerIndex is 9, and the pod has 2 containers"),
        (mig_entry(migUUID="MIG-1"), "[0].migUUID is 'MIG-1', not a MIG device's UUID"),
        (mig_entry(profile='a"b'), "[0].profile is 'a\"b', not a MIG profile"),
        ("text", "[0] is 'text', not an object"),
    ],
)
def test_a_wrong_mig_entry_is_lost_alone(wrong: Any, message: str) -> None:
    parsed = parse_allocations({HAMI_MIG: json.dumps([wrong, mig_entry()])}, ["init", "main"])
    assert parsed.mig_allocations == (MigAllocation("main", 0, ONE, MIG, "1g.24gb", 6, 0),)
    assert parsed.errors == ((HAMI_MIG, message),)


def test_hostile_annotations_are_bounded() -> None:
    many = koordinator(*(entry(minor, gpu_core="1") for minor in range(1000)))
    parsed = parse_allocations(many, [])
    assert len(parsed.allocations) == MAX_DEVICES
    assert parsed.errors[-1] == (KOORDINATOR, f"and {1000 - MAX_DEVICES - 8} more errors")
    assert len(parsed.errors) == 9
    migs = [mig_entry(deviceIndex=number) for number in range(500)]
    assert len(parse_allocations({HAMI_MIG: json.dumps(migs)}, ["a", "b"]).mig_allocations) == 64
    nonsense = parse_allocations({HAMI: "x;" * 100_000}, [])
    assert nonsense.allocations == ()
    assert sum(len(message) for _, message in nonsense.errors) < 2000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["gpu", "minor", "resources", "koordinator.sh/gpu-core", "koordinator.sh/gpu-memory",
             "containerIndex", "deviceIndex", "gpuUUID", "migUUID", "profile"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)  # A busy machine is no fault.
@given(
    st.dictionaries(
        st.sampled_from(ANNOTATIONS),
        JSON.map(json.dumps) | st.text(alphabet="GPU-0,:;[]x", max_size=60) | JSON,
    )
)
def test_no_annotation_raises(annotations: dict[str, Any]) -> None:
    parsed = parse_allocations(annotations, ["main"])
    for allocation in parsed.allocations:
        assert allocation.memory_bytes is None or allocation.memory_bytes >= 0
        assert allocation.core_ratio is None or allocation.core_ratio >= 0
    assert {annotation for annotation, _ in parsed.errors} <= set(annotations)
