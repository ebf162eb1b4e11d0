"""The text of containers' samples: most of what is served, and most of what it costs.

A container's text is kept while the snapshot has the same object for it. Where only numbers
changed, as in each container at work, all its samples are formatted by one ``template % values``,
the template being the text with a ``%`` for each number: that takes half as long as a format per
sample, of which a node with 1,000 containers has tens of thousands, and a sixth of what
prometheus-client takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


#: Containers whose texts are cut at once: enough to be fast, few enough that their pieces take
#: little memory.
_CUT_AT_ONCE = 16

_Values = tuple[float | bytes, ...]


class _Template(NamedTuple):
    """The texts of all families of one container with conversions for their values, and what it
    was made for: ``labels`` are the containers' and its devices', ``absent`` the places of the
    values that aren't there."""

    labels: tuple[tuple[str, ...], ...]
    absent: tuple[int, ...]
    text: bytes


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

    def of(self, container: Container, before: _Template | None) -> tuple[_Template, _Values]:
        """The template of a container and its values; ``before`` is what the container had
        last, which mostly serves again."""
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
            return before, present
        return _Template(labels, absent, self._text(container, absent)), present

    def _text(self, container: Container, absent: tuple[int, ...]) -> bytes:
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
    it is asked for, of ``moments``. The families' texts are one piece of memory, which goes back
    to the system when the container is gone: some dozens of small ones do not."""

    container: Container
    template: _Template
    ages: _Template
    moments: _Values
    text: bytes


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

    def by_family(self, now: float) -> dict[Family, list[bytes]]:
        """The samples of all containers at ``now``, in Unix seconds, in pieces."""
        kept = list(self._kept.values())
        families = (*self._templates.families, *self._of_processes)
        found = _by_family(families, kept, lambda each: each.text)
        found |= _by_family(self._ages.families, kept, lambda each: _aged(each, now))
        return found

    def _make(self, container: Container, before: _Kept | None) -> _Kept:
        template, values = self._templates.of(container, before and before.template)
        ages, moments = self._ages.of(container, before and before.ages)
        texts = [template.text % values] if self._templates.families else []
        texts += [_process_text(family, container) for family in self._of_processes]
        return _Kept(container, template, ages, moments, _BOUNDARY.join(texts))


def _aged(kept: _Kept, now: float) -> bytes:
    """The text of a container's AgeFamilies at ``now``."""
    return kept.ages.text % tuple([max(0.0, now - float(then)) for then in kept.moments])


def _by_family(
    families: Sequence[Family], kept: Sequence[_Kept], text: Callable[[_Kept], bytes]
) -> dict[Family, list[bytes]]:
    """The texts of all containers by family, those of some containers in one piece."""
    if not families:
        return {}
    joined: list[list[bytes]] = [[] for _ in families]
    for start in range(0, len(kept), _CUT_AT_ONCE):
        texts = [text(each).split(_BOUNDARY) for each in kept[start : start + _CUT_AT_ONCE]]
        for place, pieces in enumerate(zip(*texts, strict=True)):
            joined[place].append(b"".join(pieces))
    return dict(zip(families, joined, strict=True))


def _process_text(family: ProcessFamily, container: Container) -> bytes:
    lines = [
        f"{family.name}{label_text(family.constant, family.labels, values)}{value}\n"
        for values, value in family.samples(container)
    ]
    return "".join(lines).encode()
