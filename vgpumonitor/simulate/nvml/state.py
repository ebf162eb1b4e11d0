"""What a simulated NVML tells: values, and the text file that holds them.

The file is read by the C library (``nvml.c``) and by ``SimulatedLibrary`` alike, and may be
replaced at any time. No file is no driver. One fact a line; a line about a card belongs to
the last ``card`` line, and ``memory``, ``compute`` and ``graphics`` to the ``mig`` line since,
if any:

    driver VERSION                      cuda NUMBER (12040 is 12.4)
    card UUID                           in the order of NVML's indices
    name TEXT                           minor NUMBER
    memory TOTAL USED RESERVED          bytes; USED without RESERVED
    utilization CORE MEMORY             percent
    power MILLIWATTS                    temperature CELSIUS
    ecc CORRECTED UNCORRECTED           throttle MASK
    compute PID BYTES|-                 graphics PID BYTES|-
    mig UUID GPU_INSTANCE COMPUTE_INSTANCE PROFILE
    error CALL TARGET CODE              hang CALL TARGET

What has no line is Not Supported. CALL is a function of NVML, with its version for that one
alone; TARGET is the card's index, ``INDEX.PLACE`` for a MIG device, ``-`` where the call is
about neither; the first line that fits a call holds for it. A call that hangs goes on when
the file no longer says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Bytes by PID; None where NVML can't tell.
Processes = Mapping[int, int | None]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; ``used`` does not count ``reserved``, which the driver keeps for itself."""

    total: int
    used: int
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMig:
    uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int = 0
    memory: Memory | None = None
    compute: Processes = field(default_factory=dict)
    graphics: Processes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCard:
    """A card; None is Not Supported. ``utilization`` is core and memory in percent, ``ecc``
    corrected and uncorrected errors, ``throttle`` NVML's mask of clock event reasons. With
    ``mig_devices`` MIG is enabled; their processes are the card's as well."""

    uuid: str
    name: str | None = None
    minor: int | None = None
    memory: Memory | None = None
    utilization: tuple[int, int] | None = None
    power_milliwatts: int | None = None
    temperature: int | None = None
    ecc: tuple[int, int] | None = None
    throttle: int | None = None
    compute: Processes = field(default_factory=dict)
    graphics: Processes = field(default_factory=dict)
    mig_devices: tuple[SimulatedMig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedNvml:
    """``cuda_version`` is NVML's number. ``errors`` are codes by call and target, ``hangs``
    calls and targets."""

    driver_version: str = "570.124.06"
    cuda_version: int = 12080
    cards: tuple[SimulatedCard, ...] = ()
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    hangs: frozenset[tuple[str, str]] = frozenset()

    def write(self, path: Path) -> None:
        """Replaces the file as a whole."""
        new = path.with_name(f".{path.name}.new")
        new.write_text(self.text())
        new.replace(path)

    def text(self) -> str:
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield f"driver {self.driver_version}"
        yield f"cuda {self.cuda_version}"
        for card in self.cards:
            yield f"card {card.uuid}"
            for word, value in (
                ("name", card.name),
                ("minor", card.minor),
                ("power", card.power_milliwatts),
                ("temperature", card.temperature),
                ("throttle", card.throttle),
            ):
                if value is not None:
                    yield f"{word} {value}"
            for word, pair in (("utilization", card.utilization), ("ecc", card.ecc)):
                if pair is not None:
                    yield f"{word} {pair[0]} {pair[1]}"
            yield from _part_lines(card)
            for mig in card.mig_devices:
                instances = f"{mig.gpu_instance_id} {mig.compute_instance_id}"
                yield f"mig {mig.uuid} {instances} {mig.profile}"
                yield from _part_lines(mig)
        for call, target in sorted(self.hangs):
            yield f"hang {call} {target}"
        for (call, target), code in self.errors.items():
            yield f"error {call} {target} {code}"


def _part_lines(part: SimulatedCard | SimulatedMig) -> Iterator[str]:
    if part.memory is not None:
        yield f"memory {part.memory.total} {part.memory.used} {part.memory.reserved}"
    for word, processes in (("compute", part.compute), ("graphics", part.graphics)):
        for pid, held in processes.items():
            yield f"{word} {pid} {'-' if held is None else held}"


def parse(text: str) -> SimulatedNvml:
    """The state of which ``text`` is the text. Raises ValueError, which names the line."""
    top: dict[str, Any] = {}
    cards: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    part: dict[str, Any]
    errors: dict[tuple[str, str], int] = {}
    hangs: set[tuple[str, str]] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            match line.split():
                case ["driver", version]:
                    top["driver_version"] = version
                case ["cuda", version]:
                    top["cuda_version"] = int(version)
                case ["card", uuid]:
                    part = {"uuid": uuid, "compute": {}, "graphics": {}, "mig_devices": []}
                    cards.append(part)
                    parts.append(part)
                case ["name", *_]:
                    cards[-1]["name"] = line.removeprefix("name ")
                case ["minor" | "temperature" | "throttle" as word, value]:
                    cards[-1][word] = int(value)
                case ["power", milliwatts]:
                    cards[-1]["power_milliwatts"] = int(milliwatts)
                case ["utilization" | "ecc" as word, first, second]:
                    cards[-1][word] = int(first), int(second)
                case ["mig", uuid, gpu_instance, compute_instance, profile]:
                    part = {
                        "uuid": uuid,
                        "profile": profile,
                        "gpu_instance_id": int(gpu_instance),
                        "compute_instance_id": int(compute_instance),
                        "compute": {},
                        "graphics": {},
                    }
                    cards[-1]["mig_devices"].append(part)
                    parts.append(part)
                case ["memory", total, used, reserved]:
                    parts[-1]["memory"] = Memory(int(total), int(used), int(reserved))
                case ["compute" | "graphics" as word, pid, held]:
                    parts[-1][word][int(pid)] = None if held == "-" else int(held)
                case ["error", call, target, code]:
                    errors[call, target] = int(code)
                case ["hang", call, target]:
                    hangs.add((call, target))
                case _:
                    raise ValueError("no such fact")
        except (ValueError, LookupError) as error:
            raise ValueError(f"line {number} of a simulated NVML: {line!r}: {error}") from error
    for values in cards:
        values["mig_devices"] = tuple(SimulatedMig(**mig) for mig in values["mig_devices"])
    return SimulatedNvml(
        cards=tuple(SimulatedCard(**values) for values in cards),
        errors=errors,
        hangs=frozenset(hangs),
        **top,
    )
