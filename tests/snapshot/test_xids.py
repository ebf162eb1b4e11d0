"""Which containers were on a GPU when it had an XID."""

from __future__ import annotations

from testing.values import GIB, GPU, GPU_2, NOW, OTHER, entry, gpu, region
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot, SnapshotBuilder, SourceViews, XidContainer
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices import MigDevice, XidErrors
from vgpumonitor.sources.pods import Pod, PodsView

FIRST, SECOND = "MIG-1", "MIG-2"


class Node:
    """Snapshots one after the other."""

    def __init__(self) -> None:
        self._builder = SnapshotBuilder("node-1")

    def look(
        self, time: float, *readings: ContainerReading, xids: tuple[XidErrors, ...] = ()
    ) -> NodeSnapshot:
        mig = tuple(
            MigDevice(uuid, "1g.10gb", instance, 0, 10 * GIB, GIB, ())
            for uuid, instance in ((FIRST, 7), (SECOND, 8))
        )
        return self._builder.build(
            SourceViews(
                time=time,
                containers=ContainersView(readings, up=True),
                pods=PodsView({OTHER: Pod(OTHER, "team-b", "serve-0", "Running")}, True, NOW),
                devices=(gpu(), gpu(GPU_2, 1, mig_devices=mig)),
                known_devices=(gpu(), gpu(GPU_2, 1, mig_devices=mig)),
                xids=xids,
            )
        )


ON_FIRST = entry(region(), uid=OTHER, container="a")
ON_SECOND = entry(region(uuids=(GPU_2,)), uid=OTHER, container="b")
LATER = entry(region(), uid=OTHER, container="c")


def names(snapshot: NodeSnapshot) -> list[str]:
    (xid,) = snapshot.xids
    return [one.container for one in xid.containers]


def test_those_that_the_last_snapshot_had_on_it_and_this_one_has() -> None:
    node = Node()
    node.look(NOW, ON_FIRST, ON_SECOND)
    snapshot = node.look(NOW + 15, LATER, xids=(XidErrors(0, GPU, 31, 1, NOW + 5),))
    assert snapshot.xids == (
        DeviceXid(
            device_index=0,
            device_uuid=GPU,
            mig_uuid="",
            xid=31,
            count=1,
            last_time=NOW + 5,
            containers=(
                XidContainer("team-b", "serve-0", "a"),
                XidContainer("team-b", "serve-0", "c"),
            ),
        ),
    )


def test_they_stay_until_the_next_of_that_xid() -> None:
    node = Node()
    error = XidErrors(0, GPU, 31, 1, NOW + 5)
    assert names(node.look(NOW + 10, ON_FIRST, xids=(error,))) == ["a"]
    assert names(node.look(NOW + 300, LATER, xids=(error,))) == ["a"]
    again = XidErrors(0, GPU, 31, 3, NOW + 301)
    assert names(node.look(NOW + 302, LATER, xids=(again,))) == ["c"]


def test_what_was_long_before_does_not_count() -> None:
    node = Node()
    node.look(NOW, ON_FIRST)
    assert names(node.look(NOW + 600, xids=(XidErrors(0, GPU, 31, 1, NOW + 599),))) == []


def test_of_a_mig_device_only_those_on_it() -> None:
    node = Node()
    readings = [
        entry(region(uuids=(uuid,)), uid=OTHER, container=container)
        for uuid, container in ((FIRST, "a"), (SECOND, "b"))
    ]
    of_second = XidErrors(1, GPU_2, 31, 1, NOW, 8, 0)
    snapshot = node.look(NOW, *readings, xids=(of_second,))
    assert names(snapshot) == ["b"]
    assert snapshot.xids[0].mig_uuid == SECOND
    of_all = XidErrors(1, GPU_2, 79, 1, NOW + 1)
    snapshot = node.look(NOW + 2, *readings, xids=(of_second, of_all))
    last, first = snapshot.xids
    assert (last.xid, [one.container for one in last.containers]) == (79, ["a", "b"])
    assert first.xid == 31


def test_an_instance_that_is_gone_leaves_all_of_the_gpu() -> None:
    node = Node()
    on_mig = entry(region(uuids=(FIRST,)), uid=OTHER, container="a")
    snapshot = node.look(NOW, on_mig, xids=(XidErrors(1, GPU_2, 31, 1, NOW, 99, 0),))
    assert names(snapshot) == ["a"]
