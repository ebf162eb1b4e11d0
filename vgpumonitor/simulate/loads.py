"""What the processes of the simulated containers do on their GPUs, second by second.

A load yields one demand per tick, for ever or until the process exits through HAMi-core's exit
handler. All randomness comes from ``random``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random


@dataclass(frozen=True, slots=True)
class Demand:
    """``memory`` is how much (0-1) of the memory that its limit leaves for data the process uses.
    ``sm`` is in percent; above 0 the process launches kernels. If ``killed``, the process gets
    SIGKILL in this tick."""

    memory: float
    sm: int = 0
    killed: bool = False


Load = Callable[[Random], Iterator[Demand]]


def training(random: Random) -> Iterator[Demand]:
    """Loads weights, fills memory to a plateau below the limit, and stays busy; between epochs
    it validates."""
    plateau = random.uniform(0.82, 0.93)
    epoch = random.randrange(90, 150)
    for second in count():
        memory = plateau * min(1.0, 0.3 + second / 40)
        validates = second % epoch > epoch - 10
        yield Demand(memory, random.randrange(25, 45) if validates else random.randrange(88, 100))


def job(random: Random) -> Iterator[Demand]:
    """A training that finishes."""
    return islice(training(random), 30)


def inference(random: Random) -> Iterator[Demand]:
    """Requests come in bursts, and the caches grow and shrink with them."""
    weights = random.uniform(0.35, 0.5)
    cache = 0.0
    while True:
        for busy in (True, False):
            load = random.uniform(0.4, 1.0) if busy else 0.05
            for _ in range(random.randrange(4, 14)):
                cache += 0.4 * (load - cache)
                sm = round(85 * load) + random.randrange(-4, 5)
                yield Demand(weights + 0.4 * cache, max(0, sm))


def worker(random: Random) -> Iterator[Demand]:
    """An inference worker that its server recycles and sometimes kills."""
    yield from islice(inference(random), random.randrange(60, 240))
    if random.random() < 0.3:
        yield Demand(0.5, killed=True)


def chat(random: Random) -> Iterator[Demand]:
    """Interactive: answers for some seconds, then pauses, so that waiting containers get a turn."""
    while True:
        for _ in range(random.randrange(8, 20)):
            yield Demand(0.7, random.randrange(60, 90))
        for _ in range(random.randrange(20, 45)):
            yield Demand(0.7)


def embedding(random: Random) -> Iterator[Demand]:
    """A batch job that uses all that the GPU gives it."""
    for second in count():
        yield Demand(0.6 + 0.1 * math.sin(second / 9), random.randrange(85, 100))


def notebook(random: Random) -> Iterator[Demand]:
    """Keeps its memory; once in a long while somebody runs a cell."""
    held = random.uniform(0.25, 0.6)
    while True:
        for _ in range(random.randrange(3000, 9000)):
            yield Demand(held)
        for _ in range(random.randrange(3, 20)):
            yield Demand(held, random.randrange(10, 60))


def leak(random: Random) -> Iterator[Demand]:
    """Never frees memory, until it reaches its limit and is killed."""
    held = random.uniform(0.75, 0.92)
    while held < 0.98:
        yield Demand(held, random.randrange(10, 30))
        held += random.uniform(0.004, 0.012)
    yield Demand(held, killed=True)
