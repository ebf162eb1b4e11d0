from __future__ import annotations

import json
import logging

import pytest

from testing.root_log import restored_root_log
from vgpumonitor.logs import JsonFormatter, LogfmtFormatter, configure


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord(
        "test", logging.WARNING, "file.py", 1, message, (), None, extra=extra
    )


def test_logfmt() -> None:
    time, rest = LogfmtFormatter().format(record("it failed", path="/a b", count=3)).split(" ", 1)
    assert time.startswith("time=20")
    assert rest == 'level=warning logger=test msg="it failed" path="/a b" count=3'


def test_a_value_cannot_forge_a_line() -> None:
    line = LogfmtFormatter().format(record("it failed", name_of_file='x\nlevel=error "'))
    assert line.endswith('name_of_file="x\\nlevel=error \\""')


def test_json() -> None:
    line = json.loads(JsonFormatter().format(record("it failed", path="/a", count=3)))
    del line["time"]
    assert line == {
        "level": "warning",
        "logger": "test",
        "msg": "it failed",
        "path": "/a",
        "count": 3,
    }


@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()])
def test_extra_fields_overwrite_none_of_the_lines_own(formatter: logging.Formatter) -> None:
    own = {"time": "noon", "level": "debug", "logger": "other"}
    plain, extended = record("it failed"), record("it failed", **own)
    extended.created = plain.created
    assert formatter.format(extended) == formatter.format(plain)


def test_an_exception_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    with restored_root_log():
        configure("info", "json")
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("test").exception("it failed")
        logging.getLogger("test").debug("not logged")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: no")
