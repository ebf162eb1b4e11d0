"""NvmlSource over the simulated NVML: in this process over its Python form, or in a child
over the real pynvml, which loads the C form."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from testing.nvml import STATE_VARIABLE
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import SimulatedNvml
from vgpumonitor.sources.devices import Device, DeviceHealth, XidErrors
from vgpumonitor.sources.devices.nvml import NvmlSource

T = TypeVar("T")

#: Seconds in which anything that does not hang has happened.
SOON = 30.0


class Run:
    """A source, called in ``executor``, and the state that its NVML reads."""

    def __init__(self, executor: Executor, state: Path) -> None:
        self._executor = executor
        self.state = state

    def write(self, simulated: SimulatedNvml) -> None:
        simulated.write(self.state)

    def sample(self, timeout: float = SOON) -> tuple[Device, ...] | None:
        return _result(self._executor.submit(_sample, self.state, timeout))

    def devices(self) -> tuple[Device, ...]:
        sample = self.sample()
        assert sample is not None
        return sample

    def health(self) -> DeviceHealth:
        return _result(self._executor.submit(_health, self.state))

    def known(self) -> tuple[Device, ...]:
        return _result(self._executor.submit(_known, self.state))

    def xids(self) -> tuple[XidErrors, ...]:
        return _result(self._executor.submit(_xids, self.state))

    def news(self) -> int:
        """How often an XID was news."""
        return _result(self._executor.submit(_news, self.state))


@contextmanager
def in_python(
    state: Path,
    retry_seconds: float = 0.0,
    lock_file: Path | None = None,
    library: SimulatedLibrary | None = None,
    **options: Any,
) -> Iterator[Run]:
    """``options`` are NvmlSource's."""
    with ThreadPoolExecutor(1) as executor:
        library = SimulatedLibrary(state) if library is None else library
        options |= {"retry_seconds": retry_seconds, "lock_file": lock_file}
        executor.submit(_start, state, library, options).result(SOON)
        try:
            yield Run(executor, state)
        finally:
            # What hangs ends with its state.
            state.unlink(missing_ok=True)
            executor.submit(_stop, state).result(SOON)


@contextmanager
def in_pynvml(
    library: Path,
    state: Path,
    retry_seconds: float = 0.0,
    **options: Any,
) -> Iterator[Run]:
    """``library`` is the directory of the compiled one, ``options`` are NvmlSource's."""
    with pytest.MonkeyPatch.context() as patch:
        # A process's loader reads LD_LIBRARY_PATH when it starts, and never again.
        patch.setenv("LD_LIBRARY_PATH", str(library))
        patch.setenv(STATE_VARIABLE, str(state))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as executor:
            options["retry_seconds"] = retry_seconds
            executor.submit(_start, state, None, options).result(SOON)
            try:
                yield Run(executor, state)
            finally:
                state.unlink(missing_ok=True)
                executor.submit(_stop, state).result(SOON)


#: By the state that they read, and how often an XID of theirs was news.
_sources: dict[Path, NvmlSource] = {}
_news_heard: dict[Path, list[None]] = {}


def _start(state: Path, library: object, options: dict[str, Any]) -> None:
    # The machine's own driver is nobody's business here.
    options.setdefault("pci_driver", state.parent / "no-driver")
    source = _sources[state] = NvmlSource(library, **options)
    heard = _news_heard[state] = []
    source.on_xid(lambda: heard.append(None))
    source.start()


def _stop(state: Path) -> None:
    _sources.pop(state).stop()


def _sample(state: Path, timeout: float) -> tuple[Device, ...] | None:
    return asyncio.run(_sources[state].sample(timeout))


def _health(state: Path) -> DeviceHealth:
    return _sources[state].health()


def _known(state: Path) -> tuple[Device, ...]:
    return _sources[state].known


def _xids(state: Path) -> tuple[XidErrors, ...]:
    return _sources[state].xids


def _news(state: Path) -> int:
    return len(_news_heard[state])


def _result(future: Future[T]) -> T:
    return future.result(2 * SOON)
