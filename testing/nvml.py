"""The simulated libnvidia-ml.so.1, compiled from ``nvml.c``, under the real pynvml."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from testing.tools import require
from vgpumonitor.simulate.nvml.state import SimulatedNvml

#: The environment variable that tells the library where its state is.
STATE_VARIABLE = "VGPUMONITOR_SIMULATED_NVML"

#: What pynvml loads.
_NAME = "libnvidia-ml.so.1"
_SOURCE = Path(__file__).with_name("nvml.c")


class BuildError(Exception):
    """The library can't be compiled; the message says why."""


def build(directory: Path) -> Path:
    """Compiles the library into ``directory``, and returns its path. With the directory in
    LD_LIBRARY_PATH a process loads it in place of the driver's. Raises BuildError."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise BuildError("the simulated NVML needs a C compiler, and there is no cc in PATH")
    path = directory / _NAME
    done = subprocess.run(
        [
            *(compiler, "-std=c11", "-O1", "-fPIC", "-shared"),
            *("-fvisibility=hidden", f"-Wl,-soname,{_NAME}", "-pthread"),
            *("-o", str(path), str(_SOURCE)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"{compiler} can't compile the simulated NVML: {done.stderr.strip()}")
    return path


@cache
def library() -> Path:
    """The compiled library, in a directory of its own."""
    require("cc")
    return build(Path(mkdtemp(prefix="vgpumonitor-test-nvml-")))


def simulated_nvml(state: SimulatedNvml | None, directory: Path) -> dict[str, str]:
    """The environment in which a process has ``state`` for its driver; none without one. The
    state is read from ``nvml.json`` in ``directory``, which may be written again meanwhile."""
    if state is None:
        return {}
    state.write(directory / "nvml.json")
    return {
        "LD_LIBRARY_PATH": f"{library().parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        STATE_VARIABLE: str(directory / "nvml.json"),
    }
