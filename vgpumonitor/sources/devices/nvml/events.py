"""The XIDs that the driver tells of: NVML's events, waited for in a thread of their own.

A wait would hold up what else has to be asked of NVML, so the thread is not the source's; nor is
its hold on NVML. NVML counts how often it was initialised, and shuts down with the last who lets
go (nvml.h, nvmlInit_v2): whatever a wait uses is there for as long as the wait lasts, also where
it hangs in the driver while the source lets go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.sources.devices.model import XidErrors
from vgpumonitor.sources.devices.nvml.client import DriverGoneError, NvmlClient
from vgpumonitor.xids import xid_of

_log = logging.getLogger(__name__)

#: Milliseconds of one wait: for so long NVML can't be let go.
_WAIT = 250
#: Seconds that whoever lets NVML go waits for the thread to have done so.
_LET_GO_TIMEOUT = 2 * _WAIT / 1000
#: In a storm no more than so many events at once, and a pause of so many seconds between: a
#: hundredth of a core.
_BURST, _PAUSE = 100, 0.1
#: Seconds after which the same XID of a GPU is news again.
_NEWS = 60.0
#: What NVML gives for the instances of an event that is of no MIG device.
_NO_INSTANCE = 0xFFFFFFFF


class _Answer:
    """What stands for NVML's errors that are no failures."""


_TIMEOUT, _NEVER = _Answer(), _Answer()


class XidEvents:
    """Counts the XIDs of GPUs while NVML is up. ``on_news`` is called, in the thread, for an XID
    that the GPU has not had lately.

    ``follow`` and ``let_go`` are for the thread that calls NVML; the rest is for any.
    """

    def __init__(self, retry_seconds: float) -> None:
        """``retry_seconds`` is the time until a GPU that could not be registered is asked again."""
        self._retry_seconds = max(retry_seconds, _WAIT / 1000)
        self.on_news: Callable[[], object] = lambda: None
        self._thread = HangTolerantThread("nvml-events")
        self._client = NvmlClient(None, 0.0)
        self._watch: _Watch | None = None
        self._running: Future[None] | None = None
        self._present: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int], XidErrors] = {}
        #: When an XID of a GPU that is not known was logged last.
        self._unknown: dict[int, float] = {}

    @property
    def seen(self) -> tuple[XidErrors, ...]:
        """All since the start."""
        with self._lock:
            return tuple(self._seen.values())

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Failures of NVML's calls here, as NvmlClient counts them."""
        return self._client.errors

    @property
    def failed_at(self) -> dict[tuple[str, str], float]:
        """When each of ``errors`` last failed, in Unix seconds."""
        return self._client.failed_at

    def follow(self, library: Any, devices: Mapping[str, int]) -> None:
        """Registers for the events of these GPUs (the index by UUID), which were seen just now,
        unless it has: again where one came (back), or where the last wait ended with a failure.
        ``library`` is initialised."""
        came = devices.keys() - self._present
        self._present = frozenset(devices)
        if self._watch is not None and not came and not self._watch.failed:
            return
        if self._watch is not None:
            self._watch.stop.set()
        self._client.nvml = library
        self._watch = _Watch(self._client, dict(devices), self._count, self._retry_seconds)
        self._running = self._thread.submit(self._watch.run)

    def let_go(self) -> None:
        """Ends the waiting, before NVML is shut down. Once this returns, no handle is used any
        more, unless NVML hangs."""
        if self._watch is None or self._running is None:
            return
        self._watch.stop.set()
        self._watch, self._present = None, frozenset()
        with suppress(TimeoutError):
            self._running.result(timeout=_LET_GO_TIMEOUT)

    def _count(self, gpu: tuple[str, int] | None, event: Any) -> None:
        """``gpu`` are UUID and index; None where the event's handle is none that was registered.
        NVML should give no such event: it is counted as a failure of the call that gave it."""
        now, code = time.time(), int(event.eventData)
        xid = xid_of(code)
        if gpu is None:
            self._client.count_failure("nvmlEventSetWait_v2", "")
            if now - self._unknown.get(code, 0.0) >= _NEWS:
                self._unknown[code] = now
                _log.warning(
                    "a GPU that is not known reported XID %d: %s",
                    *(code, xid.meaning),
                    extra={"action": xid.action},
                )
            return
        uuid, index = gpu
        gpu_instance, compute_instance = (
            None if instance == _NO_INSTANCE else int(instance)
            for instance in (event.gpuInstanceId, event.computeInstanceId)
        )
        with self._lock:
            before = self._seen.get((uuid, code))
            self._seen[uuid, code] = XidErrors(
                device_index=index,
                device_uuid=uuid,
                xid=code,
                count=1 if before is None else before.count + 1,
                last_time=now,
                gpu_instance_id=gpu_instance,
                compute_instance_id=compute_instance,
            )
        if before is None or now - before.last_time >= _NEWS:
            _log.warning(
                "GPU %d reported XID %d: %s",
                *(index, code, xid.meaning),
                extra={"device_uuid": uuid, "action": xid.action},
            )
            self.on_news()


