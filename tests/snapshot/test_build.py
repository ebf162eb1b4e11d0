"""The join: whose a container is, what counts, what was allocated."""

from __future__ import annotations

from dataclasses import replace as replace_pod

import pytest
from msgspec.structs import replace

from testing.values import (
    GIB,
    GPU,
    GPU_2,
    MIB,
    NOW,
    OTHER,
    UID,
    entry,
    gpu,
    pods_view,
    process,
    region,
    snapshot,
    use,
)
from vgpumonitor.region.model import GONE
from vgpumonitor.snapshot import (
    ContainerDevice,
    DriverUse,
    MemoryUse,
    MigDeviceOfContainer,
    PodAllocation,
    PodInfo,
    SnapshotBuilder,
    SourceViews,
)
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.devices import DeviceProcess, MigDevice, ProcessUtilization
from vgpumonitor.sources.pods import Allocation, MigAllocation, Pod, PodContainer, PodsView
from vgpumonitor.sources.processes import ContainerRef

MIG = "MIG-30d00c09-0000-4000-8000-1d64b4ec3ad2"

POD = Pod(UID, "team-a", "train-0", "Running", {"train": PodContainer("train")})


def names(*args: object, **kwargs: object) -> list[tuple[str, str, str]]:
    containers = snapshot(*args, **kwargs).containers  # type: ignore[arg-type]
    return [(c.namespace, c.pod, c.container) for c in containers]


