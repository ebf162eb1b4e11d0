"""``vgpumonitor top``: the snapshot in a terminal, live, or once as plain text."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from yarl import URL

from vgpumonitor.formatting import NONE, ago, percent, plain, short_uuid, size

Document = dict[str, Any]

#: Gives a document of /api/v1/snapshot, or raises TopError.
Fetch = Callable[[], Document]

#: Seconds that an exporter may take to answer.
TIMEOUT = 10.0

#: Seconds in which the rest of a key's sequence follows its escape over a slow line.
ESCAPE_DELAY = 0.05

#: Columns of a pipe or a file: as many as the widest row needs.
_UNBOUND = 400

_STATE_STYLES = {"blocked": "yellow", "unreadable": "red", "waiting": "dim", "no_process": "dim"}


class TopError(Exception):
    """There is nothing to show; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One container on one card; the values are None where there is none. Memory is in
    bytes, cores in percent, ``idle`` in seconds since the last kernel. ``blocked_by`` are the
    pods for which a blocked one waits."""

    namespace: str
    pod: str
    container: str
    card: str | None
    memory: int | None
    memory_limit: int | None
    cores: int | None
    core_limit: int | None
    idle: float | None
    state: str
    blocked_by: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.namespace, self.pod, self.container) if part)

    @property
    def text(self) -> str:
        card = "" if self.card is None else f"card {self.card}"
        return f"{self.name} {card} {self.state.replace('_', ' ')}".lower()


def _memory_share(row: Row) -> float | None:
    if row.memory is None or not row.memory_limit:
        return None
    return row.memory / row.memory_limit


#: Orders by name: the key that chooses it, what is compared, and whether most comes first.
SORTS: dict[str, tuple[str, Callable[[Row], Any], bool]] = {
    "memory": ("m", lambda row: row.memory, True),
    "cores": ("c", lambda row: row.cores, True),
    "idle": ("i", lambda row: row.idle, True),
    "name": ("n", lambda row: row.name, False),
    "limit": ("l", _memory_share, True),
    "card": ("g", lambda row: row.card, False),
    "state": ("s", lambda row: row.state, False),
}


@dataclass(frozen=True, slots=True)
class View:
    """What the user chose. ``first`` is the row at the top; ``typing`` while the filter is
    typed."""

    sort: str = "memory"
    reverse: bool = False
    filter: str = ""
    first: int = 0
    typing: bool = False


def rows_of(document: Document) -> list[Row]:
    names = {}
    for card in document["devices"]:
        name = short_uuid(card["uuid"]) if card["index"] is None else str(card["index"])
        names[card["uuid"]] = name
        for mig in card["mig_devices"]:
            names[mig["uuid"]] = f"{name} MIG {mig['gpu_instance_id']}"
    return [
        Row(
            found["namespace"],
            found["pod"],
            found["container"],
            names.get(device["uuid"], device["uuid"]) if device else None,
            device.get("memory_used_bytes"),
            device.get("memory_limit_bytes"),
            device.get("core_utilization_percent"),
            device.get("core_limit_percent"),
            None if last is None else document["time"] - last,
            found["status"],
            tuple(other["pod"] for other in found["blocked_by"]),
        )
        for found in document["containers"]
        for last in [found["last_kernel_time"]]
        # A container without a card yet has a row all the same.
        for device in found["devices"] or [{}]
    ]


def shown(rows: list[Row], view: View) -> list[Row]:
    """The rows that have every word of the filter, in order; those without a value last."""
    words = view.filter.lower().split()
    _, value, most_first = SORTS[view.sort]
    found = sorted(
        (row for row in rows if all(word in row.text for word in words)),
        key=lambda row: (row.name, row.card or ""),
    )
    known = [row for row in found if value(row) is not None]
    known.sort(key=value, reverse=most_first != view.reverse)
    return known + [row for row in found if value(row) is None]


def press(view: View, key: str, page: int) -> View | None:
    """The view after a key; None ends. ``page`` is the number of rows on the screen."""
    if view.typing:
        if key in ("enter", "escape"):
            return replace(view, typing=False, filter="" if key == "escape" else view.filter)
        if key == "backspace":
            return replace(view, filter=view.filter[:-1], first=0)
        if len(key) == 1 and key.isprintable():
            return replace(view, filter=view.filter + key, first=0)
        return view
    for name, (letter, _, _) in SORTS.items():
        if key == letter:
            return replace(view, sort=name, reverse=False, first=0)
    steps = {
        "up": -1,
        "down": 1,
        "pageup": -page,
        "pagedown": page,
        " ": page,
        "home": -view.first,
        "end": sys.maxsize,
    }
    if key in steps:
        return replace(view, first=max(0, view.first + steps[key]))
    if key == "r":
        return replace(view, reverse=not view.reverse, first=0)
    if key == "/":
        return replace(view, typing=True)
    if key == "escape":
        return replace(view, filter="", first=0)
    return None if key == "q" else view


def render(
    document: Document | None,
    view: View,
    width: int,
    height: int,
    trouble: str | None = None,
) -> tuple[RenderableType, View, int]:
    """The screen of that many columns and lines; with the view, whose first row is brought
    into the list, and the number of rows that fit."""
    if document is None:
        return Text(plain(trouble or "Asking the exporter…")), view, 1
    rows = shown(rows_of(document), view)
    head: list[RenderableType] = [_title(document, width)]
    cards = document["devices"]
    fitting = max(1, min(len(cards), (height - 4) // 2))
    head += [_card(card, document, width) for card in cards[:fitting]]
    if len(cards) > fitting:
        head.append(Text(f"and {len(cards) - fitting} more cards", style="dim"))
    head += [_wrong(line, width) for line in problems(document)[: max(1, height // 8)]]
    if trouble is not None:
        head.append(_wrong(trouble, width))
    # A line each for the table's heading and the keys.
    page = max(1, height - len(head) - 2)
    view = replace(view, first=max(0, min(view.first, len(rows) - page)))
    part = rows[view.first : view.first + page]
    table: RenderableType = _rows_table(part, width)
    if not rows:
        table = Text("No container is like that." if view.filter else "No containers.", "dim")
    gap = [Text()] * (page - len(part))
    keys = _keys(view, len(rows), len(part), width)
    return Group(*head, table, *gap, keys), view, page


def _title(document: Document, width: int) -> Text:
    when = time.strftime("%H:%M:%S", time.localtime(document["time"]))
    containers = len(document["containers"])
    text = Text(plain(document["node"]), "bold")
    text.append(f"  {containers} containers  {when}", "not bold dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _card(card: Document, document: Document, width: int) -> Text:
    used, total = card["memory_used_bytes"], card["memory_total_bytes"]
    if used is None:
        used = sum(
            device["memory_used_bytes"] or 0
            for container in document["containers"]
            for device in container["devices"]
            if device["uuid"] == card["uuid"]
        )
    name = short_uuid(card["uuid"]) if card["index"] is None else f"{card['index']:>2}"
    texts = [f"{size(used)} of {size(total)}" if total else size(used)]
    if card["core_utilization_percent"] is not None:
        texts.append(f"cores {percent(card['core_utilization_percent']):>4}")
    if card["dead_memory_bytes"]:
        texts.append(f"dead {size(card['dead_memory_bytes'])}")
    unattributed = sum(found["memory_bytes"] for found in card["unattributed"])
    if unattributed:
        texts.append(f"in no region {size(unattributed)}")
    if card["throttled"]:
        texts.append("throttled")
    if card["power_watts"] is not None:
        texts.append(f"{card['power_watts']:.0f} W")
    if card["temperature_celsius"] is not None:
        texts.append(f"{card['temperature_celsius']:.0f} °C")
    bar = max(8, min(40, width // 5))
    filled = round(bar * min(1.0, used / total)) if total else 0
    text = Text(f"{name} ")
    text.append("█" * filled, "cyan").append("░" * (bar - filled), "dim")
    text.append("  " + "  ".join(texts))
    if card["name"]:
        text.append(f"  {plain(card['name'])}", "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def problems(document: Document) -> list[str]:
    """What is wrong, a line each."""
    lines = []
    for source in document["sources"]:
        if source["up"] is False:
            synced = source["synced"]
            since = "" if synced is None else f"last read {ago(document['time'] - synced)}"
            lines.append(f"{source['name']} can't be read: {source['error'] or since or 'no data'}")
    unreadable = [one for one in document["containers"] if one["region_state"] == "unreadable"]
    lines += [
        f"{one['namespace']}/{one['pod']}/{one['container']} can't be read: {one['error']}"
        for one in unreadable
    ]
    return lines


def _wrong(line: str, width: int) -> Text:
    text = Text(f"! {plain(line)}", "yellow")
    text.truncate(width, overflow="ellipsis")
    return text


def _rows_table(rows: list[Row], width: int) -> Table:
    """The names give way where the terminal is narrow; the figures don't."""
    wide = width >= 110
    table = Table(
        box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold"
    )
    names = ("NAMESPACE", "POD", "CONTAINER") if wide else ("POD", "CONTAINER")
    for name in names:
        # Not no_wrap: rich would then shorten all columns alike.
        table.add_column(name, overflow="ellipsis", min_width=9)
    table.add_column("CARD", no_wrap=True)
    for name in ("MEMORY", "LIMIT", "CORES", "LIMIT", "IDLE"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("STATE", no_wrap=True)
    for row in rows:
        near = (_memory_share(row) or 0) >= 0.9
        table.add_row(
            *([_name(row.namespace or NONE)] if wide else []),
            _name(row.pod),
            _name(row.container),
            Text(plain(row.card or NONE)),
            Text(size(row.memory), "red" if near else ""),
            Text(_limit(row, size(row.memory_limit), row.memory_limit)),
            Text(percent(row.cores)),
            Text(_limit(row, percent(row.core_limit), row.core_limit)),
            Text(ago(row.idle).removesuffix(" ago")),
            Text(_state(row, wide), _STATE_STYLES.get(row.state, "")),
        )
    return table


def _state(row: Row, wide: bool) -> str:
    """The state; where there is room, with the pods for which a blocked container waits."""
    text = row.state.replace("_", " ")
    return f"{text} by {plain(', '.join(row.blocked_by))}" if wide and row.blocked_by else text


def _name(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")


def _limit(row: Row, text: str, limit: int | None) -> str:
    return "none" if limit is None and row.card is not None else text


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
        text = Text(line, "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def once(document: Document, view: View) -> str:
    """The snapshot as plain text: cards, what is wrong, and all rows that the filter keeps."""
    console = Console(width=_UNBOUND, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(_title(document, _UNBOUND))
        for card in document["devices"]:
            console.print(_card(card, document, _UNBOUND))
        for line in problems(document):
            console.print(_wrong(line, _UNBOUND))
        console.print(_rows_table(shown(rows_of(document), view), _UNBOUND))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def from_url(url: str) -> Fetch:
    """Asks an exporter at ``http(s)://[user:password@]host:port``. Raises TopError where that
    is no URL."""
    base = URL(url)
    if base.scheme not in ("http", "https") or not base.host:
        raise TopError(f"{url!r} is no http:// or https:// URL")
    address = base / "api/v1/snapshot"
    shown_address = address.with_user(None)

    async def ask() -> object:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(address) as response,
        ):
            return await response.json()

    def fetch() -> Document:
        try:
            document = asyncio.run(ask())
        except aiohttp.ClientResponseError as error:
            raise TopError(f"{shown_address} answers with status {error.status}") from error
        except TimeoutError as error:
            raise TopError(f"no answer from {shown_address} in {TIMEOUT:.0f} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise TopError(f"no snapshot from {shown_address}: {error}") from error
        if not isinstance(document, dict) or document.get("version") != 1:
            raise TopError(f"{shown_address} gives no snapshot of version 1")
        return document

    return fetch


def from_hook_path(hook_path: Path) -> Fetch:
    """Reads the regions itself: no pod names and no cards of NVML, but no exporter either."""
    from vgpumonitor.snapshot import HostProcessesView, SnapshotBuilder, SourceViews
    from vgpumonitor.sources.containers.directory import ContainersDirectory
    from vgpumonitor.sources.pods import PodsView
    from vgpumonitor.sources.processes import HostProcesses
    from vgpumonitor.web.api import snapshot_document

    inventory = ContainersDirectory(hook_path / "containers")
    processes = HostProcesses(Path("/proc"))
    builder = SnapshotBuilder(os.uname().nodename)

    def fetch() -> Document:
        now = time.time()
        return snapshot_document(
            builder.build(
                SourceViews(
                    time=now,
                    containers=inventory.read(),
                    pods=PodsView(up=True, synced=now),
                    processes=HostProcessesView(
                        processes.live_pids() if processes.visible() else None
                    ),
                )
            )
        )

    return fetch


def run_top(fetch: Fetch, view: View, interval: float, only_once: bool) -> None:
    """Shows what ``fetch`` gives every ``interval`` seconds until the user ends it; once, as
    plain text, where asked to or where there is no terminal. Raises TopError where the first
    snapshot of a single look can't be had."""
    if only_once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stdout.write(once(fetch(), view))
        return
    _Screen(fetch, view, interval).run()


class _Screen:
    """The terminal: draws at each snapshot, key and change of size."""

    def __init__(self, fetch: Fetch, view: View, interval: float) -> None:
        self._fetch = fetch
        self._view = view
        self._interval = interval
        self._page = 1
        self._document: Document | None = None
        self._trouble: str | None = None
        self._answers: queue.SimpleQueue[Document | str] = queue.SimpleQueue()
        self._wake_r, self._wake_w = os.pipe()
        self._ended = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._ask, name="fetch", daemon=True).start()
        console = Console()
        with (
            _keys_at_once(),
            self._woken_by_resize(),
            suppress(KeyboardInterrupt),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                width, height = console.size
                picture, self._view, self._page = render(
                    self._document, self._view, width, height, self._trouble
                )
                live.update(picture, refresh=True)
                if not self._wait():
                    break
        self._ended.set()

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                self._answers.put(self._fetch())
            except TopError as error:
                self._answers.put(str(error))
            os.write(self._wake_w, b"x")
            self._ended.wait(self._interval)

    def _wait(self) -> bool:
        """Until something happened; false where that was the end."""
        ready, _, _ = select.select([sys.stdin, self._wake_r], [], [])
        if self._wake_r in ready:
            os.read(self._wake_r, 64)
            while not self._answers.empty():
                answer = self._answers.get()
                if isinstance(answer, str):
                    self._trouble = answer
                else:
                    self._document, self._trouble = answer, None
        if sys.stdin in ready:
            data = os.read(sys.stdin.fileno(), 1024)
            if not data:
                return False
            if data == b"\x1b" and select.select([sys.stdin], [], [], ESCAPE_DELAY)[0]:
                data += os.read(sys.stdin.fileno(), 1024)
            for key in parse_keys(data):
                view = press(self._view, key, self._page)
                if view is None:
                    return False
                self._view = view
        return True

    @contextmanager
    def _woken_by_resize(self) -> Iterator[None]:
        before = signal.signal(signal.SIGWINCH, lambda *_: os.write(self._wake_w, b"x"))
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Each key as it is pressed, and the terminal as it was afterwards, however it ends."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    settings = termios.tcgetattr(sys.stdin)
    before = signal.signal(signal.SIGTERM, end)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
        signal.signal(signal.SIGTERM, before)


_SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1b[F": "end",
    "\x1b[1~": "home",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}


def parse_keys(data: bytes) -> list[str]:
    """The keys in what a terminal sent: characters, and names of those that have none."""
    text = data.decode("utf-8", "replace")
    keys = []
    while text:
        sequence = next((known for known in _SEQUENCES if text.startswith(known)), text[0])
        keys.append(_SEQUENCES.get(sequence, sequence))
        text = text[len(sequence) :]
    return keys
