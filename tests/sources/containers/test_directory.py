"""The containers directory over real directories, with real events and real files."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from testing.polling import eventually
from testing.region_files import put, recorded_bytes
from testing.resources import Held
from testing.values import OTHER, UID
from vgpumonitor.region.reader import open_regular
from vgpumonitor.sources import events as events_module
from vgpumonitor.sources.containers import (
    ContainerReading,
    ContainersDirectory,
    ContainersView,
    parse_name,
)
from vgpumonitor.sources.containers import container as container_module
from vgpumonitor.sources.containers import directory as directory_module
from vgpumonitor.sources.containers.container import MAX_ENTRIES

NAME = f"{UID}_train"
GOOD = "hami-2.9.0-three-processes"
NEXT = "hami-2.6.0-three-processes"
#: So long that only events can have told.
NEVER = 3600.0


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    directory = tmp_path / "containers"
    directory.mkdir()
    return directory


@pytest.fixture
def inventory(containers: Path) -> Iterator[ContainersDirectory]:
    made = ContainersDirectory(containers)
    made.start()
    eventually(lambda: made.synced)
    yield made
    made.stop()


def by_name(view: ContainersView) -> dict[str, ContainerReading]:
    return {f"{entry.pod_uid}_{entry.container}": entry for entry in view.containers}


def states(inventory: ContainersDirectory) -> dict[str, str]:
    return {name: entry.state for name, entry in by_name(inventory.read()).items()}


def layout_of(inventory: ContainersDirectory, name: str = NAME) -> str | None:
    region = by_name(inventory.read())[name].region
    return None if region is None else region.layout


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (NAME, (UID, "train")),
        (f"{UID}_a", (UID, "a")),
        (f"{UID}_{'a' * 63}", (UID, "a" * 63)),
        ("0123456789abcdef0123456789abcdef_etcd", ("0123456789abcdef0123456789abcdef", "etcd")),
        (UID, None),
        (f"{UID}_", None),
        (f"{UID}_a_b", None),
        (f"{UID}_-a", None),
        (f"{UID}_A", None),
        (f"{UID}_{'a' * 64}", None),
        (f"{UID}_a\n", None),
        (f"{UID}_../x", None),
        (f"{UID.upper()}_a", None),
        (f"{UID[:-1]}_a", None),
        ("0123456789abcdef0123456789abcde_etcd", None),
        ("lost+found", None),
    ],
)
def test_names_are_parsed_strictly(name: str, parsed: tuple[str, str] | None) -> None:
    assert parse_name(name) == parsed


@pytest.mark.parametrize(
    ("changed_ns", "age", "kept"),
    [
        (1_700_000_000_123_456_789, 0.0, False),
        (1_700_000_000_123_456_789, 0.04, False),
        (1_700_000_000_123_456_789, 0.06, True),
        (1_700_000_000_123_456_789, -3600.0, False),
        # A file system that keeps no parts of a second.
        (1_700_000_000_000_000_000, 0.9, False),
        (1_700_000_000_000_000_000, 1.1, True),
    ],
)
def test_a_stamp_in_which_a_later_change_may_not_show_is_none(
    changed_ns: int, age: float, kept: bool
) -> None:
    status = os.stat_result(
        (0o40755, 7, 3, 2, 0, 0, 0, 0, 0, 0),
        {"st_ctime": changed_ns / 1e9, "st_ctime_ns": changed_ns},
    )
    expected = (3, 7, changed_ns) if kept else None
    assert container_module.stamp_of(status, changed_ns / 1e9 + age) == expected


class TestLifecycle:
    """Each is right at the very next read, without waiting for anything."""

    def test_a_container_starts_and_its_file_comes_later(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        assert states(inventory) == {}
        (containers / NAME).mkdir()
        (containers / NAME / "libvgpu.so").touch()
        assert states(inventory) == {NAME: "waiting"}
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        assert by_name(inventory.read())[NAME].path == f"{NAME}/{NAME}.cache"
        assert inventory.read().errors == {}

    def test_recreated_under_the_same_name(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.2"
        shutil.rmtree(containers / NAME)
        (containers / NAME).mkdir()
        assert states(inventory) == {NAME: "waiting"}
        put(NEXT, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.1"

    def test_recreated_at_once(self, inventory: ContainersDirectory, containers: Path) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.2"
        shutil.rmtree(containers / NAME)
        put(NEXT, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.1"

    def test_another_file_takes_the_place(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.2"
        os.rename(put(NEXT, containers / "new"), containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.1"

    def test_the_file_goes(self, inventory: ContainersDirectory, containers: Path) -> None:
        path = put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        path.unlink()
        assert states(inventory) == {NAME: "waiting"}

    def test_the_container_goes(self, inventory: ContainersDirectory, containers: Path) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        put(GOOD, containers / f"{OTHER}_a" / "x.cache")
        assert states(inventory) == {NAME: "ok", f"{OTHER}_a": "ok"}
        shutil.rmtree(containers / NAME)
        assert states(inventory) == {f"{OTHER}_a": "ok"}

    def test_renamed_to_a_name_that_sorts_before(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        (containers / NAME).mkdir()
        assert states(inventory) == {NAME: "waiting"}
        (containers / NAME).rename(containers / f"{OTHER}_train")
        assert states(inventory) == {f"{OTHER}_train": "waiting"}
        put(GOOD, containers / f"{OTHER}_train" / "x.cache")
        assert states(inventory) == {f"{OTHER}_train": "ok"}

    def test_an_unchanged_region_stays_the_same_object(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")

        def region() -> object:
            return by_name(inventory.read())[NAME].region

        # Once the directory has not changed for some of the kernel's ticks.
        eventually(lambda: region() is region())
        before = region()
        (containers / f"{OTHER}_b").mkdir()
        assert region() is before

    def test_without_any_read_events_close_what_is_gone(self, containers: Path) -> None:
        """A removed file is held no longer than its event takes."""
        inventory = ContainersDirectory(containers, NEVER)
        inventory.start()
        eventually(lambda: Held.by(os.getpid()).watches == 1)
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        shutil.rmtree(containers / NAME)
        eventually(lambda: not held(containers))
        inventory.stop()

    def test_what_a_container_does_makes_no_event(self, containers: Path) -> None:
        inventory = ContainersDirectory(containers, NEVER)
        inventory.start()
        eventually(lambda: Held.by(os.getpid()).watches == 1)
        (containers / NAME).mkdir()
        for number in range(1000):
            (containers / NAME / f"{number}").mkdir()
        # Events come in order, so that all of the thousand would come before this one.
        (containers / f"{OTHER}_b").mkdir()
        eventually(lambda: inventory.read().watch_events >= 2)
        assert inventory.read().watch_events == 2
        assert Held.by(os.getpid()).watches == 1
        inventory.stop()
        assert Held.by(os.getpid()).watches == 0

    def test_its_own_descriptors_may_have_high_numbers(self, containers: Path) -> None:
        """Where a thousand region files are open before it can watch."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
        taken = [os.open(containers, os.O_RDONLY)]
        try:
            while taken[-1] < 1024:
                taken.append(os.dup(taken[0]))
            inventory = ContainersDirectory(containers)
            inventory.start()
            try:
                put(GOOD, containers / NAME / f"{NAME}.cache")
                eventually(lambda: held(containers / NAME))
                shutil.rmtree(containers / NAME)
                eventually(lambda: not held(containers / NAME))
            finally:
                inventory.stop()
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def held(containers: Path) -> list[str]:
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith(str(containers))]


