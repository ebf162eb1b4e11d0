"""The two forms of the simulated NVML, and the file that both read."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing.nvml import BuildError, build
from testing.tools import require
from tests.sources.devices.nvml_runs import in_pynvml, in_python
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import (
    Memory,
    SimulatedCard,
    SimulatedMig,
    SimulatedNvml,
    parse,
)

_NUMBERS = st.integers(0, 2**32 - 1)
_SIZES = st.integers(0, 2**63 - 1)
_WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789.-", min_size=1, max_size=40)
_NAMES = st.lists(_WORDS, min_size=1, max_size=4).map(" ".join)
_PROCESSES = st.dictionaries(_NUMBERS, st.none() | _SIZES, max_size=4)
_MEMORY = st.none() | st.builds(Memory, _SIZES, _SIZES, _SIZES)
_MIGS = st.builds(
    SimulatedMig,
    uuid=_WORDS,
    profile=_WORDS,
    gpu_instance_id=_NUMBERS,
    compute_instance_id=_NUMBERS,
    memory=_MEMORY,
    compute=_PROCESSES,
    graphics=_PROCESSES,
)
_CARDS = st.builds(
    SimulatedCard,
    uuid=_WORDS,
    name=st.none() | _NAMES,
    minor=st.none() | _NUMBERS,
    memory=_MEMORY,
    utilization=st.none() | st.tuples(_NUMBERS, _NUMBERS),
    power_milliwatts=st.none() | _NUMBERS,
    temperature=st.none() | _NUMBERS,
    ecc=st.none() | st.tuples(_SIZES, _SIZES),
    throttle=st.none() | _SIZES,
    compute=_PROCESSES,
    graphics=_PROCESSES,
    mig_devices=st.lists(_MIGS, max_size=3).map(tuple),
)
_RULES = st.tuples(_WORDS, _WORDS)
_STATES = st.builds(
    SimulatedNvml,
    driver_version=_WORDS,
    cuda_version=_NUMBERS,
    cards=st.lists(_CARDS, max_size=3).map(tuple),
    errors=st.dictionaries(_RULES, _NUMBERS, max_size=3),
    hangs=st.frozensets(_RULES, max_size=3),
)


class TestState:
    @given(_STATES)
    def test_what_was_written_is_read(self, state: SimulatedNvml) -> None:
        assert parse(state.text()) == state

    def test_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "nvml.state"
        SimulatedNvml(driver_version="1").write(path)
        with path.open() as before:
            SimulatedNvml(driver_version="2").write(path)
            assert parse(before.read()).driver_version == "1"
        assert parse(path.read_text()).driver_version == "2"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        "line",
        [
            "temperature 7",
            "memory 1 2 3",
            "compute 1 2",
            "mig a 1 2 x",
            "card a b",
            "wrong",
            "error nvmlInit - x",
            "",
        ],
    )
    def test_a_wrong_line_is_named(self, line: str) -> None:
        with pytest.raises(ValueError, match=re.escape(f"line 2 of a simulated NVML: {line!r}")):
            parse(f"driver 1\n{line}\ncuda 12000\n")


def scenario(random: Random) -> SimulatedNvml:
    """Cards that tell much or little, with errors here and there."""

    def maybe(value: object) -> object:
        return value if random.random() < 0.8 else None

    def processes(first: int) -> dict[int, int | None]:
        held = (None, 7, 1 << 34)
        return {first + place: random.choice(held) for place in range(random.randrange(4))}

    def memory() -> Memory:
        return Memory(1 << 36, random.randrange(1 << 35), random.randrange(1 << 30))

    cards = []
    for index in range(random.randrange(1, 6)):
        migs = tuple(
            SimulatedMig(
                uuid=f"MIG-{index}-{place}",
                profile=random.choice(["1g.10gb", "2g.20gb+me"]),
                gpu_instance_id=7 + place,
                compute_instance_id=place,
                memory=memory() if maybe(True) else None,
                compute=processes(10_000 * (index + 1) + 100 * place),
                graphics=processes(50),
            )
            for place in range(random.choice([0, 0, 0, 2, 7]))
        )
        values = {
            "name": maybe("NVIDIA A100-SXM4-80GB"),
            "minor": maybe(7 - index),
            "memory": maybe(memory()),
            "utilization": maybe((random.randrange(101), random.randrange(101))),
            "power_milliwatts": maybe(random.randrange(700_000)),
            "temperature": maybe(random.randrange(100)),
            "ecc": maybe((random.randrange(9), 1 << 40)),
            "throttle": maybe(random.randrange(512)),
        }
        cards.append(
            SimulatedCard(
                uuid=f"GPU-{index}",
                compute=processes(100),
                graphics=processes(101),
                mig_devices=migs,
                **values,  # type: ignore[arg-type]
            )
        )
    calls = [name for name in vars(SimulatedLibrary) if name.startswith("nvmlDeviceGet")]
    targets = ["0", "1", "2.0", "0.1", "-"]
    errors = {
        (random.choice(calls) + random.choice(["", "", "_v2", "_v3"]), random.choice(targets)): code
        for code in random.sample([3, 6, 13, 15, 25, 999], random.randrange(6))
    }
    return SimulatedNvml(cuda_version=12040, cards=tuple(cards), errors=errors)


class TestForms:
    def test_tell_the_same(self, tmp_path: Path) -> None:
        require("cc")
        library = build(tmp_path).parent
        random = Random(1)
        states = [tmp_path / "pynvml.state", tmp_path / "python.state"]
        for state in states:
            SimulatedNvml().write(state)
        with in_pynvml(library, states[0]) as pynvml, in_python(states[1]) as python:
            # With that, start's own samples are over, and found nothing that is counted.
            assert pynvml.sample() == python.sample()
            assert python.sample() == ()
            for _ in range(60):
                simulated = scenario(random)
                for run in (pynvml, python):
                    run.write(simulated)
                assert pynvml.sample() == python.sample(), simulated.text()
                assert pynvml.known() == python.known(), simulated.text()
                assert pynvml.health().errors == python.health().errors, simulated.text()

    def test_both_take_a_wrong_state_for_no_driver(self, tmp_path: Path) -> None:
        require("cc")
        library = build(tmp_path).parent
        states = [tmp_path / "pynvml.state", tmp_path / "python.state"]
        for state in states:
            state.write_text("driver 1\nnonsense\n")
        with in_pynvml(library, states[0]) as pynvml, in_python(states[1]) as python:
            for run in (pynvml, python):
                assert run.sample() is None
                assert not run.health().up
                run.write(SimulatedNvml(driver_version="1"))
                assert run.sample() == ()
                assert run.health().up

    def test_what_pynvml_has_and_the_simulation_has_not_is_never_asked_of_the_machine(
        self, tmp_path: Path
    ) -> None:
        library = SimulatedLibrary(tmp_path / "nvml.state")
        with pytest.raises(AttributeError, match="no nvmlDeviceGetFanSpeed"):
            library.nvmlDeviceGetFanSpeed(0)


class TestBuild:
    def test_without_a_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BuildError, match="there is no cc in PATH"):
            build(tmp_path)

    def test_an_error_of_the_compiler_is_told(self, tmp_path: Path) -> None:
        require("cc")
        with pytest.raises(BuildError, match=r"can't compile .*absent"):
            build(tmp_path / "absent")