class _Watch:
    """One registration for the events of ``devices``, and the waiting until ``stop`` is set or
    NVML fails. ``client`` is for the thread that runs it."""

    def __init__(
        self,
        client: NvmlClient,
        devices: dict[str, int],
        count: Callable[[tuple[str, int] | None, Any], None],
        retry_seconds: float,
    ) -> None:
        self.stop = threading.Event()
        self.failed = False
        self._client = client
        self._unregistered = devices
        self._count = count
        self._retry_seconds = retry_seconds
        #: The GPUs that are registered, by handle: to ask an event's GPU for its UUID would fail
        #: just when it is lost.
        self._registered: dict[bytes, tuple[str, int]] = {}

    def run(self) -> None:
        client = self._client
        if self.stop.is_set():
            return
        try:
            client.nvml.nvmlInit()
        except client.nvml.NVMLError:
            self.failed = True  # The source's own call tells why.
            return
        client.up = True
        try:
            events = client.call("", ("nvmlEventSetCreate",), expected_errors=self._refusals())
            if events is None:
                self.failed = True
            elif events is not _NEVER:
                try:
                    self._follow(events)
                finally:
                    with suppress(client.nvml.NVMLError):
                        client.nvml.nvmlEventSetFree(events)
        except DriverGoneError:
            self.failed = True
        except Exception:
            # A mistake of ours must not cost the exporter more than these events.
            self.failed = True
            _log.exception("NVML's events can't be had")
        finally:
            client.shut_down()

    def _follow(self, events: Any) -> None:
        nvml = self._client.nvml
        expected = {nvml.NVML_ERROR_TIMEOUT: _TIMEOUT, **self._refusals()}
        next_attempt, burst = 0.0, 0
        while not self.stop.is_set():
            if self._unregistered and time.monotonic() >= next_attempt:
                self._register(events)
                next_attempt = time.monotonic() + self._retry_seconds
            if not self._registered:
                if not self._unregistered:
                    return  # No GPU here tells of events.
                self.stop.wait(self._retry_seconds)
                continue
            event = self._client.call(
                "", ("nvmlEventSetWait_v2", events, _WAIT), expected_errors=expected
            )
            if event is None:
                self.failed = True
                return
            if event is _NEVER:
                return
            if event is _TIMEOUT:
                burst = 0
                continue
            if event.eventType == nvml.nvmlEventTypeXidCriticalError:
                self._count(self._registered.get(bytes(event.device)), event)
            burst += 1
            if burst == _BURST:
                burst = 0
                self.stop.wait(_PAUSE)

    def _register(self, events: Any) -> None:
        """Those that can tell of XIDs; those that failed to are left for the next time."""
        call, nvml = self._client.call, self._client.nvml
        xid = nvml.nvmlEventTypeXidCriticalError
        failed = {}
        for uuid, index in self._unregistered.items():
            handle = call(uuid, ("nvmlDeviceGetHandleByUUID", uuid))
            types = (
                None
                if handle is None
                else call(
                    uuid,
                    ("nvmlDeviceGetSupportedEventTypes", handle),
                    expected_errors=dict.fromkeys(self._refusals(), 0),
                )
            )
            if types is None:
                failed[uuid] = index
            elif types & xid:
                call(uuid, ("nvmlDeviceRegisterEvents", handle, xid, events))
                if self._client.failed("nvmlDeviceRegisterEvents", uuid):
                    failed[uuid] = index
                else:
                    self._registered[bytes(handle)] = uuid, index
        self._unregistered = failed

    def _refusals(self) -> dict[int, _Answer]:
        """NVML's errors of drivers and GPUs that never tell of events."""
        nvml = self._client.nvml
        return {
            nvml.NVML_ERROR_NOT_SUPPORTED: _NEVER,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND: _NEVER,
        }
