"""What holds for all tests: one that needs a program which is not installed skips and says so;
in CI, where every program has to be there, it fails."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from testing.tools import MissingToolError


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    yield from _skipping()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    yield from _skipping()


def _skipping() -> Generator[None]:
    try:
        yield
    except MissingToolError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
