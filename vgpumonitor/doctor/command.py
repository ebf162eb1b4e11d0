"""The command ``vgpumonitor doctor``."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any

import click
from rich.console import Console

from vgpumonitor import logs
from vgpumonitor.client_tls import tls_options
from vgpumonitor.diagnosis import findings
from vgpumonitor.doctor.exporter import ask_here, with_controllers
from vgpumonitor.doctor.node import look
from vgpumonitor.doctor.report import Report, looked_at, merged, render
from vgpumonitor.doctor.traces import examination
from vgpumonitor.options import flags
from vgpumonitor.settings import Settings
from vgpumonitor.top.fetch import FetchError, from_url
from vgpumonitor.web.api import findings_document


class DoctorError(click.ClickException):
    """The exporter that was asked about can't be asked."""

    exit_code = 2


@click.command()
@click.argument("url", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
@tls_options
@flags(
    Settings,
    "hook_path",
    "containers_dir",
    "node_name",
    "pods",
    "kubeconfig",
    "pod_logs_dir",
    "nvml",
    "mig_lock_file",
    "procfs",
    "listen_address",
)
def command(settings: Settings, url: str | None, as_json: bool, tls: ssl.SSLContext) -> None:
    """Say what is wrong on this node, and what to do.

    The options are those of serve: give doctor what the exporter was given. With URL, what the
    exporter there found. The exit status is 2 if anything is critical or the
    exporter can't be asked, 1 if there is a warning, 0 otherwise.
    """
    report = examine(settings, tls) if url is None else ask(url, tls)
    if as_json:
        json.dump(report.document(), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        Console(highlight=False).print(render(report))
    sys.exit(report.exit_status)


def ask(url: str, tls: ssl.SSLContext) -> Report:
    """What the exporter at ``url`` found. Raises DoctorError."""
    try:
        document = from_url(url, tls)()
    except FetchError as error:
        raise DoctorError(str(error)) from error
    return Report(document["node"], tuple(document["findings"]))


def examine(settings: Settings, tls: ssl.SSLContext, nvml_library: Any = None) -> Report:
    """What is wrong on this node. ``nvml_library`` stands in for the driver's."""
    # What the sources would log becomes findings.
    logs.configure("error", "logfmt")
    snapshot = asyncio.run(look(settings, nvml_library))
    exporter, document = asyncio.run(ask_here(settings.listen_address[0], tls))
    if document is not None:
        snapshot = with_controllers(snapshot, document)
    traces = examination(settings, snapshot, exporter)
    own = findings_document(findings(snapshot, traces))
    return Report(
        snapshot.node,
        merged(own, () if document is None else document["findings"]),
        looked_at(settings, snapshot, traces),
    )
