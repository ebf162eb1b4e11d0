"""Rounds of feedback over real region files."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testing.polling import eventually
from testing.values import GIB, GPU, GPU_2, entry, gpu, process, region, snapshot, use
from tests.controllers.records import messages, records
from tests.controllers.workload import ORDERS, Workload, play, table, uid
from vgpumonitor.controllers import Feedback, FeedbackHealth, Seen
from vgpumonitor.controllers.ticker import next_due, ticks
from vgpumonitor.region.control import ControlWords
from vgpumonitor.region.layouts import LAYOUTS, V0, V1_1, V1_1_POSTINIT, V1_2, Layout
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.sources.containers.directory import ContainersDirectory, ContainersView
from vgpumonitor.sources.devices import DeviceProcess, ProcessUtilization

DOCUMENT = Path(__file__).parents[2] / "docs" / "feedback.md"

#: Seconds that no test here takes.
RELEASE_AFTER = 60.0


@pytest.fixture
def containers_dir(tmp_path: Path) -> Path:
    (tmp_path / "containers").mkdir()
    return tmp_path / "containers"


@pytest.fixture
def make(containers_dir: Path) -> Iterator[Callable[..., Workload]]:
    made: list[Workload] = []

    def workload(
        priority: int = 1,
        layout: Layout = V1_2,
        gpus: tuple[str, ...] = (GPU,),
        recent: int | None = None,
        host_pid_known: bool = True,
    ) -> Workload:
        made.append(
            Workload(
                containers_dir,
                len(made),
                priority,
                layout,
                gpus,
                host_pid_known=host_pid_known,
            )
        )
        if recent is not None:
            made[-1].set_word("recent_kernel", recent)
        return made[-1]

    yield workload
    for each in made:
        each.close()


@pytest.fixture
def inventory(containers_dir: Path) -> Iterator[ContainersDirectory]:
    found = ContainersDirectory(containers_dir)
    found.start()
    yield found
    found.stop()


def words(*workloads: Workload) -> list[tuple[int, int]]:
    return [(each.word("recent_kernel"), each.word("utilization_switch")) for each in workloads]


def key(workload: Workload) -> tuple[str, str]:
    return workload.directory.name.removesuffix("_train"), "train"


def descriptors(containers_dir: Path) -> int:
    """Open region files of this test in this process; another's may be closed at any time."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/self/fd/{fd}")
            found += ".cache" in path and path.startswith(f"{containers_dir}/")
    return found


