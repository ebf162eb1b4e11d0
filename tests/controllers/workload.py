"""Containers that obey the control words of their regions, as HAMi-core's processes do.

``python -m tests.controllers.workload`` prints the tables of docs/feedback.md: the real feedback
over real region files, one step for the time between two rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from testing.values import GPU
from vgpumonitor.controllers import Feedback
from vgpumonitor.region.launches import is_limit
from vgpumonitor.region.layouts import V1_1, V1_2, Layout
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.sources.containers.directory import ContainersDirectory

#: When the played containers began, in Unix seconds.
START = 1_800_000_000
#: Seconds between two rounds, and between two looks of HAMi-core's watcher thread.
ROUND, WATCH = 5, 0.12
_PID = 7


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


class Workload:
    """One container on one or more GPUs, with one process that launches where it may."""

    def __init__(
        self,
        containers_dir: Path,
        number: int,
        priority: int = 1,
        layout: Layout = V1_2,
        gpus: tuple[str, ...] = (GPU,),
        core_limit: int = 50,
        host_pid_known: bool = True,
    ) -> None:
        """``core_limit`` is in percent of a GPU, 0 for none."""
        self.core_limit = core_limit
        self.host_pid_known = host_pid_known
        self.layout = layout
        self.directory = containers_dir / f"{uid(number)}_train"
        self.directory.mkdir(parents=True)
        self.path = self.directory / f"{self.directory.name}.cache"
        devices = [RegionDevice(gpu, 10 << 30, core_limit) for gpu in gpus]
        self.region = RegionWriter(self.path, layout, devices, now=START, priority=priority)
        self.region.register(_PID)
        if host_pid_known:
            self.region.set_hostpid(_PID, 100_000 + number)

    def run(self, wanted: int, now: int = START + 1) -> int:
        """The percent of a GPU that it gets, of the ``wanted``, in the seconds from ``now`` (Unix
        seconds) to the next round: launch by launch, between two looks of the watcher."""
        steps = round(ROUND / WATCH)
        got = 0
        for step in range(steps):
            if wanted:
                launch = self.region.launch(_PID, int(now + step * WATCH))
                if launch != "waits":
                    got += min(wanted, self.core_limit) if launch == "limited" else wanted
            self.region.watch()
        return round(got / steps)

    @property
    def waits(self) -> bool:
        """Whether launches wait in fact."""
        limited = self.layout is V1_1 or self.limited
        return self.host_pid_known and self.region.blocked and limited

    @property
    def limited(self) -> bool:
        """Whether the core limit holds in fact."""
        return self.host_pid_known and is_limit(self.core_limit) and self.region.core_limit_enforced

    def word(self, name: str) -> int:
        """A word of the region's file, read independently of this project's reader."""
        offset = getattr(self.layout.region, name).offset
        with self.path.open("rb") as file:
            file.seek(offset)
            return int.from_bytes(file.read(4), "little", signed=True)

    def set_word(self, name: str, value: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(getattr(self.layout.region, name).offset)
            file.write(value.to_bytes(4, "little", signed=True))

    def close(self) -> None:
        self.region.close()


@dataclass(frozen=True)
class Step:
    """What one container wanted and got of the GPU (percent), and what it does after the round:
    whether its launches wait and its core limit holds in fact."""

    wanted: int
    got: int
    waits: bool
    limited: bool


@dataclass(frozen=True)
class Part:
    """A container of the scenario, and the percent that it wants in each of the steps."""

    priority: int
    core_limit: int
    wants: tuple[int, ...]
    host_pid_known: bool = True

    @property
    def text(self) -> str:
        known = "" if self.host_pid_known else ", host PID not found"
        return f"priority {self.priority}, limit {self.core_limit} %{known}"


SCENARIO = {
    "train-a": Part(1, 40, (90, 90, 90, 90, 90, 90, 90, 90, 90, 90, 90, 90)),
    "train-b": Part(1, 40, (0, 0, 0, 90, 90, 90, 90, 90, 90, 90, 0, 0)),
    "serve": Part(0, 80, (0, 0, 0, 0, 0, 80, 80, 0, 0, 0, 0, 0)),
    "lost": Part(1, 40, (0, 0, 0, 0, 90, 90, 90, 0, 0, 0, 0, 0), host_pid_known=False),
}
#: The two orders of HAMi-core's launch, and a layout of each.
ORDERS = {"early": V1_1, "late": V1_2}


def play(layout: Layout) -> Iterator[dict[str, Step]]:
    """The steps of the scenario. Each is five seconds of work, and then a round."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        containers_dir = Path(directory)
        workloads = {
            name: Workload(
                containers_dir,
                number,
                part.priority,
                layout,
                core_limit=part.core_limit,
                host_pid_known=part.host_pid_known,
            )
            for number, (name, part) in enumerate(SCENARIO.items())
        }
        for workload in workloads.values():
            stack.callback(workload.close)
            # Its region is older than the scenario.
            workload.set_word("recent_kernel", 0)
        inventory = ContainersDirectory(containers_dir)
        inventory.start()
        stack.callback(inventory.stop)
        feedback = Feedback(inventory, release_after=60)
        feedback.round()
        wants = zip(*(part.wants for part in SCENARIO.values()), strict=True)
        for number, wanted in enumerate(wants, start=1):
            got = [
                workload.run(share, START + number * ROUND)
                for workload, share in zip(workloads.values(), wanted, strict=True)
            ]
            assert feedback.round()
            yield {
                name: Step(share, had, workload.waits, workload.limited)
                for (name, workload), share, had in zip(workloads.items(), wanted, got, strict=True)
            }


def table(layout: Layout) -> str:
    """The scenario as a table in Markdown."""
    heads = [f"{name} ({part.text})" for name, part in SCENARIO.items()]
    lines = ["| time | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for number, steps in enumerate(play(layout)):
        cells = [_cell(step, SCENARIO[name]) for name, step in steps.items()]
        lines.append(f"| {number * ROUND} s | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(step: Step, part: Part) -> str:
    work = f"{step.got} of {step.wanted} %" if step.wanted else "idle"
    if not part.host_pid_known:
        return f"{work}; out of reach"
    then = "waits" if step.waits else "limit enforced" if step.limited else "limit lifted"
    return f"{work}; {then}"


if __name__ == "__main__":
    for order, of_order in ORDERS.items():
        print(f"{order} order (layout {of_order.name}):\n\n{table(of_order)}\n")
