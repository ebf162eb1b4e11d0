"""Clean-up: what it removes, and all that keeps it from removing."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from testing.polling import eventually
from testing.tools import require
from tests.controllers.records import messages, records
from vgpumonitor.controllers import Cleanup, CleanupHealth, cleanup
from vgpumonitor.region.layouts import V1_2
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.simulate.procfs import SimulatedProcfs
from vgpumonitor.snapshot import ProcessIdentification
from vgpumonitor.sources import processes
from vgpumonitor.sources.containers.directory import ContainersDirectory
from vgpumonitor.sources.pods.model import Pod, PodsView
from vgpumonitor.sources.processes import HostProcesses

DEVICES = [RegionDevice("GPU-8664316c-6888-5063-1e4d-f2a09cfbf100", 20 << 30, 30)]
GRACE = 300.0


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


class Pods:
    """A pod source whose view the test sets; a node is never without any pod."""

    name = "test"

    def __init__(self) -> None:
        self._view = PodsView(up=True, synced=time.time())
        self._before_removal: Callable[[], object] | None = None
        self._looks = 0
        self.list()

    async def run(self) -> None: ...

    @property
    def view(self) -> PodsView:
        self._looks += 1
        if self._before_removal is not None and self._looks == 2:
            happens, self._before_removal = self._before_removal, None
            happens()
        return self._view

    @view.setter
    def view(self, view: PodsView) -> None:
        self._view = view

    def list(self, *uids: str) -> None:
        pods = {each: Pod(each, "default", "train") for each in (*uids, uid(99_999))}
        self._view = replace(self._view, pods=pods)

    def before_removal(self, happens: Callable[[], object]) -> None:
        """``happens`` in the next round, once the first directory was examined: the round
        looks at the view when it begins, and again before it removes anything."""
        self._before_removal = happens
        self._looks = 0


@dataclass
class Node:
    """A containers directory, its clean-up, and the time of both clocks, which begin now."""

    containers_dir: Path
    procfs: Path
    inventory: ContainersDirectory
    pods: Pods = field(default_factory=Pods)
    later: float = 0.0
    wall_set: float = 0.0

    def gc(self, dry_run: bool = False, max_tried: int = cleanup.MAX_TRIED) -> Cleanup:
        return Cleanup(
            self.inventory,
            self.pods,
            ProcessIdentification(HostProcesses(self.procfs)),
            GRACE,
            dry_run,
            max_tried,
            wall_clock=lambda: time.time() + self.later + self.wall_set,
            monotonic=lambda: 1000 + self.later,
        )

    def wait(self, seconds: float, synced: bool = True) -> None:
        self.later += seconds
        if synced:
            self.pods.view = replace(self.pods.view, synced=time.time() + self.later)

    def make(self, number: int, hostpid: int = 0) -> Path:
        """A container's directory as a dead container leaves it."""
        directory = self.containers_dir / f"{uid(number)}_train"
        directory.mkdir()
        directory.chmod(0o777)
        with RegionWriter(directory / f"{directory.name}.cache", V1_2, DEVICES, 1000) as region:
            if hostpid:
                region.register(7)
                region.set_hostpid(7, hostpid)
        (directory / "libvgpu.so").touch()
        return directory

    def process(self, pid: int, cgroup: str) -> None:
        """A process of the host, which is 7 in its container."""
        self.procfs.rmdir()
        SimulatedProcfs(self.procfs).add(pid, "python3", cgroup, (7,))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    for name in ("containers", "proc"):
        (tmp_path / name).mkdir()
    inventory = ContainersDirectory(tmp_path / "containers")
    inventory.start()
    yield Node(tmp_path / "containers", tmp_path / "proc", inventory)
    inventory.stop()


def after_the_grace(node: Node, gc: Cleanup) -> None:
    """Two rounds, with the grace and the source's sync between them."""
    gc.round()
    node.wait(GRACE + 1)
    gc.round()


