"""One simulated container: its directory, its region, and the processes in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Literal
from uuid import UUID

from vgpumonitor.region.launches import is_limit
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.simulate.loads import Demand, inference
from vgpumonitor.simulate.plan import MIB, ContainerPlan, Gpu, MigPart, PodPlan
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup

#: Seconds from the end of a worker to the start of the next one.
_RESPAWN = 6
#: Seconds from the death of a container's only process to its end, from there to its restart,
#: and from there to its next CUDA call.
_CRASH, _RESTART, _CALL = 20, 10, 4
#: Seconds for which a killed process may stay a zombie.
_REAPED = 45
#: Seconds by which a process that ran before the simulation began may be ahead in its load.
_OLDEST = 30
#: NVML counts in pages of this size.
_PAGE = 2 * MIB


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What kubelet says about a container; times are in Unix seconds. A waiting or restarted one
    ended earlier, at ``finished_at`` with ``exit_code``."""

    state: Literal["running", "waiting", "terminated"]
    container_id: str
    started_at: int
    restarts: int = 0
    finished_at: int | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class GpuUse:
    """The memory that a process has on a GPU (bytes, as NVML counts them) and its load (percent);
    ``mig`` is the part of the GPU that it sees."""

    gpu: Gpu
    hostpid: int
    memory: int
    sm: int
    mig: MigPart | None = None