class TestMemory:
    def test_is_summed_over_processes_in_use(self) -> None:
        found = region(
            process(use(10, 2, 300, sm=20), hostpid=100),
            process(use(1, 1, 50, sm=7, other=4), hostpid=101, pid=8, status=2),
            process(use(1000, 1000, 1000, sm=50), hostpid=102, pid=0, status=0),
        )
        (container,) = snapshot(entry(found)).containers
        (device,) = container.devices
        assert device.memory == MemoryUse(11, 3, 350, 368)
        assert device.memory.other == 4
        assert device.core_utilization == 27
        assert device.dead_memory == 0
        assert [(p.host_pid, p.state) for p in container.processes] == [
            (100, "running"),
            (101, "suspended"),
        ]

    def test_a_half_done_update_is_no_negative_rest(self) -> None:
        assert MemoryUse(context=10, module=0, data=5, total=12).other == 0

    def test_of_dead_processes_is_apart(self) -> None:
        found = region(
            process(use(data=300, sm=5), hostpid=100),
            process(use(data=50, sm=90), hostpid=101, pid=8),
            process(use(data=7), hostpid=0, pid=9),
        )
        (container,) = snapshot(entry(found), live=(100,)).containers
        (device,) = container.devices
        assert device.memory == MemoryUse(data=300, total=300)
        assert device.dead_memory == 57
        assert device.core_utilization == 5
        assert [p.state for p in container.processes] == ["running", "dead", "dead"]

    def test_of_the_dead_is_unknown_where_processes_can_not_be_identified(self) -> None:
        found = region(process(use(data=300), hostpid=100), process(use(data=7), hostpid=0, pid=9))
        (container,) = snapshot(entry(found), unfound="unidentified").containers
        (device,) = container.devices
        assert [p.state for p in container.processes] == ["unidentified", "unidentified"]
        assert (device.memory, device.dead_memory) == (MemoryUse(data=307, total=307), None)

    def test_where_nobody_looks_nobody_is_dead(self) -> None:
        found = region(process(use(data=50), hostpid=101))
        (container,) = snapshot(entry(found), live=None).containers
        assert container.devices[0].memory == MemoryUse(data=50, total=50)
        assert container.processes[0].state == "running"

    def test_a_count_that_wrapped_is_right_in_the_sum(self) -> None:
        wrapped = (1 << 64) - MIB
        found = region(process(use(data=3 * MIB)), process(use(data=wrapped), pid=8))
        for gpus in ((), (gpu(),)):
            (container,) = snapshot(entry(found), gpus=gpus).containers
            assert container.devices[0].memory == MemoryUse(data=2 * MIB, total=2 * MIB)

    def test_a_sum_below_zero_is_left_out(self) -> None:
        found = region(process(use(context=MIB, data=(1 << 64) - 2 * MIB)))
        snap = snapshot(entry(found))
        (device,) = snap.containers[0].devices
        assert device.memory == MemoryUse(context=MIB, data=None, total=None)
        assert device.memory.other is None
        assert device.implausible == ("memory",)

    def test_above_the_gpu_is_left_out_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        lying = entry(
            region(
                process(use(context=GIB, data=41 * GIB), use(data=MIB)),
                uuids=(GPU, GPU_2),
                limit=10 * GIB,
            )
        )
        builder = SnapshotBuilder("node-1")
        gpus = (gpu(), gpu(GPU_2, 1, 4))
        for times in (1, 2):
            snap = snapshot(lying, gpus=gpus, builder=builder, pods=pods_view(POD))
            first, second = snap.containers[0].devices
            # A figure that can't be true hides itself alone.
            assert first.memory == MemoryUse(context=GIB, data=None, total=None)
            assert second.memory == MemoryUse(data=MIB, total=MIB)
            assert snap.health.region_errors["bad_memory"] == times
        (record,) = caplog.records
        assert record.getMessage() == "region has figures that can't be true, which are left out"
        assert (record.__dict__["pod"], record.__dict__["figures"]) == ("train-0", "memory")

    def test_what_the_driver_told_hami_core_is_not_believed(self) -> None:
        found = region(process(use(data=MIB, nvml=(1 << 64) - 1)))
        snap = snapshot(entry(found), gpus=(gpu(),))
        assert snap.containers[0].devices[0].memory == MemoryUse(data=MIB, total=MIB)
        assert not snap.health.region_errors

    @pytest.mark.parametrize(
        ("limit", "memory", "believed_limit", "believed_memory"),
        [
            # HAMi's deviceMemoryScaling: a limit above the GPU, and use up to it.
            (48 * GIB, 45 * GIB, 48 * GIB, 45 * GIB),
            (16 * 40 * GIB, MIB, 16 * 40 * GIB, MIB),
            (16 * 40 * GIB + 1, MIB, None, MIB),
            (16 * 40 * GIB + 1, 41 * GIB, None, None),
            (10 * GIB, 40 * GIB, 10 * GIB, 40 * GIB),
            (48 * GIB, 49 * GIB, 48 * GIB, None),
            (0, 41 * GIB, 0, None),
        ],
    )
    def test_what_is_believed_of_a_known_gpu(
        self, limit: int, memory: int, believed_limit: int | None, believed_memory: int | None
    ) -> None:
        found = region(process(use(data=memory)), limit=limit)
        snap = snapshot(entry(found), gpus=(gpu(memory_total=40 * GIB),))
        (device,) = snap.containers[0].devices
        assert device.memory_limit == believed_limit
        assert device.memory is not None
        assert device.memory.data == believed_memory

    @pytest.mark.parametrize(
        ("limit", "memory", "believed"),
        [
            (10 * GIB, 10 * GIB, 10 * GIB),
            (10 * GIB, 11 * GIB, None),
            (0, 1 << 50, 1 << 50),
            (0, (1 << 50) + 1, None),
        ],
    )
    def test_what_is_believed_of_an_unknown_gpu(
        self, limit: int, memory: int, believed: int | None
    ) -> None:
        found = region(process(use(data=memory)), limit=limit)
        (device,) = snapshot(entry(found), gpus=(gpu(GPU_2),)).containers[0].devices
        assert device.memory is not None
        assert device.memory.data == believed

    def test_a_slot_that_was_never_seen_whole_leaves_no_sum(self) -> None:
        found = replace(region(process(use(data=MIB))), torn=1, missing=1)
        (device,) = snapshot(entry(found)).containers[0].devices
        assert (device.memory, device.core_utilization, device.dead_memory) == (None, None, None)
        assert device.memory_limit == 10 * GIB


