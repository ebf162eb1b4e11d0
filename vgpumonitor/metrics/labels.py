"""The labels of a series, as the text format writes them."""

from __future__ import annotations

import re
from functools import cache

#: A zero byte, which names can only have from a file, would be an end to many a reader.
_TO_ESCAPE = re.compile(r'["\\\n\0]')
Constant = tuple[tuple[str, str], ...]


def _escaped(value: str) -> str:
    return (
        value.replace("\\", r"\\")
        .replace("\n", r"\n")
        .replace('"', r"\"")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


@cache
def _template(constant: Constant, names: tuple[str, ...]) -> str:
    """The labels of any series with these label names, with a %s for each value."""
    fixed = [f'{name}="{_escaped(value)}"' for name, value in constant]
    labels = ",".join([*fixed, *(f'{name}="%s"' for name in names)])
    return f"{{{labels}}} " if labels else " "


def label_text(constant: Constant, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The labels of a series as the text format writes them, and a space."""
    if _TO_ESCAPE.search("".join(values)):
        values = tuple(map(_escaped, values))
    return _template(constant, names) % values
