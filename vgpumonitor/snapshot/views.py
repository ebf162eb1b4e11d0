"""What the sources say at one moment: all that a snapshot is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vgpumonitor.snapshot.identity import Identities
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth, XidErrors
from vgpumonitor.sources.pods import PodsView

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth


@dataclass(frozen=True, slots=True)
class SourceViews:
    """``time`` is the one clock reading, Unix seconds. ``known_devices`` name devices (UUID,
    minor, memory) also while one or the driver is away; ``seconds`` are the durations of the
    scrape's parts. What is switched off is None."""

    time: float
    containers: ContainersView = field(default_factory=ContainersView)
    pod_source: str = "none"
    pods: PodsView = field(default_factory=PodsView)
    devices: tuple[Device, ...] = ()
    known_devices: tuple[Device, ...] = ()
    device_health: DeviceHealth | None = None
    xids: tuple[XidErrors, ...] = ()
    identities: Identities = field(default_factory=Identities)
    feedback: FeedbackHealth | None = None
    cleanup: CleanupHealth | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
