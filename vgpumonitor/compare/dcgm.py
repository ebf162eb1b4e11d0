"""A dcgm-exporter's text beside ours: ours in DCGM's names, units and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from vgpumonitor.compare.exposition import CompareError, Exposition, Labels
from vgpumonitor.compare.kinds import RATE, Tolerance, Tolerances
from vgpumonitor.metrics.dcgm import FIELDS, Field

BY_NAME = {field.name: field for field in FIELDS}
_PREFIX = "DCGM_"
_OURS = "vgpu_device_"

#: What a MIG device has of its own, as its GPU has.
_OF_MIG = {
    "vgpu_device_memory_total_bytes": "vgpu_mig_device_memory_total_bytes",
    "vgpu_device_memory_used_bytes": "vgpu_mig_device_memory_used_bytes",
}
#: What only some of a GPU's instances share: a GPU's value says nothing of it.
_NOT_OF_MIG = ("vgpu_device_memory_reserved_bytes",)

#: DCGM's values for "not known", as dcgmlib's dcgm_fields.h has them for 32 and 64 bits and for
#: floating point, each with up to 15 more that say why.
_BLANKS = (0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0, 140737488355328)

#: DCGM's counters and sensors are read each 30 s by default, so that this long they may be old.
WAIT = 40.0


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A name of DCGM's, and why it stands beside nothing."""

    name: str
    reason: str


def side(scrape: tuple[Exposition, Exposition]) -> int:
    """Which of the two is the dcgm-exporter's. Raises CompareError if not one of them is, or the
    other one is not ours."""
    found = [number for number, one in enumerate(scrape) if _names(one)]
    if len(found) != 1:
        raise CompareError(
            f"{'both serve' if found else 'neither serves'} DCGM's fields (DCGM_FI_…): "
            "expected one dcgm-exporter, and one vgpumonitor"
        )
    number = found[0]
    families = scrape[1 - number].values
    if not any(_series(scrape[1 - number], name) for name in families if name.startswith(_OURS)):
        raise CompareError(
            f"{'BA'[number]} serves nothing of a GPU ({_OURS}…): expected a vgpumonitor with the "
            "set vgpu (serve --metrics) that sees the GPUs"
        )
    return number


def _names(scrape: Exposition) -> set[str]:
    """DCGM's fields that a scrape has: metrics, and texts, which are labels of each."""
    metrics = {name for name in scrape.values if name.startswith(_PREFIX)}
    labels = {
        label for name in metrics for label in scrape.label_names[name] if label.startswith(_PREFIX)
    }
    return metrics | labels


def not_compared(scrape: tuple[Exposition, Exposition]) -> list[NotCompared]:
    found = []
    for name in sorted(_names(scrape[side(scrape)])):
        field = BY_NAME.get(name)
        if field is None:
            found.append(NotCompared(name, "not in the table of names"))
        elif not field.family or field.form == "mask":
            found.append(NotCompared(name, field.note))
    return found


class DcgmTolerances(Tolerances):
    """In DCGM's units, of which most are whole numbers."""

    def of(self, family: str) -> Tolerance:
        field = BY_NAME[family]
        if field.form in ("label", "text"):
            return Tolerance()
        if field.form == "rate":
            return super().of(RATE)
        own = super().of(field.family)
        return replace(own, absolute=max(1, own.absolute * float(field.scale)))


def translated(
    scrapes: Sequence[tuple[Exposition, Exposition]],
) -> list[tuple[Exposition, Exposition]]:
    """The scrapes with DCGM's fields on both sides: of DCGM's those that are here too, by GPU
    and GPU instance alone; of ours those that DCGM's side has."""
    number = side(scrapes[0])
    found: list[tuple[Exposition, Exposition]] = []
    before: Exposition | None = None
    for scrape in scrapes:
        dcgm, ours = _of_dcgm(scrape[number]), scrape[1 - number]
        gpus = {_uuid(labels) for series in dcgm.values() for labels in series}
        own = {name: _of_ours(BY_NAME[name], dcgm[name], gpus, ours, before) for name in dcgm}
        both = _exposition(dcgm), _exposition({name: of for name, of in own.items() if of})
        found.append(both if number == 0 else both[::-1])
        before = ours
    return found


def _exposition(values: Mapping[str, Mapping[Labels, float]]) -> Exposition:
    names = {
        name: frozenset(label for labels in series for label, _ in labels)
        for name, series in values.items()
    }
    return Exposition(values, {}, names)


