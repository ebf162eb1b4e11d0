"""When a container is over: the one rule for what is shown, and for what may be removed."""

from __future__ import annotations

from vgpumonitor.snapshot.identity import Identities
from vgpumonitor.sources.containers import ContainerReading
from vgpumonitor.sources.pods import PodsView

#: finishedAt has whole seconds: a directory changed this much later belongs to a new start.
_FINISHED_RESOLUTION = 1.0


def unreliable(pods: PodsView) -> str | None:
    """Why the list of pods doesn't tell which are gone; None where it does."""
    if pods.synced is None:
        return "the pods are not known yet"
    if not pods.up:
        return "the pods can't be read"
    if not pods.pods and not pods.deleted:
        # With another node's name a list is empty, complete and up to date.
        return "no pod of this node has been seen yet: is its name right?"
    return None


def is_over(reading: ContainerReading, pods: PodsView, identities: Identities) -> bool:
    """Whether a container is over, so that what its directory holds is history.

    A pod that is gone is over, also where no source ever had it: where the list of pods is
    younger than its directory. A pod deleted by force may still hold its device.
    """
    pod = pods.pods.get(reading.pod_uid)
    if pod is None:
        if identities.lives(reading):
            return False
        return reading.pod_uid in pods.deleted or (
            unreliable(pods) is None and pods.synced is not None and pods.synced > reading.changed
        )
    if pod.finished:
        return True
    status = pod.containers.get(reading.container)
    if status is None:
        return False
    if status.finished is None:
        return (reading.pod_uid, reading.container) in identities.ended
    if not status.finished:
        return False
    # The source may lag behind kubelet, or be away: a directory that changed later is new.
    return status.finished_at is None or (
        reading.changed <= status.finished_at + _FINISHED_RESOLUTION
    )
