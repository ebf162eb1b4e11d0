"""``vgpumonitor serve``: builds an exporter's parts, and runs them until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vgpumonitor import logs
from vgpumonitor.controllers import Cleanup, Feedback, Seen
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.options import flags, warn_of_ignored_variables
from vgpumonitor.scrape import Scraper
from vgpumonitor.settings import Address, Settings
from vgpumonitor.snapshot import ProcessIdentification
from vgpumonitor.sources.containers import ContainersDirectory
from vgpumonitor.sources.devices import DeviceSource
from vgpumonitor.sources.devices.nvml import NvmlSource
from vgpumonitor.sources.pods import PodSource
from vgpumonitor.sources.pods.registry import PodSourceOptions, make_pod_source
from vgpumonitor.sources.processes import HostProcesses
from vgpumonitor.web.app import Readiness, make_app
from vgpumonitor.web.server import ListenError, listening

if TYPE_CHECKING:
    from vgpumonitor.web.config import WebConfigFile

log = logging.getLogger(__name__)


@click.command()
@flags(Settings)
def command(settings: Settings) -> None:
    """Serve the metrics of this node."""
    logs.configure(settings.log_level, settings.log_format)
    warn_of_ignored_variables()
    serve(settings)


def serve(settings: Settings, nvml_library: object | None = None) -> None:
    """What the commands do: ``run``, with errors as click shows them. ``nvml_library`` stands in
    for the driver's."""
    try:
        asyncio.run(run(settings, _web_config(settings), nvml_library))
    except ListenError as error:
        raise click.ClickException(str(error)) from error


def _web_config(settings: Settings) -> WebConfigFile | None:
    if settings.web_config_file is None:
        return None
    # Imported only here: most exporters don't need its libraries, which are a lot of memory.
    from vgpumonitor.web.config import WebConfigError, WebConfigFile

    try:
        return WebConfigFile(settings.web_config_file)
    except WebConfigError as error:
        raise click.BadParameter(str(error), param_hint="--web-config-file") from error


#: Seconds for which the containers directory may have been removed under the exporter's mount
#: before the exporter says that it is not healthy.
UNLINKED_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Exporter:
    """The parts of an exporter; those that are off are None."""

    containers: ContainersDirectory
    pods: PodSource
    devices: DeviceSource | None
    feedback: Feedback | None
    cleanup: Cleanup | None
    scraper: Scraper

    @property
    def readiness(self) -> Readiness:
        return {
            "containers directory": self._containers_missing,
            f"pods ({self.pods.name})": self._pods_missing,
        }

    def _containers_missing(self) -> str | None:
        if self.containers.synced:
            return None
        return self.containers.error or "has not looked yet"

    def _pods_missing(self) -> str | None:
        view = self.pods.view
        return None if view.synced is not None else view.problem or "has not synced yet"

    def health(self) -> str | None:
        """What only a restart mends, for kubelet's probe; None where nothing is wrong."""
        unlinked = self.containers.unlinked_for
        if unlinked is None or unlinked < UNLINKED_GRACE:
            return None
        return self.containers.error


def build(settings: Settings, nvml_library: object | None = None) -> Exporter:
    """The parts that ``settings`` ask for, none of them started."""
    containers = ContainersDirectory(settings.containers)
    pods = make_pod_source(
        settings.pods,
        PodSourceOptions(settings.node_name, settings.kubeconfig, settings.pod_logs_dir),
    )
    devices = (
        None
        if settings.nvml == "off"
        else NvmlSource(nvml_library, lock_file=settings.mig_lock_file)
    )
    processes = HostProcesses(settings.procfs)
    if settings.process_liveness == "on" and not processes.visible():
        log.warning(
            "the host's processes are not visible, so that with --process-liveness=on live ones "
            "count as dead",
            extra={"procfs": str(settings.procfs)},
        )
    feedback = cleanup = None
    if settings.feedback:

        async def look() -> Seen:
            return Seen.of((await scraper.collect()).snapshot)

        feedback = Feedback(
            containers,
            look,
            release_after=settings.feedback_release_after,
            dry_run=settings.dry_run,
        )
    if settings.gc:
        cleanup = Cleanup(
            containers,
            pods,
            ProcessIdentification(HostProcesses(settings.procfs)),
            grace=settings.gc_grace,
            dry_run=settings.dry_run,
        )
    scraper = Scraper(
        settings.node_name,
        families_for(settings.metrics, settings.process_metrics, settings.pod_labels),
        containers,
        pods,
        devices,
        ProcessIdentification(processes, settings.process_liveness),
        None if feedback is None else lambda: feedback.health,
        None if cleanup is None else lambda: cleanup.health,
    )
    return Exporter(containers, pods, devices, feedback, cleanup, scraper)


async def run(
    settings: Settings,
    web_config: WebConfigFile | None = None,
    nvml_library: object | None = None,
) -> None:
    """Builds, starts and serves until SIGTERM or SIGINT. Raises ListenError."""
    stop = stopped()
    async with serving(settings, web_config, nvml_library):
        await stop.wait()
        log.info("stopping")


def stopped() -> asyncio.Event:
    """Is set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def serving(
    settings: Settings,
    web_config: WebConfigFile | None = None,
    nvml_library: object | None = None,
) -> AsyncIterator[list[Address]]:
    """An exporter that serves, on the addresses that it gives. Raises ListenError."""
    exporter = build(settings, nvml_library)
    async with AsyncExitStack() as stack:
        for source in (exporter.containers, exporter.devices):
            if source is not None:
                source.start()
                stack.callback(source.stop)
        app = make_app(exporter.scraper, exporter.readiness, exporter.health)
        tls = None
        if web_config is not None:
            from vgpumonitor.web.auth import protect

            protect(app, web_config)
            tls = web_config.ssl_context()
        served = await stack.enter_async_context(listening(app, settings.listen_address, tls))
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(part.run())
                for part in (exporter.pods, exporter.feedback, exporter.cleanup)
                if part is not None
            ]
            if exporter.devices is not None:
                looking = _look_at_xids(exporter.devices, exporter.scraper)
                running.append(tasks.create_task(looking))
            try:
                yield served
            except Exception as error:
                # Not raised here: the group would wrap what is the caller's.
                failure = error
            for task in running:
                task.cancel()
        if failure is not None:
            raise failure


async def _look_at_xids(devices: DeviceSource, scraper: Scraper) -> None:
    """Makes a snapshot when a GPU has an XID, while the containers that were on it are there."""
    happened, loop = asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # The loop is closed: the exporter ends.
            loop.call_soon_threadsafe(happened.set)

    devices.on_xid(wake)
    while True:
        await happened.wait()
        happened.clear()
        await scraper.collect()
