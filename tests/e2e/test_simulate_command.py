"""``vgpumonitor simulate`` as a process, served by the exporter beside it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from testing.exporter import running
from testing.polling import eventually

COMMAND = [sys.executable, "-m", "vgpumonitor", "simulate"]


def test_the_printed_command_serves_it_live(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    simulating = subprocess.Popen(
        [*COMMAND, str(directory), "--containers=6", "--gpus=2", "--seed=7", "--interval=0.1"],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        assert simulating.stdout is not None
        program, *arguments = shlex.split(simulating.stdout.readline())
        assert program == "vgpumonitor"
        with running(*arguments, "--nvml=off") as exporter:
            eventually(lambda: exporter.status("/readyz")[0] == 200)
            eventually(lambda: exporter.samples().get("vgpu_memory_used_bytes"))
            before = exporter.samples()["vgpu_memory_used_bytes"]
            eventually(lambda: exporter.samples()["vgpu_memory_used_bytes"] != before)
            namespaces = {
                dict(labels)["namespace"]
                for labels in exporter.samples()["vgpu_allocated_memory_bytes"]
            }
            assert all(namespace.startswith("team-") for namespace in namespaces)
    finally:
        simulating.send_signal(signal.SIGTERM)
        assert simulating.wait(20) == 0
    # Files stay; the next simulation may take them over.
    assert list((directory / "containers").iterdir())


def test_nobodys_files_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    refused = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert str(tmp_path) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_wrong_numbers_and_layouts_are_named(tmp_path: Path) -> None:
    for argument, named in (
        ("--layouts=1.3", "unknown layout '1.3'"),
        ("--gpus=0", "--gpus"),
        ("--containers=-1", "--containers"),
    ):
        refused = subprocess.run(
            [*COMMAND, str(tmp_path / "new"), argument], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 2
        assert named in refused.stderr
        assert not (tmp_path / "new").exists()
