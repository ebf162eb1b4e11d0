"""What a metric family is: a declaration, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from vgpumonitor.snapshot import Container, NodeSnapshot

#: Label values in the order of the family's labels, and the value.
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """``labels`` are those that samples give values for; ``constant`` ones are the same on
    every series. A counter's name ends with _total."""

    name: str
    help: str
    labels: tuple[str, ...]
    type: Literal["gauge", "counter"] = "gauge"
    constant: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class NodeFamily(Family):
    """A family whose samples come from the snapshot as a whole."""

    samples: Callable[[NodeSnapshot], Iterable[Sample]] = lambda _: ()


@dataclass(frozen=True, slots=True, eq=False)
class ContainerFamily(Family):
    """A family with samples for each container, from that container alone, so that their
    text can be kept while the container stays the same."""

    samples: Callable[[Container], Iterable[Sample]] = lambda _: ()


@dataclass(frozen=True, slots=True, eq=False)
class AgeFamily(Family):
    """A family whose value is the seconds, at least 0, since a moment of a container: its
    samples give that moment, in Unix seconds."""

    samples: Callable[[Container], Iterable[Sample]] = lambda _: ()