class TestUtilization:
    """Of HAMi-core: only where it measures, which takes a core limit and a host PID."""

    @pytest.mark.parametrize(
        ("limit", "hostpid", "sm", "expected"),
        [
            (50, 100, 20, 20),
            (50, 100, 0, 0),
            (50, 0, 0, None),
            (100, 100, 0, None),
            (0, 100, 0, None),
            (50, 100, 101, None),
        ],
    )
    def test_of_hami_core(self, limit: int, hostpid: int, sm: int, expected: int | None) -> None:
        found = region(process(use(sm=sm), hostpid=hostpid), sm_limit=limit)
        (device,) = snapshot(entry(found)).containers[0].devices
        assert device.core_utilization == expected

    @pytest.mark.parametrize(("hostpid", "live", "expected"), [(0, None, None), (101, (100,), 20)])
    def test_a_live_process_that_hami_core_does_not_measure_leaves_no_sum(
        self, hostpid: int, live: tuple[int, ...] | None, expected: int | None
    ) -> None:
        """HAMi #583: the host PID of one of two was not found. A dead one has no part in it."""
        found = region(process(use(sm=20), hostpid=100), process(use(), hostpid=hostpid, pid=8))
        (device,) = snapshot(entry(found), live=live).containers[0].devices
        assert device.core_utilization == expected

    def test_more_than_all_cores_is_left_out_and_counted(self) -> None:
        snap = snapshot(entry(region(process(use(data=MIB, sm=101)))))
        (device,) = snap.containers[0].devices
        assert device.core_utilization is None
        assert device.memory == MemoryUse(data=MIB, total=MIB)
        assert snap.health.region_errors["bad_utilization"] == 1


class TestInFact:
    """What holds and waits is what HAMi-core's launches make of the words."""

    @pytest.mark.parametrize("layout", ["0", "1.1", "1.1-postinit", "1.2"])
    @pytest.mark.parametrize(
        ("limit", "switch", "hostpid", "holds"),
        [(50, 1, 100, True), (50, 0, 100, False), (50, 1, 0, False), (100, 1, 100, False)],
    )
    def test_the_core_limit(
        self, layout: str, limit: int, switch: int, hostpid: int, holds: bool
    ) -> None:
        found = region(
            process(use(), hostpid=hostpid),
            layout=layout,
            sm_limit=limit,
            utilization_switch=switch,
        )
        (device,) = snapshot(entry(found)).containers[0].devices
        assert device.core_limit_enforced is holds

    @pytest.mark.parametrize(
        ("layout", "limit", "switch", "hostpid", "waits"),
        [
            ("1.1", 50, 1, 100, True),
            ("1.1", 50, 0, 100, True),
            ("1.1", 0, 0, 100, True),
            ("1.1", 50, 1, 0, False),
            ("1.2", 50, 1, 100, True),
            ("1.2", 50, 0, 100, False),
            ("1.2", 0, 1, 100, False),
            ("1.2", 50, 1, 0, False),
        ],
    )
    def test_launches(
        self, layout: str, limit: int, switch: int, hostpid: int, waits: bool
    ) -> None:
        found = region(
            process(use(), hostpid=hostpid),
            layout=layout,
            sm_limit=limit,
            utilization_switch=switch,
            recent_kernel=-1,
        )
        (device,) = snapshot(entry(found)).containers[0].devices
        assert device.launches_blocked is waits

    def test_a_dead_process_makes_nobody_wait(self) -> None:
        found = region(process(use(), hostpid=100), recent_kernel=-1)
        (device,) = snapshot(entry(found), live=()).containers[0].devices
        assert (device.launches_blocked, device.core_limit_enforced) == (False, False)


