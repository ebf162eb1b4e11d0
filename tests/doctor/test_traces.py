"""What is looked at on the node besides the sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testing.values import GPU, UID, gpu
from tests.diagnosis.nodes import busy, node
from vgpumonitor.diagnosis import Library
from vgpumonitor.doctor import traces
from vgpumonitor.doctor.traces import examination, feature_gates, libraries
from vgpumonitor.settings import Settings
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup
from vgpumonitor.snapshot import NodeSnapshot

ID = "c" * 64


@pytest.fixture
def procfs(tmp_path: Path) -> SimulatedProcfs:
    return SimulatedProcfs(tmp_path / "proc")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "vgpu" / "containers").mkdir(parents=True)
    return Settings(hook_path=tmp_path / "vgpu", procfs=tmp_path / "proc")


def on_gpu(*pids: int) -> NodeSnapshot:
    return node(gpus=[gpu(GPU, processes=tuple(busy(pid) for pid in pids))])


class TestLibraries:
    def test_have_the_release_of_a_file_with_the_same_contents(self, settings: Settings) -> None:
        for name, text in (("", b"new"), (".v2.8.1", b"old"), (".v2.9.0", b"new")):
            (settings.hook_path / f"libvgpu.so{name}").write_bytes(text)
        assert libraries(settings.hook_path, settings.containers) == (
            Library("libvgpu.so", 3, "v2.9.0"),
            Library("libvgpu.so.v2.8.1", 3, "v2.8.1"),
            Library("libvgpu.so.v2.9.0", 3, "v2.9.0"),
        )

    def test_of_an_unknown_release(self, settings: Settings) -> None:
        (settings.hook_path / "libvgpu.so").write_bytes(b"new")
        found = libraries(settings.hook_path, settings.containers)
        assert found == (Library("libvgpu.so", 3),)

    @pytest.mark.parametrize("place", ["above", "usual"])
    def test_are_elsewhere_with_volcano(
        self, place: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = tmp_path / "usual"
        usual.mkdir()
        monkeypatch.setattr(traces, "USUAL", usual)
        path = (tmp_path if place == "above" else usual) / "libvgpu.so"
        path.write_bytes(b"new")
        found = libraries(settings.hook_path, settings.containers)
        assert found == (Library(str(path), 3),)

    def test_a_directory_in_its_place_is_none(self, settings: Settings) -> None:
        (settings.hook_path / "libvgpu.so").mkdir()
        assert libraries(settings.hook_path, settings.containers) == ()

    def test_cannot_be_seen_without_the_hook_path(self, tmp_path: Path) -> None:
        assert libraries(tmp_path / "nothing", tmp_path / "nothing" / "containers") is None

    def test_cannot_be_seen_where_only_the_containers_directory_is_mounted(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os.path, "ismount", lambda path: path == settings.containers)
        assert libraries(settings.hook_path, settings.containers) is None


class TestKoordlet:
    @pytest.mark.parametrize(
        ("arguments", "gates"),
        [
            (["koordlet"], {}),
            (["--feature-gates=A=true,B=false"], {"A": True, "B": False}),
            (["-feature-gates=A=true", "-feature-gates=B=1"], {"A": True, "B": True}),
            (["--feature-gates", "A=true, B=false", "--v=4"], {"A": True, "B": False}),
            (
                ["--feature-gates=AllAlpha=true,GPUEnvInject=false"],
                {
                    "AllAlpha": True,
                    "Accelerators": True,
                    "GPUEnvInject": False,
                    "HamiCoreVGPUMonitor": True,
                },
            ),
            (
                ["--feature-gates=HamiCoreVGPUMonitor=false", "--feature-gates=AllAlpha=true"],
                {
                    "AllAlpha": True,
                    "Accelerators": True,
                    "GPUEnvInject": True,
                    "HamiCoreVGPUMonitor": False,
                },
            ),
            (
                ["--feature-gates=AllAlpha=true", "--feature-gates=AllAlpha=false"],
                {"AllAlpha": False},
            ),
        ],
    )
    def test_feature_gates(self, arguments: list[str], gates: dict[str, bool]) -> None:
        assert feature_gates(arguments) == gates

    def test_is_found_by_its_name(self, procfs: SimulatedProcfs, settings: Settings) -> None:
        procfs.add(40, "koordlet", "/kubepods")
        (procfs.directory / "40" / "cmdline").write_bytes(
            b"/koordlet\0-addr=:9316\0--feature-gates=Accelerators=true,GPUEnvInject=true\0"
        )
        found = examination(settings, on_gpu(), None)
        assert found.koordlet == {"Accelerators": True, "GPUEnvInject": True}
        assert examination(settings, node(live=None), None).koordlet is None


def test_other_programs_are_found_by_their_names(
    procfs: SimulatedProcfs, settings: Settings
) -> None:
    for pid, name in (
        (50, "vGPUmonitor"),
        (60, "nvidia-cuda-mps"),
        (61, "nvidia-cuda-mps"),
        (70, "bash"),
    ):
        procfs.add(pid, name, "/")
    assert examination(settings, on_gpu(), None).programs == {
        "vGPUmonitor": (50,),
        "nvidia-cuda-mps": (60, 61),
    }


class TestProcessesOnGpus:
    def test_cgroups_that_name_no_pod(self, procfs: SimulatedProcfs, settings: Settings) -> None:
        for pid, cgroup in (
            (100, pod_cgroup(UID, ID)),
            (101, f"/engine/{ID}"),
            (102, "/system.slice/ssh.service"),
            (103, "/"),
            # A node that is itself a container of Docker's.
            (104, f"/docker/{ID}/engine/{ID}"),
        ):
            procfs.add(pid, "python3", cgroup)
        found = examination(settings, on_gpu(100, 101, 102, 103, 104, 105), None)
        assert found.cgroups == {101: f"/engine/{ID}", 103: "/", 104: f"/docker/{ID}/engine/{ID}"}

    @pytest.mark.parametrize(
        "cgroup",
        [
            f"/docker/{ID}",
            f"/system.slice/docker-{ID}.scope",
            f"/machine.slice/libpod-{ID}.scope/container",
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
        ],
    )
    def test_containers_of_other_engines_are_understood(
        self, cgroup: str, procfs: SimulatedProcfs, settings: Settings
    ) -> None:
        procfs.add(101, "python3", cgroup)
        assert examination(settings, on_gpu(101), None).cgroups == {}

    def test_the_library_that_they_have_mapped(
        self, procfs: SimulatedProcfs, settings: Settings
    ) -> None:
        for pid in (100, 101, 102):
            procfs.add(pid, "python3", pod_cgroup(UID, ID))
        line = "7f00-7f01 r-xp 00000000 08:01 123   "
        (procfs.directory / "100" / "maps").write_text(f"{line}/usr/lib/libc.so.6\n")
        (procfs.directory / "101" / "maps").write_text(
            f"{line}/usr/lib/libc.so.6\n{line}/usr/local/vgpu/libvgpu.so (deleted)\n"
        )
        found = examination(settings, on_gpu(100, 101, 102), None)
        # Of the third nothing can be told.
        assert found.loaded == {100: "", 101: "/usr/local/vgpu/libvgpu.so (deleted)"}


class TestHidden:
    def test_another_pid_namespace(self, procfs: SimulatedProcfs, settings: Settings) -> None:
        (procfs.directory / "2" / "comm").write_text("sh\n")
        found = examination(settings, node(live=None), None)
        assert found.procfs == (
            f"process 2 in {procfs.directory} is sh, on the host it is kthreadd"
        )

    def test_no_procfs(self, settings: Settings) -> None:
        found = examination(settings, node(live=None), None)
        assert found.procfs == f"can't look at {settings.procfs}: No such file or directory"


def test_nri_is_asked_of_where_containerd_is(
    procfs: SimulatedProcfs, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "CONTAINERD", tmp_path / "containerd")
    monkeypatch.setattr(traces, "NRI", tmp_path / "nri.sock")
    assert examination(settings, on_gpu(), None).nri is None
    (tmp_path / "containerd").mkdir()
    assert examination(settings, on_gpu(), None).nri is False
    (tmp_path / "nri.sock").touch()
    assert examination(settings, on_gpu(), None).nri is True


def test_an_environment_without_gpus_is_told(
    procfs: SimulatedProcfs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "void")
    assert "NVIDIA_VISIBLE_DEVICES is 'void'" in examination(settings, on_gpu(), None).driver
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "all")
    assert not [text for text in examination(settings, on_gpu(), None).driver if "VISIBLE" in text]
