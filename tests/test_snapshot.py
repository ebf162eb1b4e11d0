"""The join: whose a container is, what counts, what was allocated."""

from __future__ import annotations

import pytest

from testing.values import (
    CARD,
    CARD_2,
    GIB,
    MIB,
    NOW,
    OTHER,
    UID,
    card,
    entry,
    pods_view,
    process,
    region,
    snapshot,
    use,
)
from vgpumonitor.region.model import GONE
from vgpumonitor.snapshot import (
    HostProcessesView,
    MemoryUse,
    PodAllocation,
    SnapshotBuilder,
    SourceViews,
    UnattributedMemory,
    outside_regions,
)
from vgpumonitor.sources.devices import DeviceProcess
from vgpumonitor.sources.pods import Allocation, Pod, PodContainer
from vgpumonitor.sources.processes import ContainerRef

POD = Pod(UID, "team-a", "train-0", "Running", {"train": PodContainer("train")})


def names(*args: object, **kwargs: object) -> list[tuple[str, str, str]]:
    containers = snapshot(*args, **kwargs).containers  # type: ignore[arg-type]
    return [(c.namespace, c.pod, c.container) for c in containers]


class TestMemory:
    def test_is_summed_over_processes_in_use(self) -> None:
        found = region(
            process(use(10, 2, 300, sm=20, nvml=305), hostpid=100),
            process(use(1, 1, 50, sm=7, other=4, nvml=50), hostpid=101, pid=8, status=2),
            process(use(1000, 1000, 1000, sm=50), hostpid=102, pid=0, status=0),
        )
        (container,) = snapshot(entry(found)).containers
        (device,) = container.devices
        assert device.memory == MemoryUse(11, 3, 350, 368, 355)
        assert device.memory.other == 4
        assert device.core_utilization == 27
        assert device.dead_memory == 0
        assert [(p.host_pid, p.state) for p in container.processes] == [
            (100, "running"),
            (101, "suspended"),
        ]

    def test_a_half_done_update_leaves_no_negative_rest(self) -> None:
        assert MemoryUse(context=10, module=0, data=5, total=12).other == 0

    def test_of_dead_processes_is_apart(self) -> None:
        found = region(
            process(use(data=300, sm=5), hostpid=100),
            process(use(data=50, sm=90), hostpid=101, pid=8),
            process(use(data=7), hostpid=0, pid=9),
        )
        (container,) = snapshot(entry(found), host=HostProcessesView(frozenset({100}))).containers
        (device,) = container.devices
        assert device.memory == MemoryUse(data=307, total=307)
        assert device.dead_memory == 50
        assert device.core_utilization == 5
        assert [p.state for p in container.processes] == ["running", "running", "dead"]

    def test_without_liveness_nobody_is_dead(self) -> None:
        found = region(process(use(data=50), hostpid=101))
        (container,) = snapshot(entry(found), host=HostProcessesView(None)).containers
        assert container.devices[0].memory == MemoryUse(data=50, total=50)

    def test_above_the_card_is_left_out_and_counted(self) -> None:
        lying = entry(
            region(
                process(use(data=41 * GIB), use(data=MIB)),
                uuids=(CARD, CARD_2),
                limit=10 * GIB,
            )
        )
        builder = SnapshotBuilder("node-1")
        cards = (card(), card(CARD_2, 1, 4))
        for times in (1, 2):
            snap = snapshot(lying, cards=cards, builder=builder)
            first, second = snap.containers[0].devices
            assert first.memory is None
            assert second.memory == MemoryUse(data=MIB, total=MIB)
            assert snap.health.region_errors["bad_memory"] == times

    def test_a_limit_above_the_card_is_left_out_and_counted(self) -> None:
        snap = snapshot(entry(region(limit=41 * GIB)), cards=(card(),))
        assert snap.containers[0].devices[0].memory_limit is None
        assert snap.health.region_errors["bad_memory"] == 1

    def test_of_an_unknown_card_is_taken_as_it_is(self) -> None:
        snap = snapshot(entry(region(process(use(data=1 << 60)))), cards=(card(CARD_2),))
        assert snap.containers[0].devices[0].memory == MemoryUse(data=1 << 60, total=1 << 60)

    def test_more_than_all_cores_is_left_out_and_counted(self) -> None:
        snap = snapshot(entry(region(process(use(data=MIB, sm=101)))))
        (device,) = snap.containers[0].devices
        assert device.core_utilization is None
        assert device.memory == MemoryUse(data=MIB, total=MIB)
        assert snap.health.region_errors["bad_utilization"] == 1


