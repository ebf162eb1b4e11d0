"""What the command ``doctor`` looks at besides the sources, and what of it is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vgpumonitor.diagnosis import kinds
from vgpumonitor.diagnosis.model import Found
from vgpumonitor.snapshot.model import NodeSnapshot

#: koordlet's feature gates that a node with HAMi-core needs; all are off where nobody sets them.
GATES = ("Accelerators", "GPUEnvInject", "HamiCoreVGPUMonitor")


@dataclass(frozen=True, slots=True)
class Library:
    """A ``libvgpu.so…``, by its name in the hook path or by its path elsewhere; ``release`` is what
    the name of a file with the same contents says, empty where none does. ``size`` is in bytes."""

    name: str
    size: int
    release: str = ""


@dataclass(frozen=True, slots=True)
class ExporterFound:
    """What answers at the exporter's port: an exporter, nobody, or another program (``text`` says
    what it answered). ``writes`` says that the exporter gives feedback or cleans up."""

    address: str
    answer: Literal["exporter", "nobody", "other"]
    text: str = ""
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Examination:
    """None is what can't be seen from here.

    ``libraries`` are those that pods are given, ``loaded`` says of host processes on GPUs which
    libvgpu.so they have mapped, by PID: its path, with " (deleted)" where the file was replaced,
    empty for none. ``koordlet`` are the feature gates on the command line of the koordlet that
    runs here, ``nri`` says whether containerd offers NRI. ``programs`` are the PIDs of vGPUmonitor
    and of MPS, by name. ``cgroups`` are the cgroups of processes on GPUs that are in no pod's, by
    PID. ``driver`` are traces of what keeps the driver away, ``procfs`` is why the host's
    processes are not seen. ``read_only`` is the containers directory's mount.
    """

    hook_path: str
    libraries: tuple[Library, ...] | None = None
    loaded: Mapping[int, str] = field(default_factory=dict)
    koordlet: Mapping[str, bool] | None = None
    nri: bool | None = None
    programs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cgroups: Mapping[int, str] = field(default_factory=dict)
    driver: tuple[str, ...] = ()
    procfs: str = ""
    read_only: bool | None = None
    exporter: ExporterFound | None = None

    def gates(self) -> Iterator[str]:
        """What is known of the settings without which koordlet makes no directories."""
        if self.koordlet is not None:
            for gate in GATES:
                on = self.koordlet.get(gate)
                yield f"{gate} is {'not set' if on is None else 'on' if on else 'off'}"
        injected = sum(1 for path in self.loaded.values() if path)
        if injected:
            yield f"libvgpu.so is loaded in {injected} processes on GPUs: GPUEnvInject is on"
        elif self.loaded:
            yield f"libvgpu.so is loaded in none of {len(self.loaded)} processes on GPUs"
        if self.nri is False:
            yield "containerd offers no NRI: /var/run/nri/nri.sock does not exist"


def examine(snapshot: NodeSnapshot, examination: Examination, found: Found) -> None:
    """Adds what is wrong of what was looked at."""
    _libraries(snapshot, examination, found)
    if examination.koordlet is not None and _by_koordinator(snapshot):
        for gate in GATES:
            on = examination.koordlet.get(gate)
            if not on:
                found.add(kinds.KOORDLET_GATES, gate, "not set" if on is None else "false")
    mps = [
        (name, pids)
        for name, pids in examination.programs.items()
        if name.startswith("nvidia-cuda-mps")
    ]
    if mps and any(container.reading is not None for container in snapshot.containers):
        for name, pids in mps:
            found.add(kinds.MPS, name, f"PIDs: {_listed(pids)}")
    exporter = examination.exporter
    if exporter is not None:
        _exporter(examination, exporter, found)
    for pid, cgroup in examination.cgroups.items():
        found.add(kinds.CGROUPS_NOT_UNDERSTOOD, f"process {pid}", cgroup)


def _by_koordinator(snapshot: NodeSnapshot) -> bool:
    """Whether Koordinator is to limit pods by HAMi-core here, as far as pods and directories tell:
    a koordlet may be there for other things, while something else shares the GPUs."""
    allocated = [pod for pod in snapshot.health.pods.pods.values() if pod.allocations]
    its = [pod for pod in allocated if any(a.device_minor is not None for a in pod.allocations)]
    if its:
        return any(pod.limited for pod in its)
    return not allocated and not snapshot.health.containers.containers


def _libraries(snapshot: NodeSnapshot, examination: Examination, found: Found) -> None:
    if examination.libraries is not None:
        whole = [library for library in examination.libraries if library.size]
        limited = any(pod.isolation == "hami-core" for pod in snapshot.pods)
        if not whole and limited:
            text = f"{examination.hook_path}/libvgpu.so does not exist"
            if examination.libraries:
                text = ", ".join(f"{each.name} is empty" for each in examination.libraries)
            found.add(kinds.LIBRARY_MISSING, "", text)
    replaced = [pid for pid, path in examination.loaded.items() if path.endswith(" (deleted)")]
    if replaced:
        found.add(kinds.LIBRARY_REPLACED, "", f"PIDs: {_listed(tuple(replaced))}")


def _exporter(examination: Examination, exporter: ExporterFound, found: Found) -> None:
    if exporter.answer == "nobody":
        found.add(kinds.EXPORTER_SILENT, "", f"{exporter.address}: {exporter.text}")
    elif exporter.answer == "other":
        found.add(kinds.PORT_TAKEN, "", f"{exporter.address}: {exporter.text}")
    elif exporter.writes:
        others = examination.programs.get("vGPUmonitor", ())
        if others:
            found.add(kinds.MONITORS_COMPETE, "", f"vGPUmonitor's PIDs: {_listed(others)}")
        if examination.read_only:
            found.add(kinds.MOUNT_READ_ONLY, "", "the mount has the option ro")


def _listed(pids: tuple[int, ...]) -> str:
    return ", ".join(map(str, pids[:8])) + ("" if len(pids) <= 8 else f" and {len(pids) - 8} more")
