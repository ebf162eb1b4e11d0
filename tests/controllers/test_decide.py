"""Feedback's decisions: a table, and what holds for all regions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from testing.values import GPU, GPU_2, region
from vgpumonitor.controllers.feedback import Decision, decide
from vgpumonitor.region.launches import is_limit, late_order
from vgpumonitor.region.model import Region


@dataclass(frozen=True)
class Case:
    """Containers as (priority, recent_kernel, GPUs), each with what its words are to be."""

    name: str
    containers: list[tuple[int, int, str]]
    expected: list[tuple[int, int]]


CASES = [
    Case("nobody", [], []),
    Case("alone and active", [(1, 2, "a")], [(1, 0)]),
    Case("alone, its launch a round ago", [(1, 1, "a")], [(0, 0)]),
    Case("alone and idle", [(1, 0, "a")], [(0, 0)]),
    Case("two of a priority, both active", [(1, 2, "a"), (1, 2, "a")], [(1, 1), (1, 1)]),
    Case("two of a priority, one active", [(1, 2, "a"), (1, 0, "a")], [(1, 0), (0, 0)]),
    Case("two of a priority, one just idle", [(1, 2, "a"), (1, 1, "a")], [(1, 0), (0, 0)]),
    Case("two active on two GPUs", [(1, 2, "a"), (1, 2, "b")], [(1, 0), (1, 0)]),
    Case(
        "an idle one beside two active ones of its priority",
        [(1, 2, "a"), (1, 2, "a"), (1, 0, "a")],
        [(1, 1), (1, 1), (0, 1)],
    ),
    Case("higher active, lower active", [(0, 2, "a"), (1, 2, "a")], [(1, 0), (-1, 1)]),
    Case("higher active, lower idle", [(0, 2, "a"), (1, 0, "a")], [(1, 0), (-1, 1)]),
    Case("higher just idle, lower active", [(0, 1, "a"), (1, 2, "a")], [(0, 0), (1, 0)]),
    Case("higher idle, lower blocked", [(0, 0, "a"), (1, -1, "a")], [(0, 0), (0, 0)]),
    Case("higher active, lower blocked", [(0, 2, "a"), (1, -1, "a")], [(1, 0), (-1, 1)]),
    Case("blocked further below 0 stays", [(0, 2, "a"), (1, -7, "a")], [(1, 0), (-7, 1)]),
    Case("higher on another GPU", [(0, 2, "b"), (1, 2, "a")], [(1, 0), (1, 0)]),
    Case(
        "three priorities: only the highest runs",
        [(2, 2, "a"), (1, 2, "a"), (0, 2, "a")],
        [(-1, 1), (-1, 1), (1, 0)],
    ),
    Case(
        "the blocked middle still blocks the lowest in this round",
        [(1, 2, "a"), (2, 2, "a"), (0, 0, "a")],
        [(1, 0), (-1, 1), (0, 0)],
    ),
    Case(
        "on two GPUs, blocked on the second",
        [(1, 2, "ab"), (0, 2, "b"), (1, 2, "a")],
        [(-1, 1), (1, 0), (1, 1)],
    ),
    Case(
        "on two GPUs, contended on the second",
        [(1, 2, "ab"), (1, 2, "b"), (1, 0, "a")],
        [(1, 1), (1, 1), (0, 0)],
    ),
    Case(
        "a higher one on two GPUs blocks on both",
        [(0, 2, "ab"), (1, 2, "a"), (3, 0, "b")],
        [(1, 0), (-1, 1), (-1, 1)],
    ),
    Case("a negative priority is not counted", [(-1, 2, "a"), (1, 2, "a")], [(1, 0), (1, 0)]),
    Case("two of a negative priority", [(-1, 2, "a"), (-1, 2, "a")], [(1, 0), (1, 0)]),
    Case("a negative priority is never blocked", [(-3, -1, "a"), (0, 2, "a")], [(0, 0), (1, 0)]),
    Case("GPUs without a valid UUID", [(0, 2, "?"), (1, 2, "?")], [(1, 0), (1, 0)]),
    Case("one of its GPUs has a UUID", [(0, 2, "?a"), (1, 2, "a?")], [(1, 0), (-1, 1)]),
    Case("no GPUs", [(0, 2, ""), (1, -1, "")], [(1, 0), (0, 0)]),
    Case(
        "words of any size", [(2**31 - 1, 2, "a"), (0, 2**31 - 1, "a")], [(-1, 1), (2**31 - 2, 0)]
    ),
    Case("the lowest word", [(0, -(2**31), "a")], [(0, 0)]),
]


def container(
    priority: int, recent: int, gpus: str, switch: int = 1, layout: str = "1.2"
) -> Region:
    uuids = {"a": GPU, "b": GPU_2, "?": None}
    return region(
        uuids=[uuids[gpu] for gpu in gpus],
        recent_kernel=recent,
        priority=priority,
        utilization_switch=switch,
        layout=layout,
    )


def after(regions: list[Region], decisions: list[Decision]) -> list[Region]:
    return [
        replace(
            before,
            recent_kernel=decision.recent_kernel,
            utilization_switch=decision.utilization_switch,
        )
        for before, decision in zip(regions, decisions, strict=True)
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_table(case: Case) -> None:
    decisions = decide([container(*values) for values in case.containers])
    assert [(d.recent_kernel, d.utilization_switch) for d in decisions] == case.expected
    assert [d.blocked for d in decisions] == [recent < 0 for recent, _ in case.expected]


regions = st.lists(
    st.builds(
        container,
        st.integers(-2, 3),
        st.one_of(st.integers(-2, 3), st.integers(-(2**31), 2**31 - 1)),
        st.text("ab", max_size=2).map(lambda gpus: "".join(sorted(set(gpus)))),
        st.integers(-1, 2),
        st.sampled_from(["0", "1.1", "1.1-postinit", "1.2"]),
    ),
    max_size=7,
)


def gpus(found: Region) -> set[str]:
    return {device.uuid for device in found.devices if device.uuid is not None}


#: Regions, and of each whether it launched without a trace in its control words: only in the late
#: order can it.
launched = regions.flatmap(
    lambda found: st.tuples(
        st.just(found),
        st.tuples(*(st.booleans() if late_order(each) else st.just(False) for each in found)),
    )
)


def active(found: list[Region], seen: tuple[bool, ...]) -> list[Region]:
    return [
        before
        for before, launches in zip(found, seen, strict=True)
        if (before.recent_kernel > 1 or launches) and before.priority >= 0
    ]


@given(launched)
def test_who_is_blocked(case: tuple[list[Region], tuple[bool, ...]]) -> None:
    found, seen = case
    busy = active(found, seen)
    for before, decision in zip(found, decide(found, seen), strict=True):
        higher = [
            other
            for other in busy
            if other.priority < before.priority and gpus(other) & gpus(before)
        ]
        assert decision.blocked == bool(higher)
        if busy and before.priority == min(other.priority for other in busy):
            assert not decision.blocked


@given(launched)
def test_for_whom_the_limit_holds(case: tuple[list[Region], tuple[bool, ...]]) -> None:
    found, seen = case
    busy = active(found, seen)
    for before, decision in zip(found, decide(found, seen), strict=True):
        crowded = any(
            sum(other.priority == before.priority and uuid in gpus(other) for other in busy) > 1
            for uuid in gpus(before)
        )
        contended = decision.blocked or (before.priority >= 0 and crowded)
        assert decision.utilization_switch == int(contended)


@dataclass
class Played:
    """A container as HAMi-core's launches make it one, between two rounds."""

    region: Region
    before: int | None = None

    def launch(self, now: int) -> None:
        """By what the switch said at the last round; a launch that waits leaves its time too."""
        region = self.region
        time = None if region.last_kernel_time is None else now
        recent = region.recent_kernel
        lifted = region.utilization_switch == 0 or not is_limit(region.devices[0].sm_limit_percent)
        if not (late_order(region) and lifted) and recent >= 0:
            recent = 2
        self.region = replace(region, recent_kernel=recent, last_kernel_time=time)

    @property
    def launched(self) -> bool:
        """What the feedback sees of it besides the control words."""
        before, self.before = self.before, self.region.last_kernel_time
        return late_order(self.region) and before is not None and before != self.before


