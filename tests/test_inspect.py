"""``vgpumonitor inspect`` on the files that the real HAMi-core wrote, and on bad ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testing.region_files import NAMES, put, recorded_bytes, recorded_content
from testing.values import UID
from vgpumonitor.inspect import Inspection, inspect_paths, render, to_json
from vgpumonitor.region.layouts import V1_2

RECENT = "hami-2.9.0-mixed-exits"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one(path: Path) -> Inspection:
    (found,) = inspect_paths([path])
    return found


def text_of(*inspections: Inspection, now: float = 0.0) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(render(inspections, now))
    return captured.get()


def cells(text: str, first: str) -> list[str]:
    """The cells of the first line of a table that begins with ``first``."""
    line = next(line for line in text.splitlines() if line.split()[:1] == [first])
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def reason(path: Path) -> str:
    found = one(path)
    assert found.region is None
    assert found.error is not None
    return found.error.reason


@pytest.mark.parametrize("name", NAMES)
def test_json_of_a_real_file_is_what_is_in_it(name: str, tmp_path: Path) -> None:
    path = put(name, tmp_path / "x.cache")
    (found,) = json.loads(json.dumps(to_json(inspect_paths([path]))))
    assert found.pop("path") == str(path)
    assert found.pop("error") is None
    assert found.pop("problems") == []
    assert found.pop("torn") == found.pop("missing") == 0
    assert found == recorded_content(name)


def test_command_prints_json_of_all_and_fails_where_one_is_bad(tmp_path: Path) -> None:
    put(RECENT, tmp_path / "a.cache")
    (tmp_path / "b.cache").write_bytes(b"")
    done = run("--json", tmp_path)
    good, bad = json.loads(done.stdout)
    assert done.returncode == 1
    assert good["devices"] == recorded_content(RECENT)["devices"]
    assert bad == {
        **dict.fromkeys(good),
        "path": str(tmp_path / "b.cache"),
        "error": {"reason": "empty", "message": bad["error"]["message"]},
        "problems": [],
    }


def test_command_prints_plain_text_into_a_pipe(tmp_path: Path) -> None:
    done = run(put(RECENT, tmp_path / "a.cache"))
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "layout 1.2" in done.stdout


def test_table_of_a_real_file(tmp_path: Path) -> None:
    content = recorded_content(RECENT)
    found = one(put(RECENT, tmp_path / "a.cache"))
    text = text_of(found, now=content["last_kernel_time"] + 200)
    assert "layout 1.2 · 1.92 MiB · devices 1 · process slots 3 · last kernel 3 min ago" in text
    assert "core limit holds (utilization_switch 1) · launches free (recent_kernel 2)" in text
    assert cells(text, "0")[1:] == [
        "GPU-8664316c-6888-5063-1e4d-f2a09cfbf100",
        "5.63 GiB",
        "20.0 GiB",
        "35%",
        "30%",
    ]
    assert cells(text, "7619") == [
        "7619",
        "100001",
        "running",
        "0",
        "2.31 GiB",
        "310 MiB",
        "8.00 MiB",
        "2.00 GiB",
        "0 B",
        "2.30 GiB",
        "15%",
    ]
    assert "gone" in text


def test_no_limit_says_so(tmp_path: Path) -> None:
    data = bytearray(recorded_bytes(RECENT))
    head: Any = V1_2.head.from_buffer(data)
    head.limit[0], head.sm_limit[0] = 0, 100
    path = tmp_path / "a.cache"
    path.write_bytes(data)
    assert cells(text_of(one(path)), "0")[3::2] == ["none", "none"]


def test_what_is_not_known_is_no_number(tmp_path: Path) -> None:
    """HAMi-core measures no cores without a host PID, and NVML's "not available" is no size. One
    process' count wrapped below zero, and is right again in the sum."""
    data = bytearray(recorded_bytes(RECENT))
    head: Any = V1_2.region.from_buffer(data)
    first = next(slot for slot in head.procs if slot.status == 1)
    first.hostpid, first.monitorused[0] = 0, (1 << 64) - 1
    first.device_util[0].sm = 0
    first.used[0].total = (1 << 64) - (2 << 20)
    path = tmp_path / "a.cache"
    path.write_bytes(data)
    found = cells(text_of(one(path)), str(first.pid))
    assert (found[1], found[4], found[9], found[10]) == ("–", "-2.00 MiB", "–", "–")