def _of_dcgm(scrape: Exposition) -> dict[str, dict[Labels, float]]:
    """DCGM's values by GPU. They stand once for each pod that shares the GPU, and for each of its
    instances; only what an instance has of its own is by instance."""
    found: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for name in sorted(_names(scrape)):
        field = BY_NAME.get(name)
        for labels, value in scrape.values.get(name, {}).items():
            known = dict(labels)
            uuid = known.get("UUID") or known.get("uuid", "")
            for label, text in known.items():
                if label in BY_NAME and BY_NAME[label].form == "text":
                    found[label][_labels(uuid, text=text)] = 1
            if field is None or not field.family or field.form == "mask" or _blank(value):
                continue
            instance = known.get("GPU_I_ID", "")
            parts = {field.family, *field.minus}
            if not instance or not parts & {*_OF_MIG, *_NOT_OF_MIG}:
                found[name][_labels(uuid)] = value
            elif parts <= _OF_MIG.keys():
                found[name][_labels(uuid, instance=instance)] = value
    return dict(found)


def _labels(uuid: str, *, instance: str = "", text: str = "") -> Labels:
    labels = ("GPU_I_ID", instance), ("UUID", uuid), ("value", text)
    return tuple(label for label in labels if label[1])


def _blank(value: float) -> bool:
    return any(blank <= value <= blank + 16 for blank in _BLANKS)


def _of_ours(
    field: Field,
    dcgm: Mapping[Labels, float],
    gpus: Collection[str],
    scrape: Exposition,
    before: Exposition | None,
) -> dict[Labels, float]:
    """Our values of ``field``, in DCGM's units: of the GPUs, and of the GPUs whose instances
    have the field, for which DCGM's side has it, and of those that aren't among its ``gpus``."""
    instances = {_uuid(labels) for labels in dcgm if labels[0][0] == "GPU_I_ID"}
    wholes = {_uuid(labels) for labels in dcgm if labels[0][0] != "GPU_I_ID"}
    found = {
        _labels(uuid, text=text): value
        for (uuid, text), value in _by_gpu(field, scrape, before).items()
        if uuid in wholes or uuid not in gpus
    }
    if instances:
        found |= {
            _labels(uuid, instance=instance): value * float(field.scale)
            for (uuid, instance), value in _by_instance(field, scrape).items()
            if uuid in instances
        }
    return found


def _uuid(labels: Labels) -> str:
    return dict(labels).get("UUID", "")


def _by_gpu(
    field: Field, scrape: Exposition, before: Exposition | None
) -> dict[tuple[str, str], float]:
    """By UUID, and the text that the field is."""
    if field.form == "text":
        info = _series(scrape, field.family)
        return {(known["device_uuid"], known.get(field.label, "")): 1 for known, _ in info}
    if field.form == "label":
        newest = {
            (known["device_uuid"], ""): 0.0 for known, _ in _series(scrape, "vgpu_device_info")
        }
        for known, _ in sorted(_series(scrape, field.family), key=lambda one: one[1]):
            newest[known["device_uuid"], ""] = float(known[field.label])
        return newest
    scale = float(field.scale)
    values = _sums(field, scrape)
    if field.form == "value":
        return {(uuid, ""): value * scale for uuid, value in values.items()}
    if before is None:
        return {}
    earlier = _sums(field, before)
    return {
        (uuid, ""): (value - earlier[uuid]) / (scrape.at - before.at) * scale
        for uuid, value in values.items()
        if earlier.get(uuid, value + 1) <= value
    }


def _series(scrape: Exposition, family: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values, of a GPU each: what somebody summed over GPUs is none of ours."""
    found = ((dict(labels), value) for labels, value in scrape.values.get(family, {}).items())
    return [(known, value) for known, value in found if "device_uuid" in known]


def _sums(field: Field, scrape: Exposition) -> dict[str, float]:
    """By UUID. A GPU whose driver tells no reserve counts it among what is used."""
    found: defaultdict[str, float] = defaultdict(float)
    for known, value in _series(scrape, field.family):
        if all(known.get(name) == of_label for name, of_label in field.labels.items()):
            found[known["device_uuid"]] += value
    for family in field.minus:
        for known, value in _series(scrape, family):
            found[known["device_uuid"]] -= value
    return dict(found)


def _by_instance(field: Field, scrape: Exposition) -> dict[tuple[str, str], float]:
    """By the GPU's UUID and the GPU instance, whose compute instances share its memory."""
    instance_of = {
        known["mig_uuid"]: known["gpu_instance_id"]
        for known, _ in _series(scrape, "vgpu_mig_device_info")
    }
    found: dict[tuple[str, str], float] = {}
    for known, value in _series(scrape, _OF_MIG[field.family]):
        if known["mig_uuid"] in instance_of:
            found[known["device_uuid"], instance_of[known["mig_uuid"]]] = value
    return found
