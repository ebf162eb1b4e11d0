"""What ``doctor`` looked at: each kind of finding, a node that has it and one that has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testing.values import GIB, OTHER, entry, gpu, pods_view, process, region, use
from tests.diagnosis.nodes import busy, hami_pod, node, pod
from vgpumonitor.diagnosis import (
    KINDS,
    Examination,
    ExporterFound,
    Library,
    Seen,
    findings,
)
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import DeviceHealth

GATES = {"Accelerators": True, "GPUEnvInject": True, "HamiCoreVGPUMonitor": True}
HERE = "127.0.0.1:9394"
#: Nothing is wrong with it.
FINE = Examination(
    "/usr/local/vgpu",
    libraries=(Library("libvgpu.so", 2 << 20),),
    koordlet=GATES,
    nri=True,
    read_only=False,
    exporter=ExporterFound(HERE, "exporter", "vgpumonitor answers"),
)
WRITES = ExporterFound(HERE, "exporter", writes=True)

#: By kind: what was looked at where it is, what is seen, and where it is not, as near as can be.
CASES: dict[str, tuple[Examination, list[Seen], Examination]] = {
    "koordlet-gates": (
        replace(FINE, koordlet={"Accelerators": True, "GPUEnvInject": False}),
        [Seen("GPUEnvInject", "false"), Seen("HamiCoreVGPUMonitor", "not set")],
        replace(FINE, koordlet=None),
    ),
    "libvgpu-missing": (
        replace(FINE, libraries=()),
        [Seen("", "/usr/local/vgpu/libvgpu.so does not exist")],
        replace(FINE, libraries=None),
    ),
    "libvgpu-replaced": (
        replace(FINE, loaded={100: "/usr/local/vgpu/libvgpu.so (deleted)"}),
        [Seen("", "PIDs: 100")],
        replace(FINE, loaded={100: "/usr/local/vgpu/libvgpu.so"}),
    ),
    "mps-beside-hami-core": (
        replace(FINE, programs={"nvidia-cuda-mps": (7, 8)}),
        [Seen("nvidia-cuda-mps", "PIDs: 7, 8")],
        replace(FINE, programs={"koordlet": (7,)}),
    ),
    "monitors-compete": (
        replace(FINE, exporter=WRITES, programs={"vGPUmonitor": (9,)}),
        [Seen("", "vGPUmonitor's PIDs: 9")],
        # Side by side, and only one of them writes.
        replace(FINE, programs={"vGPUmonitor": (9,)}),
    ),
    "containers-read-only": (
        replace(FINE, exporter=WRITES, read_only=True),
        [Seen("", "the mount has the option ro")],
        replace(FINE, read_only=True),
    ),
    "port-taken": (
        replace(FINE, exporter=ExporterFound(HERE, "other", "it answers 404")),
        [Seen("", f"{HERE}: it answers 404")],
        replace(FINE, exporter=WRITES),
    ),
    "exporter-silent": (
        replace(FINE, exporter=ExporterFound(HERE, "nobody", "Connection refused")),
        [Seen("", f"{HERE}: Connection refused")],
        replace(FINE, exporter=None),
    ),
    "cgroups-not-understood": (
        replace(FINE, cgroups={300: "/engine/1234"}),
        [Seen("process 300", "/engine/1234")],
        FINE,
    ),
}


SOUND = region(process(use(data=GIB, sm=30)))


def sound() -> NodeSnapshot:
    return node(entry(SOUND), gpus=[gpu(processes=(busy(100),))])


def told(examination: Examination, snapshot: NodeSnapshot | None = None) -> dict[str, list[Seen]]:
    made = sound() if snapshot is None else snapshot
    return {finding.kind.id: list(finding.seen) for finding in findings(made, examination)}


def test_every_kind_that_only_doctor_sees_has_a_case() -> None:
    assert list(CASES) == [kind.id for kind in KINDS if kind.doctor]


@pytest.mark.parametrize("kind", CASES)
def test_where_it_is(kind: str) -> None:
    examination, seen, _ = CASES[kind]
    assert told(examination) == {kind: seen}


@pytest.mark.parametrize("kind", CASES)
def test_where_it_is_not(kind: str) -> None:
    assert told(CASES[kind][2]) == {}


def test_an_empty_library_is_named() -> None:
    found = told(replace(FINE, libraries=(Library("libvgpu.so", 0),)))
    assert found == {"libvgpu-missing": [Seen("", "libvgpu.so is empty")]}


def test_no_library_is_missed_where_nothing_is_to_be_limited() -> None:
    assert told(replace(FINE, libraries=()), node(pods=pods_view())) == {}


@pytest.mark.parametrize(
    ("snapshot", "said"),
    [
        (node(pods=pods_view()), True),
        (node(pods=pods_view(pod(phase="Pending"))), True),
        # Whole GPUs, HAMi, and what notes nothing on its pods.
        (node(pods=pods_view(pod(limited=False, phase="Pending"))), False),
        (node(pods=pods_view(replace(hami_pod(), phase="Pending"))), False),
        (node(entry(SOUND), pods=pods_view(), gpus=[gpu(processes=(busy(100),))]), False),
    ],
    ids=["nothing yet", "Koordinator", "Koordinator, whole GPUs", "HAMi", "KAI"],
)
def test_the_gates_of_a_koordlet_matter_where_it_is_to_inject(
    snapshot: NodeSnapshot, said: bool
) -> None:
    found = told(replace(FINE, koordlet={}), snapshot)
    assert ("koordlet-gates" in found) is said


class TestGatesOfKoordlet:
    """What is said of pods without directories, by what koordlet was given."""

    def gates(self, **more: object) -> list[str]:
        seen = told(replace(FINE, **more), node())["koordinator-no-directories"]  # type: ignore[arg-type]
        assert seen[0].subject == "team-a/train-0"
        return [each.text for each in seen if each.subject == "koordlet"]

    def test_its_command_line_tells(self) -> None:
        assert self.gates(koordlet={"Accelerators": True, "GPUEnvInject": False}) == [
            "Accelerators is on",
            "GPUEnvInject is off",
            "HamiCoreVGPUMonitor is not set",
        ]

    def test_a_loaded_library_tells_of_injection(self) -> None:
        loaded = {300: "/usr/local/vgpu/libvgpu.so", 301: ""}
        assert self.gates(koordlet=None, loaded=loaded) == [
            "libvgpu.so is loaded in 1 processes on GPUs: GPUEnvInject is on"
        ]
        assert self.gates(koordlet=None, loaded={301: ""}) == [
            "libvgpu.so is loaded in none of 1 processes on GPUs"
        ]

    def test_nri(self) -> None:
        assert self.gates(koordlet=None, nri=False) == [
            "containerd offers no NRI: /var/run/nri/nri.sock does not exist"
        ]
        assert self.gates(koordlet=None, nri=None) == []


def test_why_the_driver_is_not_there() -> None:
    down = node(devices=DeviceHealth("NVML", False, {}, "not found"), gpus=(), pods=pods_view())
    found = told(replace(FINE, driver=("/dev/nvidiactl does not exist",)), down)
    assert found == {
        "nvml-down": [Seen("", "not found"), Seen("", "/dev/nvidiactl does not exist")]
    }


def test_why_processes_are_hidden() -> None:
    hidden = node(pods=pods_view(pod(OTHER, phase="Pending")), live=None)
    found = told(replace(FINE, procfs="/proc is mounted with hidepid=2"), hidden)
    assert found == {"host-processes-hidden": [Seen("", "/proc is mounted with hidepid=2")]}
