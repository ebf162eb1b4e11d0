"""What ``doctor`` looks at besides the sources: files, mounts, other programs.

Whatever can't be looked at, for want of rights or since a pod does not show it, is unknown and no
finding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from vgpumonitor.diagnosis import Examination, ExporterFound, Library
from vgpumonitor.diagnosis.examination import GATES
from vgpumonitor.settings import Settings
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import parts_of
from vgpumonitor.sources.processes import container_of

LIBRARY = "libvgpu.so"
#: Where all containers have it, and most nodes.
USUAL = Path("/usr/local/vgpu")
#: Where containerd offers NRI, and where it is itself.
NRI, CONTAINERD = Path("/var/run/nri/nri.sock"), Path("/run/containerd")

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
#: Where Docker and Podman have containers of their own, which are not Kubernetes' to know.
_OTHER_ENGINE = re.compile(r"/(?:docker|libpod)[-/][0-9a-f]{64}(?:\.scope)?(?:/container)?$")
_HIDEPID = re.compile(r"\bhidepid=(\w+)")
#: Bytes of a file of /proc that are read.
_MOST = 1 << 20


def examination(
    settings: Settings, snapshot: NodeSnapshot, exporter: ExporterFound | None
) -> Examination:
    """Looks. Nothing is written, and no failure is an error."""
    visible = snapshot.health.host_processes_visible
    programs = _programs(settings.procfs) if visible else {}
    on_devices = sorted(
        {process.pid for part in parts_of(snapshot.devices) for process in part.processes or ()}
    )
    return Examination(
        hook_path=str(settings.hook_path),
        libraries=libraries(settings.hook_path, settings.containers),
        loaded=dict(_loaded(settings.procfs, on_devices)) if visible else {},
        koordlet=_gates(settings.procfs, programs.get("koordlet", ())),
        nri=_nri(),
        programs=programs,
        cgroups=dict(_strange_cgroups(settings.procfs, on_devices)) if visible else {},
        driver=tuple(_driver()),
        procfs=_why_hidden(settings.procfs),
        read_only=_read_only(settings.containers),
        exporter=exporter,
    )


def libraries(hook_path: Path, containers: Path) -> tuple[Library, ...] | None:
    """The ``libvgpu.so…`` in the hook path, or where Volcano's device plugin has them: above it, or
    in the usual one. None where the hook path can't be read, as in a pod that mounts only the
    containers directory below it."""
    if os.path.ismount(containers) and not os.path.ismount(hook_path):
        return None
    try:
        found = _files(hook_path)
    except OSError:
        return None
    for directory in (hook_path.parent, USUAL):
        with suppress(OSError):
            found = found or _files(directory)
    releases = {
        digest: path.name.removeprefix(f"{LIBRARY}.")
        for path, _, digest in found
        if path.name != LIBRARY
    }
    return tuple(
        Library(
            path.name if path.parent == hook_path else str(path), size, releases.get(digest, "")
        )
        for path, size, digest in found
    )


def _files(directory: Path) -> list[tuple[Path, int, str]]:
    """Each with its size and digest. Raises OSError."""
    paths = (directory / name for name in sorted(os.listdir(directory)) if name.startswith(LIBRARY))
    return [(path, path.stat().st_size, _digest(path)) for path in paths if path.is_file()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _programs(procfs: Path) -> Mapping[str, tuple[int, ...]]:
    """The PIDs of koordlet, vGPUmonitor and MPS, by name."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    try:
        pids = sorted(int(name) for name in os.listdir(procfs) if name.isdecimal())
    except OSError:
        return {}
    for pid in pids:
        name = _read(procfs / str(pid) / "comm").strip()
        # The kernel cuts names at 15 bytes.
        if name in ("koordlet", "vGPUmonitor") or name.startswith("nvidia-cuda-mps"):
            found[name].append(pid)
    return {name: tuple(pids) for name, pids in found.items()}


def _gates(procfs: Path, pids: Iterable[int]) -> Mapping[str, bool] | None:
    """The feature gates on the command line of the first koordlet."""
    for pid in pids:
        arguments = _read(procfs / str(pid) / "cmdline").split("\0")
        return feature_gates(arguments)
    return None


def feature_gates(arguments: Iterable[str]) -> dict[str, bool]:
    """What the flag ``feature-gates`` says, in all its forms; later ones add to it."""
    gates: dict[str, bool] = {}
    waiting = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if waiting:
            value = argument
        elif name.lstrip("-") != "feature-gates" or not name.startswith("-"):
            continue
        elif not equals:
            waiting = True
            continue
        waiting = False
        for gate in value.split(","):
            key, _, on = gate.partition("=")
            gates[key.strip()] = on.strip().lower() in ("true", "1", "t")
    if gates.get("AllAlpha"):
        gates = {**dict.fromkeys(GATES, True), **gates}
    return gates


def _loaded(procfs: Path, pids: Iterable[int]) -> Iterator[tuple[int, str]]:
    for pid in pids:
        try:
            maps = (procfs / str(pid) / "maps").read_text(errors="replace")
        except OSError:
            continue  # It ended, or is another user's.
        paths = [line.split(None, 5)[5] for line in maps.splitlines() if LIBRARY in line]
        yield pid, paths[0] if paths else ""


def _nri() -> bool | None:
    """Whether containerd offers NRI; None where there is no containerd, or one may not look: root
    alone may enter the folder of its sockets."""
    try:
        return NRI.exists() if CONTAINERD.is_dir() else None
    except PermissionError:
        return None


def _strange_cgroups(procfs: Path, pids: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Of processes in no pod's, those that look like a container's."""
    for pid in pids:
        text = _read(procfs / str(pid) / "cgroup")
        if text and container_of(text) is None:
            paths = [line.split(":", 2)[-1] for line in text.splitlines()]
            strange = next((path for path in paths if _CONTAINER_ID.search(path)), None)
            if strange is None and set(paths) == {"/"}:
                strange = "/"
            if strange is not None and not _OTHER_ENGINE.search(strange):
                yield pid, strange


def _driver() -> Iterator[str]:
    """What keeps NVML from the driver, where something does."""
    devices = os.environ.get("NVIDIA_VISIBLE_DEVICES")
    if devices in ("", "void", "none"):
        yield f"NVIDIA_VISIBLE_DEVICES is {devices!r}"
    if not Path("/proc/driver/nvidia/version").exists():
        yield "the kernel module nvidia is not loaded"
    if not Path("/dev/nvidiactl").exists():
        yield "/dev/nvidiactl does not exist"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        yield "libnvidia-ml.so.1 can't be loaded"


def _why_hidden(procfs: Path) -> str:
    """Why the host's processes can't be seen there."""
    try:
        procfs.stat()
    except OSError as error:
        return f"can't look at {procfs}: {error.strerror}"
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        fields = line.split(" ")
        hidden = _HIDEPID.search(line)
        if len(fields) > 4 and fields[4] == str(procfs) and hidden:
            return f"{procfs} is mounted with hidepid={hidden[1]}"
    second = _read(procfs / "2" / "comm").strip()
    return f"process 2 in {procfs} is {second or 'not there'}, on the host it is kthreadd"


def _read_only(directory: Path) -> bool | None:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return None


def _read(path: Path) -> str:
    """Empty where it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""
