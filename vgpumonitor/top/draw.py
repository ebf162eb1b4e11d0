"""The screen, and the same as plain text."""

from __future__ import annotations

import time
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgpumonitor.formatting import NONE, ago, count, percent, plain, short_uuid, size
from vgpumonitor.top.fetch import Document
from vgpumonitor.top.rows import SORTS, Row, memory_share, rows_of
from vgpumonitor.top.view import View, shown

#: Columns of a pipe or a file: as many as the widest row needs.
_UNBOUND = 400

_STATE_STYLES = {"blocked": "yellow", "unreadable": "red", "waiting": "dim", "no_process": "dim"}


def render(
    document: Document | None,
    view: View,
    width: int,
    height: int,
    trouble: str | None = None,
) -> tuple[RenderableType, View, int]:
    """The screen of ``width`` columns and ``height`` lines; the view, its first row moved to where
    there is one; and the number of rows that fit. ``trouble`` is why the document isn't current."""
    if document is None:
        return Text(plain(trouble or "Asking the exporter…")), view, 1
    rows = shown(rows_of(document), view)
    head: list[RenderableType] = [_title(document, width)]
    devices = document["devices"]
    fitting = max(1, min(len(devices), (height - 4) // 2))
    head += [_device(device, document, width) for device in devices[:fitting]]
    if len(devices) > fitting:
        head.append(Text(f"and {len(devices) - fitting} more GPUs", style="dim"))
    few = max(1, height // 8)
    head += _findings(document, width)[:few]
    head += [_xid(error, document["time"], width) for error in document["xid_errors"][:few]]
    if trouble is not None:
        head.append(_cut(Text(f"! {plain(trouble)}", "yellow"), width))
    # A line each for the table's heading and the keys.
    page = max(1, height - len(head) - 2)
    view = replace(view, first=max(0, min(view.first, len(rows) - page)))
    part = rows[view.first : view.first + page]
    table: RenderableType = _rows_table(part, width)
    if not rows:
        table = Text("No container matches the filter." if view.filter else "No containers.", "dim")
    gap = [Text()] * (page - len(part))
    keys = _keys(view, len(rows), len(part), width)
    return Group(*head, table, *gap, keys), view, page


def _title(document: Document, width: int) -> Text:
    when = time.strftime("%H:%M:%S", time.localtime(document["time"]))
    containers = count(len(document["containers"]), "container", "containers")
    text = Text(plain(document["node"]), "bold")
    text.append(f"  {containers}  {when}", "not bold dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _device(device: Document, document: Document, width: int) -> Text:
    total = device["memory_total_bytes"]
    used, more = _memory_used(device, document)
    name = short_uuid(device["uuid"]) if device["index"] is None else f"{device['index']:>2}"
    memory = "memory unknown" if used is None else size(used)
    texts = [f"{memory} of {size(total)}{more}" if total else f"{memory}{more}"]
    texts.append(f"cores {percent(device['core_utilization_percent']):>4}")
    if device["dead_memory_bytes"]:
        texts.append(f"dead {size(device['dead_memory_bytes'])}")
    if device["unattributed_memory_bytes"]:
        texts.append(f"in no pod {size(device['unattributed_memory_bytes'])}")
    if device["throttled"]:
        texts.append("throttled")
    if device["power_watts"] is not None:
        texts.append(f"{device['power_watts']:.0f} W")
    if device["temperature_celsius"] is not None:
        texts.append(f"{device['temperature_celsius']:.0f} °C")
    bar = max(8, min(40, width // 5))
    text = Text(f"{name} ")
    if used is None or not total:
        text.append("·" * bar, "dim")  # An empty bar would be a 0.
    else:
        filled = round(bar * min(1.0, used / total))
        text.append("█" * filled, "cyan").append("░" * (bar - filled), "dim")
    for condition in device["conditions"]:
        text.append(f"  {condition}", "red" if device["up"] is False else "yellow")
    text.append("  " + "  ".join(texts))
    if device["name"]:
        text.append(f"  {plain(device['name'])}", "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _memory_used(device: Document, document: Document) -> tuple[int | None, str]:
    """Bytes in use on the device, by the driver; otherwise what is known of its containers, and
    words that say so."""
    if device["memory_used_bytes"] is not None:
        return device["memory_used_bytes"], ""
    sizes = [
        (part["driver"] or {}).get("memory_used_bytes")
        if part["memory_used_bytes"] is None
        else part["memory_used_bytes"]
        for container in document["containers"]
        for part in container["devices"]
        if part["device_uuid"] == device["uuid"]
    ]
    known = [each for each in sizes if each is not None]
    if not known:
        return None, ""
    unknown = len(sizes) - len(known)
    return sum(known), " by containers" + (f", {unknown} unknown" if unknown else "")


#: How a finding is marked, by its severity.
_MARKS = {"critical": ("▲", "red"), "warning": ("!", "yellow"), "info": ("i", "dim")}


def _findings(document: Document, width: int) -> list[Text]:
    """What is wrong, a line each, the worst first."""
    lines = []
    for finding in document["findings"]:
        mark, style = _MARKS[finding["severity"]]
        seen, more = finding["seen"][0], len(finding["seen"]) - 1
        where = f"{seen['subject']}: {seen['text']}" if seen["subject"] else seen["text"]
        rest = f" (and {more} more)" if more else ""
        text = Text(f"{mark} {plain(finding['title'])}", style)
        text.append(f"  {plain(where)}{rest}", "dim")
        lines.append(_cut(text, width))
    return lines


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


_XID_STYLES = {"hardware": "red", "reset": "red", "unknown": "red", "application": "yellow"}


def _xid(error: Document, now: float, width: int) -> Text:
    """What is longer than the line is cut: what to do comes last."""
    times = "" if error["count"] == 1 else f" ({error['count']} times)"
    names = [
        "/".join(filter(None, (one["namespace"], one["pod"], one["container"])))
        for one in error["containers"]
    ]
    text = Text(f"XID {error['xid']} ", _XID_STYLES.get(error["class"], "dim"))
    text.append(
        f"on GPU {error['device_index']}, {ago(now - error['last_time'])}{times}: "
        f"{error['meaning']}. On it then: {plain(', '.join(names)) or 'no container'}. ",
        "not bold",
    )
    text.append(error["action"], "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _rows_table(rows: list[Row], width: int) -> Table:
    """In a narrow terminal the names are cut, and the figures stay whole. Where there is room,
    HAMi-core's account and the driver's are side by side; otherwise the driver's is shown where
    there is one."""
    wide, both = width >= 110, width >= 150
    table = Table(
        box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold"
    )
    names = ("NAMESPACE", "POD", "CONTAINER") if wide else ("POD", "CONTAINER")
    for name in names:
        # Not no_wrap: rich would then shorten all columns alike.
        table.add_column(name, overflow="ellipsis", min_width=9)
    table.add_column("GPU", no_wrap=True)
    memory, cores = (
        (name, "DRIVER", "LIMIT") if both else (name, "LIMIT") for name in ("MEMORY", "CORES")
    )
    for name in (*memory, *cores, "IDLE"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("STATE", no_wrap=True)
    for row in rows:
        style = "red" if (memory_share(row) or 0) >= 0.9 else ""
        table.add_row(
            *([_name(row.namespace or NONE)] if wide else []),
            _name(row.pod),
            _name(row.container),
            Text(plain(row.device or NONE)),
            *(
                (Text(size(row.memory), style), Text(size(row.driver_memory), style))
                if both
                else (Text(size(row.used_memory), style),)
            ),
            Text("none" if row.no_memory_limit else size(row.memory_limit)),
            *(
                (Text(percent(row.cores)), Text(percent(row.driver_cores)))
                if both
                else (Text(percent(row.used_cores)),)
            ),
            Text("none" if row.no_core_limit else percent(row.core_limit)),
            Text(ago(row.idle).removesuffix(" ago")),
            Text(_state(row, wide), "red" if row.bypassed else _STATE_STYLES.get(row.state, "")),
        )
    return table


def _state(row: Row, wide: bool) -> str:
    """The state; where there is room, with the pods for which a blocked container waits, and with
    what HAMi-core does not account for."""
    text = row.state.replace("_", " ")
    if not wide:
        return f"{text}, bypasses" if row.bypassed else text
    if row.blocked_by:
        text += f" by {plain(', '.join(row.blocked_by))}"
    return f"{text}, bypasses with {size(row.bypassed)}" if row.bypassed else text


def _name(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")


def _keys(view: View, rows: int, part: int, width: int) -> Text:
    if view.typing:
        text = Text(f"/{view.filter}", "bold").append("▏  enter keeps, esc clears", "not bold dim")
    else:
        place = f"{view.first + 1}–{view.first + part} of {rows}" if rows else "0"
        kept = f"  /{view.filter}" if view.filter else ""
        letters = "  ".join(f"[{key}] {name}" for name, (key, _, _) in SORTS.items())
        if width < 120:
            letters = f"[{''.join(key for key, _, _ in SORTS.values())}]"
        line = f"{place}{kept}  [q]uit  [/] filter  [r]everse  {letters} sort: {view.sort}"
        line += f"  {NONE} unknown"
        text = Text(line, "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def once(document: Document, view: View) -> str:
    """The snapshot as plain text: GPUs, what is wrong, and all rows that match the filter."""
    console = Console(width=_UNBOUND, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(_title(document, _UNBOUND))
        for device in document["devices"]:
            console.print(_device(device, document, _UNBOUND))
        for line in _findings(document, _UNBOUND):
            console.print(line)
        for error in document["xid_errors"]:
            console.print(_xid(error, document["time"], _UNBOUND))
        console.print(_rows_table(shown(rows_of(document), view), _UNBOUND))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
