"""The commands."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vgpumonitor import __version__, logs
from vgpumonitor.settings import Address, Settings, parse_address

if TYPE_CHECKING:
    from vgpumonitor.simulate.node import SimulatedNode

F = TypeVar("F", bound=Callable[..., Any])


class _AddressType(click.ParamType[Address]):
    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _MetricsType(click.ParamType[str]):
    name = "SETS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from vgpumonitor.metrics.sets import families_for

        try:
            families_for(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class _PodsType(click.ParamType[str]):
    name = "SOURCE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text not in ("auto", "kubernetes", "pod-logs", "none") and not text.startswith("file:"):
            self.fail(
                f"{text!r} is no pod source; there are auto, kubernetes, pod-logs, file:PATH "
                "and none",
                param,
                ctx,
            )
        return text


class _SecondsType(click.ParamType[float]):
    """Seconds: a number, or one with Go's unit (``300s``, ``5m``), as HAMI_RESYNC_INTERVAL
    has it."""

    name = "SECONDS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        factors = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        unit = next((unit for unit in factors if text.endswith(unit)), "")
        try:
            seconds = float(text.removesuffix(unit)) * factors.get(unit, 1.0)
        except ValueError:
            self.fail(f"{value!r} is no time in seconds", param, ctx)
        if not 0 <= seconds < float("inf"):
            self.fail(f"{value!r} is no time in seconds", param, ctx)
        return seconds


def _option(
    name: str, *names: str, env: tuple[str, ...] = (), **attributes: Any
) -> Callable[[F], F]:
    """A flag of serve with its environment variable VGPUMONITOR_…; the first name rules."""
    own = "VGPUMONITOR_" + name.removeprefix("--").split("/")[0].replace("-", "_").upper()
    parameter = name.removeprefix("--").split("/")[0].replace("-", "_")
    return click.option(
        name,
        *names,
        parameter,
        envvar=[own, *env],
        show_envvar=True,
        show_default=True,
        **attributes,
    )


def _log_options(command: F) -> F:
    for decorate in (
        _option(
            "--log-format",
            type=click.Choice(["logfmt", "json"]),
            default="logfmt",
            help="Format of the log on standard error.",
        ),
        _option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            help="Least level of what is logged.",
        ),
    ):
        command = decorate(command)
    return command


_listen_option = _option(
    "--listen-address",
    "--metrics-bind-address",
    type=_AddressType(),
    multiple=True,
    default=(":9394",),
    help="Address to serve on, HOST:PORT, IPv6 in brackets; may be given several times.",
)
_metrics_option = _option(
    "--metrics",
    type=_MetricsType(),
    default="documented,vgpu",
    help="Sets of metrics: documented, hami, vgpu, all; -memory-desc leaves "
    "Device_memory_desc_of_container out.",
)
_process_metrics_option = _option(
    "--process-metrics", is_flag=True, help="Also series for each process."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vgpumonitor")
def main() -> None:
    """Monitoring for GPUs that containers share through HAMi-core."""


@main.command()
@_listen_option
@_option(
    "--hook-path",
    env=("HOOK_PATH",),
    type=click.Path(path_type=Path),
    default=Path("/usr/local/vgpu"),
    help="HAMi-core's directory on the host; the containers directory is `containers` in it.",
)
@_option(
    "--containers-dir",
    type=click.Path(path_type=Path),
    help="The containers directory, where it is not under --hook-path.",
)
@_option(
    "--node-name",
    env=("NODE_NAME",),
    default=socket.gethostname,
    help="Name of this node.  [default: the host's name]",
)
@_metrics_option
@_option(
    "--pods",
    type=_PodsType(),
    default="auto",
    help="Where pods are known from: kubernetes, pod-logs, file:PATH (what `kubectl get pods "
    "-A -o json` prints), none, or auto.",
)
@_option(
    "--kubeconfig",
    env=("KUBECONFIG",),
    help="Kubeconfig file.  [default: the pod's service account]",
)
@_option(
    "--pod-logs-dir",
    type=click.Path(path_type=Path),
    default=Path("/var/log/pods"),
    help="Kubelet's directory of pod logs.",
)
@_option(
    "--nvml",
    type=click.Choice(["auto", "off"]),
    default="auto",
    help="Ask NVML for the cards; auto goes on without a driver, and tries again.",
)
@_option(
    "--procfs",
    type=click.Path(path_type=Path),
    default=Path("/proc"),
    help="Where to look for the host's processes.",
)
@_option(
    "--process-liveness",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Leave processes out that no longer exist; auto where the host's PIDs can be seen.",
)
@_process_metrics_option
@_option(
    "--feedback",
    is_flag=True,
    help="Hold launches of lower priorities and lift core limits, as vGPUmonitor does.",
)
@_option(
    "--feedback-release-after",
    type=_SecondsType(),
    default="60",
    help="Seconds of a partial view after which blocked containers are released.",
)
@_option("--gc", is_flag=True, help="Remove directories of pods that are gone.")
@_option(
    "--gc-grace",
    env=("HAMI_RESYNC_INTERVAL",),
    type=_SecondsType(),
    default="300",
    help="Seconds that a directory must not have changed before it is removed.",
)
@_option("--dry-run", is_flag=True, help="Feedback and clean-up only say what they would do.")
@_option(
    "--web-config-file",
    type=click.Path(path_type=Path),
    help="TLS and basic auth, in the format of Prometheus' exporter-toolkit.",
)
@_log_options
def serve(
    listen_address: tuple[Address, ...],
    hook_path: Path,
    containers_dir: Path | None,
    log_level: str,
    log_format: str,
    **rest: Any,
) -> None:
    """Serve the metrics of this node."""
    logs.configure(log_level, log_format)
    _serve(
        Settings(
            listen=listen_address,
            containers_dir=containers_dir or hook_path / "containers",
            **rest,
        )
    )


def _serve(settings: Settings, nvml_library: object | None = None) -> None:
    from vgpumonitor.serve import serve as run
    from vgpumonitor.sources.devices.nvml.source import NvmlSource
    from vgpumonitor.web.server import ListenError

    web_config = None
    if settings.web_config_file is not None:
        # Imported only here: its libraries are memory that most exporters need not have.
        from vgpumonitor.web.config import WebConfigError
        from vgpumonitor.web.reload import WebConfigFile

        try:
            web_config = WebConfigFile(settings.web_config_file)
        except WebConfigError as error:
            raise click.BadParameter(str(error), param_hint="--web-config-file") from error
    nvml = None if settings.nvml == "off" else NvmlSource(library=nvml_library)
    try:
        asyncio.run(run(settings, nvml, web_config))
    except ListenError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def inspect(paths: tuple[Path, ...], as_json: bool) -> None:
    """Decode region files, or all that are in directories."""
    from vgpumonitor.inspect import run

    sys.exit(run(paths, as_json))


class _LayoutsType(click.ParamType[tuple[Any, ...]]):
    name = "LAYOUTS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        from vgpumonitor.region.layouts import LAYOUTS

        if not isinstance(value, str):
            return tuple(value)
        known = {layout.name: layout for layout in LAYOUTS}
        if value == "all":
            return LAYOUTS
        names = value.split(",")
        for name in names:
            if name not in known:
                self.fail(f"{name!r} is no layout; there are {', '.join(known)}, all", param, ctx)
        return tuple(known[name] for name in names)


def _node_options(command: F) -> F:
    for decorate in (
        click.option("--seed", default=0, show_default=True, help="The same seed, the same node."),
        click.option(
            "--layouts",
            type=_LayoutsType(),
            default="all",
            show_default=True,
            help="Layouts of the region files, parted by commas: 0, 1.1, 1.1-postinit, 1.2.",
        ),
        click.option(
            "--containers",
            type=click.IntRange(min=0),
            default=16,
            show_default=True,
            help="Containers with a directory.",
        ),
        click.option(
            "--gpus", type=click.IntRange(min=1), default=4, show_default=True, help="Cards."
        ),
    ):
        command = decorate(command)
    return command


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_node_options
@click.option(
    "--interval",
    type=_SecondsType(),
    default="1",
    show_default=True,
    help="Seconds of ours for one of the node's.",
)
def simulate(
    directory: Path,
    gpus: int,
    containers: int,
    layouts: tuple[Any, ...],
    seed: int,
    interval: float,
) -> None:
    """Write a simulated node's files into DIRECTORY, live until stopped.

    Region files as HAMi-core writes them, pods, pod logs, processes and cards; the command
    that serves them is printed.
    """
    stop = _stop_on_signal()
    with _simulated_node(directory, gpus, containers, layouts, seed) as node:
        click.echo(
            f"vgpumonitor serve --containers-dir {node.containers_dir}"
            f" --pods file:{node.pods_file} --procfs {node.procfs_dir}"
            f" --node-name {node.node_name}"
        )
        node.run(stop, interval)


@main.command()
@_listen_option
@_metrics_option
@_process_metrics_option
@_option("--feedback", is_flag=True, help="Run feedback over the simulated containers.")
@_node_options
@_log_options
def demo(
    listen_address: tuple[Address, ...],
    metrics: str,
    process_metrics: bool,
    feedback: bool,
    gpus: int,
    containers: int,
    layouts: tuple[Any, ...],
    seed: int,
    log_level: str,
    log_format: str,
) -> None:
    """Serve a simulated node: no GPU, cluster or privilege needed."""
    import tempfile

    from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary

    logs.configure(log_level, log_format)
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="vgpumonitor-demo-") as directory,
        _simulated_node(Path(directory), gpus, containers, layouts, seed) as node,
    ):
        simulating = threading.Thread(target=node.run, args=(stop,), name="simulate")
        simulating.start()
        try:
            _serve(
                Settings(
                    listen=listen_address,
                    containers_dir=node.containers_dir,
                    node_name=node.node_name,
                    metrics=metrics,
                    pods=f"file:{node.pods_file}",
                    procfs=node.procfs_dir,
                    process_metrics=process_metrics,
                    feedback=feedback,
                ),
                SimulatedLibrary(node.nvml_state),
            )
        finally:
            stop.set()
            simulating.join()


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _simulated_node(
    directory: Path, gpus: int, containers: int, layouts: tuple[Any, ...], seed: int
) -> SimulatedNode:
    from vgpumonitor.simulate.node import SimulatedNode, SimulationError

    try:
        return SimulatedNode(directory, gpus, containers, layouts, seed)
    except SimulationError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("url_a")
@click.argument("url_b")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.05,
    show_default=True,
    help="Share by which values may differ.",
)
@click.option(
    "--absolute-tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Difference that values may have whatever their size.",
)
def compare(url_a: str, url_b: str, tolerance: float, absolute_tolerance: float) -> None:
    """Compare what two exporters serve; the exit status is 1 where they differ."""
    from vgpumonitor.compare import Tolerance, run

    sys.exit(run(url_a, url_b, Tolerance(tolerance, absolute_tolerance)))


_SORTS = ("memory", "cores", "idle", "name", "limit", "card", "state")


@main.command()
@click.argument("url", default="http://localhost:9394")
@click.option(
    "--hook-path",
    type=click.Path(path_type=Path),
    help="Read this node's region files instead of asking an exporter.",
)
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="memory",
    show_default=True,
    help="What the rows are sorted by.",
)
@click.option("--filter", "text", default="", help="Show only rows that contain this.")
@click.option(
    "--interval",
    type=_SecondsType(),
    default="2",
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Print one look as plain text.")
def top(
    url: str, hook_path: Path | None, sort: str, text: str, interval: float, once: bool
) -> None:
    """Show a node in the terminal, from the exporter at URL."""
    from vgpumonitor.top import TopError, View, from_hook_path, from_url, run_top

    try:
        fetch = from_url(url) if hook_path is None else from_hook_path(hook_path)
        run_top(fetch, View(sort=sort, filter=text), interval, once)
    except TopError as error:
        raise click.ClickException(str(error)) from error