def test_removes_what_has_no_pod(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    kept, gone, static = node.make(1), node.make(2), node.containers_dir / f"{'a' * 32}_train"
    shutil.copytree(gone, static)
    (gone / "deep" / "deeper").mkdir(parents=True)
    (gone / "deep" / "data").write_bytes(b"x")
    os.mkfifo(gone / "deep" / "pipe")
    others = node.containers_dir / "not-a-container", node.containers_dir / f"{uid(3)}_file"
    others[0].mkdir()
    others[1].touch()
    outside = node.containers_dir.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (gone / "link").symlink_to(outside)
    node.pods.list(uid(1))
    gc = node.gc()
    with caplog.at_level(logging.INFO):
        after_the_grace(node, gc)
    assert sorted(node.containers_dir.iterdir()) == sorted([kept, *others])
    assert len(list(kept.iterdir())) == 2
    assert (outside / "precious").exists()
    assert gc.health == CleanupHealth(removed=2, last_round=gc.health.last_round, failures=0)
    assert gc.health.last_round == pytest.approx(time.time(), abs=60)
    logged = {r.entry for r in records(caplog) if r.getMessage() == "directory removed"}  # type: ignore[attr-defined]
    assert logged == {gone.name, static.name}


def test_what_something_else_removes_is_counted(node: Node) -> None:
    """HAMi after 2.10 removes the directories too."""
    node.make(1)
    gone, ours = node.make(2), node.make(3)
    node.pods.list(uid(1))
    gc = node.gc()
    gc.round()
    shutil.rmtree(gone)
    assert gc.health.last_by_others is None
    gc.round()
    assert gc.health.by_others == 1
    last = gc.health.last_by_others
    assert last == gc.health.last_round
    node.wait(GRACE + 1)
    gc.round()
    assert not ours.exists()
    gc.round()
    assert (gc.health.removed, gc.health.by_others) == (1, 1)
    assert gc.health.last_by_others == last


def source_down(node: Node) -> None:
    node.pods.view = replace(node.pods.view, up=False)


def never_synced(node: Node) -> None:
    node.pods.view = replace(node.pods.view, synced=None)


def of_another_node(node: Node) -> None:
    node.pods.view = replace(node.pods.view, pods={})


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (source_down, logging.WARNING),
        # At every start.
        (never_synced, logging.INFO),
        (of_another_node, logging.WARNING),
    ],
)
def test_nothing_is_removed_without_a_good_list(
    node: Node, state: Callable[[Node], None], level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = node.make(1)
    good = node.pods.view
    state(node)
    gc = node.gc()
    for _ in range(5):
        node.wait(GRACE + 1, synced=False)
        gc.round()
    assert directory.exists()
    assert gc.health == CleanupHealth()
    assert messages(caplog) == ["clean-up is paused"]
    assert [record.levelno for record in records(caplog)] == [level]
    # The grace begins with the first good list.
    node.pods.view = good
    node.wait(0)
    gc.round()
    assert directory.exists()
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


def test_the_last_pod_of_a_node(node: Node) -> None:
    directory = node.make(1)
    gone = Pod(uid(1), "default", "train")
    node.pods.view = replace(node.pods.view, pods={}, deleted={gone.uid: gone})
    after_the_grace(node, node.gc())
    assert not directory.exists()


def test_a_source_that_is_down_between_begins_the_grace_anew(node: Node) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wait(GRACE / 2)
    node.pods.view = replace(node.pods.view, up=False)
    gc.round()
    node.pods.view = replace(node.pods.view, up=True)
    node.wait(GRACE / 2 + 1)
    gc.round()
    assert directory.exists()


def test_a_list_that_is_older_than_the_directory_removes_nothing(node: Node) -> None:
    gc = node.gc()
    directory = node.make(1)
    gc.round()
    node.wait(GRACE + 1, synced=False)
    gc.round()
    assert directory.exists()
    # Younger, but not by the grace.
    node.pods.view = replace(node.pods.view, synced=time.time() + GRACE - 5)
    node.wait(GRACE + 1, synced=False)
    gc.round()
    assert directory.exists()
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


def test_a_pod_that_is_listed_again_keeps_its_directory(node: Node) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wait(GRACE / 2)
    node.pods.list(uid(1))
    gc.round()
    node.pods.list()
    node.wait(GRACE / 2 + 1)
    gc.round()
    assert directory.exists()
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


@pytest.mark.parametrize("change", ["listed", "down"])
def test_a_list_that_changes_within_a_round(node: Node, change: str) -> None:
    first, second = node.make(1), node.make(2)
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)
    if change == "listed":
        node.pods.before_removal(lambda: node.pods.list(uid(1), uid(2)))
    else:
        down = replace(node.pods.view, up=False)
        node.pods.before_removal(lambda: setattr(node.pods, "view", down))
    gc.round()
    assert first.exists()
    assert second.exists()
    assert gc.health.removed == 0