def test_all_layouts_on_two_gpus(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high = make(0, V0)
    low = make(1, V1_1, (GPU, GPU_2))
    peers = make(2, V1_1_POSTINIT, (GPU_2,)), make(2, V1_2, (GPU_2,))
    alone = make(5, V1_2, ("GPU-00000000-0000-0000-0000-000000000000",))
    sizes = [each.path.stat().st_size for each in (high, low, *peers, alone)]
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    assert feedback.round()
    # The one that is blocked on the first GPU is still active on the second.
    assert words(high, low, *peers, alone) == [(1, 0), (-1, 1), (-1, 1), (-1, 1), (1, 0)]
    assert feedback.round()
    assert words(high, low, *peers, alone) == [(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]
    assert [each.path.stat().st_size for each in (high, low, *peers, alone)] == sizes
    assert feedback.health.rounds == 2
    assert feedback.health.writes == {"recent_kernel": 10, "utilization_switch": 5}
    assert feedback.health.failures == 0
    assert feedback.health.last_round == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_round_changes_the_two_words_only(
    layout: Layout, make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    make(0)
    low = make(1, layout)
    low.set_word("utilization_switch", 0)
    before = low.path.read_bytes()
    Feedback(inventory, release_after=RELEASE_AFTER).round()
    assert words(low) == [(-1, 1)]
    low.set_word("recent_kernel", 2)
    low.set_word("utilization_switch", 0)
    assert low.path.read_bytes() == before


class TestOtherMonitors:
    def test_what_launches_and_rounds_write_is_no_other_s(
        self, make: Callable[..., Workload], inventory: ContainersDirectory
    ) -> None:
        high, low = make(0), make(1)
        feedback = Feedback(inventory, release_after=RELEASE_AFTER)
        for busy in (True, True, False, False, True, False):
            feedback.round()
            for each in (high, low) if busy else (low,):
                each.run(50)
        assert feedback.health.others == 0
        assert feedback.health.last_other is None

    @pytest.mark.parametrize(
        ("word", "value"), [("recent_kernel", 0), ("recent_kernel", -1), ("utilization_switch", 1)]
    )
    def test_a_word_that_something_else_wrote(
        self, word: str, value: int, make: Callable[..., Workload], inventory: ContainersDirectory
    ) -> None:
        alone = make(1)
        feedback = Feedback(inventory, release_after=RELEASE_AFTER)
        feedback.round()
        assert words(alone) == [(1, 0)]
        alone.set_word(word, value)
        feedback.round()
        feedback.round()
        assert feedback.health.others == 1
        assert feedback.health.last_other == pytest.approx(time.time(), abs=60)

    def test_a_dry_run_looks_for_none(
        self, make: Callable[..., Workload], inventory: ContainersDirectory
    ) -> None:
        alone = make(1)
        feedback = Feedback(inventory, release_after=RELEASE_AFTER, dry_run=True)
        feedback.round()
        alone.set_word("recent_kernel", 0)
        feedback.round()
        assert feedback.health.others == 0


def test_nothing_is_written_where_nothing_differs(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idle, odd = make(recent=0), make(recent=0)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    assert words(idle, odd) == [(0, 0), (0, 0)]
    writes = dict(feedback.health.writes)

    def opened(*_: object) -> None:
        pytest.fail("a file was opened for writing")

    monkeypatch.setattr(ControlWords, "__init__", opened)
    assert feedback.round()
    assert feedback.health.writes == writes
    assert feedback.health.failures == 0


def test_descriptors_are_held_for_blocked_containers_only(
    make: Callable[..., Workload], inventory: ContainersDirectory, containers_dir: Path
) -> None:
    high, *lows = make(0), make(1), make(1), make(1)
    for each in (high, *lows):
        each.set_word("recent_kernel", 0)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    # Each is open by its workload, and to be read, which may come after the round that
    # asked for it.
    eventually(lambda: descriptors(containers_dir) == 4 + 4, 10)
    high.set_word("recent_kernel", 3)
    feedback.round()
    feedback.round()
    assert [each.region.blocked for each in lows] == [True] * 3
    assert descriptors(containers_dir) == 4 + 4 + 3
    feedback.round()
    assert [each.region.blocked for each in lows] == [False] * 3
    assert descriptors(containers_dir) == 4 + 4


def test_one_unreadable_region_switches_feedback_off_for_nobody(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low, broken = make(0), make(1), make(0)
    broken.path.write_bytes(b"\1" * 4096)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    assert feedback.round()
    assert words(high, low) == [(1, 0), (-1, 1)]
    assert broken.path.read_bytes() == b"\1" * 4096


def test_a_region_that_became_unreadable_is_released(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low = make(0), make(1)
    high.set_word("recent_kernel", 9)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    assert low.word("recent_kernel") == -1
    low.set_word("initialized_flag", 7)
    feedback.round()
    assert low.word("recent_kernel") == 0


def test_another_file_at_the_path_is_decided_anew(
    make: Callable[..., Workload], inventory: ContainersDirectory, containers_dir: Path
) -> None:
    high, low = make(0), make(1)
    high.set_word("recent_kernel", 9)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    before = descriptors(containers_dir)
    # As koordlet does when the container starts again.
    content = bytearray(low.path.read_bytes())
    low.path.unlink()
    at = V1_2.region.recent_kernel.offset
    content[at : at + 4] = (0).to_bytes(4, "little")
    low.path.write_bytes(content)
    feedback.round()
    assert words(low) == [(-1, 1)]
    assert descriptors(containers_dir) == before
    assert feedback.health.failures == 0


def test_a_container_that_was_found_blocked_is_released_too(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low = make(0), make(1, recent=-1)
    high.set_word("recent_kernel", 9)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    assert low.word("recent_kernel") == -1
    feedback.release()
    assert low.word("recent_kernel") == 0


def lose(containers_dir: Path) -> Path:
    return containers_dir.rename(containers_dir.with_name("elsewhere"))


def find(containers_dir: Path) -> None:
    containers_dir.with_name("elsewhere").rename(containers_dir)


def test_words_stay_while_the_view_is_not_whole(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    containers_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    high, low = make(0), make(1)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    before, health = words(high, low), feedback.health
    elsewhere = lose(containers_dir)
    high.path, low.path = (
        elsewhere / each.path.relative_to(containers_dir) for each in (high, low)
    )
    with caplog.at_level(logging.WARNING):
        assert not feedback.round()
        assert not feedback.round()
    assert words(high, low) == before == [(1, 0), (-1, 1)]
    assert feedback.health == health
    assert messages(caplog).count("feedback is paused") == 1
    feedback.release()
    assert words(high, low) == [(1, 0), (0, 1)]
    find(containers_dir)
    high.path, low.path = (
        containers_dir / each.path.relative_to(elsewhere) for each in (high, low)
    )
    high.set_word("recent_kernel", 2)
    assert feedback.round()
    assert words(high, low) == [(1, 0), (-1, 1)]


def test_no_descriptors_left_is_no_whole_view(
    make: Callable[..., Workload], inventory: ContainersDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = make(1)
    whole = inventory.read()
    short = ContainersView(whole.containers, up=True, errors={"descriptors": 1})
    monkeypatch.setattr(inventory, "read", lambda: short)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    assert not feedback.round()
    assert words(low) == [(2, 1)]
    # The count is a total: no more errors, and the view is whole.
    assert feedback.round()
    assert words(low) == [(1, 0)]


def test_a_disk_that_took_longer_than_a_round_is_no_whole_view(
    make: Callable[..., Workload], inventory: ContainersDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = make(1)
    monkeypatch.setattr("vgpumonitor.controllers.feedback.INTERVAL", -1.0)
    assert not Feedback(inventory, release_after=RELEASE_AFTER).round()
    assert words(low) == [(2, 1)]


def test_a_launch_between_look_and_store_is_not_lost(
    make: Callable[..., Workload], inventory: ContainersDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = make(1, recent=1)
    opens = ControlWords.__init__

    def launch_then_open(self: ControlWords, file: RegionFile, size: int) -> None:
        busy.region.mark_launch(1_800_000_001)
        opens(self, file, size)

    monkeypatch.setattr(ControlWords, "__init__", launch_then_open)
    Feedback(inventory, release_after=RELEASE_AFTER).round()
    assert words(busy) == [(1, 0)]


async def run_for(feedback: Feedback, until: Callable[[], bool]) -> None:
    """Runs feedback until something is so, and stops it as serve does."""
    task = asyncio.create_task(feedback.run())
    deadline = time.monotonic() + 20
    try:
        while not until():
            assert time.monotonic() < deadline
            assert not task.done()
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_rounds_go_on_and_a_stop_releases(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low = make(0), make(1)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER, interval=0.05)
    seen: list[bool] = []

    def until() -> bool:
        high.run(50)
        seen.append(low.region.blocked)
        return feedback.health.rounds >= 5

    asyncio.run(run_for(feedback, until))
    assert True in seen
    assert low.word("recent_kernel") == 0
    high.set_word("recent_kernel", 2)
    # A round that comes late blocks nobody any more.
    feedback.round()
    assert low.word("recent_kernel") == 0


@pytest.mark.parametrize("release_after", [0.1, 3600.0])
def test_blocked_containers_are_released_only_some_time_after_the_view_is_lost(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    containers_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    release_after: float,
) -> None:
    high, low = make(0), make(1)
    high.set_word("recent_kernel", 2**31 - 1)
    feedback = Feedback(inventory, interval=0.05, release_after=release_after)
    read, blind = inventory.read, [0]

    def count_blind() -> ContainersView:
        view = read()
        blind[0] += not view.up
        return view

    monkeypatch.setattr(inventory, "read", count_blind)

    def until() -> bool:
        if low.region.blocked and containers_dir.exists():
            lose(containers_dir)
        if release_after == 0.1:
            return blind[0] > 0 and not low.region.blocked
        assert low.region.blocked or not blind[0]
        return blind[0] >= 4

    asyncio.run(run_for(feedback, until))
    # The end of ``run`` releases.
    assert not low.region.blocked


def test_a_disk_that_hangs_keeps_nobody_blocked(
    make: Callable[..., Workload], inventory: ContainersDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    high, low = make(0), make(1)
    high.set_word("recent_kernel", 2**31 - 1)
    feedback = Feedback(inventory, interval=0.05, release_after=0.3)
    answers = threading.Event()
    read = inventory.read

    def hang() -> ContainersView:
        if low.region.blocked:
            answers.wait(20)
        return read()

    monkeypatch.setattr(inventory, "read", hang)
    blocked: list[bool] = []

    def until() -> bool:
        blocked.append(low.region.blocked)
        return True in blocked and not low.region.blocked

    try:
        asyncio.run(run_for(feedback, until))
    finally:
        answers.set()
    assert low.word("recent_kernel") == 0


def test_a_round_that_fails_is_logged_and_the_next_one_comes(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(1)
    read, failures = inventory.read, [RuntimeError("unforeseen")]

    def fail_once() -> ContainersView:
        if failures:
            raise failures.pop()
        return read()

    monkeypatch.setattr(inventory, "read", fail_once)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER, interval=0.05)
    asyncio.run(run_for(feedback, lambda: feedback.health.rounds > 0))
    assert "a round of feedback failed" in messages(caplog)


def test_a_file_that_cannot_be_written_is_counted_and_logged_once(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad = make(1), make(1)
    real_open = os.open

    def refuse(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_RDWR and os.path.realpath(path) == str(bad.path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags, *more, **named)

    monkeypatch.setattr("vgpumonitor.region.control.os.open", refuse)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round()
    feedback.round()
    assert words(good, bad) == [(0, 0), (2, 1)]
    assert feedback.health.failures == 2
    assert messages(caplog).count("feedback can't write to a region file") == 1


def test_dry_run_writes_nothing_and_says_it_once(
    make: Callable[..., Workload], inventory: ContainersDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    high, low = make(0), make(1)
    contents = [each.path.read_bytes() for each in (high, low)]
    feedback = Feedback(inventory, release_after=RELEASE_AFTER, dry_run=True)
    with caplog.at_level(logging.INFO):
        assert feedback.round()
        assert feedback.round()
        feedback.release()
    assert [each.path.read_bytes() for each in (high, low)] == contents
    assert sorted(messages(caplog)) == [
        "core limit would be lifted",
        "launches would be blocked",
    ]
    health = feedback.health
    assert health == FeedbackHealth(
        2, {"recent_kernel": 2, "utilization_switch": 1}, health.last_round, 0, True
    )


def test_changes_for_a_container_are_logged(
    make: Callable[..., Workload], inventory: ContainersDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    _, low = make(0), make(1)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            feedback.round()
    uid = low.directory.name.removesuffix("_train")
    messages = [r.getMessage() for r in records(caplog) if getattr(r, "pod_uid", "") == uid]
    assert messages == ["launches blocked", "launches released", "core limit lifted"]


@pytest.mark.parametrize(
    ("due", "now", "expected"),
    [(10.0, 10.0, 15.0), (10.0, 12.5, 15.0), (10.0, 15.0, 20.0), (10.0, 31.0, 35.0)],
)
def test_rounds_stay_on_their_beat(due: float, now: float, expected: float) -> None:
    assert next_due(due, 5.0, now) == expected


def test_rounds_do_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asleep = [100.0], [0.0]

    async def sleep(seconds: float) -> None:
        asleep[0] += seconds
        clock[0] += seconds + 0.3  # The machine wakes us late.

    async def rounds() -> list[float]:
        times = []
        async for _ in ticks(5.0):
            times.append(clock[0])
            clock[0] += 1.0  # A round takes its time.
            if len(times) == 5:
                break
        return times

    monkeypatch.setattr("vgpumonitor.controllers.ticker.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("vgpumonitor.controllers.ticker.asyncio.sleep", sleep)
    assert asyncio.run(rounds()) == pytest.approx([100.0, 105.3, 110.3, 115.3, 120.3])


def start(containers_dir: Path, interval: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.controllers.process"]
    arguments = ["feedback", str(containers_dir), str(interval)]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("still_busy", [True, False])
def test_killed_while_a_container_is_blocked(
    make: Callable[..., Workload], containers_dir: Path, still_busy: bool
) -> None:
    high, low = make(0), make(1)
    high.set_word("recent_kernel", 1000)
    first = start(containers_dir, 3600)
    try:
        eventually(lambda: low.region.blocked)
    finally:
        first.kill()
        first.wait()
    assert low.word("recent_kernel") == -1
    high.set_word("recent_kernel", 1000 if still_busy else 0)
    # One round, and the next one in an hour.
    second = start(containers_dir, 3600)
    try:
        if still_busy:
            eventually(lambda: high.word("recent_kernel") == 999)
            assert low.word("recent_kernel") == -1
        else:
            eventually(lambda: low.word("recent_kernel") == 0)
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0
    finally:
        second.kill()
        second.wait()
    # Whoever blocked it: the one that stops releases it.
    assert low.word("recent_kernel") == 0


@pytest.mark.parametrize("layout", ORDERS.values(), ids=ORDERS)
def test_workload_end_to_end(layout: Layout) -> None:
    steps = list(play(layout))
    alone, shared, behind, afterwards = steps[1], steps[5], steps[6], steps[9]
    assert (alone["train-a"].got, alone["train-a"].limited) == (90, False)
    assert [shared[name].got for name in ("train-a", "train-b")] == [40, 40]
    assert [behind[name].got for name in ("train-a", "train-b", "serve")] == [0, 0, 80]
    assert [behind[name].waits for name in ("train-a", "train-b", "serve")] == [True, True, False]
    # Whose host PID HAMi-core has not found neither waits nor keeps to its limit.
    assert (behind["lost"].got, behind["lost"].waits, behind["lost"].limited) == (90, False, False)
    assert [afterwards[name].got for name in ("train-a", "train-b")] == [41, 41]
    assert not any(step.waits for step in afterwards.values())


@pytest.mark.parametrize("layout", ORDERS.values(), ids=ORDERS)
def test_the_documented_tables_are_what_happens(layout: Layout) -> None:
    assert table(layout) in DOCUMENT.read_text()


def test_contention_is_seen_again_after_one_was_alone(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    """HAMi #1263, #1864: in the late order, launches under a lifted limit leave only their time."""
    first, second = make(1, V1_2), make(1, V1_2)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    now = 1_800_000_000
    for _ in range(4):
        now += 5
        first.run(90, now)
        feedback.round()
    assert words(first, second) == [(0, 0), (0, 0)]
    seen = []
    for _ in range(2):
        now += 5
        first.run(90, now)
        second.run(90, now)
        feedback.round()
        seen.append((first.limited, second.limited))
    assert seen == [(True, True), (True, True)]


def test_a_kernel_that_still_runs_is_seen_by_the_driver(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low = make(0, V1_2, recent=0), make(1, V1_2, recent=0)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round(Seen(busy=[key(high)]))
    assert words(high, low) == [(0, 0), (-1, 1)]
    feedback.round()
    assert words(high, low) == [(0, 0), (0, 0)]


def test_in_the_early_order_the_words_alone_count(
    make: Callable[..., Workload], inventory: ContainersDirectory
) -> None:
    high, low = make(0, V1_1, recent=0), make(1, V1_1, recent=0)
    feedback = Feedback(inventory, release_after=RELEASE_AFTER)
    feedback.round(Seen(busy=[key(high)]))
    assert words(high, low) == [(0, 0), (0, 0)]


@pytest.mark.parametrize("layout", [V1_1, V1_2], ids=lambda layout: layout.name)
@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_can_not_be_made_to_wait_is_not_said_to(
    make: Callable[..., Workload],
    inventory: ContainersDirectory,
    caplog: pytest.LogCaptureFixture,
    layout: Layout,
    lives: bool,
    dry_run: bool,
) -> None:
    """A process without a host PID, and one that was killed and left its slot."""
    high = make(0, layout)
    low = make(1, layout, host_pid_known=not lives)
    seen = Seen() if lives else Seen(reached=[key(high)])
    with caplog.at_level(logging.INFO):
        Feedback(inventory, release_after=RELEASE_AFTER, dry_run=dry_run).round(seen)
    assert words(low) == [(2, 1) if dry_run else (-1, 1)]
    assert [
        r.getMessage() for r in records(caplog) if getattr(r, "pod_uid", "") == key(low)[0]
    ] == []


def test_who_is_busy_and_who_can_be_reached() -> None:
    """Of one node: a kernel runs, one process is killed, of one HAMi-core doesn't know the host
    PID, and nobody looks at the slots."""
    work, idle = ProcessUtilization(60, 0, 0, 0), ProcessUtilization()
    uids = [uid(number) for number in range(3)]
    readings = [
        entry(region(process(use(), hostpid=hostpid)), uid=each, container="train")
        for each, hostpid in zip(uids, (100, 200, 0), strict=True)
    ]
    one_gpu = gpu(processes=(DeviceProcess(100, GIB, work), DeviceProcess(300, GIB, idle)))
    seen = Seen.of(snapshot(*readings, gpus=(one_gpu,), live=(100,)))
    assert seen.busy == {(uids[0], "train")}
    assert seen.reached == {(uids[0], "train")}
    unseen = Seen.of(snapshot(*readings, gpus=(one_gpu,)))
    assert (unseen.busy, unseen.reached) == (frozenset(), {(each, "train") for each in uids[:2]})
