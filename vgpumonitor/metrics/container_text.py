"""The text of containers' samples. A container's is kept while its value in the snapshot is
the same object, made again quickly where only numbers changed, and goes with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vgpumonitor.metrics.family import (
    AgeFamily,
    ContainerFamily,
    DeviceFamily,
    Family,
    ProcessFamily,
    Sample,
)
from vgpumonitor.metrics.labels import label_text
from vgpumonitor.snapshot import Container

#: After each family's text in a container's: the text of labels never has it.
_END = b"\0"

_Labels = tuple[tuple[str, ...], ...]


class _Values(NamedTuple):
    """What a container has of some families: ``values``, and a ``template`` that takes them
    all. ``absent`` are the places of the values that aren't there."""

    labels: _Labels
    absent: tuple[int, ...]
    values: tuple[float | bytes, ...]
    template: bytes

    def text(self, values: tuple[float | bytes, ...]) -> bytes:
        """The text of each family, ended by _END."""
        return self.template % values


class _Templates:
    """Families whose samples of one container are formatted in one go: that is several times
    as fast as sample by sample, and leaves memory in few large pieces that can go back."""

    def __init__(
        self, of_cards: Iterable[DeviceFamily], of_containers: Iterable[ContainerFamily] = ()
    ) -> None:
        self._of_cards = tuple(of_cards)
        self._of_containers = tuple(of_containers)
        self.families: tuple[DeviceFamily | ContainerFamily, ...] = (
            *self._of_cards,
            *self._of_containers,
        )
        self._card_values = [
            [each for value in family.values.values() for each in (*family.numbers, value)]
            for family in self._of_cards
        ]
        self._container_values = [
            each
            for family in self._of_containers
            for value in family.values.values()
            for each in (*family.texts, value)
        ]

    def of(self, container: Container, labels: _Labels, before: _Values | None) -> _Values:
        """``labels`` are the container's and its cards'; ``before`` is what it had last, whose
        template mostly serves again."""
        region, cards = container.region, container.devices
        found: list[float | bytes | None] = []
        if region is not None:
            found += [
                value(region, card)
                for values in self._card_values
                for card in cards
                for value in values
            ]
        found += [value(container) for value in self._container_values]
        present = [value for value in found if value is not None]
        absent: tuple[int, ...] = ()
        if len(present) < len(found):
            absent = tuple([place for place, value in enumerate(found) if value is None])
        if before is not None and before.labels == labels and before.absent == absent:
            template = before.template
        else:
            template = self._template(container, absent)
        return _Values(labels, absent, tuple(present), template)

    def _template(self, container: Container, absent: tuple[int, ...]) -> bytes:
        # Families with the same labels share their text.
        texts: dict[tuple[object, ...], str] = {}
        lines = []
        place = 0
        for family in self.families:
            number = "%.3f" if isinstance(family, AgeFamily) else "%a"
            subjects: list[tuple[str, ...]]
            if isinstance(family, ContainerFamily):
                subjects, inserted = [container.labels], ["%b"] * len(family.texts)
            else:
                inserted = ["%a"] * len(family.numbers)
                subjects = [
                    card.vdevice_labels if family.vdevice else card.labels
                    for card in container.devices
                ]
            for labels in subjects:
                for part in family.values:
                    if place not in absent:
                        key = family.constant, family.labels, labels, part
                        if key not in texts:
                            values = [value.replace("%", "%%") for value in (*labels, *part)]
                            values += inserted
                            texts[key] = label_text(family.constant, family.labels, tuple(values))
                        lines.append(f"{family.name}{texts[key]}{number}\n")
                    place += len(inserted) + 1
            lines.append(_END.decode())
        return "".join(lines).encode()


class _Samples(NamedTuple):
    """What a container has of one ProcessFamily, and the text of it and of its labels."""

    samples: list[Sample]
    labels: dict[tuple[str, ...], str]
    text: bytes


class _Kept:
    """The text of one container: each family's of ``shown`` is between two of ``ends``, that
    of ``ages`` is made when it is asked for, that of each ProcessFamily is in ``processes``."""

    __slots__ = ("ages", "container", "ends", "processes", "shown", "text")

    def __init__(
        self,
        container: Container,
        shown: _Values,
        ages: _Values,
        processes: tuple[_Samples, ...],
    ) -> None:
        self.container = container
        self.shown = shown
        self.ages = ages
        self.processes = processes
        self.text = shown.text(shown.values)
        self.ends = array("l", [-1])
        find, append = self.text.find, self.ends.append
        end = find(_END)
        while end >= 0:
            append(end)
            end = find(_END, end + 1)


class ContainerTexts:
    """What all containers have of their families. Not to be used by two threads at once."""

    def __init__(self, families: Sequence[Family]) -> None:
        of_cards = [family for family in families if isinstance(family, DeviceFamily)]
        self._ages = _Templates(f for f in of_cards if isinstance(f, AgeFamily))
        self._templates = _Templates(
            (f for f in of_cards if not isinstance(f, AgeFamily)),
            (f for f in families if isinstance(f, ContainerFamily)),
        )
        self._of_processes = [f for f in families if isinstance(f, ProcessFamily)]
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._texts: list[tuple[bytes, array[int]]] = []

    def update(self, containers: Iterable[Container]) -> None:
        """Makes the text of those that changed, and of no others."""
        present = {container.key: container for container in containers}
        # What is over goes first, so that what came can have its memory.
        for key in self._kept.keys() - present.keys():
            del self._kept[key]
        for key, container in present.items():
            kept = self._kept.get(key)
            if kept is None or kept.container is not container:
                self._kept[key] = self._made(container, kept)
        self._texts = [(kept.text, kept.ends) for kept in self._kept.values()]

    def of(self, family: DeviceFamily | ContainerFamily | ProcessFamily) -> bytes:
        """The samples of a family, other than an AgeFamily."""
        if isinstance(family, ProcessFamily):
            at = self._of_processes.index(family)
            return b"".join([kept.processes[at].text for kept in self._kept.values()])
        at = self._templates.families.index(family)
        return b"".join([text[ends[at] + 1 : ends[at + 1]] for text, ends in self._texts])

    def ages(self, now: float) -> dict[Family, bytes]:
        """The samples of each AgeFamily at ``now``, in Unix seconds."""
        texts = [
            kept.ages.text(tuple([max(0.0, now - float(moment)) for moment in kept.ages.values]))
            for kept in self._kept.values()
        ]
        # After the last _END is nothing more; without a container there is nothing at all.
        split = zip(*[text.split(_END) for text in texts], strict=True)
        return dict(zip(self._ages.families, map(b"".join, split), strict=False))

    def _made(self, container: Container, before: _Kept | None) -> _Kept:
        labels = (container.labels, *[card.vdevice_labels for card in container.devices])
        return _Kept(
            container,
            self._templates.of(container, labels, None if before is None else before.shown),
            self._ages.of(container, labels, None if before is None else before.ages),
            tuple(
                [
                    _samples(family, container, None if before is None else before.processes[at])
                    for at, family in enumerate(self._of_processes)
                ]
            ),
        )


def _samples(family: ProcessFamily, container: Container, before: _Samples | None) -> _Samples:
    samples = list(family.samples(container))
    if before is not None and before.samples == samples:
        return before
    known = {} if before is None else before.labels
    labels = {
        values: known.get(values) or label_text(family.constant, family.labels, values)
        for values, _ in samples
    }
    text = "".join([f"{family.name}{labels[values]}{value}\n" for values, value in samples])
    return _Samples(samples, labels, text.encode())
