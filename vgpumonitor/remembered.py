"""What was made last, for as long as it would be made the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The last value that was made, and what it was made of: values that never change, and that
    compare at once where they are the same objects."""

    def __init__(self) -> None:
        self._last: tuple[tuple[object, ...], T] | None = None

    def get(self, of: tuple[object, ...], make: Callable[[], T]) -> T:
        """The last value if ``of`` equals what it was made of, otherwise a new one."""
        if self._last is None or self._last[0] != of:
            self._last = of, make()
        return self._last[1]
