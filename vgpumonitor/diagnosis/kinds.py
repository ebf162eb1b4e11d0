"""Everything that can be wrong with a node, in words: a closed set of kinds.

``docs/troubleshooting.md`` is generated from it, a section per kind, whose anchor is its ``id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "info"]

#: From the worst on.
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")

#: The document that explains them.
DOCUMENT = "docs/troubleshooting.md"


@dataclass(frozen=True, slots=True)
class Kind:
    """``id`` is a label value of ``vgpumonitor_findings``. ``title`` says what is wrong, ``why``
    what that means, ``mend`` what to do. ``alert`` is the alert that tells the same, where there
    is one. ``doctor`` says that only the command ``doctor`` can see it."""

    id: str
    severity: Severity
    title: str
    why: str
    mend: str
    alert: str = ""
    doctor: bool = False

    @property
    def document(self) -> str:
        """Where it is explained."""
        return f"{DOCUMENT}#{self.id}"


CONTAINERS_MISSING = Kind(
    "containers-directory-missing",
    "critical",
    "The containers directory does not exist",
    "HAMi-core's region files are in `<hook path>/containers`, in a directory for each container. "
    "Without it, HAMi-core's figures are missing for all containers of the node.",
    "If the region files are elsewhere, set `--hook-path` (or `--containers-dir`): the table in "
    "docs/schedulers.md has the path of each scheduler. In a pod, mount the directory at that "
    "path. On a Koordinator node, koordlet makes it with the first container after it got the "
    "feature gate `HamiCoreVGPUMonitor=true`.",
    alert="VgpuMonitorDirectoryMissing",
)
CONTAINERS_UNREADABLE = Kind(
    "containers-directory-unreadable",
    "critical",
    "The containers directory can't be read",
    "It is there, but the exporter may not list it, or its disk does not answer. HAMi-core's "
    "figures are missing for all containers of the node.",
    "Give the exporter's user the right to read and enter the directory (mode 0755 on it and on "
    "each directory above it). If its disk does not answer, look for that in the kernel's log.",
    alert="VgpuMonitorDirectoryMissing",
)
CONTAINERS_STALE = Kind(
    "containers-directory-stale",
    "critical",
    "The containers directory was removed under the exporter's mount",
    "Somebody removed the directory on the node, and perhaps made it again. The mount in the "
    "exporter's pod still shows the removed one, which stays empty.",
    "Restart the exporter's pod: only a new mount shows the new directory. `/healthz` answers 503 "
    "after a minute, so that kubelet restarts it where the chart's liveness probe is used.",
    alert="VgpuMonitorDirectoryMissing",
)
REGION_UNREADABLE = Kind(
    "region-unreadable",
    "warning",
    "A region file can't be read",
    "The file in the container's directory is not a region file, is cut off, or may not be "
    "opened. HAMi-core's figures for the container are missing; the driver's are there.",
    "`vgpumonitor inspect` on the container's directory says what is wrong with each file. A "
    "restart of the container makes a new one. Where the reason is `Permission denied`, run the "
    "exporter as a user that may read the file.",
    alert="VgpuMonitorRegionsUnreadable",
)
REGION_LAYOUT_UNKNOWN = Kind(
    "region-layout-unknown",
    "warning",
    "A region file has a layout that this exporter does not know",
    "Each release line of HAMi-core writes its own layout. A file of another size or version is "
    "not guessed at: HAMi-core's figures for the container are missing.",
    "Upgrade vgpumonitor, or use one of the HAMi-core releases that docs/metrics.md names.",
    alert="VgpuMonitorRegionsUnreadable",
)
REGION_INVALID = Kind(
    "region-invalid",
    "warning",
    "A region file has contents that can't be true",
    "A container can write anything into its region, and HAMi-core's own counts sometimes wrap "
    "below zero. Only the figures that can't be true are left out.",
    "A UUID that is not written yet appears within seconds. Otherwise restart the container; "
    "`vgpumonitor inspect` shows what is in the file. HAMi-core 2.8.1 and later account under a "
    "lock, so that their counts don't wrap.",
    alert="VgpuMonitorRegionsMalformed",
)
PODS_UNREADABLE = Kind(
    "pods-unreadable",
    "warning",
    "The pods can't be read",
    "The source of pods (`--pods`) does not answer or is not readable. New containers are named by "
    "their pod's UID and have no allocation, containers that ended keep their series, and clean-up "
    "pauses.",
    "Look at the reason: the API server has to be reachable from the exporter's pod, a file or "
    "kubelet's log directory has to exist.",
    alert="VgpuMonitorPodSourceStale",
)
PODS_REFUSED = Kind(
    "pods-refused",
    "critical",
    "The API server refuses to list pods",
    "The exporter's account lacks rights, or its credentials are not accepted. Containers are "
    "named by their pod's UID and have no allocation.",
    "The ServiceAccount needs `list` and `watch` on pods in all namespaces: a ClusterRole and a "
    "ClusterRoleBinding, as the chart has them. Try it with `kubectl auth can-i list pods -A "
    "--as system:serviceaccount:NAMESPACE:ACCOUNT`.",
    alert="VgpuMonitorPodSourceStale",
)
PODS_OF_ANOTHER_NODE = Kind(
    "pods-of-another-node",
    "critical",
    "No pod of this node is listed",
    "Every node of a cluster runs pods, if only the exporter's own. An empty list is therefore "
    "the list of another name. Containers are named by their pod's UID, have no allocation, and "
    "are never cleaned up.",
    "Set `--node-name` (environment variable `NODE_NAME`) to the node's name in Kubernetes, which "
    "may differ from the host's: in a pod, from the field `spec.nodeName`.",
)
PODS_SOURCE_NONE = Kind(
    "pods-source-none",
    "info",
    "No source of pods is used",
    "Containers are named by their pod's UID; there are no allocations, and nothing is cleaned up.",
    "Choose a source with `--pods`: `kubernetes` in a cluster, `pod-logs` on a node without access "
    "to the API, or `file:PATH`.",
)
ANNOTATION_INVALID = Kind(
    "annotation-invalid",
    "warning",
    "An allocation on a pod can't be understood",
    "The annotation in which the scheduler notes what it allocated has a form that no known "
    "release writes. What the pod was allocated is unknown, or known in part.",
    "If a scheduler's new release writes it so, report it to vgpumonitor; if somebody wrote it by "
    'hand, remove it. The log line "invalid field of a pod ignored" has the same.',
    alert="VgpuMonitorAnnotationErrors",
)
KOORDINATOR_NO_DIRECTORIES = Kind(
    "koordinator-no-directories",
    "critical",
    "Koordinator allocated GPUs, and no container has a directory",
    "The scheduler allocated GPUs (so koordlet's gate `Accelerators` is on), and HAMi-core is to "
    "limit the pods; but koordlet mounts a directory of the node into their containers only with "
    "the feature gate `HamiCoreVGPUMonitor=true`, which is off by default and not in Koordinator's "
    "guide. Without `GPUEnvInject=true`, or without containerd 1.7 and NRI, it injects nothing at "
    "all, and no limit holds.",
    'Give koordlet the whole list of gates (docs/migration.md, "What Koordinator needs"): in its '
    "chart, `koordlet.features` replaces the default list, so that `Accelerators=true` has to be "
    "in it too. Then create the pods anew: koordlet injects only when a container is created.",
)
HAMI_NO_DIRECTORIES = Kind(
    "hami-no-directories",
    "critical",
    "HAMi or Volcano allocated GPUs, and no container has a directory",
    "Their device plugins make a directory for each container. If none is here, they make them "
    "elsewhere: under another hook path, or (Volcano) in `vgpu/containers` below it.",
    "Find them with `find / -xdev -path '*/containers/*_*/*.cache'` on the node, and set "
    "`--hook-path` (or `--containers-dir`) to that path: docs/schedulers.md. In a pod, mount it.",
)
NO_DIRECTORY = Kind(
    "container-without-directory",
    "warning",
    "A pod that HAMi-core is to limit has no directory",
    "Other pods of the node have one. This pod's containers were created before koordlet's gates "
    "were on or before HAMi's device plugin ran, or something keeps HAMi-core out of them. "
    "HAMi-core's figures for them are missing, and no limit holds.",
    "Create the pod anew. If it has none again, look at its containers' environment: `LD_PRELOAD` "
    "and `CUDA_DEVICE_MEMORY_SHARED_CACHE` have to be set.",
)
ISOLATION_NOT_REQUESTED = Kind(
    "isolation-not-requested",
    "info",
    "A pod has a part of a GPU, and nothing limits it to that",
    "Koordinator uses HAMi-core only for pods with the label "
    "`koordinator.sh/gpu-isolation-provider: HAMi-core`. This one has a part of a GPU but not the "
    "label: it has no region file, and can use the whole GPU.",
    "Add the label to the pod's template, and to the node, if its limits are to hold.",
)
NO_CUDA_CALL = Kind(
    "no-cuda-call",
    "info",
    "A container has a directory and no region file",
    "HAMi-core makes the file at the container's first CUDA call. There was none so far, so the "
    "container holds its share of the GPU and does not use it.",
    "Nothing, if the program starts its GPU work later. Otherwise ask its owner. (A program that "
    "is on the GPU nevertheless is reported as `hami-core-not-loaded`.)",
)
HAMI_CORE_NOT_LOADED = Kind(
    "hami-core-not-loaded",
    "warning",
    "A container uses a GPU without HAMi-core",
    "The driver reports processes of the container on a GPU, but there is no region file: "
    "HAMi-core is not in these processes, and no limit holds.",
    "Look at the container's environment: `LD_PRELOAD` must name `/usr/local/vgpu/libvgpu.so` (or "
    "`/etc/ld.so.preload` has it), and that file must be in the container and not empty. With "
    "HAMi, `CUDA_DISABLE_CONTROL=true` switches HAMi-core off for a container. A statically "
    "linked program, one that clears its environment, and a container with musl instead of glibc "
    "can't be limited.",
    alert="VgpuMemoryBypassed",
)
PROCESS_BYPASSES = Kind(
    "process-bypasses",
    "warning",
    "Processes that HAMi-core does not know of use a GPU",
    "They are in a container with a region file, on a GPU, and in no slot of the file: their "
    "memory counts towards no limit.",
    "Find out how they were started: with an emptied environment, statically linked, or by a "
    "container engine inside the container. `/etc/ld.so.preload` in the image also holds for "
    "processes that lose `LD_PRELOAD`.",
    alert="VgpuMemoryBypassed",
)
HOST_PROCESSES_HIDDEN = Kind(
    "host-processes-hidden",
    "warning",
    "The host's processes can't be seen",
    "`/proc` says which process of the host belongs to which container, but here it shows another "
    "PID namespace. HAMi-core's word is therefore all there is: the memory of killed processes "
    "counts as used, and the driver's account by container is missing.",
    "In a pod set `hostPID: true` (the chart's `daemon.vgpuMonitor.hostPID`), or mount the host's "
    "procfs and set `--procfs` to it. Mount options such as `hidepid=2` hide processes as well.",
)
HOST_PID_UNKNOWN = Kind(
    "host-pid-unknown",
    "warning",
    "HAMi-core does not know the host PID of a process: its core limit does not hold",
    "HAMi-core limits cores and measures utilization only for a process whose PID on the host it "
    "has found. With newer drivers it takes the PID in the container for it, and where two "
    "containers start together it takes the other one's. vGPUmonitor shows 0 % for such a "
    "container; vgpumonitor shows the driver's figure.",
    "Upgrade HAMi-core (HAMi 2.6.0 or later for drivers above 570) and create the pod anew. With "
    "`hostPID: true` in the workload's own pod HAMi-core finds the PID with any driver.",
)
PROCESS_OUTLIVES_POD = Kind(
    "process-outlives-pod",
    "warning",
    "A process lives on after its pod was deleted",
    "The pod is in no list any more, but a process of its container still holds the GPU: the pod "
    "was deleted by force, or the runtime lost the container. The scheduler gives the memory to "
    "the next pod, which then runs out of it.",
    "On the node, find the process (its PID is named) and why kubelet left it: `crictl ps -a`, "
    "the log of the runtime. End it.",
)
DEAD_PROCESS_MEMORY = Kind(
    "dead-process-memory",
    "warning",
    "A region still counts the memory of dead processes",
    "A process that was killed leaves its slot behind until another process of the container "
    "clears it. Until then HAMi-core counts its bytes towards the limit, so that allocations that "
    "would fit fail.",
    "Start a CUDA program in the container (`nvidia-smi` does), which clears the slots, or restart "
    "the container.",
    alert="VgpuDeadProcessMemory",
)
MEMORY_UNATTRIBUTED = Kind(
    "memory-unattributed",
    "info",
    "Processes in no container use a GPU",
    "They run on the host, in another container engine, or in a container whose cgroup can't be "
    "understood. The scheduler knows nothing of them.",
    "`nvidia-smi` on the node lists them. Keep them off GPUs that Kubernetes allocates.",
    alert="VgpuMemoryUnattributed",
)
CORE_LIMIT_LIFTED = Kind(
    "core-limit-lifted",
    "warning",
    "A core limit is lifted although several containers are at work",
    "A monitor lifted the limit while the container was alone on its GPU, and none restores it. "
    "With HAMi-core 2.8.1 and later, HAMi's own monitor never does (HAMi #1263, #1864): it no "
    "longer sees that others work. Or a monitor was stopped while limits were lifted.",
    "Run one monitor with feedback: `serve --feedback` here, with HAMi's stopped. It knows both "
    "orders of HAMi-core's launches, and restores the limits within two rounds.",
)
GPU_OVER_ALLOCATED = Kind(
    "gpu-over-allocated",
    "warning",
    "More of a GPU is allocated than it has",
    "The sum of what schedulers allocated on the GPU is above its memory, or above all of its "
    "cores: two schedulers give the same GPU away, or memory is oversubscribed on purpose (HAMi's "
    "`deviceMemoryScaling`).",
    "Let one scheduler have each GPU: Koordinator, HAMi and NVIDIA's device plugin don't know of "
    "each other. Where it is on purpose, switch the alert off.",
    alert="VgpuCardOvercommitted",
)
MEMORY_OVERSUBSCRIBED = Kind(
    "memory-oversubscribed",
    "info",
    "A container's memory limit is above its GPU's memory",
    "HAMi's `deviceMemoryScaling` makes such limits on purpose: what does not fit goes to the "
    "host's memory, which is slow. Usage in per cent of the limit says little then.",
    "Nothing, if it is on purpose. Otherwise set `deviceMemoryScaling` to 1.",
)
LAYOUTS_MIXED = Kind(
    "layouts-mixed",
    "info",
    "Containers on one GPU use different releases of HAMi-core",
    "A container keeps the libvgpu.so with which it was created. Releases up to 2.8.0 look at "
    "limit and priority in another order than releases since 2.8.1, so that HAMi's own monitor "
    "misjudges some of them; vgpumonitor's feedback knows both.",
    "Create the older pods anew when it suits you.",
)
DRIVER_TOO_NEW = Kind(
    "driver-too-new",
    "warning",
    "The driver is newer than a container's HAMi-core supports",
    "With drivers above 570, HAMi-core before HAMi 2.6.0 does not work: programs fail to start, or "
    "are not limited.",
    "Upgrade HAMi-core on the node (the chart's `daemon.hamiCore.image.tag` and "
    "`daemon.hamiCore.libvgpuSoVersion`) and create the pods anew.",
)
UTILIZATION_UNMEASURED = Kind(
    "utilization-unmeasured",
    "info",
    "HAMi-core does not measure a container's utilization",
    "Its watcher runs only where a core limit of 1 to 99 % is set. vGPUmonitor shows 0 % for such "
    "a container, however busy it is; here HAMi-core's figure has no series, and the driver's "
    "(`vgpu_nvml_core_utilization_ratio`) is shown instead.",
    "Nothing, where the driver's figure is there. To have HAMi-core's, ask for a core limit below "
    "100.",
)
NVML_DOWN = Kind(
    "nvml-down",
    "critical",
    "NVML does not answer",
    "The driver is not loaded, hangs, or can't be seen from here. The GPUs have no figures, and "
    "containers without a region file are invisible.",
    "On a node: `nvidia-smi` has to work. In a pod: the runtime class of NVIDIA's runtime and "
    "`NVIDIA_VISIBLE_DEVICES=all` (the chart's `daemon.runtimeClassName`); a toolkit with "
    "`accept-nvidia-visible-devices-envvar-when-unprivileged=false` gives an unprivileged "
    "container none. After an upgrade of the driver, restart the pod. `--nvml=off` where there is "
    "no driver.",
    alert="VgpuMonitorNvmlDown",
)
NVML_RELEASED = Kind(
    "nvml-released",
    "warning",
    "NVML is released: a change of MIG devices holds the lock file",
    "HAMi's dynamic MIG can change a GPU's partitions only while nobody holds the GPU open. The "
    "exporter releases it for as long as the lock file is there, and the GPUs have no figures.",
    "Nothing, for the seconds that a change takes. A file that stays was left by a device plugin "
    "that died: remove it. (`--mig-lock-file` names another one.)",
    alert="VgpuMonitorNvmlDown",
)
NO_GPU = Kind(
    "no-gpu",
    "warning",
    "The driver answers and shows no GPU",
    "The exporter's container was given none of the node's GPUs, or there is none.",
    "In a pod set `NVIDIA_VISIBLE_DEVICES=all`. On a node without GPUs, don't run the exporter.",
)
GPU_LOST = Kind(
    "gpu-lost",
    "critical",
    "A GPU is lost",
    "It was there since the exporter's start, and the driver does not answer for it any more. What "
    "runs on it fails.",
    "Look for XID errors (79: it has fallen off the bus) in the kernel's log. Drain the node and "
    "restart it; if the GPU is lost again, have it replaced.",
    alert="VgpuCardLost",
)
GPU_XID = Kind(
    "gpu-xid",
    "warning",
    "The driver reported errors (XID) of a GPU that needs a reset or a repair",
    "Errors that programs cause are not among them. The cause of these is the GPU, its memory, "
    "its power or its links, or the GPU works again only after a reset.",
    "Do what is named beside each error; drain the node first. The finding ends a day after the "
    "last error.",
    alert="VgpuCardXidHardware",
)
GPU_MEMORY_DAMAGED = Kind(
    "gpu-memory-damaged",
    "warning",
    "A GPU found damage in its memory, and needs a reset",
    "It sets damaged rows or pages aside at its next reset. Until then they are in use, and "
    "programs on the GPU may fail with ECC errors.",
    "Drain the node and reset the GPU (`nvidia-smi --gpu-reset`) or restart the node. Where the "
    "remapping failed, no spare rows are left: have the GPU replaced.",
    alert="VgpuCardRowRemapPending",
)
NVML_CALLS_FAIL = Kind(
    "nvml-calls-fail",
    "info",
    "Calls of NVML fail",
    "The driver answers as a whole, but not these calls. Only the figures that they give are "
    "missing.",
    "An `Unknown Error` that lasts points to a GPU that needs a reset: look for XID errors in the "
    "kernel's log. The exporter's log has the reason of each.",
    alert="VgpuMonitorNvmlErrors",
)
FEEDBACK_STOPPED = Kind(
    "feedback-stopped",
    "warning",
    "Feedback has stopped",
    "No round was complete for a minute: priorities and core limits stay as they are. The log line "
    '"feedback is paused" says why.',
    "Mend the cause: the containers directory has to be readable, and the disk has to answer "
    "within a round of five seconds.",
    alert="VgpuMonitorFeedbackStopped",
)
FEEDBACK_TWICE = Kind(
    "feedback-twice",
    "warning",
    "Another monitor writes the same control words",
    "Between two rounds of feedback a word changed to a value that HAMi-core does not write. Two "
    "monitors count each launch down twice, and undo each other's decisions: containers are "
    "blocked too early and limits lifted that should hold.",
    "Let one monitor give feedback: stop HAMi's vGPUmonitor on this node, or run this one without "
    "`--feedback` (the chart's `daemon.vgpuMonitor.feedback=false`).",
)
CLEANUP_STOPPED = Kind(
    "cleanup-stopped",
    "warning",
    "Clean-up has stopped",
    "No round could rely on the list of pods for five minutes: directories of pods that are gone "
    "accumulate.",
    'Mend the source of pods, or the containers directory. The log line "clean-up is paused" '
    "says which.",
    alert="VgpuMonitorCleanupStopped",
)
CLEANUP_TWICE = Kind(
    "cleanup-twice",
    "info",
    "Something else removes the directories of pods that are gone",
    "HAMi after 2.10 removes them in its device plugin (HAMi #3049), and HAMi's own monitor in "
    "all releases. Two that clean up do no harm, but the log and the counters of each then tell "
    "half the story.",
    "Leave `--gc` off on nodes with HAMi after 2.10 (the chart's `daemon.vgpuMonitor.gc=false`). "
    "Leave it on with Koordinator, which removes none.",
)
DIRECTORIES_LEFT = Kind(
    "directories-left",
    "info",
    "Nobody removes the directories of pods that are gone",
    "koordlet makes a directory for each container and removes none, and neither does HAMi up to "
    "2.10 without its monitor. They cost two megabytes each at most, and a look at each scrape.",
    "Switch on clean-up: `serve --gc` (the chart's `daemon.vgpuMonitor.gc=true`). Leave it off "
    "with HAMi after 2.10, which removes them itself.",
)
KOORDLET_GATES = Kind(
    "koordlet-gates",
    "warning",
    "koordlet runs without a feature gate that HAMi-core needs",
    "Without `Accelerators` the scheduler has no GPUs; without `GPUEnvInject` HAMi-core is in no "
    "container; without `HamiCoreVGPUMonitor` no region file reaches the node, and no monitor "
    "sees a container.",
    'Give koordlet the whole list of gates (docs/migration.md, "What Koordinator needs"): in its '
    "chart, `koordlet.features` replaces the default list. Then create the pods anew.",
    doctor=True,
)
LIBRARY_MISSING = Kind(
    "libvgpu-missing",
    "critical",
    "libvgpu.so is not in the hook path",
    "Each container that HAMi-core is to limit mounts it from there. Without it, containers fail "
    "to start or run without limits.",
    "On a Koordinator node the chart hami-daemon copies it (`daemon.hamiCore.enabled`), with HAMi "
    "its device plugin. An empty file or a directory in its place was made by a container engine "
    "that mounted it before it was there: remove it first.",
    doctor=True,
)
LIBRARY_REPLACED = Kind(
    "libvgpu-replaced",
    "info",
    "Processes use a libvgpu.so that was replaced since they started",
    "The file on the node has been replaced since. Running processes keep the one that they have "
    "mapped, as they should.",
    "Create the pods anew when they are to use the new release.",
    doctor=True,
)
MPS = Kind(
    "mps-beside-hami-core",
    "warning",
    "MPS runs on a node with HAMi-core",
    "With MPS the processes of several containers use the GPU through one server, past HAMi-core's "
    "account and limits.",
    "Share a GPU by one of the two: stop the MPS daemon, or keep HAMi-core's pods off this node.",
    doctor=True,
)
MONITORS_COMPETE = Kind(
    "monitors-compete",
    "warning",
    "HAMi's vGPUmonitor runs beside an exporter that writes",
    "Both give feedback and clean up. Two monitors count each launch down twice, and undo each "
    "other's decisions.",
    'Stop one, or run this one without `--feedback` and `--gc`: docs/migration.md, "Both side by '
    'side".',
    doctor=True,
)
MOUNT_READ_ONLY = Kind(
    "containers-read-only",
    "warning",
    "Feedback or clean-up is on, and the containers directory is mounted read-only",
    "Neither can write a word or remove a directory.",
    "In the chart, set `daemon.vgpuMonitor.feedback` and `daemon.vgpuMonitor.gc` instead of "
    "passing the flags by `extraArgs`: the mount follows them. With systemd, `ReadWritePaths=`.",
    doctor=True,
)
EXPORTER_SILENT = Kind(
    "exporter-silent",
    "info",
    "No exporter answers on this machine's port",
    "What only a running exporter knows (feedback, clean-up, errors since its start) is missing "
    "here. In a pod without the host's network it listens at the pod's address.",
    "`vgpumonitor doctor URL` asks it there, or run doctor in its pod: `kubectl exec POD -c "
    "vgpu-monitor -- vgpumonitor doctor`.",
    doctor=True,
)
PORT_TAKEN = Kind(
    "port-taken",
    "critical",
    "Another program has the exporter's port",
    "Something answers there that is not vgpumonitor. HAMi's vGPUmonitor has 9394 by default too.",
    "Stop it, or give this exporter another port: `--listen-address`.",
    doctor=True,
)
CGROUPS_NOT_UNDERSTOOD = Kind(
    "cgroups-not-understood",
    "warning",
    "The cgroup of a process on a GPU names no pod",
    "It looks like a container's, but not like one of kubelet's. What the process uses is counted "
    "for no container.",
    "If it is a pod's, report the cgroup's path to vgpumonitor. Where all paths are `/`, "
    "`--procfs` shows another cgroup namespace: give the exporter the host's.",
    doctor=True,
)

#: All of them, in the order in which they are told within a severity.
KINDS: tuple[Kind, ...] = (
    CONTAINERS_MISSING,
    CONTAINERS_UNREADABLE,
    CONTAINERS_STALE,
    KOORDINATOR_NO_DIRECTORIES,
    HAMI_NO_DIRECTORIES,
    NO_DIRECTORY,
    NO_CUDA_CALL,
    HAMI_CORE_NOT_LOADED,
    PROCESS_BYPASSES,
    ISOLATION_NOT_REQUESTED,
    REGION_UNREADABLE,
    REGION_LAYOUT_UNKNOWN,
    REGION_INVALID,
    NVML_DOWN,
    NVML_RELEASED,
    NO_GPU,
    GPU_LOST,
    GPU_XID,
    GPU_MEMORY_DAMAGED,
    NVML_CALLS_FAIL,
    PODS_REFUSED,
    PODS_OF_ANOTHER_NODE,
    PODS_UNREADABLE,
    PODS_SOURCE_NONE,
    ANNOTATION_INVALID,
    HOST_PROCESSES_HIDDEN,
    HOST_PID_UNKNOWN,
    UTILIZATION_UNMEASURED,
    CORE_LIMIT_LIFTED,
    DRIVER_TOO_NEW,
    LAYOUTS_MIXED,
    GPU_OVER_ALLOCATED,
    MEMORY_OVERSUBSCRIBED,
    DEAD_PROCESS_MEMORY,
    PROCESS_OUTLIVES_POD,
    MEMORY_UNATTRIBUTED,
    FEEDBACK_STOPPED,
    FEEDBACK_TWICE,
    CLEANUP_STOPPED,
    CLEANUP_TWICE,
    DIRECTORIES_LEFT,
    KOORDLET_GATES,
    LIBRARY_MISSING,
    LIBRARY_REPLACED,
    MPS,
    MONITORS_COMPETE,
    MOUNT_READ_ONLY,
    PORT_TAKEN,
    EXPORTER_SILENT,
    CGROUPS_NOT_UNDERSTOOD,
)
