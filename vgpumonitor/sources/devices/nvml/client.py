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
    something is counted once, too: they never will, and a counter that always rises would hide
    what matters.

    For one thread, except ``up``, ``asking`` and ``errors``.
    """

    def __init__(self, library: Any, retry_seconds: float) -> None:
        self.library = library
        self.up = False
        #: The function that was called last, and the UUID that it was asked about.
        self.asking = "", ""
        #: Set by a call that finds its GPU lost; whoever wants to know clears it before.
        self.gpu_is_lost = False
        self._retry_seconds = retry_seconds
        self._next_attempt = 0.0
        self._lock = threading.Lock()
        self._errors: Counter[tuple[str, str]] = Counter()
        #: The errors that the calls gave last, of those that fail.
        self._failing: dict[tuple[str, str], object] = {}

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        """Failures by function (nvml.h's name, without its version) and UUID."""
        with self._lock:
            return dict(self._errors)

    def initialise(self) -> bool:
        """Whether NVML is initialised, now or already."""
        now = time.monotonic()
        if self.up or now < self._next_attempt:
            return self.up
        self._next_attempt = now + self._retry_seconds
        self.asking = "nvmlInit", ""
        if self.library is None:
            # Here, since it takes 20 ms and 4 MB, and where NVML is off nobody needs it.
            import pynvml

            self.library = pynvml
        try:
            self.library.nvmlInit()
        except Exception as error:
            self._failed("nvmlInit", "", error)
            return False
        self._failing.pop(("nvmlInit", ""), None)
        self.up = True
        _log.info("NVML is initialised")
        return True

    def shut_down(self) -> None:
        if self.up:
            try:
                self.library.nvmlShutdown()
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
                result = getattr(self.library, name)(*arguments)
            except Exception as error:
                failure = error
                if not self._is_unsupported(error):
                    break
            else:
                failure = None
                break
        code = _code(failure)
        expected = failure is not None and code in expected_errors
        if failure is None or expected:
            self._failing.pop((function, uuid + detail), None)
            return expected_errors[code] if expected and code is not None else result
        self._failed(function, uuid, failure, detail)
        library = self.library
        if _code(failure) == library.NVML_ERROR_GPU_IS_LOST:
            self.gpu_is_lost = True
        elif _code(failure) in (
            library.NVML_ERROR_UNINITIALIZED,
            library.NVML_ERROR_DRIVER_NOT_LOADED,
            library.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        ):
            raise DriverGoneError(f"{function}: {failure}") from failure
        return None

    def _is_unsupported(self, error: Exception) -> bool:
        """Whether driver or device will never do it; an older function may. pynvml has an error
        of its own, outside NVMLError, for functions that the driver's library lacks."""
        library = self.library
        return isinstance(error, library.NVMLLibraryMismatchError) or _code(error) in (
            library.NVML_ERROR_FUNCTION_NOT_FOUND,
            library.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            library.NVML_ERROR_NOT_SUPPORTED,
        )

    def _failed(self, function: str, uuid: str, error: Exception, detail: str = "") -> None:
        library = self.library
        code = _code(error) or str(error)
        key = function, uuid + detail
        changed = self._failing.get(key) != code
        self._failing[key] = code
        unsupported = self._is_unsupported(error)
        if changed or not unsupported:
            with self._lock:
                self._errors[function, uuid] += 1
        if changed:
            no_driver = (
                library.NVML_ERROR_LIBRARY_NOT_FOUND,
                library.NVML_ERROR_DRIVER_NOT_LOADED,
            )
            level = logging.INFO if unsupported or code in no_driver else logging.WARNING
            _log.log(level, "%s%s failed: %s", function, subject(uuid, detail), error)


def subject(*names: str) -> str:
    """What a call is about, to follow its name in a message."""
    return f" of {' '.join(filter(None, names))}" if any(names) else ""


def _code(error: Exception | None) -> int | None:
    """NVML's number for the error; None where it is not one of NVML's."""
    return getattr(error, "value", None)