@pytest.mark.parametrize("where", ["directory", "region", "deep"])
def test_what_changed_within_the_grace_stays(node: Node, where: str) -> None:
    directory = node.make(1)
    (directory / "deep" / "deeper").mkdir(parents=True)
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)
    soon = time.time() + node.later - 5
    changed = {
        "directory": directory,
        "region": directory / f"{directory.name}.cache",
        "deep": directory / "deep" / "deeper",
    }[where]
    os.utime(changed, (soon, soon))
    gc.round()
    assert directory.exists()
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


def seen_long_ago(node: Node, gc: Cleanup) -> None:
    """A round as of before the grace: what counts now is how old the directory is."""
    node.later = -GRACE - 1
    gc.round()
    node.wait(GRACE + 1)


def test_an_old_directory_that_was_moved_here_is_new(node: Node) -> None:
    directory = node.make(1)
    for path in (*directory.iterdir(), directory):
        os.utime(path, (1, 1))
    gc = node.gc()
    seen_long_ago(node, gc)
    gc.round()
    assert directory.exists()
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


def test_a_list_of_before_the_clock_was_set_back(node: Node) -> None:
    directory = node.make(1)
    gc = node.gc()
    seen_long_ago(node, gc)
    node.pods.view = replace(node.pods.view, synced=time.time() + 86400)
    gc.round()
    assert directory.exists()


@pytest.mark.parametrize("by", [-86400.0, 86400.0])
def test_a_clock_that_is_set_makes_nothing_old(node: Node, by: float) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wall_set = by
    node.pods.view = replace(node.pods.view, synced=time.time() + by)
    node.wait(GRACE - 10, synced=False)
    gc.round()
    assert directory.exists()


def test_times_in_the_future_are_changes_of_now(node: Node) -> None:
    directory = node.make(1)
    far = time.time() + 10 * 86400
    os.utime(directory, (far, far))
    gc = node.gc()
    for _ in range(3):
        after_the_grace(node, gc)
    assert directory.exists()


def test_a_symbolic_link_is_not_followed(node: Node) -> None:
    outside = node.containers_dir.parent / "outside"
    shutil.copytree(node.make(1), outside)
    link = node.containers_dir / f"{uid(2)}_train"
    link.symlink_to(outside)
    gc = node.gc()
    after_the_grace(node, gc)
    assert link.is_symlink()
    assert len(list(outside.iterdir())) == 2
    assert gc.health.removed == 1


def swap_for_link(directory: Path) -> Path:
    outside = directory.parent.parent / "outside"
    directory.rename(directory.parent.parent / "moved")
    outside.mkdir()
    (outside / "precious").touch()
    directory.symlink_to(outside)
    return outside / "precious"


