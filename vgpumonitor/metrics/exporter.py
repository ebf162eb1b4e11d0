"""What the exporter says about itself. Always served: alerts on the exporter need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from vgpumonitor import __version__
from vgpumonitor.metrics.family import Family, NodeFamily, Sample
from vgpumonitor.region.model import REASONS
from vgpumonitor.snapshot import NodeSnapshot

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth


def _one(value: Callable[[NodeSnapshot], float | None]) -> Callable[[NodeSnapshot], list[Sample]]:
    """The one sample of a family without labels; none where the value is None."""

    def samples(snapshot: NodeSnapshot) -> list[Sample]:
        found = value(snapshot)
        return [] if found is None else [((), found)]

    return samples


def _by_label(
    values: Callable[[NodeSnapshot], Mapping[str, float]],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for label, value in values(snapshot).items():
            yield (label,), value

    return samples


def _feedback(
    value: Callable[[FeedbackHealth], float | None],
) -> Callable[[NodeSnapshot], list[Sample]]:
    return _one(lambda s: None if s.health.feedback is None else value(s.health.feedback))


def _gc(value: Callable[[CleanupHealth], float | None]) -> Callable[[NodeSnapshot], list[Sample]]:
    return _one(lambda s: None if s.health.gc is None else value(s.health.gc))


def _regions(snapshot: NodeSnapshot) -> Mapping[str, float]:
    states = Counter(entry.state for entry in snapshot.health.inventory.containers)
    return {state: states[state] for state in ("ok", "waiting", "unreadable")}


def _region_errors(snapshot: NodeSnapshot) -> Mapping[str, float]:
    # From the first scrape on every reason has its 0, so that rate() sees the first error.
    return {reason: snapshot.health.region_errors.get(reason, 0) for reason in REASONS}


def _nvml_errors(snapshot: NodeSnapshot) -> Iterable[Sample]:
    if snapshot.health.nvml is not None:
        yield from snapshot.health.nvml.errors.items()


FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "vgpumonitor_build_info",
        "Version of the exporter",
        ("version",),
        samples=lambda _: [((__version__,), 1)],
    ),
    NodeFamily(
        "vgpumonitor_collect_duration_seconds",
        "Seconds that the parts of this collection took",
        ("part",),
        samples=_by_label(lambda snapshot: snapshot.health.seconds),
    ),
    NodeFamily(
        "vgpumonitor_regions",
        "Directories of containers, by the state of their region file",
        ("state",),
        samples=_by_label(_regions),
    ),
    NodeFamily(
        "vgpumonitor_region_errors_total",
        "Region files and values in them that could not be used, by reason",
        ("reason",),
        "counter",
        samples=_by_label(_region_errors),
    ),
    NodeFamily(
        "vgpumonitor_torn_reads_total",
        "Process slots left out of a scrape since they stayed half-written",
        (),
        "counter",
        samples=_one(lambda snapshot: snapshot.health.inventory.torn_reads),
    ),
    NodeFamily(
        "vgpumonitor_pod_source_up",
        "Whether the pod source can be read now (1) or serves what it last knew (0)",
        (),
        samples=_one(lambda snapshot: int(snapshot.health.pods.up)),
    ),
    NodeFamily(
        "vgpumonitor_pod_source_synced_timestamp_seconds",
        "Unix time at which the pods were last known to be complete",
        (),
        samples=_one(lambda snapshot: snapshot.health.pods.synced),
    ),
    NodeFamily(
        "vgpumonitor_annotation_errors_total",
        "Pod annotations that could not be understood",
        ("annotation",),
        "counter",
        samples=_by_label(lambda snapshot: snapshot.health.pods.annotation_errors),
    ),
    NodeFamily(
        "vgpumonitor_watch_events_total",
        "Events from the watches on the containers directory",
        (),
        "counter",
        samples=_one(lambda snapshot: snapshot.health.inventory.watch_events),
    ),
    NodeFamily(
        "vgpumonitor_nvml_up",
        "Whether NVML answers (1) or not (0); no series where it is switched off",
        (),
        samples=_one(
            lambda snapshot: None if snapshot.health.nvml is None else int(snapshot.health.nvml.up)
        ),
    ),
    NodeFamily(
        "vgpumonitor_nvml_errors_total",
        "NVML calls that failed",
        ("call", "device_uuid"),
        "counter",
        samples=_nvml_errors,
    ),
    NodeFamily(
        "vgpumonitor_feedback_rounds_total",
        "Rounds of feedback",
        (),
        "counter",
        samples=_feedback(lambda health: health.rounds),
    ),
    NodeFamily(
        "vgpumonitor_feedback_writes_total",
        "Control words that feedback wrote into region files; in a dry run, would have written",
        ("field",),
        "counter",
        samples=_by_label(
            lambda snapshot: (
                {} if snapshot.health.feedback is None else snapshot.health.feedback.writes
            )
        ),
    ),
    NodeFamily(
        "vgpumonitor_feedback_failures_total",
        "Control words that feedback could not write",
        (),
        "counter",
        samples=_feedback(lambda health: health.failures),
    ),
    NodeFamily(
        "vgpumonitor_feedback_last_round_timestamp_seconds",
        "Unix time of the last round of feedback",
        (),
        samples=_feedback(lambda health: health.last_round),
    ),
    NodeFamily(
        "vgpumonitor_gc_removed_total",
        "Directories of containers that clean-up removed; in a dry run, would have removed",
        (),
        "counter",
        samples=_gc(lambda health: health.removed),
    ),
    NodeFamily(
        "vgpumonitor_gc_failures_total",
        "Directories of containers that clean-up could not remove",
        (),
        "counter",
        samples=_gc(lambda health: health.failures),
    ),
    NodeFamily(
        "vgpumonitor_gc_last_round_timestamp_seconds",
        "Unix time of the last round of clean-up",
        (),
        samples=_gc(lambda health: health.last_round),
    ),
)
