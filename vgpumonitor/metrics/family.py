"""What a metric family is: a declaration, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vgpumonitor.snapshot import Container, ContainerDevice, NodeSnapshot

#: Label values in the order of the family's labels, and the value.
Sample = tuple[tuple[str, ...], float]
#: The values of the labels that tell one device of a container from all others.
DeviceLabels = Callable[[Container, ContainerDevice], tuple[str, ...]]
#: What a device of a container has; None is no sample.
DeviceValue = Callable[[Container, ContainerDevice], float | None]
ContainerValue = Callable[[Container], float | None]


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
    """A family whose samples come from the snapshot as a whole, or, where it is given, from its
    node and ``source`` alone: a part that stays the same while nothing in it changes, and of
    which there are many."""

    samples: Callable[[NodeSnapshot], Iterable[Sample]] = lambda _: ()
    source: Callable[[NodeSnapshot], object] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeviceFamily(Family):
    """A family with the same samples for each device of a container. Their labels are those
    that ``subject`` gives, then those of the part: ``values`` are by the part's label values,
    ``()`` where there is only one. The last labels are ``numbers`` of the device too; they are
    None where the value is."""

    subject: DeviceLabels
    numbers: tuple[DeviceValue, ...] = ()
    values: Mapping[tuple[str, ...], DeviceValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class AgeFamily(DeviceFamily):
    """A family whose value is the seconds, at least 0, since a moment: its values give that
    moment, in Unix seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class ContainerFamily(Family):
    """A family with the same samples for each container. Their labels are the container's
    names, those of the part, and ``texts`` of the container, in bytes that need no escape,
    None where the value is; ``values`` as for a DeviceFamily."""

    texts: tuple[Callable[[Container], bytes | None], ...] = ()
    values: Mapping[tuple[str, ...], ContainerValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class ProcessFamily(Family):
    """A family with samples for each process of a container."""

    samples: Callable[[Container], Iterable[Sample]] = lambda _: ()