def test_swapped_for_a_link_after_the_look(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)
    read = node.inventory.read
    precious: list[Path] = []

    def look_then_swap() -> object:
        view = read()
        precious.append(swap_for_link(directory))
        return view

    monkeypatch.setattr(node.inventory, "read", look_then_swap)
    gc.round()
    assert precious[0].exists()
    assert directory.is_symlink()
    assert gc.health.removed == 0


def test_swapped_for_a_link_while_it_is_removed(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)
    precious: list[Path] = []
    node.pods.before_removal(lambda: precious.append(swap_for_link(directory)))
    gc.round()
    assert precious[0].exists()
    assert directory.is_symlink()
    assert gc.health.removed == 0
    assert messages(caplog)[-1] == "directory not removed"


def test_a_directory_inside_swapped_for_a_link_while_it_is_removed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = node.make(1)
    deep = directory / "deep"
    deep.mkdir()
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)
    outside = node.containers_dir.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    real = os.open

    def swap_then_open(path: str, flags: int, **more: int) -> int:
        """It was seen to be a directory, and is a link when it is opened."""
        if path == "deep":
            deep.rmdir()
            deep.symlink_to(outside)
        return real(path, flags, **more)

    node.pods.before_removal(lambda: monkeypatch.setattr(os, "open", swap_then_open))
    gc.round()
    assert deep.is_symlink()
    assert (outside / "precious").exists()
    assert gc.health.removed == 0


def test_recreated_while_it_is_removed(node: Node) -> None:
    directory = node.make(1)
    gc = node.gc()
    gc.round()
    node.wait(GRACE + 1)

    def recreate() -> None:
        shutil.rmtree(directory)
        directory.mkdir()

    node.pods.before_removal(recreate)
    gc.round()
    assert directory.is_dir()
    assert gc.health.removed == 0


