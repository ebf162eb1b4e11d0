"""``vgpumonitor serve``: builds the sources, serves until told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from aiohttp import web

from vgpumonitor import descriptors
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.scrape import Scraper
from vgpumonitor.settings import Address, Settings
from vgpumonitor.sources.containers.directory import ContainersDirectory
from vgpumonitor.sources.devices.nvml.source import NvmlSource
from vgpumonitor.sources.pods.select import make_pod_source
from vgpumonitor.sources.processes import HostProcesses
from vgpumonitor.web.app import make_app
from vgpumonitor.web.connections import BACKLOG, HANDSHAKE, QUIET, Connections
from vgpumonitor.web.connections import log as http_log

if TYPE_CHECKING:
    from vgpumonitor.controllers import Cleanup, Feedback
    from vgpumonitor.web.config import WebConfigFile

log = logging.getLogger(__name__)

#: Seconds that open requests get to be answered after SIGTERM.
SHUTDOWN_TIMEOUT = 1.5


class ListenError(Exception):
    """An address can't be listened on; the message names it."""


async def serve(
    settings: Settings, nvml: NvmlSource | None, web_config: WebConfigFile | None
) -> None:
    """Serves until SIGTERM or SIGINT. Raises ListenError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    descriptors.raise_limit()
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
        connections = Connections()
        connections.bound(app)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=http_log,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            keepalive_timeout=QUIET,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        make_protocol = connections.factory(runner.server)
        for address in settings.listen:
            stack.callback((await _listen(make_protocol, address, tls)).close)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(runs.run()) for runs in (pods, *actions)]
            await stop.wait()
            log.info("stopping")
            for task in running:
                task.cancel()


async def _listen(
    make_protocol: Callable[[], asyncio.BaseProtocol],
    address: Address,
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    try:
        server = await asyncio.get_running_loop().create_server(
            make_protocol,
            address.host,
            address.port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE,
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"can't listen on {address}: something does already; is another vgpumonitor "
                "running?"
            ) from error
        raise ListenError(f"can't listen on {address}: {error.strerror}") from error
    served = Address(address.host or "0.0.0.0", server.sockets[0].getsockname()[1])
    log.info("serving", extra={"url": f"{'http' if tls is None else 'https'}://{served}/"})
    return server
