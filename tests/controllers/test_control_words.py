"""Stores of single words into region files that containers use meanwhile."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vgpumonitor.region.control import ControlWord, ControlWords, change_word
from vgpumonitor.region.layouts import LAYOUTS, V1_2, Layout
from vgpumonitor.region.model import RegionDevice, RegionError
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.region.writer import RegionWriter

DEVICES = [RegionDevice("GPU-8664316c-6888-5063-1e4d-f2a09cfbf100", 20 << 30, 30)]
WORDS: tuple[ControlWord, ...] = ("recent_kernel", "utilization_switch")


def make(path: Path, layout: Layout = V1_2) -> Path:
    RegionWriter(path, layout, DEVICES, now=1000).close()
    return path


@contextmanager
def opened(path: Path) -> Iterator[ControlWords]:
    file = RegionFile(os.open(path, os.O_RDONLY))
    try:
        with ControlWords(file, path.stat().st_size) as words:
            yield words
    finally:
        file.close()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("value", [-1, 0, 1])
def test_a_store_changes_its_four_bytes_only(
    tmp_path: Path, layout: Layout, word: ControlWord, value: int
) -> None:
    path = make(tmp_path / "x.cache", layout)
    before, status = path.read_bytes(), path.stat()
    at = getattr(layout.region, word).offset
    with opened(path) as words:
        words.store(word, value)
        assert words.read(word) == value
    expected = before[:at] + value.to_bytes(4, "little", signed=True) + before[at + 4 :]
    assert path.read_bytes() == expected
    assert (path.stat().st_ino, path.stat().st_size) == (status.st_ino, status.st_size)


def test_an_addition_loses_no_store_of_the_container(tmp_path: Path) -> None:
    path = tmp_path / "x.cache"
    with RegionWriter(path, V1_2, DEVICES, now=1000) as region, opened(path) as words:
        words.store("recent_kernel", 1)
        region.mark_launch(now=1001)  # After the look that found 1.
        words.add("recent_kernel", -1)
        assert words.read("recent_kernel") == 1


@pytest.mark.parametrize("value", [-1, 0x7FFF_FFFF, -0x8000_0000])
def test_an_addition_to_a_word_of_any_value(tmp_path: Path, value: int) -> None:
    path = make(tmp_path / "x.cache")
    with path.open("r+b") as file:
        file.seek(V1_2.region.recent_kernel.offset)
        file.write(value.to_bytes(4, "little", signed=True))
    with opened(path) as words:
        words.add("recent_kernel", -1)
        assert words.read("recent_kernel") == ctypes.c_int32(value - 1).value


def toggle(path: Path) -> None:
    with opened(path) as words:
        for _ in range(20_000):
            words.store("recent_kernel", -1)
            words.store("recent_kernel", 0)


def test_a_reader_of_the_mapping_meets_whole_values_only(tmp_path: Path) -> None:
    path = make(tmp_path / "x.cache")
    with path.open("r+b") as file:
        page = mmap.mmap(file.fileno(), V1_2.size)
    word = ctypes.c_int32.from_buffer(page, V1_2.region.recent_kernel.offset)
    writer = multiprocessing.get_context("spawn").Process(target=toggle, args=(path,))
    writer.start()
    met = {word.value}
    while writer.is_alive():
        met.update(word.value for _ in range(1000))
    writer.join()
    assert writer.exitcode == 0
    assert met == {-1, 0, 2}
    assert word.value == 0


@pytest.mark.parametrize("size", [0, 4096, V1_2.size, V1_2.size + 100])
def test_a_file_whose_size_changed_is_left_alone(tmp_path: Path, size: int) -> None:
    path = make(tmp_path / "x.cache")
    with opened(path) as words:
        os.truncate(path, size)
        before = path.read_bytes()
        with pytest.raises(RegionError) as raised:
            words.store("recent_kernel", -1)
    assert raised.value.reason == "truncated"
    assert path.read_bytes() == before


def test_a_file_cut_off_after_the_look_at_its_size_is_not_made_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "x.cache")
    looked = path.stat()
    with opened(path) as words:
        os.truncate(path, 4096)
        monkeypatch.setattr("vgpumonitor.region.control.os.fstat", lambda fd: looked)
        with pytest.raises(RegionError) as raised:
            words.store("recent_kernel", -1)
    monkeypatch.undo()
    assert raised.value.reason == "truncated"
    assert path.stat().st_size == 4096


def test_a_file_cut_off_under_the_mapping_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "x.cache"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8192) as page:
        os.truncate(path, 4096)
        with pytest.raises(RegionError) as raised:
            change_word(page, 4096, 0, -1)
    assert raised.value.reason == "truncated"
    assert path.read_bytes() == bytes(4096)


def test_a_removed_file_is_left_alone(tmp_path: Path) -> None:
    path = make(tmp_path / "x.cache")
    with opened(path) as words:
        path.unlink()
        with pytest.raises(RegionError) as raised:
            words.store("recent_kernel", -1)
        assert raised.value.reason == "vanished"
        assert words.read("recent_kernel") == 2


def test_the_file_that_was_decoded_is_written_not_the_one_at_its_path(tmp_path: Path) -> None:
    path = make(tmp_path / "x.cache")
    with opened(path) as words:
        path.rename(tmp_path / "old.cache")
        new = make(path).read_bytes()
        words.store("recent_kernel", -1)
        assert words.read("recent_kernel") == -1
    assert path.read_bytes() == new
