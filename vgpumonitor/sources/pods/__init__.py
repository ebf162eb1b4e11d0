"""Where pods are known from: one module a source."""

from vgpumonitor.sources.pods.model import (
    Allocation,
    MigAllocation,
    Pod,
    PodContainer,
    PodSource,
    PodsView,
)

__all__ = ["Allocation", "MigAllocation", "Pod", "PodContainer", "PodSource", "PodsView"]