def test_a_device_without_uuid_is_not_there_yet() -> None:
    found = region(process(use(data=1), use(data=2)), uuids=(None, CARD_2))
    (container,) = snapshot(entry(found)).containers
    assert [(device.index, device.uuid, device.memory) for device in container.devices] == [
        (1, CARD_2, MemoryUse(data=2, total=2))
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
                host=HostProcessesView(frozenset({5})),
            )
            == []
        )

    def test_a_pod_that_left_and_whose_process_lives_still_has(self) -> None:
        assert names(
            entry(region(process(use(), hostpid=100))),
            pods=pods_view(deleted={UID: POD}),
            host=HostProcessesView(frozenset({100})),
        ) == [("team-a", "train-0", "train")]

    def test_two_pods_of_one_name_the_listed_one_has_it(self) -> None:
        now = Pod(OTHER, "team-a", "train-0", "Running")
        found = region(process(use(data=5), hostpid=100))
        assert sorted(
            names(
                entry(found),
                entry(found, uid=OTHER, changed=NOW - 9999),
                pods=pods_view(now, deleted={UID: POD}),
                host=HostProcessesView(frozenset({100})),
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
            snapshot(entry(found), builder=builder, pods=pods, cards=(card(),), time=time)
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
            snapshot(same, builder=builder, pods=pods_view(POD), cards=(card(),)).containers[0],
            snapshot(
                same,
                builder=builder,
                pods=pods_view(POD),
                cards=(card(),),
                host=HostProcessesView(frozenset({1})),
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
        snap = snapshot(pods=pods_view(pod), cards=(card(minor=3), card(CARD_2, 1, 0)))
        assert snap.allocations == (PodAllocation("team-a", "idle", CARD, 3, 11 * GIB, 0.5),)

    def test_without_a_driver_the_uuid_is_empty(self) -> None:
        pod = Pod(UID, "team-a", "idle", allocations=(Allocation("", 3, None, 0.5),))
        assert snapshot(pods=pods_view(pod)).allocations == (
            PodAllocation("team-a", "idle", "", 3, None, 0.5),
        )

    def test_a_card_that_is_away_keeps_its_name(self) -> None:
        pod = Pod(UID, "team-a", "idle", allocations=(Allocation("", 3, None, 0.5),))
        views = SourceViews(
            NOW,
            pods=pods_view(pod),
            devices=(card(CARD_2, 1, 0),),
            known_devices=(card(minor=3), card(CARD_2, 1, 0)),
        )
        snap = SnapshotBuilder("node-1").build(views)
        assert [allocated.device_uuid for allocated in snap.allocations] == [CARD]

    def test_of_two_pods_of_one_name_are_not_there_twice(self) -> None:
        pods = pods_view(
            *(
                Pod(uid, "team-a", "idle", allocations=(Allocation(CARD, None, size, 0.5),))
                for uid, size in ((UID, GIB), (OTHER, 2 * GIB))
            )
        )
        assert snapshot(pods=pods).allocations == (
            PodAllocation("team-a", "idle", CARD, None, 2 * GIB, 0.5),
        )

    def test_of_completed_pods_are_over(self) -> None:
        pod = Pod(UID, "team-a", "done", "Succeeded", allocations=(Allocation(CARD, None, 1, 1),))
        assert snapshot(pods=pods_view(pod)).allocations == ()


class TestUnattributed:
    CARDS = (
        card(
            processes=(
                DeviceProcess(100, 3 * GIB),
                DeviceProcess(200, 2 * GIB),
                DeviceProcess(300, GIB),
                DeviceProcess(400, None),
            )
        ),
        card(CARD_2, 1, processes=None),
    )

    def test_is_what_no_region_has(self) -> None:
        snap = snapshot(entry(region(process(use(), hostpid=100))), cards=self.CARDS)
        assert snap.unattributed == (UnattributedMemory(CARD, 0, "", "", 3 * GIB),)

    def test_a_freed_slot_names_nobody(self) -> None:
        """Layouts with a seqlock keep a slot's host PID after its process has gone."""
        found = region(process(use(), hostpid=100), process(use(), hostpid=200, pid=0, status=GONE))
        readings, host = [entry(found)], {200: ContainerRef(OTHER, "c1")}
        assert outside_regions(self.CARDS, readings) == {200, 300, 400}
        snap = snapshot(*readings, cards=self.CARDS, host=HostProcessesView(None, host))
        assert set(snap.unattributed) == {
            UnattributedMemory(CARD, 0, "", "", GIB),
            UnattributedMemory(CARD, 0, "", OTHER, 2 * GIB),
        }

    def test_names_the_pod_of_the_cgroup(self) -> None:
        host = HostProcessesView(
            None, {200: ContainerRef(UID, "c1"), 300: ContainerRef(OTHER, "c2")}
        )
        snap = snapshot(
            entry(region(process(use(), hostpid=100)), uid=UID[:-1] + "0"),
            cards=self.CARDS,
            host=host,
            pods=pods_view(POD),
        )
        assert set(snap.unattributed) == {
            UnattributedMemory(CARD, 0, "", "", 0),
            UnattributedMemory(CARD, 0, "team-a", "train-0", 2 * GIB),
            UnattributedMemory(CARD, 0, "", OTHER, GIB),
        }

    def test_a_process_whose_host_pid_is_not_found_yet_is_the_regions(self) -> None:
        host = HostProcessesView(None, {200: ContainerRef(UID, "c1")})
        snap = snapshot(
            entry(region(process(use(), hostpid=0), process(use(), hostpid=100, pid=8))),
            cards=self.CARDS,
            host=host,
        )
        assert snap.unattributed == (UnattributedMemory(CARD, 0, "", "", GIB),)
