"""Everything that a container can do, all at once, beside live writers.

``VGPUMONITOR_SOAK_SECONDS`` is how long, a minute where it isn't set; where it is, one directory
has a million entries.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from testing.exporter import running, serve_arguments
from testing.polling import eventually
from testing.region_files import recorded_bytes
from testing.resources import Held
from testing.values import MIB
from tests.hostile.writers import DEVICES, KINDS, name_of, writing
from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.sources.containers.container import MAX_ENTRIES

SECONDS = float(os.environ.get("VGPUMONITOR_SOAK_SECONDS", "60"))
ENTRIES = 1_000_000 if "VGPUMONITOR_SOAK_SECONDS" in os.environ else 20 * MAX_ENTRIES
SOUND = recorded_bytes("hami-2.9.0-three-processes")
PROC_NUM = 2008896
DEVICE_NUM = 56
UUIDS = 64
#: What a process may keep more after its first half, of which most is Python's allocator.
GROWTH = 8 * MIB


def with_bytes(at: int, new: bytes) -> bytes:
    return SOUND[:at] + new + SOUND[at + len(new) :]


def bind(path: Path) -> None:
    # Bound under a short name, since a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{short}/s")
        shutil.move(f"{short}/s", path)


def sparse(path: Path, size: int, start: bytes) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def twenty(path: Path) -> None:
    for number in range(20):
        path.with_name(f"{number}.cache").write_bytes(SOUND)


def crowd(path: Path) -> None:
    for number in range(ENTRIES):
        os.mknod(path.with_name(f"{number}"))


#: What is in x.cache, or else in its directory: how it is made, and the reason that counts it.
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (Path.touch, "empty"),
    "cut": (lambda path: path.write_bytes(SOUND[:1000]), "truncated"),
    "magic": (lambda path: path.write_bytes(with_bytes(0, b"\1\2\3\4")), "bad_magic"),
    "version": (lambda path: path.write_bytes(with_bytes(8, b"\x09")), "unknown_layout"),
    "ones": (lambda path: path.write_bytes(b"\xff" * len(SOUND)), "bad_magic"),
    "random": (lambda path: path.write_bytes(Random(1).randbytes(len(SOUND))), "bad_magic"),
    "many-processes": (
        lambda path: path.write_bytes(with_bytes(PROC_NUM, b"\xff\xff\xff\x7f")),
        "bad_proc_num",
    ),
    "negative-processes": (
        lambda path: path.write_bytes(with_bytes(PROC_NUM, b"\xff\xff\xff\xff")),
        "bad_proc_num",
    ),
    "many-devices": (
        lambda path: path.write_bytes(with_bytes(DEVICE_NUM, b"\xff" * 8)),
        "bad_device_num",
    ),
    "control-uuid": (
        lambda path: path.write_bytes(with_bytes(UUIDS, b'\x1b[2J"\n\\{}')),
        "bad_uuid",
    ),
    "other-script": (
        lambda path: path.write_bytes(with_bytes(UUIDS, "GPU-Пример".encode())),
        "bad_uuid",
    ),
    "pipe": (os.mkfifo, "not_regular"),
    "socket": (bind, "not_regular"),
    "directory": (Path.mkdir, "not_regular"),
    "link": (lambda path: path.symlink_to("/etc/passwd"), "symlink"),
    "loop": (lambda path: path.symlink_to(path.name), "symlink"),
    "huge": (lambda path: sparse(path, 1 << 40, b""), "uninitialized"),
    "huge-with-magic": (lambda path: sparse(path, 1 << 40, SOUND[:4]), "unknown_layout"),
    "twenty": (twenty, "several_files"),
    "crowd": (crowd, "too_many_entries"),
}


def directory_of(containers: Path, number: int, name: str) -> Path:
    return containers / f"22222222-3333-4444-8555-{number:012x}_{name}"


class Mischief:
    """Containers that go on changing what is in their directories; a thread each."""

    def __init__(self, containers: Path) -> None:
        self._stop = threading.Event()
        self._threads = []
        for number, (name, act) in enumerate(
            {
                "truncates": self._truncates,
                "vanishes": self._vanishes,
                "storms": self._storms,
                "replaces": self._replaces,
                "recreates": self._recreates,
                "scribbles": self._scribbles,
            }.items()
        ):
            directory = directory_of(containers, 1000 + number, name)
            directory.mkdir()
            self._threads.append(threading.Thread(target=self._run, args=(act, directory)))

    def _run(self, act: Callable[[Path], None], directory: Path) -> None:
        while not self._stop.wait(0.01):
            act(directory)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
            assert all(thread.is_alive() for thread in self._threads)
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _truncates(self, directory: Path) -> None:
        (directory / "x.cache").write_bytes(SOUND)
        os.truncate(directory / "x.cache", 100_000)

    def _vanishes(self, directory: Path) -> None:
        (directory / "x.cache").write_bytes(SOUND)
        (directory / "x.cache").unlink()

    def _storms(self, directory: Path) -> None:
        for number in range(256):
            (directory / f"{number}.cache").touch()
            (directory / f"{number}.cache").unlink()

    def _replaces(self, directory: Path) -> None:
        (directory / "new").write_bytes(SOUND)
        (directory / "new").rename(directory / "x.cache")

    def _recreates(self, directory: Path) -> None:
        shutil.rmtree(directory)
        directory.mkdir()
        (directory / "x.cache").write_bytes(SOUND)

    def _scribbles(self, directory: Path) -> None:
        (directory / "x.cache").write_bytes(
            with_bytes(Random().randrange(4, 4096), Random().randbytes(64))
        )


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "containers"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)  # A million entries that pytest would keep for three more runs.


def test_all_at_once(containers: Path) -> None:
    layouts = [layout.name for layout in LAYOUTS]
    names = {name_of(layout).partition("_")[2] for layout in layouts}
    good = sorted(
        (name, device.uuid or "", kind)
        for name in names
        for device in DEVICES
        for kind in (*KINDS, "other")
    )
    for number, (name, (make, _)) in enumerate(BAD.items()):
        directory = directory_of(containers, number, name)
        directory.mkdir()
        make(directory / "x.cache")
    (containers / "lost+found").mkdir()
    seconds: list[float] = []
    torn_before = 0.0
    with (
        writing(containers, layouts),
        running(*serve_arguments(containers)) as exporter,
        Mischief(containers).going_on(),
    ):

        def scrape() -> None:
            nonlocal torn_before
            began = time.perf_counter()
            found = exporter.samples()
            seconds.append(time.perf_counter() - began)
            labels = [dict(series) for series in found["vgpu_memory_used_bytes"]]
            assert good == sorted(
                (series["container"], series["device_uuid"], series["kind"])
                for series in labels
                if series["container"] in names
            )
            (torn,) = found["vgpumonitor_torn_reads_total"].values()
            assert torn >= torn_before
            torn_before = torn

        def counted() -> set[str]:
            errors = exporter.samples()["vgpumonitor_region_errors_total"]
            return {dict(series)["reason"] for series, value in errors.items() if value}

        expected = {reason for _, reason in BAD.values()} | {"bad_name"}
        eventually(lambda: expected <= counted())
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end:
            scrape()
        before = Held.by(exporter.process.pid)
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end:
            scrape()
        after = Held.by(exporter.process.pid)
        assert exporter.process.poll() is None
        lines = exporter.log.splitlines()
    median = statistics.median(seconds)
    print(
        f"\n{len(seconds)} scrapes, median {median * 1000:.1f} ms, longest "
        f"{max(seconds) / median:.1f} times that; {before} then {after}; {len(lines)} log lines"
    )
    assert after.memory <= before.memory + GROWTH
    # The mischief's files are open or not at the moment of a look.
    assert abs(after.descriptors - before.descriptors) <= len(BAD)
    assert abs(after.watches - before.watches) <= len(BAD)
    assert not [line for line in lines if "Traceback" in line]
    for name in BAD:
        told = re.findall(rf"entry=\S+_{name} .*reason=(\S+)", "\n".join(lines))
        assert BAD[name][1] in told
        assert len(told) == len(set(told)), f"{name}: {told}"
