"""One look at the node through the sources of an exporter, which has more time than a scrape."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from vgpumonitor.controllers.ticker import ticks
from vgpumonitor.scrape import Scraper
from vgpumonitor.settings import Settings
from vgpumonitor.snapshot import NodeSnapshot, ProcessIdentification
from vgpumonitor.sources.containers import ContainersDirectory, raise_descriptor_limit
from vgpumonitor.sources.devices.nvml import NvmlSource
from vgpumonitor.sources.pods import PodSource
from vgpumonitor.sources.pods.registry import PodSourceOptions, make_pod_source
from vgpumonitor.sources.processes import HostProcesses

#: Seconds that the driver and the source of pods may take.
PATIENCE = 10.0
#: Seconds between two looks whether the pods are known.
STEP = 0.05


async def look(settings: Settings, nvml_library: Any = None) -> NodeSnapshot:
    """The node as it is now; nothing is written. ``nvml_library`` stands in for the driver's."""
    raise_descriptor_limit()
    pods = make_pod_source(
        settings.pods,
        PodSourceOptions(settings.node_name, settings.kubeconfig, settings.pod_logs_dir),
    )
    devices = (
        None
        if settings.nvml == "off"
        else NvmlSource(nvml_library, lock_file=settings.mig_lock_file)
    )
    scraper = Scraper(
        settings.node_name,
        (),
        ContainersDirectory(settings.containers),
        pods,
        devices,
        ProcessIdentification(HostProcesses(settings.procfs)),
    )
    following = asyncio.create_task(pods.run())
    try:
        known = asyncio.create_task(_known(pods))
        if devices is not None:
            # The driver's first answer can take longer than a scrape waits.
            await devices.sample(PATIENCE)
        await known
        return (await scraper.collect()).snapshot
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        if devices is not None:
            devices.stop()


async def _known(pods: PodSource) -> None:
    """Waits until the pods are known, or why they are not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            async for _ in ticks(STEP):
                if pods.view.synced is not None or pods.view.problem is not None:
                    return
