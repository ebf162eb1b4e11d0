"""Kubernetes quantities: ``11520Mi``, ``50``, ``1.5e3``.

The grammar is that of ``k8s.io/apimachinery/pkg/api/resource.Quantity``.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

#: Characters of a quantity, and its decimal exponent: enough for everything that Kubernetes
#: itself can hold (below 2^63, no finer than nano), too few to cost anything.
MAX_LENGTH = 64
MAX_EXPONENT = 64

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]+))?"
)
_SUFFIXES = {
    **{f"{prefix}i": Decimal(1024**power) for power, prefix in enumerate("KMGTPE", start=1)},
    **{prefix: Decimal(1000**power) for power, prefix in enumerate("kMGTPE", start=1)},
    **{prefix: Decimal(1).scaleb(-3 * power) for power, prefix in enumerate("mun", start=1)},
}
#: Exact for every text that fits the bounds.
_EXACT = Context(prec=2 * MAX_LENGTH + MAX_EXPONENT)


def parse_quantity(value: str | int | float) -> Decimal:
    """The exact value of a quantity, given as its text or as a JSON number.

    Raises ValueError, with the value in its message.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a quantity")
    if isinstance(value, int) and value.bit_length() > 4 * MAX_LENGTH:
        raise ValueError(f"a number of {value.bit_length()} bits is not a quantity")
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{text[:16]!r}… is not a quantity: it has {len(text)} characters")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, suffix, exponent = match.groups()
    if exponent is not None and abs(int(exponent)) > MAX_EXPONENT:
        raise ValueError(f"{text!r} is not a quantity: its exponent is beyond {MAX_EXPONENT}")
    if exponent is not None:
        return Decimal(number).scaleb(int(exponent), _EXACT)
    return _EXACT.multiply(Decimal(number), _SUFFIXES[suffix]) if suffix else Decimal(number)
