"""Each line of how a slot's process is found, and what must not be believed."""

from __future__ import annotations

import pytest

from vgpumonitor.region.model import RegionProcess
from vgpumonitor.snapshot.identity import SlotOwner, ended_of, identify
from vgpumonitor.sources.processes import ContainerRef, HostProcess

POD, OTHER_POD = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11", "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a7e22"
MAIN, SIDE, OLD = "a" * 64, "b" * 64, "c" * 64


def slot(pid: int, hostpid: int = 0) -> RegionProcess:
    return RegionProcess(pid, hostpid, 1, None, ())


def process(pid: int, inner: int, pod: str | None = POD, container: str = MAIN) -> HostProcess:
    return HostProcess(pid, inner, None if pod is None else ContainerRef(pod, container))


def owner(*slots: RegionProcess, name: str = "main", pod: str = POD) -> SlotOwner:
    own, other = (MAIN, SIDE) if name == "main" else (SIDE, MAIN)
    return SlotOwner((pod, name), slots, frozenset((own,)), frozenset((other,)))


#: The processes that were asked about, by their PID on the host, and all the others.
Host = tuple[dict[int, HostProcess], tuple[HostProcess, ...]]


def host(*asked: HostProcess, others: tuple[HostProcess, ...] = ()) -> Host:
    return {each.pid: each for each in asked}, others


def found(slots: SlotOwner, view: Host, on_devices: tuple[int, ...] = ()) -> list[int | None]:
    """PIDs of the processes that the slots are found to be."""
    (processes,) = identify([slots], view[0], on_devices, view[1]).values()
    return [None if each is None else each.pid for each in processes]


CASES: dict[str, tuple[RegionProcess, Host, tuple[int, ...], int | None]] = {
    "its host PID, verified": (slot(7, 700), host(process(700, 7)), (), 700),
    "nobody lives at its host PID": (slot(7, 700), host(), (), None),
    "its host PID is another pod's process by now": (
        slot(7, 700),
        host(process(700, 7, OTHER_POD)),
        (),
        None,
    ),
    "its host PID is a process of no pod by now": (
        slot(7, 700),
        host(process(700, 7, None)),
        (),
        None,
    ),
    "its host PID is another process of the same container by now": (
        slot(7, 700),
        host(process(700, 8)),
        (),
        None,
    ),
    "its host PID is another container's of the same pod": (
        slot(7, 700),
        host(process(700, 7, POD, SIDE)),
        (),
        None,
    ),
    "no host PID, on a device": (slot(7), host(process(700, 7)), (700,), 700),
    "no host PID, on no device": (slot(7), host(others=(process(700, 7),)), (), 700),
    "the container's PID as host PID, a stranger there": (
        slot(324, 324),
        host(process(324, 324, None), process(645400, 324)),
        (645400,),
        645400,
    ),
    "the container's PID as host PID, the same pod's other process there": (
        slot(324, 324),
        host(process(324, 11), process(645400, 324)),
        (645400,),
        645400,
    ),
    "another container's process as host PID: the two that start together": (
        slot(7, 800),
        host(process(800, 7, OTHER_POD), process(700, 7)),
        (800, 700),
        700,
    ),
    "on a device before any other": (
        slot(7),
        host(process(701, 7), others=(process(700, 7), process(701, 7))),
        (701,),
        701,
    ),
    "a cgroup without an ID": (slot(7, 700), host(process(700, 7, POD, "")), (), 700),
    "an ID that the status does not know yet": (
        slot(7, 700),
        host(process(700, 7, POD, OLD)),
        (),
        700,
    ),
    "a process that is in its pod and in no container of it": (
        slot(7),
        host(others=(process(700, 7, POD, ""),)),
        (),
        700,
    ),
    "a negative host PID": (slot(7, -700), host(process(700, 8)), (), None),
}


@pytest.mark.parametrize(("of", "view", "on_devices", "expected"), CASES.values(), ids=CASES)
def test_one_slot(
    of: RegionProcess, view: Host, on_devices: tuple[int, ...], expected: int | None
) -> None:
    assert found(owner(of), view, on_devices) == [expected]


def test_each_slot_has_its_own() -> None:
    view = host(process(700, 7), process(701, 8), others=(process(702, 9),))
    assert found(owner(slot(9), slot(7, 700), slot(8, 700), slot(10)), view, (700, 701)) == [
        702,
        700,
        701,
        None,
    ]


def test_no_process_is_two_slots() -> None:
    # Two containers of a pod without a status: both have a process 7 inside, one of them lives.
    pod = ContainerRef(POD, "")
    lives = HostProcess(700, 7, pod)
    main = SlotOwner((POD, "main"), (slot(7, 700),))
    side = SlotOwner((POD, "side"), (slot(7, 700),))
    assert identify([main, side], host(lives)[0], (700,)) == {
        (POD, "main"): (lives,),
        (POD, "side"): (None,),
    }


def test_a_container_that_claims_anothers_process() -> None:
    theirs = process(800, 7, OTHER_POD)
    thief = owner(slot(7, 800))
    robbed = owner(slot(7, 800), pod=OTHER_POD)
    assert identify([thief, robbed], host(theirs)[0], (800,)) == {
        (POD, "main"): (None,),
        (OTHER_POD, "main"): (theirs,),
    }


def test_a_container_that_claims_its_neighbours_process() -> None:
    theirs = process(800, 7, POD, SIDE)
    assert identify(
        [owner(slot(7, 800)), owner(slot(7), name="side")], host(theirs)[0], (800,)
    ) == {
        (POD, "main"): (None,),
        (POD, "side"): (theirs,),
    }


def test_what_is_proved_goes_before_what_is_searched() -> None:
    # Without IDs the first container's slot would fit as well; the second one's is proved.
    lives = HostProcess(700, 7, ContainerRef(POD, ""))
    searching = SlotOwner((POD, "a"), (slot(7),))
    proved = SlotOwner((POD, "b"), (slot(7, 700),))
    assert identify([searching, proved], host(lives)[0], (700,)) == {
        (POD, "a"): (None,),
        (POD, "b"): (lives,),
    }


@pytest.mark.parametrize(
    ("processes", "ended"),
    [
        pytest.param((process(1, 1, POD, MAIN),), {"side"}, id="one has a process"),
        pytest.param((process(1, 1, OTHER_POD, OLD),), {"main", "side"}, id="only other pods have"),
        pytest.param((process(1, 1, POD, ""), process(2, 1, OTHER_POD, OLD)), set(), id="no ID"),
        # Of a runtime whose cgroups are of another form.
        pytest.param((process(1, 1, None),), set(), id="no cgroup is a pod's"),
        pytest.param((), set(), id="no process"),
    ],
)
def test_a_container_ended_if_no_process_is_its(
    processes: tuple[HostProcess, ...], ended: set[str]
) -> None:
    containers = {(POD, "main"): frozenset((MAIN,)), (POD, "side"): frozenset((SIDE,))}
    assert ended_of(containers, processes) == {(POD, name) for name in ended}