@dataclass(slots=True)
class _Process:
    """``devices`` are the places of its GPUs in the region; on each it holds ``fixed`` bytes of
    context and module, and ``data`` bytes of data."""

    rank: int
    pid: int
    hostpid: int
    load: Iterator[Demand]
    hooked: bool
    devices: range
    fixed: int
    data: int = 0
    sm: int = 0
    known: bool = False
    waiting: Demand | None = None

    @property
    def nvml_memory(self) -> int:
        return -(-(self.fixed + self.data) // _PAGE) * _PAGE


class Host:
    """What the containers of a node share: its directories, and the next PID."""

    def __init__(self, containers_dir: Path, pod_logs_dir: Path, procfs: SimulatedProcfs) -> None:
        self.containers_dir = containers_dir
        self.pod_logs_dir = pod_logs_dir
        self.procfs = procfs
        self.pids = count(100_001)


class SimulatedContainer:
    """A container that is running at ``now`` (Unix seconds), or has ended if its plan says so.
    ``step`` is one second of its life. All randomness comes from ``random``."""

    def __init__(
        self, pod: PodPlan, plan: ContainerPlan, host: Host, random: Random, now: int
    ) -> None:
        self.pod = pod
        self.plan = plan
        self.directory = host.containers_dir / f"{pod.uid}_{plan.name}"
        self._host = host
        self._random = random
        self._region: RegionWriter | None = None
        self._processes: list[_Process] = []
        self._dead: set[int] = set()
        self._pids = count(7)
        self._tick = 0
        self._due: list[tuple[int, Callable[[int], None]]] = []
        before = now if plan.first_call else now - random.randrange(7200, 86400)
        self.state = ContainerState("running", self._new_id(), before)
        self._make_directory()
        if plan.finished:
            self._finish_at(now - random.randrange(1800, 3600))
        elif plan.first_call:
            self._later(plan.first_call, self._call)
        elif plan.load is not None:
            self._call(now - plan.quiet)
            for process in self._processes:
                process.load = islice(process.load, random.randrange(_OLDEST), None)

    def close(self) -> None:
        """Closes the region's file, which stays."""
        if self._region is not None:
            self._region.close()
            self._region = None

    def step(self, now: int) -> None:
        self._tick += 1
        due = [action for tick, action in self._due if tick <= self._tick]
        self._due = [(tick, action) for tick, action in self._due if tick > self._tick]
        for action in due:
            action(now)
        for process in list(self._processes):
            self._advance(process, now)
        if self._region is not None:
            self._region.watch()

    def uses(self) -> Iterator[GpuUse]:
        """What NVML sees of this container."""
        for process in self._processes:
            for device in process.devices:
                gpu = self.pod.gpus[device]
                yield GpuUse(gpu, process.hostpid, process.nvml_memory, process.sm, self.pod.mig)

    def take_turns(self, shares: Mapping[Gpu, float]) -> None:
        """Leaves each process the share of its wish that its GPUs can give."""
        for process in self._processes:
            share = min([shares.get(self.pod.gpus[device], 1.0) for device in process.devices])
            if share < 1:
                self._set_sm(process, int(process.sm * share))

    # The container.

    def _make_directory(self) -> None:
        if self.pod.isolated:
            self.directory.mkdir()
            self.directory.chmod(0o777)
            if self.pod.scheduler == "koordinator":
                (self.directory / "libvgpu.so").touch()
        pod = f"{self.pod.namespace}_{self.pod.name}_{self.pod.uid}"
        logs = self._host.pod_logs_dir / pod / self.plan.name
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{self.state.restarts}.log").touch()

    def _crash(self, now: int) -> None:
        for process in list(self._processes):
            self._end(process)
        self.state = replace(self.state, state="waiting", finished_at=now, exit_code=137)
        self._later(_RESTART, self._restart)

    def _restart(self, now: int) -> None:
        """Restarts as koordlet does: the old directory is removed, with the region in it."""
        self.close()
        self._dead.clear()
        if self.pod.isolated:
            shutil.rmtree(self.directory)
        self.state = replace(
            self.state,
            state="running",
            container_id=self._new_id(),
            started_at=now,
            restarts=self.state.restarts + 1,
        )
        self._make_directory()
        self._later(_CALL, self._call)

    def _finish_at(self, then: int) -> None:
        self._call(then)
        for process in list(self._processes):
            self._advance(process, then)
            self._exit(process)
        self.close()
        self.state = replace(self.state, state="terminated", finished_at=then)
        for path in (*self.directory.iterdir(), self.directory) if self.pod.isolated else ():
            os.utime(path, (then, then))

    def _later(self, seconds: int, action: Callable[[int], None]) -> None:
        self._due.append((self._tick + seconds, action))

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(256):064x}"

    # Its processes.

    def _call(self, now: int) -> None:
        """Makes the first CUDA call of each process, which creates the region."""
        if self.plan.hooked and self.pod.isolated:
            name = self.directory.name
            if self.pod.scheduler == "hami":
                name = str(UUID(int=self._random.getrandbits(128), version=4))
            self._region = RegionWriter(
                self.directory / f"{name}.cache",
                self.plan.layout,
                [
                    RegionDevice(uuid, self.pod.memory, self.pod.core)
                    for uuid in self.pod.device_uuids
                ],
                now,
                self.plan.priority,
            )
        for rank in range(self.plan.processes):
            self._spawn(rank, now)
        if self.plan.bypass:
            self._spawn(self.plan.processes, now, hooked=False)

    def _spawn(self, rank: int, _now: int, hooked: bool = True) -> None:
        assert self.plan.load is not None
        gpus, random = len(self.pod.gpus), self._random
        one_gpu_each = gpus > 1 and self.plan.processes > 1
        context = min(random.randrange(280, 340) * MIB, self._room // 8)
        module = min(random.randrange(8, 64) * MIB, self._room // 64)
        process = _Process(
            rank,
            next(self._pids),
            next(self._host.pids),
            (self.plan.load if hooked else inference)(Random(random.getrandbits(64))),
            hooked,
            range(rank % gpus, rank % gpus + 1) if one_gpu_each else range(gpus),
            context + module,
        )
        self._host.procfs.add(
            process.hostpid,
            "python3",
            pod_cgroup(self.pod.uid, self.state.container_id),
            (process.pid,),
        )
        self._processes.append(process)
        region = self._region_of(process)
        if region is not None:
            region.register(process.pid)
            region.clear(self._dead)
            self._dead.clear()
            for device in process.devices:
                region.allocate(process.pid, device, "context", context)
                region.allocate(process.pid, device, "module", module)

    def _region_of(self, process: _Process) -> RegionWriter | None:
        """None for a process that HAMi-core doesn't see."""
        return self._region if process.hooked else None

    def _measured(self, process: _Process) -> bool:
        """Whether HAMi-core's watcher writes what the driver says of the process: it needs a
        core limit, and the host PID."""
        return is_limit(self.pod.core) and process.known and self.plan.host_pid != "never"

    @property
    def _room(self) -> int:
        """Bytes on a GPU for each process."""
        return self.pod.memory // self._per_gpu

    @property
    def _per_gpu(self) -> int:
        return max(1, self.plan.processes // len(self.pod.gpus))

    def _advance(self, process: _Process, now: int) -> None:
        region = self._region_of(process)
        if region is not None and not process.known:
            if self.plan.host_pid != "never":
                found = process.hostpid if self.plan.host_pid == "found" else process.pid
                region.set_hostpid(process.pid, found)
            process.known = True
        demand = process.waiting or next(process.load, None)
        process.waiting = None
        if demand is None:
            self._exit(process)
            self._later(_RESPAWN, partial(self._spawn, process.rank, hooked=process.hooked))
            return
        if demand.killed:
            self._kill(process)
            return
        launch = region.launch(process.pid, now) if region is not None and demand.sm else "free"
        if launch == "waits":
            process.waiting = demand
            self._set_sm(process, 0)
            return
        self._resize(process, demand.memory)
        whole = self.pod.core if launch == "limited" else 100
        self._set_sm(process, round(demand.sm * whole / 100 / self._per_gpu))

    def _resize(self, process: _Process, share: float) -> None:
        """Allocates or frees memory in up to three pieces, as a caching allocator does."""
        wanted = int((self._room - process.fixed) * share)
        difference = wanted - process.data
        process.data = wanted
        region = self._region_of(process)
        if region is None or difference == 0:
            return
        change = region.allocate if difference > 0 else region.free
        pieces = 3 if abs(difference) > _PAGE else 1
        size, rest = divmod(abs(difference), pieces)
        for device in process.devices:
            for piece in range(pieces):
                change(process.pid, device, "data", size + (rest if piece == 0 else 0))
            if self._measured(process):
                region.set_monitor_used(process.pid, device, process.nvml_memory)

    def _set_sm(self, process: _Process, sm: int) -> None:
        process.sm = sm
        region = self._region_of(process)
        if region is not None and self._measured(process):
            for device in process.devices:
                region.set_utilization(process.pid, device, sm)

    def _exit(self, process: _Process) -> None:
        region = self._region_of(process)
        if region is not None:
            region.exit(process.pid)
        self._end(process)

    def _kill(self, process: _Process) -> None:
        if self.plan.zombies:
            # HAMi-core takes a zombie for alive, and leaves its slot.
            self._processes.remove(process)
            self._host.procfs.become_zombie(process.hostpid, (process.pid,))
            self._later(_REAPED, partial(self._reap, process))
        else:
            self._end(process)
            self._dead.add(process.pid)
        if self.plan.processes == 1:
            self._later(_CRASH, self._crash)
        else:
            self._later(_RESPAWN, partial(self._spawn, process.rank))

    def _reap(self, process: _Process, _now: int) -> None:
        self._host.procfs.remove(process.hostpid)
        self._dead.add(process.pid)

    def _end(self, process: _Process) -> None:
        self._processes.remove(process)
        self._host.procfs.remove(process.hostpid)
