"""What ``doctor`` says: a table for people, JSON for programs, and an exit status."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgpumonitor import __version__
from vgpumonitor.diagnosis import SEVERITIES, Examination
from vgpumonitor.diagnosis.examination import GATES
from vgpumonitor.diagnosis.kinds import DOCUMENT
from vgpumonitor.formatting import count, plain, size
from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.settings import Settings
from vgpumonitor.snapshot import NodeSnapshot

Document = dict[str, Any]

#: Places of one finding that are listed in the table; JSON has all.
MOST = 5

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_STATUS = {"critical": 2, "warning": 1, "info": 0}

#: Capabilities that matter here, by their number (linux/capability.h).
_CAPABILITIES = {1: "DAC_OVERRIDE", 2: "DAC_READ_SEARCH", 19: "SYS_PTRACE", 21: "SYS_ADMIN"}


@dataclass(frozen=True, slots=True)
class Report:
    """``findings`` as the API's JSON has them; ``looked_at`` says what was seen, in order or not,
    by what it is of; empty where an exporter was asked."""

    node: str
    findings: tuple[Document, ...]
    looked_at: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        return max((_STATUS[finding["severity"]] for finding in self.findings), default=0)

    def document(self) -> Document:
        return {
            "version": 1,
            "vgpumonitor_version": __version__,
            "node": self.node,
            "exit_status": self.exit_status,
            "findings": list(self.findings),
            "looked_at": dict(self.looked_at),
        }


def merged(own: Iterable[Document], told: Iterable[Document]) -> tuple[Document, ...]:
    """Our own findings, and those that only the running exporter has, the worst first."""
    own = list(own)
    ids = {finding["id"] for finding in own}
    found = [*own, *(finding for finding in told if finding["id"] not in ids)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"])))


def looked_at(
    settings: Settings, snapshot: NodeSnapshot, examination: Examination
) -> dict[str, str]:
    """What was looked at, and what was there."""
    health = snapshot.health
    devices = health.devices
    gpus = "off (--nvml=off)"
    if devices is not None:
        drivers = {device.driver_version for device in snapshot.devices} - {None}
        gpus = f"{devices.source}, {count(len(snapshot.devices), 'GPU', 'GPUs')}"
        gpus += f", driver {', '.join(sorted(map(str, drivers)))}" if drivers else ""
        if not devices.up:
            gpus = f"{devices.source}: {devices.error or devices.lock_file or 'no answer'}"
    layouts = Counter(each.region.layout for each in snapshot.containers if each.region is not None)
    listed = health.pods.pods.values()
    pods = f"{len(listed)} on this node, {sum(1 for pod in listed if pod.allocations)} with GPUs"
    found = {
        "containers directory": health.containers.error
        or f"{settings.containers}: {_directories(snapshot, examination)}",
        "HAMi-core in use": "; ".join(
            f"{layout.shipped_in} (layout {layout.name}): {layouts[layout.name]}"
            for layout in LAYOUTS
            if layouts[layout.name]
        )
        or "none",
        "libvgpu.so": _libraries(examination),
        "GPUs": gpus,
        "pods": f"{health.pod_source}: {health.pods.problem or pods}"
        if health.pod_source != "none"
        else "no source",
        "host's processes": "seen" if health.host_processes_visible else examination.procfs,
        "cgroups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "koordlet": "none seen"
        if examination.koordlet is None
        else ", ".join(
            f"{gate}={'true' if examination.koordlet.get(gate) else 'false'}" for gate in GATES
        ),
        "this process": _this_process(),
    }
    exporter = examination.exporter
    if exporter is not None:
        found["port"] = f"{exporter.address}: {exporter.text}"
    return found


def _directories(snapshot: NodeSnapshot, examination: Examination) -> str:
    readings = snapshot.health.containers.containers
    regions = sum(1 for reading in readings if reading.region is not None)
    mount = ", read-only" if examination.read_only else ""
    directories = count(len(readings), "directory", "directories")
    return f"{directories}, {count(regions, 'region file', 'region files')}{mount}"


def _libraries(examination: Examination) -> str:
    if examination.libraries is None:
        return f"{examination.hook_path} is not there, not readable, or not mounted here"
    return (
        ", ".join(
            f"{each.name} ({each.release or 'release unknown'}, {size(each.size)})"
            for each in examination.libraries
        )
        or f"none in {examination.hook_path}"
    )


def _this_process() -> str:
    status = Path("/proc/self/status")
    effective = 0
    if status.exists():
        lines = dict(
            line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line
        )
        effective = int(lines.get("CapEff", "0"), 16)
    names = [name for bit, name in _CAPABILITIES.items() if effective & 1 << bit]
    return f"user {os.geteuid()}, capabilities: {', '.join(names) or 'none that matter'}"


def render(report: Report) -> RenderableType:
    """The table, for whatever width the terminal has, and what was looked at."""
    parts: list[RenderableType] = [_title(report)]
    if report.findings:
        parts += [_table(report.findings), Text(f"Explained in {DOCUMENT}, by name.\n", "dim")]
    if report.looked_at:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for what, value in report.looked_at.items():
            table.add_row(what, Text(plain(value)))
        parts += [Text("Looked at", "bold"), table]
    return Group(*parts)


def _title(report: Report) -> Text:
    counts = Counter(finding["severity"] for finding in report.findings)
    told = ", ".join(
        f"{counts[each]} {each}{'s' if each == 'warning' and counts[each] > 1 else ''}"
        for each in SEVERITIES
        if counts[each]
    )
    return Text(plain(report.node), "bold").append(
        f": {told}\n" if told else ": nothing is wrong\n", "not bold"
    )


def _table(findings: Iterable[Document]) -> Table:
    table = Table(box=box.HORIZONTALS, show_lines=True, pad_edge=False, expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("What is wrong", ratio=1, overflow="fold")
    table.add_column("What to do", ratio=1, overflow="fold")
    for finding in findings:
        severity = finding["severity"]
        what = Text(plain(finding["title"]), "bold")
        for seen in finding["seen"][:MOST]:
            subject = f"{seen['subject']}: " if seen["subject"] else ""
            what.append(f"\n{plain(subject + seen['text'])}", "not bold")
        if len(finding["seen"]) > MOST:
            what.append(f"\nand {len(finding['seen']) - MOST} more", "not bold dim")
        what.append(f"\n{plain(finding['id'])}", "not bold dim")
        mend = plain(finding["mend"].replace("`", ""))
        table.add_row(Text(severity, _STYLES[severity]), what, Text(mend))
    return table
