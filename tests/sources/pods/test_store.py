from __future__ import annotations

from vgpumonitor.sources.pods import Pod
from vgpumonitor.sources.pods.objects import PodReading
from vgpumonitor.sources.pods.store import MAX_DELETED, PodStore


def reading(uid: str, phase: str = "Running") -> PodReading:
    return PodReading(Pod(uid, "default", f"name-of-{uid}", phase))


def test_nothing_is_known_at_first() -> None:
    view = PodStore("test").view
    assert (view.pods, view.deleted, view.up, view.synced) == ({}, {}, False, None)


def test_changes_show_when_they_are_confirmed_or_lost() -> None:
    table = PodStore("test")
    table.put(reading("a"))
    assert table.view.pods == {}
    table.mark_synced()
    assert set(table.view.pods) == {"a"}
    synced = table.view.synced
    table.mark_stale("gone")
    assert set(table.view.pods) == {"a"}
    assert (table.view.up, table.view.synced) == (False, synced)


def test_an_unchanged_table_keeps_its_mappings() -> None:
    table = PodStore("test")
    table.replace([reading("a")])
    table.mark_synced()
    before = table.view
    table.replace([reading("a")])
    table.mark_synced()
    assert table.view.pods is before.pods
    table.replace([reading("a", "Failed")])
    table.mark_synced()
    assert table.view.pods["a"].phase == "Failed"
    assert before.pods["a"].phase == "Running"


def test_who_left_and_who_came_back() -> None:
    table = PodStore("test")
    table.replace([reading("a"), reading("b")])
    table.replace([reading("b")])
    table.mark_synced()
    assert (set(table.view.pods), set(table.view.deleted)) == ({"b"}, {"a"})
    table.put(reading("a"))
    table.remove("never known")
    table.mark_synced()
    assert (set(table.view.pods), set(table.view.deleted)) == ({"a", "b"}, set())


def test_the_departed_are_bounded_to_the_last() -> None:
    table = PodStore("test")
    for number in range(MAX_DELETED + 10):
        table.put(reading(str(number)))
        table.remove(str(number))
    table.mark_synced()
    assert len(table.view.deleted) == MAX_DELETED
    assert min(int(uid) for uid in table.view.deleted) == 10
