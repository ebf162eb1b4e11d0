"""One call of NVML: which of its versions the driver has, and what its failure means."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_log = logging.getLogger(__name__)


class DriverGoneError(Exception):
    """NVML has to be initialised again."""


class NvmlClient:
    """The library, whether it is initialised, and what failed.

    ``library`` has the functions of pynvml (package nvidia-ml-py), which is imported at the
    first initialisation where none is given. After a failure NVML is initialised again when
    asked to, but ``retry_seconds`` after the last attempt at the earliest. Every failure is
    counted; one that stays the same is logged once. That driver or device do not support
    something is no failure: each lacks much, and that would hide what matters.

    For one thread, except ``up``, ``error``, ``asking``, ``errors`` and ``failed_at``.
    """

    def __init__(self, library: Any, retry_seconds: float) -> None:
        #: Not None once NVML was initialised.
        self.nvml = library
        self.up = False
        #: How often NVML was initialised: its handles are good for one time.
        self.generation = 0
        #: Why NVML is not initialised, as last known.
        self.error: str | None = None
        #: The function that was called last, and the UUID that it was asked about.
        self.asking = "", ""
        #: Set by a call that finds its GPU lost; whoever wants to know clears it before.
        self.gpu_is_lost = False
        self._retry_seconds = retry_seconds
        self._next_attempt = 0.0
        self._lock = threading.Lock()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._failed_at: dict[tuple[str, str], float] = {}
        #: The errors that the calls gave last, of those that fail.
        self._failing: dict[tuple[str, str], object] = {}
        #: Of those, the ones that driver or device will never do.
        self._unsupported: set[tuple[str, str]] = set()
        self._constants: dict[tuple[str, str], Any] = {}

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Failures by function (nvml.h's name, without its version) and UUID."""
        with self._lock:
            return dict(self._errors)

    @property
    def failed_at(self) -> dict[tuple[str, str], float]:
        """When each of ``errors`` last failed, in Unix seconds."""
        with self._lock:
            return dict(self._failed_at)

    def initialise(self) -> bool:
        """Whether NVML is initialised, now or already."""
        now = time.monotonic()
        if self.up or now < self._next_attempt:
            return self.up
        self._next_attempt = now + self._retry_seconds
        self.asking = "nvmlInit", ""
        if self.nvml is None:
            # Here, since it takes 20 ms and 4 MB, and where NVML is off nobody needs it.
            import pynvml

            self.nvml = pynvml
        try:
            self.nvml.nvmlInit()
        except Exception as error:
            self._failed(("nvmlInit", ""), "", error)
            self.error = str(error)
            return False
        self.record("nvmlInit", "", None)
        self._constants.clear()
        self.generation += 1
        self.up = True
        _log.info("NVML is initialised")
        return True

    def shut_down(self) -> None:
        if self.up:
            try:
                self.nvml.nvmlShutdown()
            except Exception as error:
                _log.debug("nvmlShutdown: %s", error)
            self.up = False

    def retry_now(self) -> None:
        """The next initialisation need not wait for the last attempt's time to pass."""
        self._next_attempt = 0.0

    def call(
        self,
        uuid: str,
        *variants: tuple[Any, ...],
        detail: str = "",
        expected_errors: Mapping[int, Any] = MappingProxyType({}),
    ) -> Any:
        """The result of the first of ``variants`` that the driver knows, each a function's name
        and its arguments; None where it fails.

        A failure is counted under the first variant's name and ``uuid``; ``detail`` tells calls
        apart that are alike in both. ``expected_errors`` are those by which NVML says no, and
        what is meant by each: they are no failures. Raises DriverGoneError.
        """
        function = variants[0][0]
        self.asking = function, uuid
        failure: Exception | None = None
        for name, *arguments in variants:
            try:
                result = getattr(self.nvml, name)(*arguments)
            except Exception as error:
                failure = error
                if not self._is_unsupported(error):
                    break
            else:
                failure = None
                break
        code = _code(failure)
        if code is not None and code in expected_errors:
            failure, result = None, expected_errors[code]
        self.record(function, uuid, failure, detail)
        return None if failure is not None else result

    def once(self, uuid: str, *variants: tuple[Any, ...], detail: str = "") -> Any:
        """As ``call``, for what never changes: asked until the driver answers, or says that it
        never will, and again after NVML was initialised anew."""
        key = variants[0][0], uuid + detail
        if key not in self._constants:
            result = self.call(uuid, *variants, detail=detail)
            if result is None and key not in self._unsupported:
                return None
            self._constants[key] = result
        return self._constants[key]

    def record(self, function: str, uuid: str, failure: Exception | None, detail: str = "") -> None:
        """That ``function`` failed, or that it did not; as in ``call``. Raises DriverGoneError."""
        key = function, uuid + detail
        if failure is None:
            self._failing.pop(key, None)
            self._unsupported.discard(key)
            return
        self._failed(key, uuid, failure, detail)
        nvml = self.nvml
        if _code(failure) == nvml.NVML_ERROR_GPU_IS_LOST:
            self.gpu_is_lost = True
        elif _code(failure) in (
            nvml.NVML_ERROR_UNINITIALIZED,
            nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        ):
            raise DriverGoneError(f"{function}: {failure}") from failure

    def failed(self, function: str, uuid: str) -> bool:
        """Whether that call failed when it was last made: some give nothing where they don't."""
        return (function, uuid) in self._failing

    def count_failure(self, function: str, uuid: str) -> None:
        """For ``errors`` and ``failed_at``; ``record`` does it for what NVML says itself."""
        with self._lock:
            self._errors[function, uuid] += 1
            self._failed_at[function, uuid] = time.time()

    def _is_unsupported(self, error: Exception) -> bool:
        """Whether driver or device will never do it; an older function may. pynvml has an error
        of its own, outside NVMLError, for functions that the driver's library lacks."""
        nvml = self.nvml
        return isinstance(error, nvml.NVMLLibraryMismatchError) or _code(error) in (
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            nvml.NVML_ERROR_NOT_SUPPORTED,
        )

    def _failed(self, key: tuple[str, str], uuid: str, error: Exception, detail: str = "") -> None:
        nvml = self.nvml
        function, _ = key
        code = _code(error) or str(error)
        changed = self._failing.get(key) != code
        self._failing[key] = code
        unsupported = self._is_unsupported(error)
        if unsupported:
            self._unsupported.add(key)
            level = logging.DEBUG
        else:
            self._unsupported.discard(key)
            self.count_failure(function, uuid)
            no_driver = (
                nvml.NVML_ERROR_LIBRARY_NOT_FOUND,
                nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            )
            level = logging.INFO if code in no_driver else logging.WARNING
        if changed:
            _log.log(level, "%s%s failed: %s", function, subject(uuid, detail), error)


def subject(*names: str) -> str:
    """What a call is about, to follow its name in a message."""
    return f" of {' '.join(filter(None, names))}" if any(names) else ""


def _code(error: Exception | None) -> int | None:
    """NVML's number for the error; None where it is not one of NVML's."""
    return getattr(error, "value", None)
