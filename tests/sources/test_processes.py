from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup
from vgpumonitor.sources.processes import ContainerRef, HostProcesses, container_of

UID = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11"
SLICE_UID = UID.replace("-", "_")
OTHER = "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a7e22"
STATIC = "2f6ac2f4b3a3d7c0b0a65fbd2c7d9f10"
ID = "4fa6f1f4d6b2dfc4b2d2ba63ce6a2f0b7b6b6d0c9a9e6f0b0a64d0f5b8f7c1e2"
INNER = "c" * 64

BURSTABLE = f"kubepods-burstable-pod{SLICE_UID}.slice"
SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/{BURSTABLE}"


def v1(path: str) -> str:
    """A cgroup file of cgroup v1, as containerd's cgroupfs driver leaves it."""
    controllers = (
        "13:misc:",
        "12:pids:",
        "11:hugetlb:",
        "10:net_prio,net_cls:",
        "9:perf_event:",
        "8:freezer:",
        "7:devices:",
        "6:memory:",
        "5:blkio:",
        "4:cpuacct,cpu:",
        "3:cpuset:",
        "2:rdma:",
        "1:name=systemd:",
    )
    return "".join(f"{line}{path}\n" for line in controllers)


IN_A_POD = {
    "v2, systemd, containerd": f"0::{SYSTEMD}/cri-containerd-{ID}.scope\n",
    "v2, systemd, CRI-O": f"0::{SYSTEMD}/crio-{ID}.scope\n",
    "v2, systemd, CRI-O with crun": f"0::{SYSTEMD}/crio-{ID}.scope/container\n",
    "v2, systemd, cri-dockerd": f"0::{SYSTEMD}/docker-{ID}.scope\n",
    "v2, cgroupfs, containerd": f"0::/kubepods/burstable/pod{UID}/{ID}\n",
    "v2, cgroupfs, CRI-O": f"0::/kubepods/burstable/pod{UID}/crio-{ID}\n",
    "v1, systemd, containerd": v1(f"{SYSTEMD}/cri-containerd-{ID}.scope"),
    "v1, systemd, CRI-O": v1(f"{SYSTEMD}/crio-{ID}.scope"),
    "v1, systemd, cri-dockerd": v1(f"{SYSTEMD}/docker-{ID}.scope"),
    "v1, cgroupfs, containerd or Docker": v1(f"/kubepods/burstable/pod{UID}/{ID}"),
    "v1, besides hierarchies that are not used": "5:misc:/\n"
    f"4:memory:/kubepods/pod{UID}/{ID}\n0::/\n",
    "v1 and v2 together": f"1:name=systemd:/kubepods/pod{UID}/{ID}\n0::/system.slice\n",
    "best effort, systemd": f"0::/kubepods.slice/kubepods-besteffort.slice/"
    f"kubepods-besteffort-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope\n",
    "best effort, cgroupfs": f"0::/kubepods/besteffort/pod{UID}/{ID}\n",
    "guaranteed, systemd": f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/"
    f"cri-containerd-{ID}.scope\n",
    "guaranteed, cgroupfs": f"0::/kubepods/pod{UID}/{ID}\n",
    "kubelet's systemd and containerd's cgroupfs": v1(
        f"/system.slice/containerd.service/{BURSTABLE}:cri-containerd:{ID}"
    ),
    "kubelet with a cgroup root, as kind has it": "0::/kubelet.slice/kubelet-kubepods.slice/"
    "kubelet-kubepods-burstable.slice/"
    f"kubelet-{BURSTABLE}/cri-containerd-{ID}.scope\n",
    "a node in a Docker container": f"0::/docker/{INNER}/kubelet/kubepods/burstable/"
    f"pod{UID}/{ID}\n",
    "systemd in the container": f"0::{SYSTEMD}/cri-containerd-{ID}.scope/init.scope\n",
    "Docker in the container": f"0::/kubepods/burstable/pod{UID}/{ID}/docker/{INNER}\n",
    "Kubernetes in the container": f"0::{SYSTEMD}/cri-containerd-{ID}.scope/"
    f"kubepods/besteffort/pod{OTHER}/{INNER}\n",
    "seen from another pod's cgroup namespace, systemd": f"0::/../../{BURSTABLE}/"
    f"cri-containerd-{ID}.scope\n",
    "seen from another pod's cgroup namespace, cgroupfs": f"0::/../../pod{UID}/{ID}\n",
    "a cgroup that was removed": f"0::/kubepods/burstable/pod{UID}/{ID} (deleted)\n",
}

