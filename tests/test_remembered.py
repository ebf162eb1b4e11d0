"""What was made last is made again only of something else."""

from __future__ import annotations

from vgpumonitor.remembered import Remembered


def test_is_made_again_only_of_something_else() -> None:
    made: list[str] = []

    def make() -> str:
        made.append(f"value {len(made)}")
        return made[-1]

    remembered: Remembered[str] = Remembered()
    assert remembered.get((1, {"a": 1}), make) == "value 0"
    assert remembered.get((1, {"a": 1}), make) == "value 0"
    assert remembered.get((1, {"a": 2}), make) == "value 1"
    # The last one only: what went before it is made again.
    assert remembered.get((1, {"a": 1}), make) == "value 2"
