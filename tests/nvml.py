"""The simulated libnvidia-ml.so.1 under the real pynvml, for exporter processes."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from tests.tools import require
from vgpumonitor.simulate.nvml.c_library import STATE_VARIABLE, build
from vgpumonitor.simulate.nvml.state import SimulatedNvml


@cache
def _library() -> Path:
    require("cc")
    return build(Path(mkdtemp(prefix="vgpumonitor-test-nvml-")))


def simulated_nvml(state: SimulatedNvml | None, directory: Path) -> dict[str, str]:
    """The environment in which a process has ``state`` for its driver; none without one. The
    state is read from ``nvml.state`` in ``directory``, which may be written again meanwhile."""
    if state is None:
        return {}
    state.write(directory / "nvml.state")
    return {
        "LD_LIBRARY_PATH": f"{_library().parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        STATE_VARIABLE: str(directory / "nvml.state"),
    }