def test_nonsense_in_a_file_is_told_and_the_rest_shown(tmp_path: Path) -> None:
    data = bytearray(recorded_bytes(RECENT))
    head: Any = V1_2.head.from_buffer(data)
    head.uuids[0][:] = b"\x1b[31mevil".ljust(96, b"\0")
    path = tmp_path / "a.cache"
    path.write_bytes(data)
    found = one(path)
    assert to_json([found])[0]["problems"] == [
        {"reason": "bad_uuid", "message": "the UUID of device 0 is b'\\x1b[31mevil'"}
    ]
    text = text_of(found)
    assert "bad_uuid: the UUID of device 0 is b'\\x1b[31mevil'" in text
    assert cells(text, "0")[1:3] == ["–", "5.63 GiB"]


@pytest.mark.parametrize("nested", [True, False])
def test_directories(nested: bool, tmp_path: Path) -> None:
    """A containers directory, and one container's."""
    directory = tmp_path / f"{UID}_train"
    path = put(RECENT, directory / "any.cache")
    (directory / "libvgpu.so").touch()
    (tmp_path / "lost+found").mkdir()
    (found,) = inspect_paths([tmp_path if nested else directory])
    assert (found.path, found.error) == (path, None)
    assert found.region is not None


def test_several_files_and_paths_keep_their_order(tmp_path: Path) -> None:
    second = put(RECENT, tmp_path / "x" / "b.cache")
    first = put(RECENT, tmp_path / "x" / "a.cache")
    other = put(RECENT, tmp_path / "plain")
    found = inspect_paths([other, tmp_path / "x"])
    assert [one.path for one in found] == [other, first, second]


def test_a_container_without_a_file_waits(tmp_path: Path) -> None:
    (tmp_path / f"{UID}_train").mkdir()
    found = one(tmp_path)
    assert (found.region, found.error) == (None, None)
    assert "no region file yet" in text_of(found)
    assert one(tmp_path / f"{UID}_train") == found
    assert run(tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("missing", "vanished", "is not there: No such file or directory"),
        ("directory", "empty", "can't be decoded (empty)"),
        ("pipe", "not_regular", "can't be decoded (not_regular)"),
        ("loop", "symlink", "can't be decoded (symlink)"),
    ],
)
def test_what_is_no_region(kind: str, error: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    assert reason(path) == error
    assert told in text_of(one(path))


def test_a_hook_path_is_told_from_its_containers_directory(tmp_path: Path) -> None:
    assert "did you mean" not in text_of(one(tmp_path))
    (tmp_path / "containers").mkdir()
    assert f"; did you mean {tmp_path}/containers?" in text_of(one(tmp_path))


def test_a_link_is_followed_where_it_is_named_and_not_within(tmp_path: Path) -> None:
    target = put(RECENT, tmp_path / "target")
    link = tmp_path / "within" / "x.cache"
    link.parent.mkdir()
    link.symlink_to(target)
    assert one(link).region is not None
    assert one(link).path == link
    assert reason(link.parent) == "symlink"


def test_a_hostile_name_cannot_talk_to_the_terminal(tmp_path: Path) -> None:
    name = b"\x1b]0;owned\x07\xff.cache"
    with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
        pass
    found = one(tmp_path)
    assert "\x1b" not in text_of(found)
    assert "\\x1b]0;owned\\x07\\udcff.cache" in text_of(found)
    (document,) = json.loads(json.dumps(to_json([found])))
    assert document["path"].endswith("\x1b]0;owned\x07\\xff.cache")
