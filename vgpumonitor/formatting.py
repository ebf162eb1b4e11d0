"""Values as people read them, in the same form as the page's ``format.js`` gives them."""

from __future__ import annotations

from math import floor

#: Stands for a value that is unknown.
NONE = "–"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(number: int | None) -> str:
    """Bytes in IEC units with three significant digits: ``9.77 GiB``; whole below 1 KiB."""
    if number is None:
        return NONE
    if number < 1024:
        return f"{number} B"
    value, unit = float(number), 0
    # 999.5 KiB would need a fourth digit.
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value /= 1024
        unit += 1
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    # Halves are rounded up, as in JavaScript; format() would round them to even.
    shift = 10**decimals
    return f"{floor(value * shift + 0.5) / shift:.{decimals}f} {_UNITS[unit]}"


def percent(value: float | None) -> str:
    """A whole percentage: ``37%``."""
    return NONE if value is None else f"{floor(value + 0.5)}%"


def ago(seconds: float | None) -> str:
    """A time in the past, in its largest whole unit: ``3 min ago``."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{int(seconds)} s ago"


def count(number: int, one: str, many: str) -> str:
    """How many there are of something: ``1 GPU``, ``2 GPUs``."""
    return f"{number} {one if number == 1 else many}"


def plain(text: str) -> str:
    """``text`` with all that isn't printable escaped: names come from containers, and may hold
    control sequences for the terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def short_uuid(uuid: str) -> str:
    """The beginning of a device's UUID: enough to tell a node's devices apart."""
    kind, _, rest = uuid.partition("-")
    return f"{kind}-{rest[:8]}" if rest else uuid
