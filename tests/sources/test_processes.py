from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.polling import eventually
from testing.values import OTHER, UID
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup
from vgpumonitor.sources import processes as processes_module
from vgpumonitor.sources.processes import ContainerRef, HostProcess, HostProcesses, container_of

SLICE_UID = UID.replace("-", "_")
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

WITHOUT_ID = {
    "the pod's own": f"0::{SYSTEMD}\n",
    "a runtime that makes no cgroup for a container": f"0::/kubepods/burstable/pod{UID}\n",
    "a directory in the pod's that has another name": f"0::/kubepods/pod{UID}/kata_overhead\n",
    "an ID that is too short": f"0::/kubepods/burstable/pod{UID}/{ID[:-1]}\n",
    "an ID that is too long": f"0::/kubepods/burstable/pod{UID}/{ID}0\n",
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
    "a container of the same pod, seen from its cgroup namespace": f"0::/../{ID}\n",
    "a UID that is too short": f"0::/kubepods/burstable/pod{UID[:-1]}/{ID}\n",
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

    @pytest.mark.parametrize("cgroup", WITHOUT_ID.values(), ids=WITHOUT_ID)
    def test_in_a_pod_and_in_no_container_of_it(self, cgroup: str) -> None:
        assert container_of(cgroup) == ContainerRef(UID, "")

    @pytest.mark.parametrize("cgroup", IN_NO_POD.values(), ids=IN_NO_POD)
    def test_in_no_pod(self, cgroup: str) -> None:
        assert container_of(cgroup) is None


#: exit(2), of the calling thread alone: <asm/unistd.h> of x86-64, or the generic one.
_EXIT = 60 if os.uname().machine == "x86_64" else 93
CONTAINER = ContainerRef(UID, ID)
CGROUP = pod_cgroup(UID, ID)


@pytest.fixture
def procfs(tmp_path: Path) -> SimulatedProcfs:
    return SimulatedProcfs(tmp_path / "proc")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def processes(procfs: SimulatedProcfs, clock: Clock) -> HostProcesses:
    return HostProcesses(procfs.directory, clock)


class TestVisible:
    def test_on_the_host(self, processes: HostProcesses) -> None:
        assert processes.visible()

    @pytest.mark.parametrize("comm", ["sh\n", "", "kthreadd-not\n", "x" * 10_000])
    def test_in_another_pid_namespace(self, tmp_path: Path, comm: str) -> None:
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "comm").write_text(comm)
        assert not HostProcesses(tmp_path).visible()

    def test_without_a_process_2(self, tmp_path: Path) -> None:
        assert not HostProcesses(tmp_path).visible()