def test_a_device_without_uuid_is_not_there_yet() -> None:
    found = region(process(use(data=1), use(data=2)), uuids=(None, GPU_2))
    (container,) = snapshot(entry(found)).containers
    assert [(device.index, device.uuid, device.memory) for device in container.devices] == [
        (1, GPU_2, MemoryUse(data=2, total=2))
    ]


class TestNames:
    def test_from_the_pod(self) -> None:
        assert names(entry(region()), pods=pods_view(POD)) == [("team-a", "train-0", "train")]

    def test_unknown_pods_keep_their_containers(self) -> None:
        assert names(entry(region())) == [("", UID, "train")]

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_completed_pods_have_none(self, phase: str) -> None:
        pod = Pod(UID, "team-a", "train-0", phase)
        assert names(entry(region()), pods=pods_view(pod)) == []

    def test_finished_containers_of_running_pods_have_none(self) -> None:
        pod = Pod(
            UID,
            "team-a",
            "train-0",
            "Running",
            {
                "init": PodContainer("init", finished=True, finished_at=NOW - 100),
                "train": PodContainer("train"),
                "sidecar": PodContainer("sidecar"),
            },
        )
        entries = [
            entry(region(), container=name, changed=NOW - 200)
            for name in ("init", "train", "sidecar")
        ]
        assert names(*entries, pods=pods_view(pod)) == [
            ("team-a", "train-0", "train"),
            ("team-a", "train-0", "sidecar"),
        ]

    @pytest.mark.parametrize(("changed", "shown"), [(NOW - 200, 0), (NOW - 99.5, 0), (NOW - 98, 1)])
    def test_a_restart_that_the_source_has_not_told_yet(self, changed: float, shown: int) -> None:
        pod = Pod(
            UID,
            "team-a",
            "train-0",
            "Running",
            {"train": PodContainer("train", finished=True, finished_at=NOW - 100)},
        )
        assert len(names(entry(region(), changed=changed), pods=pods_view(pod))) == shown

    def test_a_pod_that_left_has_none(self) -> None:
        pods = pods_view(deleted={UID: POD})
        assert names(entry(region(process(use(), hostpid=100))), pods=pods) == []
        assert (
            names(
                entry(region(process(use(), hostpid=100))),
                pods=pods,
                live=(5,),
            )
            == []
        )

    def test_a_pod_that_left_and_whose_process_lives_still_has(self) -> None:
        assert names(
            entry(region(process(use(), hostpid=100))),
            pods=pods_view(deleted={UID: POD}),
            live=(100,),
        ) == [("team-a", "train-0", "train")]

    def test_two_pods_of_one_name_the_listed_one_has_it(self) -> None:
        now = Pod(OTHER, "team-a", "train-0", "Running")
        assert sorted(
            names(
                entry(region(process(use(data=5), hostpid=100))),
                entry(region(process(use(data=5), hostpid=101)), uid=OTHER, changed=NOW - 9999),
                pods=pods_view(now, deleted={UID: POD}),
                live=(100, 101),
            )
        ) == [("", UID, "train"), ("team-a", "train-0", "train")]

    def test_two_listed_pods_of_one_name_the_newer_directory_has_it(self) -> None:
        twin = Pod(OTHER, "team-a", "train-0")
        snap = snapshot(
            entry(region(), changed=NOW - 50),
            entry(region(), uid=OTHER, changed=NOW - 10),
            pods=pods_view(POD, twin),
        )
        assert {c.pod_uid: (c.namespace, c.pod) for c in snap.containers} == {
            UID: ("", UID),
            OTHER: ("team-a", "train-0"),
        }

    def test_static_pods_join_by_their_hash(self) -> None:
        static = Pod("0123456789abcdef0123456789abcdef", "kube-system", "gpu-probe-node-1")
        assert names(entry(region(), uid=static.uid), pods=pods_view(static)) == [
            ("kube-system", "gpu-probe-node-1", "train")
        ]


