"""The text of containers' samples: most of what is served, and most of what it costs.

A container's text is kept while the snapshot has the same object for it. Where only numbers
changed, as in each container at work, all its samples are formatted by one ``text % values``: that
takes half as long as a format per sample, of which a node with 1,000 containers has tens of
thousands, and a sixth of what prometheus-client takes. What is formatted is the same for all
containers of one shape; a container keeps the text of its labels. Texts are cut by family, some
containers at once, and the pieces stay too while nothing in them changes: what is served is made of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import is_, itemgetter
from typing import NamedTuple
from weakref import WeakValueDictionary

from msgspec import Struct

from vgpumonitor.metrics.family import (
    AgeFamily,
    ContainerFamily,
    DeviceFamily,
    DeviceLabels,
    Family,
    ProcessFamily,
)
from vgpumonitor.metrics.labels import Constant, label_text
from vgpumonitor.metrics.values import container_labels
from vgpumonitor.snapshot import Container

#: Between the texts of two families: the text of labels never has it.
_BOUNDARY = b"\0"


#: Containers whose texts are cut at once: enough to be fast, few enough that little is cut again
#: where one of them changes.
_CUT_AT_ONCE = 16

_Values = tuple[float | bytes, ...]


class _Subject(NamedTuple):
    """What the samples of a family are about: how its series begin their labels. ``labels`` is
    None where that is the container, of which there is one text; otherwise there is one for each
    device."""

    constant: Constant
    names: tuple[str, ...]
    labels: DeviceLabels | None

    @classmethod
    def of(cls, family: DeviceFamily | ContainerFamily) -> _Subject:
        if isinstance(family, DeviceFamily):
            labels, inserted = family.subject, len(family.numbers)
        else:
            labels, inserted = None, len(family.texts)
        own = len(family.labels) - inserted - len(next(iter(family.values)))
        return cls(family.constant, family.labels[:own], labels)

    def end(self, names: tuple[str, ...], values: tuple[str, ...]) -> str:
        """What follows the text of this in a series that has more labels, or none."""
        bare = not (self.constant or self.names)
        if not names:
            return " " if bare else "} "
        return ("{" if bare else ",") + label_text((), names, values)[1:]


class _Labels(NamedTuple):
    """The labels of one container and its devices, and the texts of all subjects that have them:
    ``{name="value"``, without an end."""

    values: tuple[tuple[str, ...], ...]
    texts: tuple[bytes, ...]


class _Subjects:
    """The subjects of ``families``, each once."""

    def __init__(self, families: Iterable[DeviceFamily | ContainerFamily]) -> None:
        self._all = tuple(dict.fromkeys(map(_Subject.of, families)))
        self._of_devices = tuple(
            dict.fromkeys(each.labels for each in self._all if each.labels is not None)
        )

    def labels(self, container: Container, before: _Labels | None) -> _Labels:
        """``before`` is what the container had last, which mostly serves again."""
        values = (
            container_labels(container),
            *[
                labels(container, device)
                for labels in self._of_devices
                for device in container.devices
            ],
        )
        if before is not None and before.values == values:
            return before
        texts = [
            label_text(subject.constant, subject.names, labels).rstrip("} ").encode()
            for subject in self._all
            for labels in (
                [container_labels(container)]
                if subject.labels is None
                else [subject.labels(container, device) for device in container.devices]
            )
        ]
        return _Labels(values, tuple(texts))

    def count(self, devices: int) -> int:
        """The number of texts of a container with so many ``devices``."""
        return sum(1 if each.labels is None else devices for each in self._all)

    def place(self, subject: _Subject, device: int, devices: int) -> int:
        """That of a subject's text among the texts of a container with so many ``devices``."""
        before = self._all[: self._all.index(subject)]
        return device + sum(1 if each.labels is None else devices for each in before)


class _Shape(Struct, frozen=True, weakref=True):
    """What the texts of all containers have in common that have as many ``devices``, and of which
    the same values are ``absent`` (by their places among all values). ``text`` has conversions for
    what ``chosen`` takes of a container's labels and the values that it has."""

    devices: int
    absent: tuple[int, ...]
    text: bytes
    chosen: Callable[[_Values], _Values]

    def fits(self, devices: int, found: Sequence[object], present: int) -> bool:
        """Whether it is that of a container with as many ``devices`` and the values ``found``, of
        which ``present`` are not None."""
        if devices != self.devices or present + len(self.absent) != len(found):
            return False
        for place in self.absent:  # noqa: SIM110 - all() would take twice as long.
            if found[place] is not None:
                return False
        return True

    def formatted(self, labels: _Labels, values: _Values) -> bytes:
        return self.text % self.chosen(labels.texts + values)


class _Shapes:
    """Makes the shapes for families whose samples of one container are formatted in one go.
    ``families`` are in the order of the texts."""

    def __init__(
        self, families: Iterable[DeviceFamily | ContainerFamily], subjects: _Subjects
    ) -> None:
        self.families = tuple(families)
        self._subjects = subjects
        of_devices = [family for family in self.families if isinstance(family, DeviceFamily)]
        of_containers = [family for family in self.families if isinstance(family, ContainerFamily)]
        assert self.families == (*of_devices, *of_containers)
        # Families share values: each is asked for once.
        self._device_values = tuple(
            dict.fromkeys(
                each
                for family in of_devices
                for value in family.values.values()
                for each in (*family.numbers, value)
            )
        )
        self._container_values = tuple(
            dict.fromkeys(
                each
                for family in of_containers
                for value in family.values.values()
                for each in (*family.texts, value)
            )
        )
        self._place: dict[object, int] = {
            value: place
            for values in (self._device_values, self._container_values)
            for place, value in enumerate(values)
        }
        #: Those that a container has.
        self._known: WeakValueDictionary[tuple[int, tuple[int, ...]], _Shape]
        self._known = WeakValueDictionary()

    def of(self, container: Container, before: _Shape | None) -> tuple[_Shape, _Values]:
        """The shape of a container and its values; ``before`` is what the container had last,
        which mostly serves again."""
        devices = container.devices
        found: list[float | bytes | None] = [
            value(container, device) for device in devices for value in self._device_values
        ]
        found += [value(container) for value in self._container_values]
        present = tuple([value for value in found if value is not None])
        if before is not None and before.fits(len(devices), found, len(present)):
            return before, present
        absent = tuple([place for place, value in enumerate(found) if value is None])
        key = len(devices), absent
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = self._make(*key)
        return shape, present

    def _make(self, devices: int, absent: tuple[int, ...]) -> _Shape:
        of_device = len(self._device_values)
        present = [
            place
            for place in range(devices * of_device + len(self._container_values))
            if place not in absent
        ]
        first = self._subjects.count(devices)
        at = {place: first + index for index, place in enumerate(present)}
        texts: list[str] = []
        chosen: list[int] = []
        for family in self.families:
            subject = _Subject.of(family)
            names = family.labels[len(subject.names) :]
            inserted: tuple[object, ...]
            if isinstance(family, DeviceFamily):
                starts = [device * of_device for device in range(devices)]
                inserted, conversion = family.numbers, "%a"
            else:
                starts = [devices * of_device]
                inserted, conversion = family.texts, "%b"
            number = "%.3f" if isinstance(family, AgeFamily) else "%a"
            lines = []
            for device, start in enumerate(starts):
                labels = self._subjects.place(subject, device, devices)
                for part, value in family.values.items():
                    places = [start + self._place[each] for each in (*inserted, value)]
                    if places[-1] in at:
                        end = subject.end(names, (*part, *[conversion] * len(inserted)))
                        lines.append(f"{family.name}%b{end}{number}\n")
                        chosen += labels, *[at[place] for place in places]
            texts.append("".join(lines))
        choose = itemgetter(*chosen) if chosen else _nothing
        return _Shape(devices, absent, _BOUNDARY.join(map(str.encode, texts)), choose)


def _nothing(_: _Values) -> _Values:
    return ()


class _Kept(NamedTuple):
    """The text of one container, and what it was made of; that of its AgeFamilies is made when
    it is asked for, of ``moments``. The families' texts are one piece of memory, which goes back
    to the system when the container is gone: some dozens of small ones do not."""

    container: Container
    labels: _Labels
    shape: _Shape
    ages: _Shape
    moments: _Values
    text: bytes


class _Cut:
    """The texts of some containers by family, which stay while none of them changes."""

    def __init__(self) -> None:
        self._of: list[Container] = []
        self._pieces: list[bytes] = []

    def let_go(self, kept: list[_Kept]) -> None:
        """Lets the texts go that are of others than ``kept``."""
        of = [each.container for each in kept]
        if len(of) != len(self._of) or not all(map(is_, of, self._of)):
            self._of, self._pieces = of, []

    def pieces(self, kept: list[_Kept]) -> list[bytes]:
        if not self._pieces:
            self._pieces = _pieces([each.text for each in kept])
        return self._pieces


class ContainerTexts:
    """What all containers have of those of ``families`` that are about containers. Not to be
    used by two threads at once."""

    def __init__(self, families: Sequence[Family]) -> None:
        of_devices = [family for family in families if isinstance(family, DeviceFamily)]
        of_containers = [family for family in families if isinstance(family, ContainerFamily)]
        self._subjects = _Subjects([*of_devices, *of_containers])
        self._ages = _Shapes(
            [family for family in of_devices if isinstance(family, AgeFamily)], self._subjects
        )
        self._shapes = _Shapes(
            [
                *(family for family in of_devices if not isinstance(family, AgeFamily)),
                *of_containers,
            ],
            self._subjects,
        )
        self._of_processes = [family for family in families if isinstance(family, ProcessFamily)]
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._cut: list[_Cut] = []

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
        together = [kept[at : at + _CUT_AT_ONCE] for at in range(0, len(kept), _CUT_AT_ONCE)]
        del self._cut[len(together) :]
        self._cut += [_Cut() for _ in together[len(self._cut) :]]
        # All that is old goes first, so that what is new can have its memory.
        for cut, some in zip(self._cut, together, strict=True):
            cut.let_go(some)
        families = (*self._shapes.families, *self._of_processes)
        texts = [cut.pieces(some) for cut, some in zip(self._cut, together, strict=True)]
        found = _by_family(families, texts)
        ages = [_pieces([_aged(each, now) for each in some]) for some in together]
        return found | _by_family(self._ages.families, ages)

    def _make(self, container: Container, before: _Kept | None) -> _Kept:
        labels = self._subjects.labels(container, before and before.labels)
        shape, values = self._shapes.of(container, before and before.shape)
        ages, moments = self._ages.of(container, before and before.ages)
        texts = [shape.formatted(labels, values)] if self._shapes.families else []
        texts += [_process_text(family, container) for family in self._of_processes]
        return _Kept(container, labels, shape, ages, moments, _BOUNDARY.join(texts))


def _aged(kept: _Kept, now: float) -> bytes:
    """The text of a container's AgeFamilies at ``now``."""
    ages = tuple([max(0.0, now - float(then)) for then in kept.moments])
    return kept.ages.formatted(kept.labels, ages)


def _pieces(texts: Sequence[bytes]) -> list[bytes]:
    """The texts of some containers by family, each in one piece."""
    return list(map(b"".join, zip(*[text.split(_BOUNDARY) for text in texts], strict=True)))


def _by_family(
    families: Sequence[Family], pieces: Sequence[list[bytes]]
) -> dict[Family, list[bytes]]:
    return {family: [some[place] for some in pieces] for place, family in enumerate(families)}


def _process_text(family: ProcessFamily, container: Container) -> bytes:
    lines = [
        f"{family.name}{label_text(family.constant, family.labels, values)}{value}\n"
        for values, value in family.samples(container)
    ]
    return "".join(lines).encode()
