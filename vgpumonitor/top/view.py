"""What the user chose to see, and the keys that change it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from vgpumonitor.top.rows import SORTS, Row


@dataclass(frozen=True, slots=True)
class View:
    """What the user chose. ``first`` is the row at the top; ``typing`` is true while the filter
    is being typed."""

    sort: str = "memory"
    reverse: bool = False
    filter: str = ""
    first: int = 0
    typing: bool = False


def shown(rows: list[Row], view: View) -> list[Row]:
    """The rows that contain every term of the filter, in order; those without a value last."""
    terms = view.filter.lower().split()
    _, value, largest_first = SORTS[view.sort]
    found = sorted(
        (row for row in rows if all(term in row.text for term in terms)),
        key=lambda row: (row.name, row.device or ""),
    )
    known = [row for row in found if value(row) is not None]
    known.sort(key=value, reverse=largest_first != view.reverse)
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
    """The keys in what a terminal sent: their characters, or names for those without one."""
    text = data.decode("utf-8", "replace")
    keys = []
    while text:
        sequence = next((known for known in _SEQUENCES if text.startswith(known)), text[0])
        keys.append(_SEQUENCES.get(sequence, sequence))
        text = text[len(sequence) :]
    return keys
