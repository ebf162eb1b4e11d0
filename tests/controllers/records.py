"""What the actions logged, without what others did."""

from __future__ import annotations

import logging

import pytest


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [
        record for record in caplog.records if record.name.startswith("vgpumonitor.controllers.")
    ]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in records(caplog)]
