"""``vgpumonitor serve``: builds the sources, serves until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from vgpumonitor import descriptors, memory
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.scrape import Scraper
from vgpumonitor.settings import Settings
from vgpumonitor.sources.containers.directory import ContainersDirectory
from vgpumonitor.sources.devices.nvml.source import NvmlSource
from vgpumonitor.sources.pods.select import make_pod_source
from vgpumonitor.sources.processes import HostProcesses
from vgpumonitor.web.app import make_app
from vgpumonitor.web.server import listening

if TYPE_CHECKING:
    from vgpumonitor.controllers import Cleanup, Feedback
    from vgpumonitor.web.reload import WebConfigFile

log = logging.getLogger(__name__)


async def serve(
    settings: Settings, nvml: NvmlSource | None, web_config: WebConfigFile | None
) -> None:
    """Serves until SIGTERM or SIGINT. Raises ListenError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    descriptors.raise_limit()
    memory.set_up()
    async with AsyncExitStack() as stack:
        inventory = ContainersDirectory(settings.containers_dir)
        inventory.start()
        stack.callback(inventory.stop)
        pods = make_pod_source(
            settings.pods, settings.node_name, settings.kubeconfig, settings.pod_logs_dir
        )
        if nvml is not None:
            nvml.start()
            stack.callback(nvml.stop)
        processes = HostProcesses(settings.procfs)
        if settings.process_liveness == "on" and not processes.visible():
            log.warning(
                "--process-liveness=on, but these are not the host's processes: live ones will "
                "count as dead",
                extra={"procfs": str(settings.procfs)},
            )
        actions: list[Feedback | Cleanup] = []
        feedback: Feedback | None = None
        cleanup: Cleanup | None = None
        if settings.feedback:
            from vgpumonitor.controllers import Feedback

            feedback = Feedback(
                inventory,
                release_after=settings.feedback_release_after,
                dry_run=settings.dry_run,
            )
            actions.append(feedback)
        if settings.gc:
            from vgpumonitor.controllers import Cleanup

            cleanup = Cleanup(
                inventory, pods, processes, grace=settings.gc_grace, dry_run=settings.dry_run
            )
            actions.append(cleanup)
        scraper = Scraper(
            settings.node_name,
            families_for(settings.metrics, settings.process_metrics),
            inventory,
            pods,
            nvml,
            processes,
            settings.process_liveness,
            None if feedback is None else lambda: feedback.health,
            None if cleanup is None else lambda: cleanup.health,
        )
        readiness = {
            "inventory": lambda: (
                None if inventory.synced else inventory.error or "has not looked yet"
            ),
            f"pods ({pods.name})": lambda: (
                None if pods.view.synced is not None else "has not synced yet"
            ),
        }
        app = make_app(scraper, readiness)
        tls = None
        if web_config is not None:
            from vgpumonitor.web.auth import protect

            protect(app, web_config)
            tls = web_config.ssl_context()
        await stack.enter_async_context(listening(app, settings.listen, tls))
        memory.start_is_over()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(runs.run()) for runs in (pods, *actions)]
            await stop.wait()
            log.info("stopping")
            for task in running:
                task.cancel()
