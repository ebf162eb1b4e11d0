"""The text of containers' samples. A container's is kept while its value in the snapshot is
the same object, made again quickly where only numbers changed, and goes with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vgpumonitor.metrics.family import AgeFamily, ContainerFamily, DeviceFamily, Family, Sample
from vgpumonitor.metrics.labels import label_text
from vgpumonitor.snapshot import Container, ContainerDevice

#: After each family's text in that of a container's cards: the text of labels never has it.
_END = b"\0"


class _Cards(NamedTuple):
    """What the cards of one container have of some families: ``values``, and a ``template``
    that takes them all. ``labels`` are the cards', ``absent`` the numbers of the values that
    aren't there."""

    labels: Sequence[tuple[str, ...]]
    absent: frozenset[int]
    values: tuple[float, ...]
    template: str

    def text(self, values: tuple[float, ...]) -> bytes:
        """The text of each family, ended by _END."""
        return (self.template % values).encode()


class _CardFamilies:
    """Families whose samples of one container are formatted in one go: that is several times
    as fast as sample by sample, and leaves memory in few large pieces that can go back."""

    def __init__(self, families: Iterable[DeviceFamily]) -> None:
        self.families = tuple(families)
        self._values = [
            [each for value in family.values.values() for each in (*family.numbers, value)]
            for family in self.families
        ]

    def of(self, container: Container, before: _Cards | None) -> _Cards:
        """``before`` is what they had last, whose template mostly serves again."""
        region, cards = container.region, container.devices
        found = (
            []
            if region is None
            else [
                value(region, card) for values in self._values for card in cards for value in values
            ]
        )
        labels = [card.vdevice_labels for card in cards]
        present = [value for value in found if value is not None]
        absent = (
            frozenset(number for number, value in enumerate(found) if value is None)
            if len(present) < len(found)
            else frozenset()
        )
        if before is not None and before.labels == labels and before.absent == absent:
            template = before.template
        else:
            template = self._template(cards, absent)
        return _Cards(labels, absent, tuple(present), template)

    def _template(self, cards: Sequence[ContainerDevice], absent: frozenset[int]) -> str:
        # Families with the same labels share their text.
        texts: dict[tuple[object, ...], str] = {}
        lines = []
        number = 0
        for family in self.families:
            place = "%.3f" if isinstance(family, AgeFamily) else "%s"
            for card in cards:
                labels = card.vdevice_labels if family.vdevice else card.labels
                for part in family.values:
                    if number not in absent:
                        key = family.constant, family.labels, labels, part
                        if key not in texts:
                            values = [value.replace("%", "%%") for value in (*labels, *part)]
                            values += ["%s"] * len(family.numbers)
                            texts[key] = label_text(family.constant, family.labels, tuple(values))
                        lines.append(f"{family.name}{texts[key]}{place}\n")
                    number += len(family.numbers) + 1
            lines.append(_END.decode())
        return "".join(lines)


class _Kept:
    """The text of one container: of its cards, each family's between two of ``ends``, and of
    what AgeFamilies have of them. ``samples``, ``sample_texts`` (of their labels) and
    ``sample_lines`` are those of each ContainerFamily."""

    __slots__ = (
        "ages",
        "cards",
        "container",
        "ends",
        "sample_lines",
        "sample_texts",
        "samples",
        "text",
    )

    def __init__(self, container: Container, cards: _Cards, ages: _Cards) -> None:
        self.container = container
        self.cards = cards
        self.ages = ages
        self.text = cards.text(cards.values)
        self.ends = array("l", [-1])
        for _ in range(self.text.count(_END)):
            self.ends.append(self.text.index(_END, self.ends[-1] + 1))
        self.samples: list[list[Sample]] = []
        self.sample_texts: list[dict[tuple[str, ...], str]] = []
        self.sample_lines: list[bytes] = []


class ContainerTexts:
    """What all containers have of their families. Not to be used by two threads at once."""

    def __init__(self, families: Sequence[Family]) -> None:
        of_cards = [family for family in families if isinstance(family, DeviceFamily)]
        self._cards = _CardFamilies(f for f in of_cards if not isinstance(f, AgeFamily))
        self._ages = _CardFamilies(f for f in of_cards if isinstance(f, AgeFamily))
        self._others = [family for family in families if isinstance(family, ContainerFamily)]
        self._kept: dict[tuple[str, str], _Kept] = {}

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

    def of(self, family: Family) -> bytes:
        """The samples of a family, other than an AgeFamily."""
        if isinstance(family, ContainerFamily):
            at = self._others.index(family)
            return b"".join([kept.sample_lines[at] for kept in self._kept.values()])
        at = self._cards.families.index(family)
        return b"".join(
            [kept.text[kept.ends[at] + 1 : kept.ends[at + 1]] for kept in self._kept.values()]
        )

    def ages(self, now: float) -> dict[Family, bytes]:
        """The samples of each AgeFamily at ``now``, in Unix seconds."""
        texts = [
            kept.ages.text(tuple([max(0.0, now - moment) for moment in kept.ages.values]))
            for kept in self._kept.values()
        ]
        split = zip(*[text.split(_END) for text in texts], strict=True)
        return dict(zip(self._ages.families, map(b"".join, split), strict=False))

    def _made(self, container: Container, before: _Kept | None) -> _Kept:
        made = _Kept(
            container,
            self._cards.of(container, None if before is None else before.cards),
            self._ages.of(container, None if before is None else before.ages),
        )
        self._add_samples(made, before)
        return made

    def _add_samples(self, made: _Kept, before: _Kept | None) -> None:
        for at, family in enumerate(self._others):
            samples = list(family.samples(made.container))
            if before is not None and before.samples[at] == samples:
                texts, lines = before.sample_texts[at], before.sample_lines[at]
            else:
                known = {} if before is None else before.sample_texts[at]
                texts = {
                    values: known.get(values) or label_text(family.constant, family.labels, values)
                    for values, _ in samples
                }
                lines = "".join(
                    [f"{family.name}{texts[values]}{value}\n" for values, value in samples]
                ).encode()
            made.samples.append(samples)
            made.sample_texts.append(texts)
            made.sample_lines.append(lines)
