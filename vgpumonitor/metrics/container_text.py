"""The text of containers' samples: most of what is served, and most of what it costs.

A container's text is kept while the snapshot has the same object for it. Where only numbers
changed, as in each container at work, all its samples are formatted by one ``template % values``,
the template being the text with a ``%`` for each number: that takes half as long as a format per
sample, of which a node with 1,000 containers has tens of thousands, and a sixth of what
prometheus-client takes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from vgpumonitor.metrics.family import (
    AgeFamily,
    ContainerFamily,
    DeviceFamily,
    Family,
    ProcessFamily,
)
from vgpumonitor.metrics.labels import label_text
from vgpumonitor.metrics.values import container_labels
from vgpumonitor.snapshot import Container

#: Between the texts of two families in a template: the text of labels never has it.
_BOUNDARY = b"\0"


class _Filled(NamedTuple):
    """A template, and what it was made for: ``labels`` are the containers' and its devices',
    ``absent`` the places of the values that aren't there. ``values`` are those that are."""

    labels: tuple[tuple[str, ...], ...]
    absent: tuple[int, ...]
    template: bytes
    values: tuple[float | bytes, ...]

    def texts(self, values: tuple[float | bytes, ...]) -> list[bytes]:
        """The text of each family."""
        return (self.template % values).split(_BOUNDARY)


class _Templates:
    """Makes the templates for families whose samples of one container are formatted in one
    go. ``families`` are in the order of the texts."""

    def __init__(self, families: Iterable[DeviceFamily | ContainerFamily]) -> None:
        self.families = tuple(families)
        of_devices = [family for family in self.families if isinstance(family, DeviceFamily)]
        of_containers = [family for family in self.families if isinstance(family, ContainerFamily)]
        assert self.families == (*of_devices, *of_containers)
        self._subjects = tuple(dict.fromkeys(family.subject for family in of_devices))
        self._device_values = [
            [each for value in family.values.values() for each in (*family.numbers, value)]
            for family in of_devices
        ]
        self._container_values = [
            each
            for family in of_containers
            for value in family.values.values()
            for each in (*family.texts, value)
        ]

    def fill(self, container: Container, before: _Filled | None) -> _Filled:
        """``before`` is what the container had last, whose template mostly serves again."""
        devices = container.devices
        labels = (
            container_labels(container),
            *[subject(container, device) for subject in self._subjects for device in devices],
        )
        found: list[float | bytes | None] = [
            value(container, device)
            for values in self._device_values
            for device in devices
            for value in values
        ]
        found += [value(container) for value in self._container_values]
        present = tuple([value for value in found if value is not None])
        absent: tuple[int, ...] = ()
        if len(present) < len(found):
            absent = tuple([place for place, value in enumerate(found) if value is None])
        if before is not None and before.labels == labels and before.absent == absent:
            return _Filled(before.labels, absent, before.template, present)
        return _Filled(labels, absent, self._template(container, absent), present)

    def _template(self, container: Container, absent: tuple[int, ...]) -> bytes:
        # Families with the same labels share their text.
        known: dict[tuple[object, ...], str] = {}
        texts = []
        place = 0
        for family in self.families:
            number = "%.3f" if isinstance(family, AgeFamily) else "%a"
            if isinstance(family, DeviceFamily):
                inserted = ["%a"] * len(family.numbers)
                subjects = [family.subject(container, device) for device in container.devices]
            else:
                inserted, subjects = ["%b"] * len(family.texts), [container_labels(container)]
            lines = []
            for labels in subjects:
                for part in family.values:
                    if place not in absent:
                        key = family.constant, family.labels, labels, part
                        if key not in known:
                            values = [value.replace("%", "%%") for value in (*labels, *part)]
                            known[key] = label_text(
                                family.constant, family.labels, (*values, *inserted)
                            )
                        lines.append(f"{family.name}{known[key]}{number}\n")
                    place += len(inserted) + 1
            texts.append("".join(lines).encode())
        return _BOUNDARY.join(texts)


class _Kept(NamedTuple):
    """The text of one container, and what it was made of; that of its AgeFamilies is made when
    it is asked for. ``ends`` are where each family's text ends in ``text``, after a 0: one piece of
    memory goes back to the system when the container is gone, some dozens of small ones do not."""

    container: Container
    filled: _Filled
    ages: _Filled
    text: bytes
    ends: array[int]


class ContainerTexts:
    """What all containers have of those of ``families`` that are about containers. Not to be
    used by two threads at once."""

    def __init__(self, families: Sequence[Family]) -> None:
        of_devices = [family for family in families if isinstance(family, DeviceFamily)]
        self._ages = _Templates(family for family in of_devices if isinstance(family, AgeFamily))
        self._templates = _Templates(
            [
                *(family for family in of_devices if not isinstance(family, AgeFamily)),
                *(family for family in families if isinstance(family, ContainerFamily)),
            ]
        )
        self._of_processes = [family for family in families if isinstance(family, ProcessFamily)]
        self._kept: dict[tuple[str, str], _Kept] = {}

    def update(self, containers: Iterable[Container]) -> None:
        """Makes the text of those that changed, and of no others."""
        present = {container.key: container for container in containers}
        # Containers that are over go first, so that those that came can have their memory.
        for key in self._kept.keys() - present.keys():
            del self._kept[key]
        for key, container in present.items():
            kept = self._kept.get(key)
            if kept is None or kept.container is not container:
                self._kept[key] = self._make(container, kept)

    def by_family(self, now: float) -> dict[Family, bytes]:
        """The samples of all containers at ``now``, in Unix seconds."""
        kept = self._kept.values()
        texts = [(each.text, each.ends) for each in kept]
        ages = [
            each.ages.texts(tuple([max(0.0, now - float(then)) for then in each.ages.values]))
            for each in kept
        ]
        found: dict[Family, bytes] = {
            family: b"".join([text[ends[at] : ends[at + 1]] for text, ends in texts])
            for at, family in enumerate((*self._templates.families, *self._of_processes))
        }
        for at, family in enumerate(self._ages.families):
            found[family] = b"".join([of_family[at] for of_family in ages])
        return found

    def _make(self, container: Container, before: _Kept | None) -> _Kept:
        filled = self._templates.fill(container, None if before is None else before.filled)
        ages = self._ages.fill(container, None if before is None else before.ages)
        texts = filled.texts(filled.values) if self._templates.families else []
        texts += [_process_text(family, container) for family in self._of_processes]
        ends = array("l", accumulate(map(len, texts), initial=0))
        return _Kept(container, filled, ages, b"".join(texts), ends)


def _process_text(family: ProcessFamily, container: Container) -> bytes:
    lines = [
        f"{family.name}{label_text(family.constant, family.labels, values)}{value}\n"
        for values, value in family.samples(container)
    ]
    return "".join(lines).encode()