class TestKept:
    """What did not change is the same object, so that its text can be kept."""

    def test_unchanged(self) -> None:
        builder = SnapshotBuilder("node-1")
        found, pods = region(process(use(data=1))), pods_view(POD)
        first, again = (
            snapshot(entry(found), builder=builder, pods=pods, gpus=(gpu(),), time=time)
            for time in (NOW, NOW + 9)
        )
        assert again.containers[0] is first.containers[0]

    def test_changed_by_anything_that_it_depends_on(self) -> None:
        builder = SnapshotBuilder("node-1")
        found = region(process(use(data=1)))
        same = entry(found)
        seen = [
            snapshot(same, builder=builder).containers[0],
            snapshot(same, builder=builder, pods=pods_view(POD)).containers[0],
            snapshot(same, builder=builder, pods=pods_view(POD), gpus=(gpu(),)).containers[0],
            snapshot(
                same,
                builder=builder,
                pods=pods_view(POD),
                gpus=(gpu(),),
                live=(1,),
            ).containers[0],
            snapshot(entry(found, changed=NOW), builder=builder, pods=pods_view(POD)).containers[0],
            snapshot(
                entry(region(process(use(data=1))), changed=NOW),
                builder=builder,
                pods=pods_view(POD),
            ).containers[0],
        ]
        assert len({id(container) for container in seen}) == 6


class TestAllocations:
    def test_minors_become_uuids(self) -> None:
        pod = Pod(UID, "team-a", "idle", "Pending", allocations=(Allocation("", 3, 11 * GIB, 0.5),))
        snap = snapshot(pods=pods_view(pod), gpus=(gpu(minor=3), gpu(GPU_2, 1, 0)))
        assert snap.allocations == (PodAllocation("team-a", "idle", GPU, 0, 3, 11 * GIB, 0.5),)

    def test_without_a_driver_the_uuid_is_empty(self) -> None:
        pod = Pod(UID, "team-a", "idle", allocations=(Allocation("", 3, None, 0.5),))
        assert snapshot(pods=pods_view(pod)).allocations == (
            PodAllocation("team-a", "idle", "", None, 3, None, 0.5),
        )

    def test_a_gpu_that_is_away_keeps_its_name(self) -> None:
        pod = Pod(UID, "team-a", "idle", allocations=(Allocation("", 3, None, 0.5),))
        views = SourceViews(
            NOW,
            pods=pods_view(pod),
            devices=(gpu(GPU_2, 1, 0),),
            known_devices=(gpu(minor=3), gpu(GPU_2, 1, 0)),
        )
        snap = SnapshotBuilder("node-1").build(views)
        assert [allocated.device_uuid for allocated in snap.allocations] == [GPU]

    def test_of_two_pods_of_one_name_are_not_there_twice(self) -> None:
        pods = pods_view(
            *(
                Pod(uid, "team-a", "idle", allocations=(Allocation(GPU, None, size, 0.5),))
                for uid, size in ((UID, GIB), (OTHER, 2 * GIB))
            )
        )
        assert snapshot(pods=pods).allocations == (
            PodAllocation("team-a", "idle", GPU, None, None, 2 * GIB, 0.5),
        )

    def test_of_completed_pods_are_over(self) -> None:
        pod = Pod(UID, "team-a", "done", "Succeeded", allocations=(Allocation(GPU, None, 1, 1),))
        assert snapshot(pods=pods_view(pod)).allocations == ()


