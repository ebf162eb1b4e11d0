"""Feedback's decisions: a table, and what holds for all regions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from testing.values import CARD, CARD_2, region
from vgpumonitor.controllers.feedback import Decision, decide
from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.region.model import Region


@dataclass(frozen=True)
class Case:
    """Containers as (priority, recent_kernel, cards), each with what its words are to be."""

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
    Case("two active on two cards", [(1, 2, "a"), (1, 2, "b")], [(1, 0), (1, 0)]),
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
    Case("higher on another card", [(0, 2, "b"), (1, 2, "a")], [(1, 0), (1, 0)]),
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
        "on two cards, blocked on the second",
        [(1, 2, "ab"), (0, 2, "b"), (1, 2, "a")],
        [(-1, 1), (1, 0), (1, 1)],
    ),
    Case(
        "on two cards, contended on the second",
        [(1, 2, "ab"), (1, 2, "b"), (1, 0, "a")],
        [(1, 1), (1, 1), (0, 0)],
    ),
    Case(
        "a higher one on two cards blocks on both",
        [(0, 2, "ab"), (1, 2, "a"), (3, 0, "b")],
        [(1, 0), (-1, 1), (-1, 1)],
    ),
    Case("a negative priority is not counted", [(-1, 2, "a"), (1, 2, "a")], [(1, 0), (1, 0)]),
    Case("two of a negative priority", [(-1, 2, "a"), (-1, 2, "a")], [(1, 0), (1, 0)]),
    Case("a negative priority is never blocked", [(-3, -1, "a"), (0, 2, "a")], [(0, 0), (1, 0)]),
    Case("cards without a valid UUID", [(0, 2, "?"), (1, 2, "?")], [(1, 0), (1, 0)]),
    Case("one of its cards has a UUID", [(0, 2, "?a"), (1, 2, "a?")], [(1, 0), (-1, 1)]),
    Case("no cards", [(0, 2, ""), (1, -1, "")], [(1, 0), (0, 0)]),
    Case(
        "words of any size", [(2**31 - 1, 2, "a"), (0, 2**31 - 1, "a")], [(-1, 1), (2**31 - 2, 0)]
    ),
    Case("the lowest word", [(0, -(2**31), "a")], [(0, 0)]),
]


def container(
    priority: int, recent: int, cards: str, switch: int = 1, layout: str = "1.2"
) -> Region:
    uuids = {"a": CARD, "b": CARD_2, "?": None}
    return region(
        uuids=[uuids[card] for card in cards],
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
        st.text("ab", max_size=2).map(lambda cards: "".join(sorted(set(cards)))),
        st.integers(-1, 2),
        st.sampled_from([layout.name for layout in LAYOUTS]),
    ),
    max_size=7,
)


def cards(found: Region) -> set[str]:
    return {device.uuid for device in found.devices if device.uuid is not None}


@given(regions)
def test_who_is_blocked(found: list[Region]) -> None:
    decisions = decide(found)
    active = [before for before in found if before.recent_kernel > 1 and before.priority >= 0]
    for before, decision in zip(found, decisions, strict=True):
        higher = [
            other
            for other in active
            if other.priority < before.priority and cards(other) & cards(before)
        ]
        assert decision.blocked == bool(higher)
        if active and before.priority == min(other.priority for other in active):
            assert not decision.blocked


@given(regions)
def test_for_whom_the_limit_holds(found: list[Region]) -> None:
    for before, decision in zip(found, decide(found), strict=True):
        crowded = any(
            sum(
                other.recent_kernel > 1
                and other.priority == before.priority
                and uuid in cards(other)
                for other in found
            )
            > 1
            for uuid in cards(before)
        )
        contended = decision.blocked or (before.priority >= 0 and crowded)
        assert decision.utilization_switch == int(contended)


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