def refuse(error: Exception) -> Callable[..., BaseObserver]:
    def refusing(*_: object, **__: object) -> BaseObserver:
        raise error

    return refusing


@pytest.fixture(params=["no watch", "no instance", "no support"])
def no_events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    match request.param:
        case "no watch":
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            monkeypatch.setattr(BaseObserver, "schedule", refuse(error))
        case "no instance":
            error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            monkeypatch.setattr(events_module, "Observer", refuse(error))
        case "no support":
            missing = AttributeError("no inotify_init in this libc")
            monkeypatch.setattr(events_module, "Observer", refuse(missing))


@pytest.mark.usefixtures("no_events")
class TestWithoutEvents:
    """What is there is seen at each read all the same."""

    def test_all_of_the_lifecycle(self, containers: Path, caplog: pytest.LogCaptureFixture) -> None:
        inventory = ContainersDirectory(containers, look_interval=0.05)
        inventory.start()
        eventually(lambda: inventory.synced)
        (containers / NAME).mkdir()
        assert states(inventory) == {NAME: "waiting"}
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.2"
        shutil.rmtree(containers / NAME)
        put(NEXT, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.1"
        shutil.rmtree(containers / NAME)
        assert states(inventory) == {}
        inventory.stop()
        told = [record for record in caplog.records if "can't watch a directory" in record.message]
        assert [getattr(record, "path", "") for record in told] == [str(containers)]

    def test_the_slow_look_alone_finds_a_container(self, containers: Path) -> None:
        inventory = ContainersDirectory(containers, look_interval=0.05)
        inventory.start()
        put(GOOD, containers / NAME / f"{NAME}.cache")
        eventually(lambda: held(containers))
        shutil.rmtree(containers / NAME)
        eventually(lambda: not held(containers))
        inventory.stop()


class TestOtherEntries:
    def test_are_ignored_and_counted_once(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        (containers / "lost+found").mkdir()
        (containers / "README").touch()
        (containers / f"{OTHER}_file").touch()
        (containers / f"{OTHER}_link").symlink_to("/")
        put(GOOD, containers / NAME / f"{NAME}.cache")
        for _ in range(3):
            view = inventory.read()
            assert list(by_name(view)) == [NAME]
            assert view.errors == {"bad_name": 2, "not_directory": 2}

    def test_beside_the_region_file_count_nothing(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        put(GOOD, containers / NAME / "1234.cache")
        (containers / NAME / "libvgpu.so").touch()
        (containers / NAME / "libvgpu.so.v2.6.0").mkdir()
        (containers / NAME / "link").symlink_to("/")
        (containers / NAME / "x.cache.tmp").touch()
        assert states(inventory) == {NAME: "ok"}
        assert inventory.read().errors == {}


def version_of(data: bytes, minor: int) -> bytes:
    return data[:8] + minor.to_bytes(4, "little") + data[12:]


def bind_elsewhere(path: Path) -> None:
    # Bound under a short name, since a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{short}/s")
        shutil.move(f"{short}/s", path)


def sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


class TestBadInput:
    """Each costs its own container alone: the other one is there, the reason is counted, and
    logged once."""

    @pytest.fixture(autouse=True)
    def good_one(self, containers: Path) -> None:
        put(GOOD, containers / f"{OTHER}_good" / "x.cache")

    def check(
        self,
        inventory: ContainersDirectory,
        reason: str,
        state: str,
        caplog: pytest.LogCaptureFixture,
        name: str = NAME,
    ) -> None:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                view = inventory.read()
                found = by_name(view)
                good = found[f"{OTHER}_good"].region
                assert good is not None
                assert len(good.processes) == 3
                assert found[name].state == state
        assert view.errors[reason] >= 1
        records = [record for record in caplog.records if record.reason == reason]  # type: ignore[attr-defined]
        assert len(records) <= 1

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (Path.touch, "empty"),
            (lambda path: path.write_bytes(recorded_bytes(GOOD)[:1000]), "truncated"),
            (lambda path: path.write_bytes(recorded_bytes(GOOD)[:1500000]), "truncated"),
            (lambda path: path.write_bytes(b"\xff" * 2008953), "bad_magic"),
            (lambda path: path.write_bytes(os.urandom(2008953)), "bad_magic"),
            (lambda path: path.write_bytes(version_of(recorded_bytes(GOOD), 9)), "unknown_layout"),
            (os.mkfifo, "not_regular"),
            (bind_elsewhere, "not_regular"),
            (Path.mkdir, "not_regular"),
            (lambda path: path.symlink_to("/etc/passwd"), "symlink"),
            (lambda path: path.symlink_to(path.name), "symlink"),
            (sparse_file, "uninitialized"),
        ],
        ids=[
            "empty",
            "cut",
            "cut-to-layout-0",
            "all-ones",
            "random",
            "version",
            "fifo",
            "socket",
            "directory",
            "symlink",
            "symlink-to-itself",
            "sparse",
        ],
    )
    def test_as_region_file(
        self,
        make: Callable[[Path], object],
        reason: str,
        inventory: ContainersDirectory,
        containers: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        (containers / NAME).mkdir()
        make(containers / NAME / "x.cache")
        self.check(inventory, reason, "unreadable", caplog)

    def test_truncated_while_served_and_whole_again(
        self, inventory: ContainersDirectory, containers: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory)[NAME] == "ok"
        os.truncate(path, 1000)
        self.check(inventory, "truncated", "unreadable", caplog)
        path.write_bytes(recorded_bytes(GOOD))
        assert states(inventory)[NAME] == "ok"

    def test_twenty_files(
        self, inventory: ContainersDirectory, containers: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(20):
            path = put(GOOD, containers / NAME / f"{number}.cache")
            os.utime(path, (1000 + number, 1000 + number))
        (containers / NAME / "newest.cache").write_bytes(recorded_bytes(NEXT))
        self.check(inventory, "several_files", "ok", caplog)
        assert by_name(inventory.read())[NAME].path == f"{NAME}/newest.cache"

    def test_the_usual_name_comes_first_among_several(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        usual = put(GOOD, containers / NAME / f"{NAME}.cache")
        os.utime(usual, (1000, 1000))
        put(NEXT, containers / NAME / "newer.cache")
        assert layout_of(inventory) == "1.2"

    def test_a_broken_one_beside_a_good_one(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        (containers / NAME).mkdir()
        (containers / NAME / f"{NAME}.cache").symlink_to("/etc/passwd")
        put(NEXT, containers / NAME / "other.cache")
        assert layout_of(inventory) == "1.1"

    def test_a_million_entries(
        self,
        inventory: ContainersDirectory,
        containers: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Not more than a bounded number is looked at; koordlet's file is found all the same."""
        (containers / NAME).mkdir()
        for number in range(MAX_ENTRIES + 100):
            (containers / NAME / f"junk-{number}").touch()
        self.check(inventory, "too_many_entries", "waiting", caplog)
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.2"

    def test_a_directory_without_permission(self, containers: Path) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        (containers / NAME).chmod(0)
        script = (
            "import os, sys, pathlib, logging\n"
            "logging.basicConfig(stream=sys.stdout)\n"
            "from vgpumonitor.sources.containers.directory import ContainersDirectory\n"
            "os.getuid() or os.setuid(65534)\n"
            "inventory = ContainersDirectory(pathlib.Path(sys.argv[1]))\n"
            "for _ in range(3): view = inventory.read()\n"
            "print(sorted((e.container, e.state) for e in view.containers), view.errors)\n"
        )
        for directory in (containers, *containers.parents[:-2]):
            directory.chmod(directory.stat().st_mode | 0o055)
        out = subprocess.run(
            [sys.executable, "-c", script, str(containers)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        ).stdout
        *logged, last = out.splitlines()
        assert last == "[('good', 'ok'), ('train', 'unreadable')] {'permission': 3}"
        assert len(logged) == 1
        (containers / NAME).chmod(0o755)

    def test_a_file_that_vanishes_between_look_and_open(
        self,
        inventory: ContainersDirectory,
        containers: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        real = open_regular

        def gone(directory: int, name: str) -> int:
            if name == "vanishing.cache":
                os.unlink(name, dir_fd=directory)
            return real(directory, name)

        monkeypatch.setattr(container_module, "open_regular", gone)
        put(GOOD, containers / NAME / "vanishing.cache")
        view = inventory.read()
        assert by_name(view)[f"{OTHER}_good"].state == "ok"
        assert view.errors == {"vanished": 1}
        assert states(inventory)[NAME] == "waiting"

    def test_no_descriptors_left(
        self, inventory: ContainersDirectory, containers: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.open
        # What has not changed for some of the kernel's ticks stays open.
        eventually(
            lambda: (
                by_name(inventory.read())[f"{OTHER}_good"].region
                is by_name(inventory.read())[f"{OTHER}_good"].region
            )
        )

        def exhausted(*_: object, **__: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "open", exhausted)
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {f"{OTHER}_good": "ok", NAME: "unreadable"}
        monkeypatch.setattr(os, "open", real)
        assert states(inventory) == {f"{OTHER}_good": "ok", NAME: "ok"}


class TestContainersDirectory:
    def test_missing_is_said_once_and_tried_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        missing = tmp_path / "elsewhere" / "containers"
        inventory = ContainersDirectory(missing)
        inventory.start()
        for _ in range(3):
            view = inventory.read()
            assert not view.up
            assert not inventory.synced
            assert str(missing) in (view.error or "")
            assert view.loss == "missing"
        assert view.errors == {"no_directory": 3}
        assert sum(str(missing) in record.message for record in caplog.records) == 1
        put(GOOD, missing / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        assert inventory.synced
        inventory.stop()

    def test_removed_and_made_again(self, inventory: ContainersDirectory, containers: Path) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        shutil.rmtree(containers)
        assert states(inventory) == {}
        assert not inventory.read().up
        put(NEXT, containers / NAME / f"{NAME}.cache")
        assert layout_of(inventory) == "1.1"
        (containers / f"{OTHER}_b").mkdir()
        assert states(inventory) == {NAME: "ok", f"{OTHER}_b": "waiting"}

    def test_another_directory_takes_its_place(
        self, inventory: ContainersDirectory, containers: Path, tmp_path: Path
    ) -> None:
        put(GOOD, containers / NAME / f"{NAME}.cache")
        assert states(inventory) == {NAME: "ok"}
        put(NEXT, tmp_path / "new" / f"{OTHER}_b" / "x.cache")
        containers.rename(tmp_path / "old")
        (tmp_path / "new").rename(containers)
        assert states(inventory) == {f"{OTHER}_b": "ok"}

    def test_the_mount_of_a_directory_that_was_removed(self, containers: Path) -> None:
        """It is still there, as what a process in a container sees of it, but has no link."""
        descriptor = os.open(containers, os.O_RDONLY)
        inventory = ContainersDirectory(Path(f"/proc/self/fd/{descriptor}"))
        assert inventory.read().up
        assert inventory.unlinked_for is None
        containers.rmdir()
        view = inventory.read()
        assert not view.up
        assert "it was removed under its mount" in (view.error or "")
        assert view.loss == "removed"
        first = inventory.unlinked_for
        assert first is not None
        inventory.read()
        assert (inventory.unlinked_for or 0) > first
        containers.mkdir()
        again = os.open(containers, os.O_RDONLY)
        os.dup2(again, descriptor)
        view = inventory.read()
        assert (view.up, view.loss) == (True, None)
        assert inventory.unlinked_for is None
        os.close(again)
        os.close(descriptor)

    def test_a_new_one_in_its_place_is_watched(self, containers: Path, tmp_path: Path) -> None:
        inventory = ContainersDirectory(containers, NEVER)
        inventory.start()
        eventually(lambda: Held.by(os.getpid()).watches == 1)
        containers.rename(tmp_path / "old")
        containers.mkdir()
        inventory.read()  # Sees that it is another one, and has it watched.

        def told() -> bool:
            before = inventory.read().watch_events
            (containers / f"{OTHER}_b").mkdir()
            (containers / f"{OTHER}_b").rmdir()
            return inventory.read().watch_events > before

        eventually(told)
        assert Held.by(os.getpid()).watches == 1
        inventory.stop()

    def test_of_many_idle_directories_the_newest_are_looked_at_and_the_others_in_turn(
        self, containers: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(directory_module, "MAX_IDLE", 4)
        names = [f"{UID[:-2]}{number:02x}_c" for number in range(20)]
        for age, name in enumerate(names):
            (containers / name).mkdir()
            os.utime(containers / name, (1e9 - age, 1e9 - age))
        real = time.time
        # No directory has changed in the last tick.
        monkeypatch.setattr(time, "time", lambda: real() + 10)
        inventory = ContainersDirectory(containers)
        assert states(inventory) == dict.fromkeys(names, "waiting")
        for name in names[4:]:
            put(GOOD, containers / name / "x.cache")
            os.utime(containers / name, (1e9 - 100, 1e9 - 100))
        for number in range(1, 5):
            found = [name for name, state in states(inventory).items() if state == "ok"]
            assert len(found) == 4 * number
        put(GOOD, containers / names[0] / "x.cache")
        assert states(inventory)[names[0]] == "ok"

    def test_ten_thousand_come_and_go_and_leave_nothing(
        self, inventory: ContainersDirectory, containers: Path
    ) -> None:
        before = Held.by(os.getpid())
        for start in range(0, 10_000, 500):
            names = [f"{UID[:-6]}{number:06x}_c" for number in range(start, start + 500)]
            for name in names:
                (containers / name).mkdir()
            (containers / names[0] / "x.cache").write_bytes(recorded_bytes(GOOD))
            assert len(inventory.read().containers) == 500
            for name in names:
                shutil.rmtree(containers / name)
        assert inventory.read().containers == ()
        after = Held.by(os.getpid())
        assert (after.descriptors, after.watches) == (before.descriptors, before.watches)