def play_round(played: list[Played]) -> None:
    decisions = decide([each.region for each in played], [each.launched for each in played])
    for each, decision in zip(played, decisions, strict=True):
        each.region = replace(
            each.region,
            recent_kernel=decision.recent_kernel,
            utilization_switch=decision.utilization_switch,
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["0", "1.1", "1.1-postinit", "1.2"])),
        min_size=2,
        max_size=5,
    ),
    st.integers(0, 2),
    st.lists(st.sets(st.integers(0, 4)), max_size=8),
)
def test_two_of_a_priority_that_launch_for_two_rounds_have_their_limit_after_any_history(
    made: list[tuple[int, str]], priority: int, history: list[set[int]]
) -> None:
    made[:2] = [(priority, layout) for _, layout in made[:2]]
    played = [
        Played(replace(container(of, 2, "a", layout=layout), last_kernel_time=None))
        if layout == "0"
        else Played(container(of, 2, "a", layout=layout))
        for of, layout in made
    ]
    now = 1_900_000_000
    play_round(played)
    for launching in [*history, {0, 1}, {0, 1}]:
        now += 5
        for number in launching:
            if number < len(played):
                played[number].launch(now)
        play_round(played)
    assert [each.region.utilization_switch for each in played[:2]] == [1, 1]


@given(regions, st.randoms())
def test_the_order_of_the_regions_does_not_matter(found: list[Region], random: object) -> None:
    order = list(range(len(found)))
    random.shuffle(order)  # type: ignore[attr-defined]
    decisions = decide(found)
    assert decide([found[place] for place in order]) == [decisions[place] for place in order]


@given(regions)
def test_without_launches_rounds_come_to_rest_with_nobody_blocked(found: list[Region]) -> None:
    small = [replace(each, recent_kernel=min(each.recent_kernel, 3)) for each in found]
    for _ in range(4):
        small = after(small, decide(small))
    assert [(each.recent_kernel, each.utilization_switch) for each in small] == [(0, 0)] * len(
        small
    )
    assert after(small, decide(small)) == small


@given(regions)
def test_a_round_is_idempotent_but_for_the_countdown(found: list[Region]) -> None:
    """Who launched again since the last round changes nothing for anybody."""
    once = after(found, decide(found))
    relaunched = [
        replace(now, recent_kernel=before.recent_kernel) if now.recent_kernel > 0 else now
        for before, now in zip(found, once, strict=True)
    ]
    # A blocked one was active up to now, and is no more.
    twice = after(relaunched, decide(relaunched))
    thrice_before = [
        replace(now, recent_kernel=before.recent_kernel) if now.recent_kernel > 0 else now
        for before, now in zip(relaunched, twice, strict=True)
    ]
    assert after(thrice_before, decide(thrice_before)) == twice