STATIC_PODS = {
    "systemd": f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/"
    f"cri-containerd-{ID}.scope\n",
    "cgroupfs": v1(f"/kubepods/burstable/pod{STATIC}/{ID}"),
}

IN_NO_POD = {
    "a service": "0::/system.slice/sshd.service\n",
    "a login": "0::/user.slice/user-1000.slice/session-3.scope\n",
    "init": "0::/init.scope\n",
    "a kernel thread": v1("/"),
    "Docker outside Kubernetes, systemd": f"0::/system.slice/docker-{ID}.scope\n",
    "Docker outside Kubernetes, cgroupfs": v1(f"/docker/{ID}"),
    "a pod of podman": f"0::/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{INNER}.scope\n",
    "containerd itself": "0::/system.slice/containerd.service\n",
    "kubelet itself": "0::/kubelet.slice/kubelet.service\n",
    "a pod without a container": f"0::{SYSTEMD}\n",
    "a container of the same pod, seen from its cgroup namespace": f"0::/../{ID}\n",
    "a UID that is too short": f"0::/kubepods/burstable/pod{UID[:-1]}/{ID}\n",
    "an ID that is too short": f"0::/kubepods/burstable/pod{UID}/{ID[:-1]}\n",
    "an ID that is too long": f"0::/kubepods/burstable/pod{UID}/{ID}0\n",
    "a directory that ends as a pod's": f"0::/kubepods/tripod{UID}/{ID}\n",
    "nothing": "",
    "nonsense": "\0\n::::\n",
}


class TestContainerOf:
    @pytest.mark.parametrize("cgroup", IN_A_POD.values(), ids=IN_A_POD)
    def test_in_a_pod(self, cgroup: str) -> None:
        assert container_of(cgroup) == ContainerRef(UID, ID)

    @pytest.mark.parametrize("cgroup", STATIC_PODS.values(), ids=STATIC_PODS)
    def test_in_a_static_pod(self, cgroup: str) -> None:
        assert container_of(cgroup) == ContainerRef(STATIC, ID)

    @pytest.mark.parametrize("cgroup", IN_NO_POD.values(), ids=IN_NO_POD)
    def test_in_no_pod(self, cgroup: str) -> None:
        assert container_of(cgroup) is None


class TestHostProcesses:
    def test_of_the_host(self, tmp_path: Path) -> None:
        procfs = SimulatedProcfs(tmp_path / "proc")
        procfs.add(4711, "python", pod_cgroup(UID, ID))
        procfs.add(4712, "sshd", "/system.slice/sshd.service")
        (procfs.directory / "meminfo").write_text("")
        (procfs.directory / "self").symlink_to("4711")
        processes = HostProcesses(procfs.directory)
        assert processes.visible()
        assert processes.live_pids() == frozenset({1, 2, 4711, 4712})
        assert processes.pod_of(4711) == ContainerRef(UID, ID)
        assert processes.pod_of(4712) is None
        assert processes.pod_of(4713) is None
        procfs.remove(4711)
        assert processes.live_pids() == frozenset({1, 2, 4712})
        assert processes.pod_of(4711) is None

    @pytest.mark.parametrize("comm", ["sh\n", "", "kthreadd-not\n", "x" * 10_000])
    def test_of_another_pid_namespace(self, tmp_path: Path, comm: str) -> None:
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "comm").write_text(comm)
        assert not HostProcesses(tmp_path).visible()

    def test_without_a_process_2(self, tmp_path: Path) -> None:
        assert not HostProcesses(tmp_path).visible()
        assert HostProcesses(tmp_path).live_pids() == frozenset()

    def test_of_no_directory_nobody_is_dead(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        processes = HostProcesses(tmp_path / "proc")
        assert not processes.visible()
        assert processes.live_pids() is None
        assert processes.live_pids() is None
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (
                logging.WARNING,
                f"can't list the host's processes in {tmp_path / 'proc'}: [Errno 2] "
                f"No such file or directory: '{tmp_path / 'proc'}'",
            )
        ]
        SimulatedProcfs(tmp_path / "proc")
        assert processes.live_pids() == frozenset({1, 2})

    def test_reads_no_more_of_a_file_than_a_cgroup_file_can_have(self, tmp_path: Path) -> None:
        (tmp_path / "7").mkdir()
        with (tmp_path / "7" / "cgroup").open("w") as file:
            file.truncate(1 << 40)
            file.seek(0, os.SEEK_END)
            file.write(f"0::/kubepods/pod{UID}/{ID}\n")
        assert HostProcesses(tmp_path).pod_of(7) is None

    def test_this_process_is_alive(self) -> None:
        live = HostProcesses("/proc").live_pids()
        assert live is not None
        assert os.getpid() in live