class TestLook:
    def test_at_those_that_were_asked_for(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        procfs.add(4712, "sshd", "/system.slice/sshd.service")
        procfs.add(4713, "python", CGROUP, (8,))
        assert processes.look([4711, 4712, 4711, 0, -1, 99]) == {
            4711: HostProcess(4711, 7, CONTAINER),
            4712: HostProcess(4712, 4712, None),
        }

    def test_the_innermost_of_several_namespaces(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (324, 7))
        assert processes.look([4711])[4711].inner_pid == 7

    def test_one_that_ended(self, procfs: SimulatedProcfs, processes: HostProcesses) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        assert 4711 in processes.look([4711])
        procfs.remove(4711)
        assert processes.look([4711]) == {}

    def test_a_pid_that_was_given_again(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,), started=100)
        assert processes.look([4711]) == {4711: HostProcess(4711, 7, CONTAINER)}
        procfs.remove(4711)
        procfs.add(4711, "nginx", pod_cgroup(OTHER, INNER), (1,), started=200)
        assert processes.look([4711]) == {4711: HostProcess(4711, 1, ContainerRef(OTHER, INNER))}

    def test_the_same_process_is_the_same_object(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        assert processes.look([4711])[4711] is processes.look([4711])[4711]

    def test_one_that_moved_into_its_container(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "runc", "/system.slice/containerd.service", (1,))
        assert processes.look([4711])[4711].container is None
        (procfs.directory / "4711" / "cgroup").write_text(f"0::{CGROUP}\n")
        assert processes.look([4711])[4711].container == CONTAINER

    def test_a_zombie_is_dead(self, procfs: SimulatedProcfs, processes: HostProcesses) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        assert 4711 in processes.look([4711])
        procfs.become_zombie(4711, (7,))
        assert processes.look([4711]) == {}

    def test_a_zombie_whose_threads_live_is_not(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,), state="Z", threads=2)
        assert processes.look([4711]) == {4711: HostProcess(4711, 7, CONTAINER)}

    @pytest.mark.parametrize("comm", ["a) Z 1 (b", "x y", ") ", "Z"])
    def test_a_command_that_is_named_to_deceive(
        self, procfs: SimulatedProcfs, processes: HostProcesses, comm: str
    ) -> None:
        procfs.add(4711, comm, CGROUP, (7,))
        assert processes.look([4711]) == {4711: HostProcess(4711, 7, CONTAINER)}

    @pytest.mark.parametrize("name", ["stat", "status"])
    @pytest.mark.parametrize("text", ["", "nonsense", "\0" * 5000, "7 (x) S"])
    def test_files_of_another_form(
        self, procfs: SimulatedProcfs, processes: HostProcesses, name: str, text: str
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        (procfs.directory / "4711" / name).write_text(text)
        assert processes.look([4711]) == {}

    def test_one_that_vanishes_between_two_reads(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        (procfs.directory / "4711" / "status").unlink()
        assert processes.look([4711]) == {}

    def test_one_whose_cgroup_can_not_be_read(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        (procfs.directory / "4711" / "cgroup").unlink()
        assert processes.look([4711]) == {4711: HostProcess(4711, 7, None)}

    def test_reads_no_more_of_a_file_than_a_cgroup_file_can_have(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", "/", (7,))
        with (procfs.directory / "4711" / "cgroup").open("w") as file:
            file.truncate(1 << 40)
            file.seek(0, os.SEEK_END)
            file.write(f"0::{CGROUP}\n")
        assert processes.look([4711])[4711].container is None


class TestLookOver:
    def test_all_that_are_in_pods(self, procfs: SimulatedProcfs, processes: HostProcesses) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        procfs.add(4712, "sshd", "/system.slice/sshd.service")
        (procfs.directory / "meminfo").write_text("")
        (procfs.directory / "self").symlink_to("4711")
        assert processes.look_over("need") == ([HostProcess(4711, 7, CONTAINER)], True)

    def test_the_same_need_waits(
        self, procfs: SimulatedProcfs, processes: HostProcesses, clock: Clock
    ) -> None:
        assert processes.look_over("need") == ([], True)
        procfs.add(4711, "python", CGROUP, (7,))
        assert processes.look_over("need") == ([], True)
        clock.now += 5
        assert processes.look_over("need") == ([HostProcess(4711, 7, CONTAINER)], True)

    def test_longer_each_time_up_to_a_minute(
        self, procfs: SimulatedProcfs, processes: HostProcesses, clock: Clock
    ) -> None:
        pauses = []
        for number in range(6):
            processes.look_over("need")
            procfs.add(5000 + number, "python", CGROUP, (7,))
            began = clock.now
            while len(processes.look_over("need")[0]) <= number:
                clock.now += 1
            pauses.append(clock.now - began)
        assert pauses == [5, 10, 20, 40, 60, 60]

    def test_another_need_does_not_wait(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        assert processes.look_over("need") == ([], True)
        procfs.add(4711, "python", CGROUP, (7,))
        assert processes.look_over("another") == ([HostProcess(4711, 7, CONTAINER)], True)

    def test_only_those_that_are_wanted(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        procfs.add(4712, "python", CGROUP, (8,))
        for wanted, expected in (({7}, [4711]), ({8}, [4712]), ({9}, []), ({7, 8}, [4711, 4712])):
            # The look is over before the next set.
            found, complete = processes.look_over(
                "need",
                lambda process: process.inner_pid in wanted,  # noqa: B023
            )
            assert ([each.pid for each in found], complete) == (expected, True)

    def test_one_that_got_the_pid_of_one_that_was_not_wanted(
        self, procfs: SimulatedProcfs, processes: HostProcesses, clock: Clock
    ) -> None:
        def look() -> list[int]:
            found, _ = processes.look_over("need", lambda process: process.inner_pid == 9)
            return [each.pid for each in found]

        procfs.add(4711, "python", CGROUP, (7,))
        assert look() == []
        procfs.add(4712, "python", CGROUP, (9,))
        procfs.remove(4711)
        (procfs.directory / "4712").rename(procfs.directory / "4711")
        clock.now += processes_module.FIRST_PAUSE
        assert look() == [4711]

    def test_one_that_ended_since(self, procfs: SimulatedProcfs, processes: HostProcesses) -> None:
        procfs.add(4711, "python", CGROUP, (7,))
        processes.look_over("need")
        procfs.remove(4711)
        assert processes.look_over("need") == ([], True)

    def test_one_that_moved_into_its_container_since(
        self, procfs: SimulatedProcfs, processes: HostProcesses
    ) -> None:
        procfs.add(4711, "runc", "/system.slice/containerd.service", (1,))
        assert processes.look_over("need") == ([], True)
        (procfs.directory / "4711" / "cgroup").write_text(f"0::{CGROUP}\n")
        assert processes.look_over("again") == ([HostProcess(4711, 1, CONTAINER)], True)

    def test_is_bounded(
        self,
        procfs: SimulatedProcfs,
        processes: HostProcesses,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(processes_module, "MAX_READ", 10)
        for pid in range(1000, 1020):
            procfs.add(pid, "python", CGROUP, (pid - 990,))
        seen = []
        for _ in range(4):
            some, complete = processes.look_over("need")
            seen.append((len(some) > 0, complete))
            clock.now += 60
        assert seen[0] == (True, False)
        assert seen[-1] == (True, True)
        assert len(processes.look_over("need")[0]) == 20

    def test_of_no_directory_nothing_is_known(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        processes = HostProcesses(tmp_path / "proc")
        assert processes.look_over(1) == ([], False)
        assert processes.look_over(2) == ([], False)
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (logging.WARNING, "host processes can't be listed")
        ]


class TestRealProcesses:
    @pytest.fixture
    def child(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        yield process
        process.kill()
        process.wait()

    def test_lives_dies_and_is_reaped(self, child: subprocess.Popen[bytes]) -> None:
        processes = HostProcesses("/proc")
        found = processes.look([child.pid])[child.pid]
        assert (found.pid, found.container) == (child.pid, None)
        child.kill()
        # A zombie: its parent has not waited for it.
        eventually(lambda: processes.look([child.pid]) == {})
        assert Path(f"/proc/{child.pid}").exists()

    def test_a_leader_that_ended_before_its_threads(self) -> None:
        code = (
            "import ctypes, threading, time\n"
            "threading.Thread(target=time.sleep, args=(60,)).start()\n"
            "print('started', flush=True)\n"
            f"ctypes.CDLL(None).syscall({_EXIT}, 0)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            stat = Path(f"/proc/{process.pid}/stat")
            eventually(lambda: stat.read_text().rpartition(") ")[2][0] == "Z")
            assert process.pid in HostProcesses("/proc").look([process.pid])
            process.kill()
