"""Many containers leave nothing behind."""

from __future__ import annotations

from pathlib import Path

from testing.churn import pass_by, write_sparse
from testing.exporter import image_variables, running, serve_arguments
from testing.region_files import recorded_bytes
from testing.resources import Held
from testing.values import MIB

REGION = "hami-2.9.0-three-processes"


def test_memory_descriptors_and_watches_are_back(tmp_path: Path) -> None:
    containers = tmp_path / "containers"
    for number in range(100):
        directory = containers / f"22222222-3333-4444-8555-{number:012x}_stays"
        directory.mkdir(parents=True)
        write_sparse(directory / "x.cache", recorded_bytes(REGION))
    with running(*serve_arguments(containers), env=image_variables()) as exporter:
        for _ in range(10):
            exporter.get("/metrics")
        before = Held.at_rest(exporter)
        most = pass_by(exporter, containers, directory / "x.cache", range(1000), 250)
        once = Held.at_rest(exporter)
        pass_by(exporter, containers, directory / "x.cache", range(1000, 3000), 250)
        after = Held.at_rest(exporter)
    assert most.descriptors >= before.descriptors + 250
    assert most.watches == 1  # That of the containers directory.
    assert (after.descriptors, after.watches) == (before.descriptors, before.watches)
    # What 250 at once took can't all be freed, where something small still lies between; with
    # 1 KiB kept of each, the next 2,000 would leave 2 MiB more.
    assert once.memory <= before.memory + 7 * MIB, (before, most, once)
    assert after.memory <= once.memory + 1.5 * MIB, (before, once, after)
