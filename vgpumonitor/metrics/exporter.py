"""What the exporter says about itself. Always served, since alerts on the exporter need it:

vgpumonitor_regions{node="node-1",state="ok"} 2
vgpumonitor_region_errors_total{node="node-1",reason="bad_magic"} 4
vgpumonitor_pod_source_up{node="node-1"} 1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from vgpumonitor import __version__
from vgpumonitor.diagnosis import findings
from vgpumonitor.metrics.family import Family, NodeFamily, Sample
from vgpumonitor.region.model import REASONS
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.pods.annotations import ANNOTATIONS

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth


def _one(value: Callable[[NodeSnapshot], float | None]) -> Callable[[NodeSnapshot], list[Sample]]:
    """The one sample of a family that has the node for its only label; none where the value is
    None."""

    def samples(snapshot: NodeSnapshot) -> list[Sample]:
        found = value(snapshot)
        return [] if found is None else [((snapshot.node,), found)]

    return samples


def _by_label(
    values: Callable[[NodeSnapshot], Mapping[str, float]],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for label, value in values(snapshot).items():
            yield (snapshot.node, label), value

    return samples


def _feedback(
    value: Callable[[FeedbackHealth], float | None],
) -> Callable[[NodeSnapshot], list[Sample]]:
    return _one(lambda s: None if s.health.feedback is None else value(s.health.feedback))


def _cleanup(
    value: Callable[[CleanupHealth], float | None],
) -> Callable[[NodeSnapshot], list[Sample]]:
    return _one(lambda s: None if s.health.cleanup is None else value(s.health.cleanup))


def _regions(snapshot: NodeSnapshot) -> Mapping[str, float]:
    states = Counter(each.reading.state for each in snapshot.containers if each.reading)
    return {state: states[state] for state in ("ok", "waiting", "unreadable")}


def _region_errors(snapshot: NodeSnapshot) -> Mapping[str, float]:
    # From the first scrape on every reason has its 0, so that rate() sees the first error.
    return {reason: snapshot.health.region_errors.get(reason, 0) for reason in REASONS}


def _annotation_errors(snapshot: NodeSnapshot) -> Mapping[str, float]:
    errors = snapshot.health.pods.annotation_errors
    return {annotation: errors.get(annotation, 0) for annotation in ANNOTATIONS}


def _nvml_errors(snapshot: NodeSnapshot) -> Iterable[Sample]:
    if snapshot.health.devices is not None:
        for (call, uuid), count in snapshot.health.devices.errors.items():
            yield (snapshot.node, call, uuid), count


def _findings(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for finding in findings(snapshot):
        yield (snapshot.node, finding.kind.id, finding.kind.severity), len(finding.seen)


FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "vgpumonitor_build_info",
        "Version of the exporter",
        ("node", "version"),
        samples=lambda snapshot: [((snapshot.node, __version__), 1)],
    ),
    NodeFamily(
        "vgpumonitor_collect_duration_seconds",
        "Seconds that the parts of this collection took",
        ("node", "part"),
        samples=_by_label(lambda snapshot: snapshot.health.seconds),
    ),
    NodeFamily(
        "vgpumonitor_regions",
        "Directories of containers, by the state of their region file",
        ("node", "state"),
        samples=_by_label(_regions),
    ),
    NodeFamily(
        "vgpumonitor_region_errors_total",
        "Region files and values in them that could not be used, by reason",
        ("node", "reason"),
        "counter",
        samples=_by_label(_region_errors),
    ),
    NodeFamily(
        "vgpumonitor_torn_reads_total",
        "Process slots that stayed half-written at a scrape, where their last whole value counts",
        ("node",),
        "counter",
        samples=_one(lambda snapshot: snapshot.health.containers.torn_reads),
    ),
    NodeFamily(
        "vgpumonitor_pod_source_up",
        "Whether the pod source can be read now (1) or serves what it last knew (0)",
        ("node",),
        samples=_one(lambda snapshot: int(snapshot.health.pods.up)),
    ),
    NodeFamily(
        "vgpumonitor_pod_source_synced_timestamp_seconds",
        "Unix time at which the pods were last known to be complete",
        ("node",),
        samples=_one(lambda snapshot: snapshot.health.pods.synced),
    ),
    NodeFamily(
        "vgpumonitor_annotation_errors_total",
        "Pod annotations that could not be understood",
        ("node", "annotation"),
        "counter",
        samples=_by_label(_annotation_errors),
    ),
    NodeFamily(
        "vgpumonitor_watch_events_total",
        "Events from the watches on the containers directory",
        ("node",),
        "counter",
        samples=_one(lambda snapshot: snapshot.health.containers.watch_events),
    ),
    NodeFamily(
        "vgpumonitor_host_processes_visible",
        "Whether the host's processes can be seen (1), or all is as HAMi-core says (0)",
        ("node",),
        samples=_one(lambda snapshot: int(snapshot.health.host_processes_visible)),
    ),
    NodeFamily(
        "vgpumonitor_findings",
        "Places where something is wrong, by what it is (docs/troubleshooting.md)",
        ("node", "id", "severity"),
        samples=_findings,
    ),
    NodeFamily(
        "vgpumonitor_nvml_up",
        "Whether NVML answers (1) or not (0); no series where it is switched off",
        ("node",),
        samples=_one(
            lambda snapshot: (
                None if snapshot.health.devices is None else int(snapshot.health.devices.up)
            )
        ),
    ),
    NodeFamily(
        "vgpumonitor_nvml_errors_total",
        "NVML calls that failed",
        ("node", "call", "device_uuid"),
        "counter",
        samples=_nvml_errors,
    ),
    NodeFamily(
        "vgpumonitor_feedback_rounds_total",
        "Rounds of feedback",
        ("node",),
        "counter",
        samples=_feedback(lambda health: health.rounds),
    ),
    NodeFamily(
        "vgpumonitor_feedback_writes_total",
        "Control words that feedback wrote into region files; in a dry run, would have written",
        ("node", "field"),
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
        ("node",),
        "counter",
        samples=_feedback(lambda health: health.failures),
    ),
    NodeFamily(
        "vgpumonitor_feedback_last_round_timestamp_seconds",
        "Unix time of the last round of feedback",
        ("node",),
        samples=_feedback(lambda health: health.last_round),
    ),
    NodeFamily(
        "vgpumonitor_gc_removed_total",
        "Directories of containers that clean-up removed; in a dry run, would have removed",
        ("node",),
        "counter",
        samples=_cleanup(lambda health: health.removed),
    ),
    NodeFamily(
        "vgpumonitor_gc_failures_total",
        "Directories of containers that clean-up could not remove",
        ("node",),
        "counter",
        samples=_cleanup(lambda health: health.failures),
    ),
    NodeFamily(
        "vgpumonitor_gc_last_round_timestamp_seconds",
        "Unix time of the last round of clean-up",
        ("node",),
        samples=_cleanup(lambda health: health.last_round),
    ),
)
