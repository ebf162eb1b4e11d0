"""The simulated libnvidia-ml.so.1, compiled from ``nvml.c``: for the real pynvml."""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

#: The environment variable that tells the library where its state is.
STATE_VARIABLE = "VGPUMONITOR_SIMULATED_NVML"

#: What pynvml loads.
_NAME = "libnvidia-ml.so.1"


class BuildError(Exception):
    """The library can't be compiled; the message says why."""


def build(directory: Path) -> Path:
    """Compiles the library into ``directory``, and returns its path. With the directory in
    LD_LIBRARY_PATH a process loads it in place of the driver's. Raises BuildError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BuildError("the simulated NVML needs a C compiler, and there is no cc in PATH")
    path = directory / _NAME
    with resources.as_file(resources.files("vgpumonitor.simulate.nvml") / "nvml.c") as source:
        done = subprocess.run(
            [
                *(compiler, "-std=c11", "-O1", "-fPIC", "-shared"),
                *("-fvisibility=hidden", f"-Wl,-soname,{_NAME}", "-pthread"),
                *("-o", str(path), str(source)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise BuildError(f"{compiler} can't compile the simulated NVML: {done.stderr.strip()}")
    return path
