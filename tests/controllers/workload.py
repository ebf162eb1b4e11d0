"""Containers that obey the words of their regions, as HAMi-core's processes do.

``python -m tests.controllers.workload`` prints the table of docs/feedback.md: the real feedback
over real region files, one step for the time between two rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vgpumonitor.controllers import Feedback
from vgpumonitor.region.layouts import V1_2, Layout
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.sources.containers.directory import ContainersDirectory

CARD = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf100"
CARD_2 = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf101"


def uid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


class Workload:
    """One container on one or more cards, which launches kernels where it may."""

    def __init__(
        self,
        containers_dir: Path,
        number: int,
        priority: int = 1,
        layout: Layout = V1_2,
        cards: tuple[str, ...] = (CARD,),
        core_limit: int = 50,
    ) -> None:
        """``core_limit`` is in percent of a card."""
        self.core_limit = core_limit
        self.layout = layout
        self.directory = containers_dir / f"{uid(number)}_train"
        self.directory.mkdir(parents=True)
        self.path = self.directory / f"{self.directory.name}.cache"
        devices = [RegionDevice(card, 10 << 30, core_limit) for card in cards]
        self.region = RegionWriter(self.path, layout, devices, now=1_800_000_000, priority=priority)

    def run(self, wanted: int) -> int:
        """The percent of a card that it gets, of the ``wanted``, until the next round. It
        waits before a launch while recent_kernel is below 0, and is throttled to its core
        limit while utilization_switch is not 0."""
        if not wanted or self.region.blocked:
            return 0
        self.region.launch(now=1_800_000_000)
        return min(wanted, self.core_limit) if self.region.core_limit_enforced else wanted

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
    """What one container wanted and got of the card (percent), and its words after the round."""

    wanted: int
    got: int
    blocked: bool
    enforced: bool


#: Percent wanted in each of the steps, by container; its priority and core limit.
SCENARIO = {
    "train-a": (1, 40, [90, 90, 90, 90, 90, 90, 90, 90, 90, 90, 90, 90]),
    "train-b": (1, 40, [0, 0, 0, 90, 90, 90, 90, 90, 90, 90, 0, 0]),
    "serve": (0, 80, [0, 0, 0, 0, 0, 80, 80, 0, 0, 0, 0, 0]),
}


def play() -> Iterator[dict[str, Step]]:
    """The steps of the scenario. Each is five seconds of work, and then a round."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        containers_dir = Path(directory)
        workloads = {
            name: Workload(containers_dir, number, priority, core_limit=limit)
            for number, (name, (priority, limit, _)) in enumerate(SCENARIO.items())
        }
        for workload in workloads.values():
            stack.callback(workload.close)
            # Its region is older than the scenario.
            workload.set_word("recent_kernel", 0)
        inventory = ContainersDirectory(containers_dir)
        inventory.start()
        stack.callback(inventory.stop)
        feedback = Feedback(inventory)
        feedback.round()
        for wants in zip(*(wants for _, _, wants in SCENARIO.values()), strict=True):
            got = [
                workload.run(wanted)
                for workload, wanted in zip(workloads.values(), wants, strict=True)
            ]
            assert feedback.round()
            yield {
                name: Step(
                    wanted,
                    share,
                    workload.region.blocked,
                    workload.region.core_limit_enforced,
                )
                for (name, workload), wanted, share in zip(
                    workloads.items(), wants, got, strict=True
                )
            }


def table() -> str:
    """The scenario as a table in Markdown."""
    heads = [f"{name} (priority {p}, limit {limit} %)" for name, (p, limit, _) in SCENARIO.items()]
    lines = ["| time | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for number, steps in enumerate(play()):
        cells = [_cell(step) for step in steps.values()]
        lines.append(f"| {number * 5} s | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(step: Step) -> str:
    work = f"{step.got} of {step.wanted} %" if step.wanted else "idle"
    then = "waits" if step.blocked else "limit holds" if step.enforced else "limit lifted"
    return f"{work}; {then}"


if __name__ == "__main__":
    print(table())