@pytest.mark.parametrize("how", ["open", "mapped", "deep"])
def test_a_file_that_someone_writes_keeps_the_directory(
    node: Node, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = node.make(1)
    path = directory / f"{directory.name}.cache"
    if how == "deep":
        (directory / "deep").mkdir()
        path = directory / "deep" / "log"
        path.write_bytes(b"x" * 4096)
    file = path.open("r+b")
    held: object = file
    if how == "mapped":
        held = mmap.mmap(file.fileno(), 4096)
        file.close()
    gc = node.gc()
    after_the_grace(node, gc)
    node.wait(GRACE + 1)
    gc.round()
    assert sorted(each.name for each in directory.iterdir())[:1] == [f"{directory.name}.cache"]
    assert (gc.health.removed, gc.health.failures) == (0, 0)
    assert messages(caplog).count("directory not removed") == 1
    held.close()  # type: ignore[attr-defined]
    node.wait(GRACE + 1)
    gc.round()
    assert not directory.exists()


def test_a_file_that_someone_has_a_lease_on_keeps_the_directory(node: Node) -> None:
    directory = node.make(1)
    path = directory / "libvgpu.so"
    with path.open("r+b") as file:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            gc = node.gc()
            after_the_grace(node, gc)
        finally:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
    assert path.exists()
    assert gc.health.removed == 0


CONTAINER = "/kubepods/burstable/pod{}/" + "c" * 64


@pytest.mark.parametrize(
    ("pod", "stays"), [(uid(1), True), (None, True), (uid(2), False)], ids=["its", "no", "other"]
)
def test_a_live_process_of_the_region(node: Node, pod: str | None, stays: bool) -> None:
    directory = node.make(1, hostpid=4711)
    cgroup = "/system.slice/x.service" if pod is None else CONTAINER.format(pod)
    node.process(4711, cgroup)
    gc = node.gc()
    after_the_grace(node, gc)
    assert directory.exists() == stays


def test_a_process_that_no_look_has_come_to_yet(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """HAMi-core did not find its host PID, and one look reads no more than so many processes."""
    monkeypatch.setattr(processes, "MAX_READ", 3)
    directory = node.make(1, hostpid=99)
    node.procfs.rmdir()
    procfs = SimulatedProcfs(node.procfs)
    for pid in range(100, 120):
        procfs.add(pid, "python3", CONTAINER.format(uid(2)), (pid,))
    after_the_grace(node, node.gc())
    assert directory.exists()
    (record,) = [r for r in records(caplog) if r.getMessage() == "directory not removed"]
    assert getattr(record, "error", "") == (
        "it stays: process 7 in its region may be one of those on this node that were not looked "
        "at yet"
    )


def test_processes_that_cannot_be_seen_do_not_count(node: Node) -> None:
    directory = node.make(1, hostpid=4711)
    (node.procfs / "4711").mkdir()
    after_the_grace(node, node.gc())
    assert not directory.exists()


def test_so_deep_that_it_stays(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    directory = node.make(1)
    (directory / "/".join("d" * cleanup.MAX_DEPTH)).mkdir(parents=True)
    gc = node.gc()
    after_the_grace(node, gc)
    assert len(list(directory.iterdir())) == 3
    assert gc.health.removed == 0
    # One less is removed.
    shutil.rmtree(directory / "d")
    (directory / "/".join("d" * (cleanup.MAX_DEPTH - 1))).mkdir(parents=True)
    node.wait(GRACE + 10)
    gc.round()
    assert not directory.exists()


@pytest.mark.slow
def test_ten_thousand_at_once(node: Node) -> None:
    for number in range(10_000):
        (node.containers_dir / f"{uid(number)}_train").mkdir()
    kept = node.make(10_001)
    stuck = [node.containers_dir / f"{uid(number)}_train" for number in range(150)]
    files = [(each / "held").open("wb") for each in stuck]
    node.pods.list(uid(10_001))
    gc = node.gc(max_tried=1000)
    gc.round()
    assert gc.health.removed == 0
    node.wait(GRACE + 1)
    counts = []
    for _ in range(10):
        before = gc.health.removed
        gc.round()
        counts.append(gc.health.removed - before)
    assert max(counts) <= 1000
    assert sum(counts) == 10_000 - 150
    assert sorted(node.containers_dir.iterdir()) == sorted([*stuck, kept])
    for file in files:
        file.close()


def test_those_that_stay_let_the_others_have_their_turn(node: Node) -> None:
    stuck = [node.make(number) for number in range(5)]
    files = [(each / "libvgpu.so").open("r+b") for each in stuck]
    gc = node.gc(max_tried=4)
    gc.round()
    node.wait(1)
    others = [node.make(number) for number in range(5, 8)]
    after_the_grace(node, gc)
    gc.round()
    assert all(each.exists() for each in stuck)
    assert not any(each.exists() for each in others)
    for file in files:
        file.close()


def test_no_more_than_a_hundred_in_a_round(node: Node) -> None:
    for number in range(130):
        (node.containers_dir / f"{uid(number)}_train").mkdir()
    gc = node.gc()
    after_the_grace(node, gc)
    assert gc.health.removed == 100
    gc.round()
    assert gc.health.removed == 130


def test_dry_run_removes_nothing_and_says_it_once(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = node.make(1), node.make(2)
    content = sorted(first.iterdir())
    gc = node.gc(dry_run=True)
    with caplog.at_level(logging.INFO):
        after_the_grace(node, gc)
        after_the_grace(node, gc)
        after_the_grace(node, gc)
    assert sorted(first.iterdir()) == content
    assert second.exists()
    assert gc.health == CleanupHealth(2, gc.health.last_round, 0, True)
    said = [r.entry for r in records(caplog) if r.getMessage() == "directory would be removed"]  # type: ignore[attr-defined]
    assert sorted(said) == [first.name, second.name]


def test_a_failure_is_counted_logged_once_and_hinders_nobody(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = node.make(1), node.make(2)
    (bad / "protected").touch()
    unlink = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "protected":
            raise PermissionError(1, "Operation not permitted", name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr("vgpumonitor.controllers.cleanup.os.unlink", refuse)
    gc = node.gc()
    after_the_grace(node, gc)
    assert bad.exists()
    assert not good.exists()
    node.wait(2 * GRACE)
    gc.round()
    assert (gc.health.removed, gc.health.failures) == (1, 2)
    assert messages(caplog).count("directory not removed") == 1
    assert "Operation not permitted" in str(records(caplog)[-1].__dict__["error"])


def in_mounts(script: str, containers_dir: Path) -> tuple[dict[str, object], str]:
    """Two rounds of clean-up after ``script`` (shell) in mount and user namespaces of their
    own: its health, and its log."""
    unshare = [require("unshare"), "--mount", "--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("this system allows no user namespaces; in CI it must")
        pytest.skip("this system allows no user namespaces")
    python = f'exec "{sys.executable}" -m tests.controllers.process gc "$DIR"'
    done = subprocess.run(
        [*unshare, "sh", "-ec", f"{script}\n{python}"],
        env={**os.environ, "DIR": str(containers_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(
    "mount",
    [
        'mount -t tmpfs none "$DIR/{name}/deep"',
        'mount --bind "$DIR/../outside" "$DIR/{name}/deep"',
        'mount --bind "$DIR/../outside/precious" "$DIR/{name}/libvgpu.so"',
        'mount --bind "$DIR/../outside" "$DIR/{name}"',
        'mount --bind "$DIR/../empty" "$DIR/{name}"',
    ],
    ids=["tmpfs", "bind mount", "of a file", "over it", "empty one over it"],
)
def test_a_mount_point_inside(node: Node, mount: str) -> None:
    directory, other = node.make(1), node.make(2)
    (directory / "deep").mkdir()
    outside = node.containers_dir.parent / "outside"
    outside.mkdir()
    (node.containers_dir.parent / "empty").mkdir()
    (outside / "precious").touch()
    health, log = in_mounts(mount.format(name=directory.name), node.containers_dir)
    assert (health["removed"], health["failures"]) == (1, 0)
    assert "mount point" in log
    assert sorted(each.name for each in directory.iterdir()) == sorted(
        [f"{directory.name}.cache", "deep", "libvgpu.so"]
    )
    assert (outside / "precious").exists()
    assert not other.exists()


def test_a_containers_directory_that_is_a_mount_itself(node: Node) -> None:
    node.make(1)
    health, _ = in_mounts('mount --bind "$DIR" "$DIR"', node.containers_dir)
    assert health["removed"] == 1
    assert list(node.containers_dir.iterdir()) == []


def test_a_read_only_file_system(node: Node) -> None:
    directories = [node.make(1), node.make(2), node.make(3)]
    script = 'mount --bind "$DIR" "$DIR"\nmount -o remount,bind,ro "$DIR"'
    health, log = in_mounts(script, node.containers_dir)
    assert health["removed"] == 0
    assert health["failures"] == 2  # One a round.
    assert log.count("from a read-only file system") == 1
    assert all(len(list(each.iterdir())) == 2 for each in directories)


def test_runs_until_cancelled(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.make(1)
    gc = Cleanup(
        node.inventory, node.pods, ProcessIdentification(HostProcesses(node.procfs)), grace=0
    )
    node.pods.view = replace(node.pods.view, synced=time.time() + 10)
    read, failures = node.inventory.read, [RuntimeError("unforeseen")]

    def fail_once() -> object:
        if failures:
            raise failures.pop()
        return read()

    monkeypatch.setattr(node.inventory, "read", fail_once)
    monkeypatch.setattr(cleanup, "INTERVAL", 0.01)

    async def run() -> None:
        task = asyncio.create_task(gc.run())
        await asyncio.to_thread(eventually, lambda: gc.health.removed == 1)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert list(node.containers_dir.iterdir()) == []