class TestDriver:
    """The second witness: what the driver says of each container's processes."""

    BUSY = ProcessUtilization(60, 20, 1, 2)

    def device_of(self, *entries: object, **kwargs: object) -> ContainerDevice:
        (container,) = snapshot(*entries, **kwargs).containers  # type: ignore[arg-type]
        (device,) = container.devices
        return device

    def test_sums_the_processes_of_the_slots(self) -> None:
        found = region(process(use(), hostpid=100), process(use(), hostpid=101, pid=8))
        one_gpu = gpu(
            processes=(
                DeviceProcess(100, 3 * GIB, self.BUSY),
                DeviceProcess(101, GIB, ProcessUtilization(10, 0, 0, 0)),
            )
        )
        device = self.device_of(entry(found), gpus=(one_gpu,), live=(100, 101))
        assert device.driver == DriverUse(4 * GIB, ProcessUtilization(70, 20, 1, 2))
        assert device.bypassed == 0

    def test_a_size_that_is_not_known_is_not_zero(self) -> None:
        found = region(process(use(), hostpid=100), process(use(), hostpid=101, pid=8))
        one_gpu = gpu(processes=(DeviceProcess(100, 3 * GIB), DeviceProcess(101, None)))
        device = self.device_of(entry(found), gpus=(one_gpu,), live=(100, 101))
        assert device.driver == DriverUse(None, None)

    def test_without_a_process_on_the_device_it_says_nothing(self) -> None:
        found = region(process(use(), hostpid=100))
        device = self.device_of(entry(found), gpus=(gpu(processes=()),), live=(100,))
        assert device.driver is None
        assert device.bypassed == 0

    def test_where_it_does_not_tell_processes_nothing_is_known(self) -> None:
        found = region(process(use(), hostpid=100))
        device = self.device_of(entry(found), gpus=(gpu(processes=None),), live=(100,))
        assert (device.driver, device.bypassed) == (None, None)

    def test_where_host_processes_can_not_be_seen_nothing_is_known(self) -> None:
        found = region(process(use(), hostpid=100))
        one_gpu = gpu(processes=(DeviceProcess(100, GIB),))
        snap = snapshot(entry(found), gpus=(one_gpu,))
        (device,) = snap.containers[0].devices
        assert (device.driver, device.bypassed, snap.unattributed) == (None, None, {})

    def test_a_process_that_went_round_hami_core(self) -> None:
        found = region(process(use(), hostpid=100))
        one_gpu = gpu(processes=(DeviceProcess(100, GIB), DeviceProcess(200, 6 * GIB, self.BUSY)))
        snap = snapshot(
            entry(found), gpus=(one_gpu,), live=(100,), on_devices={200: ContainerRef(UID, "")}
        )
        (container,) = snap.containers
        assert container.devices[0].bypassed == 6 * GIB
        assert container.devices[0].driver == DriverUse(7 * GIB, None)
        assert [(p.host_pid, p.state) for p in container.processes] == [
            (100, "running"),
            (200, "bypassing"),
        ]
        assert snap.unattributed == {GPU: 0}

    def test_a_freed_slot_accounts_for_nobody(self) -> None:
        """Layouts with a seqlock keep a slot's host PID after its process has gone."""
        found = region(
            process(use(), hostpid=100),
            process(use(data=GIB), hostpid=200, pid=0, status=GONE),
        )
        one_gpu = gpu(processes=(DeviceProcess(200, 3 * GIB),))
        device = self.device_of(
            entry(found), gpus=(one_gpu,), live=(100,), on_devices={200: ContainerRef(UID, "")}
        )
        assert device.bypassed == 3 * GIB

    def test_a_container_without_a_directory(self) -> None:
        ids = {"train": PodContainer("train", ids=frozenset(("a" * 64,)))}
        pod = Pod(UID, "team-a", "whole", "Running", ids, container_names=("train", "side"))
        one_gpu = gpu(processes=(DeviceProcess(200, 60 * GIB, self.BUSY),), memory_total=80 * GIB)
        snap = snapshot(
            gpus=(one_gpu,),
            pods=pods_view(pod),
            live=(),
            on_devices={200: ContainerRef(UID, "a" * 64)},
        )
        (container,) = snap.containers
        assert (container.namespace, container.pod, container.container) == (
            "team-a",
            "whole",
            "train",
        )
        assert (container.reading, container.region) == (None, None)
        assert container.devices == (
            ContainerDevice(
                None, GPU, GPU, 0, "", driver=DriverUse(60 * GIB, self.BUSY), bypassed=None
            ),
        )
        assert [p.state for p in container.processes] == ["running"]
        assert [(pod.pod, pod.isolation) for pod in snap.pods] == [("whole", "none")]

    def test_one_that_should_have_a_region_and_has_none_bypasses(self) -> None:
        pod = Pod(UID, "team-a", "static", "Running", container_names=("train",), limited=True)
        one_gpu = gpu(processes=(DeviceProcess(200, GIB),))
        device = self.device_of(
            gpus=(one_gpu,), pods=pods_view(pod), live=(), on_devices={200: ContainerRef(UID, "")}
        )
        assert device.bypassed == GIB

    def test_one_whose_directory_waits_bypasses(self) -> None:
        one_gpu = gpu(processes=(DeviceProcess(200, GIB),))
        device = self.device_of(
            entry(None), gpus=(one_gpu,), live=(), on_devices={200: ContainerRef(UID, "")}
        )
        assert (device.index, device.bypassed) == (None, GIB)

    @pytest.mark.parametrize(
        "reading",
        [
            replace(entry(None), state="unreadable", error="version 1.9", reason="io"),
            entry(replace(region(process(use(), hostpid=100)), torn=1, missing=1)),
        ],
        ids=["a region that can't be read", "a slot that was never seen whole"],
    )
    def test_where_a_slot_can_not_be_read_nobody_is_said_to_bypass(
        self, reading: ContainerReading
    ) -> None:
        one_gpu = gpu(processes=(DeviceProcess(200, GIB),))
        (container,) = snapshot(
            reading, gpus=(one_gpu,), live=(100,), on_devices={200: ContainerRef(UID, "")}
        ).containers
        (device,) = container.devices
        assert (device.bypassed, device.driver) == (None, DriverUse(GIB, None))
        assert [p.state for p in container.processes if p.host_pid == 200] == ["running"]

    def test_while_the_directories_can_not_be_seen_nobody_is_said_to_bypass(self) -> None:
        pod = Pod(UID, "team-a", "static", "Running", container_names=("train",), limited=True)
        one_gpu = gpu(processes=(DeviceProcess(200, GIB),))
        device = self.device_of(
            gpus=(one_gpu,),
            pods=pods_view(pod),
            live=(),
            on_devices={200: ContainerRef(UID, "")},
            directory_up=False,
        )
        assert (device.bypassed, device.driver) == (None, DriverUse(GIB, None))

    @pytest.mark.parametrize(
        ("names", "expected"), [(("train",), "train"), (("train", "side"), ""), ((), "")]
    )
    def test_a_container_that_only_its_pod_names(
        self, names: tuple[str, ...], expected: str
    ) -> None:
        pod = Pod(UID, "team-a", "whole", "Running", container_names=names)
        one_gpu = gpu(processes=(DeviceProcess(200, GIB),))
        (container,) = snapshot(
            gpus=(one_gpu,),
            pods=pods_view(pod),
            live=(),
            on_devices={200: ContainerRef(UID, "b" * 64)},
        ).containers
        assert container.container == expected

    def test_on_a_mig_device(self) -> None:
        one_gpu = gpu(
            processes=(DeviceProcess(200, None),),
            mig_devices=(
                MigDevice(MIG, "1g.10gb", 7, 0, 10 * GIB, 2 * GIB, (DeviceProcess(200, GIB),)),
            ),
        )
        device = self.device_of(gpus=(one_gpu,), live=(), on_devices={200: ContainerRef(UID, "")})
        assert (device.device_uuid, device.device_index, device.mig_uuid) == (GPU, 0, MIG)
        assert device.driver == DriverUse(GIB, None)

    def test_a_mig_device_that_no_driver_can_place(self) -> None:
        device = self.device_of(entry(region(uuids=(MIG,))))
        assert (device.device_uuid, device.device_index, device.mig_uuid) == (MIG, None, MIG)

    def test_what_is_in_no_container_is_unattributed(self) -> None:
        one_gpu = gpu(processes=(DeviceProcess(100, GIB), DeviceProcess(300, 2 * GIB)))
        snap = snapshot(
            entry(region(process(use(), hostpid=100))),
            gpus=(one_gpu, gpu(GPU_2, 1, processes=None)),
            live=(100,),
        )
        assert snap.unattributed == {GPU: 2 * GIB}

    def test_a_process_of_unknown_size_leaves_no_sum_of_what_is_unattributed(self) -> None:
        one_gpu = gpu(processes=(DeviceProcess(300, 2 * GIB), DeviceProcess(301, None)))
        assert snapshot(gpus=(one_gpu,), live=()).unattributed == {}


