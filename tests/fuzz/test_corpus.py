"""The corpus, and inputs near to it, through each target; ``run.py`` searches for more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.targets import CORPUS, TARGETS
from vgpumonitor.region.model import RegionError
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.sources.pods import annotations as pod_annotations
from vgpumonitor.sources.pods import objects
from vgpumonitor.web import config as web_config

INPUTS = {
    name: {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}
    for name in TARGETS
}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param(name, data, id=f"{name}/{file}")
        for name, files in INPUTS.items()
        for file, data in files.items()
    ],
)
def test_corpus(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_near_the_corpus(name: str) -> None:
    """A piece of one input after a piece of another, with some bytes of its own."""
    seeds = st.sampled_from(list(INPUTS[name].values()))

    @settings(
        max_examples=300,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seeds, seeds, st.integers(0, 2048), st.integers(0, 2048), st.binary(max_size=24))
    def run(first: bytes, second: bytes, end: int, start: int, own: bytes) -> None:
        TARGETS[name](first[: end % (len(first) + 1)] + own + second[start % (len(second) + 1) :])

    run()


class TestHarness:
    """A target that can't fail finds nothing."""

    def test_another_error_than_the_readers_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(fd: int) -> RegionFile:
            raise IndexError

        monkeypatch.setattr(targets, "RegionFile", broken)
        with pytest.raises(IndexError):
            targets.region(b"\0")

    def test_a_reason_that_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(fd: int) -> RegionFile:
            raise RegionError("invented", "")

        monkeypatch.setattr(targets, "RegionFile", broken)
        with pytest.raises(AssertionError):
            targets.region(b"\0")

    @pytest.mark.parametrize("name", ["annotations", "pods", "web_config"])
    def test_an_error_of_a_parser(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise KeyError("uid")

        monkeypatch.setattr(pod_annotations, "parse_allocations", broken)
        monkeypatch.setattr(objects, "pod_from_object", broken)
        monkeypatch.setattr(web_config, "parse", broken)
        with pytest.raises(KeyError):
            TARGETS[name](b'{"kind": "Pod"}')
