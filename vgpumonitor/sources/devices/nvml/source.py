"""The node's GPUs, as NVML tells of them.

NVML may hang for ever, in the driver, where no signal helps. So one thread alone calls it, and
those who want a sample wait for it no longer than they choose.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.sources.devices.model import Device, DeviceHealth, XidErrors
from vgpumonitor.sources.devices.nvml.cards import RARE_INTERVAL, DeviceReader
from vgpumonitor.sources.devices.nvml.client import DriverGoneError, NvmlClient, subject
from vgpumonitor.sources.devices.nvml.events import XidEvents
from vgpumonitor.sources.devices.nvml.lock import LockFile

_log = logging.getLogger(__name__)

#: Under which a sample that was waited for in vain is counted.
_TIMEOUT = ("timeout", "")


@dataclass(eq=False, slots=True)
class _Look:
    """One look at all GPUs: ``devices`` are those that it has come to so far."""

    devices: list[Device] = field(default_factory=list)
    done: bool = False


class NvmlSource:
    """A DeviceSource. ``library`` and ``retry_seconds`` are NvmlClient's, ``rare_interval`` is
    DeviceReader's. ``pci_driver`` is the directory in which the kernel lists the driver's GPUs:
    when it changes, NVML is initialised again, and every ``revival_interval`` seconds while a
    GPU is down. Each device and each call fails alone. NVML is shut down while ``lock_file`` is
    there."""

    name = "NVML"

    def __init__(
        self,
        library: Any = None,
        retry_seconds: float = 10.0,
        lock_file: Path | None = None,
        rare_interval: float = RARE_INTERVAL,
        revival_interval: float = 300.0,
        pci_driver: Path = Path("/sys/bus/pci/drivers/nvidia"),
    ) -> None:
        self._client = NvmlClient(library, retry_seconds)
        self._lock_file = (
            None
            if lock_file is None
            else LockFile(lock_file, lambda: self._thread.submit(self._is_locked))
        )
        self._locked = False
        self._reader = DeviceReader(self._client, rare_interval)
        self._thread = HangTolerantThread("nvml")
        self._events = XidEvents(retry_seconds)
        self._current = _Look()
        self._given_up: _Look | None = None
        self._timeouts = 0
        self._pci_driver = pci_driver
        self._bound: frozenset[str] = frozenset()
        self._revival_interval = revival_interval
        self._next_revival = 0.0
        self._known: Mapping[str, Device] = {}
        self._down: Mapping[str, Device] = {}

    def start(self) -> None:
        """Begins a first look: initialising NVML can take longer than a scrape waits."""
        self._thread.submit(self._look)
        if self._lock_file is not None:
            self._lock_file.start()

    def stop(self) -> None:
        """Shuts NVML down, unless it hangs: then it ends with the process."""
        if self._lock_file is not None:
            self._lock_file.stop()
        done: Future[None] = self._thread.submit(self._shut_down)
        with suppress(TimeoutError):
            done.result(timeout=1.0)

    async def sample(self, timeout: float) -> tuple[Device, ...] | None:  # noqa: ASYNC109
        """A fresh sample; where NVML is not there, the devices that are down, or None. Where it
        hangs for ``timeout`` seconds: the devices that came before the one that hangs, too; then
        without waiting, while it still hangs, those that are down. For one caller at a time."""
        try:
            return await self._thread.within(self._look, timeout)
        except TimeoutError:
            self._timeouts += 1
            hanging = self._current
            if hanging is self._given_up:
                return self._with_down(())
            self._given_up = hanging
            function, uuid = self._client.asking
            _log.warning("NVML does not answer within %g s: %s%s", timeout, function, subject(uuid))
            return self._with_down(hanging.devices)

    def health(self) -> DeviceHealth:
        errors = Counter(self._client.errors) + Counter(self._events.errors)
        if self._timeouts:
            errors[_TIMEOUT] = self._timeouts
        # Both ask for handles: the later failure is the last.
        failed_at = self._client.failed_at
        for key, at in self._events.failed_at.items():
            failed_at[key] = max(at, failed_at.get(key, at))
        up = DeviceHealth(self.name, True, errors, failed_at=failed_at)
        if self._locked and self._lock_file is not None:
            return replace(up, up=False, lock_file=str(self._lock_file.path))
        if self._current is self._given_up and not self._current.done:
            function, uuid = self._client.asking
            return replace(up, up=False, error=f"{function}{subject(uuid)} does not return")
        return up if self._client.up else replace(up, up=False, error=self._client.error)

    @property
    def known(self) -> tuple[Device, ...]:
        # Those that are down come first: where another took a number of theirs, the last counts.
        down = self._down
        return tuple(sorted(self._known.values(), key=lambda device: device.uuid not in down))

    @property
    def xids(self) -> tuple[XidErrors, ...]:
        return self._events.seen

    def on_xid(self, call: Callable[[], object]) -> None:
        self._events.on_news = call

    def _look(self) -> tuple[Device, ...] | None:
        current = self._current = _Look()
        try:
            if not self._is_locked() and self._initialise():
                self._read(current)
                self._events.follow(
                    self._client.nvml, {device.uuid: device.index for device in current.devices}
                )
                return self._with_down(current.devices) or ()
        except DriverGoneError as error:
            self._shut_down()
            self._client.error = str(error)
            _log.warning("NVML has to be initialised again: %s", error)
        except Exception:
            # A mistake of ours must not cost the scrape all the rest.
            _log.exception("NVML can't be sampled")
        finally:
            current.done = True
            if current is self._given_up:
                _log.info("NVML answers again")
        return self._with_down(())

    def _initialise(self) -> bool:
        """Whether NVML is initialised. It knows the GPUs that were there when it was, and one
        that was lost comes back with another initialisation."""
        bound = _entries(self._pci_driver)
        if self._client.up:
            came_or_went = bound != self._bound
            hopeful = self._down and time.monotonic() >= self._next_revival
            if not came_or_went and not hopeful:
                return True
            if came_or_went:
                _log.info("NVML is initialised again: GPUs came or went")
            self._shut_down()
            self._client.retry_now()
        if not self._client.initialise():
            return False
        self._bound = bound
        self._next_revival = time.monotonic() + self._revival_interval
        return True

    def _is_locked(self) -> bool:
        """Whether the lock file is there. Lets NVML go when it comes."""
        locked = self._lock_file is not None and self._lock_file.exists
        if locked != self._locked:
            assert self._lock_file is not None
            self._locked = locked
            if locked:
                self._shut_down()
                text = "NVML is released: a change of MIG devices holds the lock file"
            else:
                self._client.retry_now()
                text = "NVML is asked again: the lock file of a change of MIG devices is gone"
            _log.info(text, extra={"path": str(self._lock_file.path)})
        return locked

    def _shut_down(self) -> None:
        self._events.let_go()
        self._client.shut_down()

    def _read(self, current: _Look) -> None:
        """All devices into ``current``, and those that are down into what is known."""
        complete = True
        for device in self._reader.read():
            if device is None:
                complete = False
                continue
            if device.up:
                current.devices.append(device)
                before = self._known.get(device.uuid)
                self._known = {**self._known, device.uuid: _with_names(device, before)}
                self._set_down(device.uuid, None)
            else:
                self._set_down(device.uuid, device)
        if complete:
            seen = {device.uuid for device in current.devices}
            for uuid, device in self._known.items():
                if uuid not in seen:
                    self._set_down(uuid, device.without_readings())

    def _set_down(self, uuid: str, device: Device | None) -> None:
        """``device`` is down; None is one that is up."""
        if (device is None) == (uuid not in self._down):
            return
        down = {key: other for key, other in self._down.items() if key != uuid}
        if device is None:
            _log.info("GPU is back", extra={"device_uuid": uuid})
        else:
            _log.warning("GPU is lost", extra={"device_uuid": uuid, "index": device.index})
            down[uuid] = device
        self._down = down

    def _with_down(self, devices: Iterable[Device]) -> tuple[Device, ...] | None:
        """``devices`` and those that are down, by index; None where there are none."""
        found = {**self._down, **{device.uuid: device for device in devices}}
        return tuple(sorted(found.values(), key=lambda device: device.index)) or None


def _entries(directory: Path) -> frozenset[str]:
    """The names in it; none where it is not there."""
    try:
        return frozenset(os.listdir(directory))
    except OSError:
        return frozenset()


def _with_names(device: Device, before: Device | None) -> Device:
    """``device``, with what it could not tell of itself this time but did ``before``."""
    if before is None:
        return device
    return replace(
        device,
        minor=before.minor if device.minor is None else device.minor,
        memory_total=before.memory_total if device.memory_total is None else device.memory_total,
    )
