"""The least that the exporter needs.

It runs in a mount namespace of its own: as user 65534, without any capability or a way to get
one, with a root file system that nobody can write to. Interpreter, packages, project and
containers directory are bind mounts, since their paths may lead through directories that only
root may search (a virtual environment under /root).
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.exporter import Exporter
from testing.region_files import put
from testing.tools import require
from tests.hostile.sandbox import ROOT, in_mounts_of, started, unshare

NAME = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11_train"
OTHER = "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a7e22_late"
REGION = "hami-2.9.0-three-processes"
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    # Not tmp_path, which only its owner may search.
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def exporter(place: Path, tmp_path: Path) -> Iterator[Exporter]:
    if os.getuid() != 0:
        pytest.skip("only root can become another user and mount")
    containers = place / "containers"
    put(REGION, containers / NAME / f"{NAME}.cache")
    base = Path(sys.base_prefix)
    mounts = {
        "python": base,
        "packages": Path(site.getsitepackages()[0]),
        "project": ROOT,
    }
    script = ["mount --make-rprivate /"]
    for name, source in mounts.items():
        (place / name).mkdir()
        script += [
            f"mount --bind '{source}' {place}/{name}",
            f"mount -o remount,bind,ro {place}/{name}",
        ]
    script += [
        f"mount --bind {containers} {containers}",
        f"mount -o remount,bind,ro {containers}",
        "mount -o remount,bind,ro /",
        "cd /",
        f"export HOME=/nowhere PYTHONPATH={place}/project:{place}/packages",
        f"export LD_LIBRARY_PATH={place}/python/lib",
    ]
    interpreter = place / "python" / Path(os.path.realpath(sys.executable)).relative_to(base)
    with started(
        containers,
        tmp_path / "log",
        wrapper=unshare("--mount"),
        script="\n".join(script),
        python=(
            require("setpriv"),
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all",
            str(interpreter),
        ),
    ) as made:
        yield made


def test_unprivileged_and_read_only(exporter: Exporter, place: Path) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{exporter.process.pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() == [str(NOBODY)] * 4
    assert status["Gid"].split() == [str(NOBODY)] * 4
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    for directory in (Path("/"), place / "containers", place / "project"):
        with pytest.raises(subprocess.CalledProcessError) as refused:
            # As root: the file system itself is read-only.
            in_mounts_of(exporter, "mkdir", str(directory / "written"))
        assert "Read-only file system" in refused.value.stderr

    def complete(container: str) -> None:
        found = exporter.samples()
        for name, series in (
            ("vGPU_device_memory_usage_in_bytes", 2),
            ("vGPU_device_memory_limit_in_bytes", 2),
            ("Device_last_kernel_of_container", 2),
        ):
            of_container = [s for s in found[name] if ("ctrname", container) in s]
            assert len(of_container) == series, name

    complete("train")
    # Written from outside; an event tells it.
    put(REGION, place / "containers" / OTHER / "x.cache")
    complete("train")
    complete("late")
    assert exporter.value("vgpumonitor_watch_events_total") > 0  # type: ignore[operator]
    assert exporter.status("/readyz")[0] == 200
    assert "level=warning" not in exporter.log
    assert "level=error" not in exporter.log