class TestPods:
    def test_with_an_allocation_a_directory_or_a_process(self) -> None:
        allocated = Pod(
            OTHER,
            "team-b",
            "waits",
            allocations=(Allocation(GPU, None, GIB, 1.0),),
            workload_kind="Job",
            workload="nightly",
            labels={"team": "b"},
        )
        bare = Pod("3" * 32, "team-c", "no-gpu")
        done = replace_pod(allocated, uid="4" * 32, name="done", phase="Succeeded")
        snap = snapshot(
            entry(region(process(use(), hostpid=100))),
            pods=pods_view(POD, allocated, bare, done),
            gpus=(gpu(processes=(DeviceProcess(200, GIB),)),),
            live=(100,),
            on_devices={200: ContainerRef("5" * 32, "")},
        )
        assert set(map(str, snap.pods)) == set(
            map(
                str,
                (
                    PodInfo("team-a", "train-0", UID, "", "", "hami-core", {}),
                    PodInfo("team-b", "waits", OTHER, "Job", "nightly", "none", {"team": "b"}),
                    PodInfo("", "5" * 32, "5" * 32, "", "", "none", {}),
                ),
            )
        )

    def test_by_mig(self) -> None:
        pod = Pod(
            UID,
            "team-a",
            "mig",
            "Running",
            mig_allocations=(MigAllocation("main", 1, GPU, MIG, "1g.10gb", 7, 0),),
            mig=True,
        )
        snap = snapshot(pods=pods_view(pod))
        assert [pod.isolation for pod in snap.pods] == ["mig"]
        assert snap.mig_devices == (
            MigDeviceOfContainer("team-a", "mig", "main", 1, GPU, MIG, "1g.10gb", 7, 0),
        )

    def test_a_region_that_names_a_mig_device_gives_one(self) -> None:
        one_gpu = gpu(mig_devices=(MigDevice(MIG, "1g.10gb", 7, 0, GIB, 0, ()),))
        snap = snapshot(entry(region(uuids=(MIG,))), pods=pods_view(POD), gpus=(one_gpu,))
        assert snap.mig_devices == (
            MigDeviceOfContainer("team-a", "train-0", "train", 0, GPU, MIG, "1g.10gb", 7, 0),
        )


class TestOver:
    """Directories of pods that are gone, also where no source ever had the pod."""

    def shown(self, pods: PodsView, changed: float = NOW - 100, live: tuple[int, ...] = ()) -> bool:
        found = entry(region(process(use(), hostpid=100)), changed=changed)
        return bool(snapshot(found, pods=pods, live=live).containers)

    ANOTHER = Pod(OTHER, "team-b", "other")

    def test_a_list_that_is_younger_than_the_directory(self) -> None:
        assert not self.shown(pods_view(self.ANOTHER))

    def test_not_by_a_list_that_is_older(self) -> None:
        assert self.shown(pods_view(self.ANOTHER), changed=NOW - 1)

    def test_not_while_the_source_is_down(self) -> None:
        assert self.shown(pods_view(self.ANOTHER, up=False))

    def test_not_before_any_pod_was_seen(self) -> None:
        assert self.shown(pods_view())

    def test_not_while_a_process_lives(self) -> None:
        assert self.shown(pods_view(self.ANOTHER), live=(100,))
