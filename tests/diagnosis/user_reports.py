"""What users of the existing monitors report: the node of each report, and what doctor says of it.

``python -m tests.diagnosis.user_reports`` prints the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from msgspec import structs

from testing.values import (
    GIB,
    GPU,
    GPU_2,
    MIB,
    NOW,
    OTHER,
    UID,
    entry,
    gpu,
    pods_view,
    process,
    region,
    use,
)
from tests.diagnosis.nodes import busy, hami_pod, node, pod
from vgpumonitor.diagnosis import Examination, findings
from vgpumonitor.diagnosis.model import Finding
from vgpumonitor.region.model import GONE
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import DeviceHealth, DeviceProcess, MigDevice
from vgpumonitor.sources.pods import Allocation, MigAllocation
from vgpumonitor.sources.processes import ContainerRef

MIG = "MIG-8664316c-6888-5063-1e4d-f2a09cfbf1aa"
SOUND = region(process(use(data=GIB, sm=30)))
BUSY = (gpu(processes=(busy(100),)),)
HAMI = pods_view(hami_pod())


@dataclass(frozen=True)
class Report:
    """``reports`` are as people cite them, ``complaint`` is what they saw. ``finds`` are the ids
    of all that doctor finds on such a node; where that is nothing, ``instead`` says why: the
    figures are right here."""

    reports: str
    complaint: str
    node: Callable[[], NodeSnapshot]
    finds: tuple[str, ...] = ()
    instead: str = ""
    examination: Examination | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return findings(self.node(), self.examination)


REPORTS = (
    Report(
        "HAMi #1814, #1794",
        "container metrics missing for hours, until someone runs nvidia-smi in the container",
        lambda: node(entry(None, changed=NOW - 7200), pods=HAMI),
        ("no-cuda-call",),
    ),
    Report(
        "HAMi #281",
        "no series at all for a pod that holds a vGPU and never uses it",
        lambda: node(entry(None, changed=NOW - 86400), pods=HAMI),
        ("no-cuda-call",),
    ),
    Report(
        "HAMi #863",
        "three files in one directory, and both containers of the pod are hidden",
        lambda: node(
            entry(SOUND),
            entry(region(process(use(data=GIB, sm=10), hostpid=200, pid=8)), container="side"),
            pods=HAMI,
            gpus=[gpu(processes=(busy(100), busy(200)))],
            live=(100, 200),
        ),
        instead="other files are ignored, and both containers are shown",
    ),
    Report(
        "HAMi #128",
        "usage stays at its last value after the process was killed",
        lambda: node(entry(SOUND), pods=HAMI, live=()),
        ("dead-process-memory",),
    ),
    Report(
        "HAMi #555, #2281",
        "utilization above 100, memory above the GPU's size, from stale slots",
        lambda: node(
            entry(
                region(
                    process(use(data=GIB, sm=30)),
                    process(use(data=90 * GIB, sm=300), hostpid=101, pid=8, status=GONE),
                )
            ),
            pods=HAMI,
            gpus=BUSY,
        ),
        instead="slots that are no longer in use don't count",
    ),
    Report(
        "HAMi #1089, #1637",
        "one NVML call fails, and the scrape is empty",
        lambda: node(
            entry(SOUND),
            pods=HAMI,
            gpus=BUSY,
            devices=DeviceHealth(
                "NVML",
                True,
                {("nvmlDeviceGetPowerUsage", GPU): 40},
                failed_at={("nvmlDeviceGetPowerUsage", GPU): NOW - 15},
            ),
        ),
        ("nvml-calls-fail",),
    ),
    Report(
        "HAMi #1628",
        "byte counts as label values: a new series at every allocation",
        lambda: node(entry(SOUND), pods=HAMI, gpus=BUSY),
        instead="the set vgpu has none; --metrics=…,-memory-desc leaves the old family out",
    ),
    Report(
        "HAMi #849",
        "another hook path, and nothing is found",
        lambda: node(
            pods=HAMI,
            directory=ContainersView(
                error="can't look at the containers directory /usr/local/vgpu/containers: "
                "No such file or directory",
                loss="missing",
            ),
        ),
        ("containers-directory-missing", "hami-no-directories"),
    ),
    Report(
        "HAMi #1703, #2364",
        "a half-initialised UUID aborts the whole collection",
        lambda: node(
            entry(
                structs.replace(
                    region(process(use(data=GIB, sm=30), use()), uuids=(GPU, None)),
                    problems=(("bad_uuid", "the UUID of device 1 is b''"),),
                )
            ),
            pods=HAMI,
            gpus=BUSY,
        ),
        ("region-invalid",),
    ),
    Report(
        "HAMi 2.8 changelog",
        "monitor too slow in a big cluster",
        lambda: node(entry(SOUND), pods=HAMI, gpus=BUSY),
        instead="nothing is listed at a scrape (docs/performance.md)",
    ),
    Report(
        "volcano-vgpu-device-plugin #130",
        "series of completed pods go on",
        lambda: node(
            entry(SOUND, changed=NOW - 7200),
            pods=pods_view(replace(hami_pod(), phase="Succeeded")),
            live=(),
        ),
        instead="containers that finished have no series",
    ),
    Report(
        "Koordinator #2560, #2171",
        "the allocation is only in an annotation that nobody exports",
        lambda: node(),
        ("koordinator-no-directories", "koordlet-gates"),
        examination=Examination(
            "/usr/local/vgpu", koordlet={"Accelerators": True, "GPUEnvInject": True}
        ),
    ),
    Report(
        "dcgm-exporter #151, #307, #587, #725",
        "no per-container figures for a shared GPU",
        lambda: node(
            entry(SOUND),
            entry(region(process(use(data=GIB, sm=10), hostpid=200, pid=8)), OTHER),
            pods=pods_view(pod(), pod(OTHER, "train-1")),
            gpus=[gpu(processes=(busy(100), busy(200)))],
            live=(100, 200),
        ),
        instead="the driver's and HAMi-core's figures are there by container",
    ),
    Report(
        "KAI-Scheduler #1821",
        "the same wish for another scheduler that uses HAMi-core",
        lambda: node(
            entry(region(process(use(data=GIB)), sm_limit=0)),
            pods=pods_view(pod(limited=False, labels={})),
            gpus=BUSY,
        ),
        ("utilization-unmeasured",),
    ),
    Report(
        "koordlet recreates a container's directory at each restart",
        "vGPUmonitor shows the dead container's numbers for ever",
        lambda: node(entry(SOUND, changed=NOW - 5), gpus=BUSY),
        instead="the new file is read at once",
    ),
    Report(
        "HAMi #403, #583, #601, #1565, #1864, #2015, HAMi-core #32, "
        "volcano-vgpu-device-plugin #49, HAMi-WebUI #10",
        "utilization of a container is always 0 while the GPU is busy",
        lambda: node(
            entry(region(process(use(data=GIB)), sm_limit=0)),
            entry(region(process(use(data=GIB), hostpid=0, pid=8)), OTHER),
            pods=pods_view(hami_pod(), hami_pod(OTHER, "train-1")),
            gpus=[gpu(processes=(busy(100), busy(208)))],
            on_devices={208: ContainerRef(OTHER, "")},
        ),
        ("host-pid-unknown", "utilization-unmeasured"),
    ),
    Report(
        "HAMi-core #112, #15, HAMi #332",
        "with newer drivers the region has the container's PID as host PID",
        lambda: node(
            entry(region(process(use(data=GIB), hostpid=7, pid=7))),
            pods=HAMI,
            gpus=[gpu(driver_version="570.86", processes=(busy(307),))],
            on_devices={307: ContainerRef(UID, "")},
        ),
        ("host-pid-unknown",),
    ),
    Report(
        "HAMi #1263, #1864, HAMi-core #274",
        "core limit without effect since 2.8.1",
        lambda: node(
            entry(structs.replace(SOUND, layout="1.1-postinit", utilization_switch=0)),
            entry(
                structs.replace(
                    region(process(use(data=GIB, sm=60), hostpid=200, pid=8)),
                    layout="1.1-postinit",
                    utilization_switch=0,
                ),
                OTHER,
            ),
            pods=pods_view(hami_pod(), hami_pod(OTHER, "train-1")),
            gpus=[gpu(processes=(busy(100), busy(200)))],
            live=(100, 200),
        ),
        ("core-limit-lifted",),
    ),
    Report(
        "HAMi #1043, #1054, #1903",
        "MIG pods can't be told",
        lambda: node(
            pods=pods_view(
                replace(
                    hami_pod(),
                    limited=False,
                    mig_allocations=(MigAllocation("train", 0, GPU, MIG, "1g.10gb", 7, 0),),
                )
            ),
            gpus=[gpu(mig_devices=(MigDevice(MIG, "1g.10gb", 7, 0, 10 * GIB, 0, ()),))],
        ),
        instead="MIG pods need no directory: the annotation names their devices",
    ),
    Report(
        "HAMi #705, #2630",
        "memory oversubscribed: the limit is above the GPU",
        lambda: node(
            entry(region(process(use(data=GIB, sm=30)), limit=60 * GIB)),
            pods=pods_view(hami_pod(memory=60 * GIB)),
            gpus=BUSY,
        ),
        ("gpu-over-allocated", "memory-oversubscribed"),
    ),
    Report(
        "HAMi #1088, DCGM #276",
        "dynamic MIG fails while a monitor holds NVML",
        lambda: node(
            pods=pods_view(),
            gpus=(),
            devices=DeviceHealth("NVML", False, {}, lock_file="/tmp/hami/hami-mig-apply.lock"),
        ),
        ("nvml-released",),
    ),
    Report(
        "HAMi #1181, HAMi-core #200",
        "byte counts that wrapped below zero",
        lambda: node(
            entry(
                region(process(structs.replace(use(sm=30), total=2**64 - MIB, data=2**64 - MIB)))
            ),
            pods=HAMI,
            gpus=BUSY,
        ),
        ("region-invalid",),
    ),
    Report(
        "gpu-operator #322, nvidia-container-toolkit #1947",
        "NVIDIA's runtime refuses to start the monitor, or gives it no GPUs",
        lambda: node(
            pods=pods_view(),
            gpus=(),
            devices=DeviceHealth("NVML", False, {}, "NVML Shared Library Not Found"),
        ),
        ("nvml-down",),
        examination=Examination(
            "/usr/local/vgpu",
            driver=("NVIDIA_VISIBLE_DEVICES is 'void'", "/dev/nvidiactl does not exist"),
        ),
    ),
    Report(
        "dcgm-exporter #58, #127, #201, #594, #637; KAI #69, #1528",
        "per-container figures for whole GPUs, time-slicing, MPS",
        lambda: node(
            pods=pods_view(pod(UID, "whole", Allocation("", 3, 40 * GIB, 1.0), limited=False)),
            gpus=[gpu(processes=(busy(300, 30 * GIB),))],
            on_devices={300: ContainerRef(UID, "")},
        ),
        instead="the driver's figures are there by container, without a region",
    ),
    Report(
        "dcgm-exporter #190, #239, #309, #500, #620; HAMi #2717",
        "XID errors",
        lambda: replace(
            node(pods=pods_view(), gpus=[gpu().without_readings()]),
            xids=(DeviceXid(0, GPU, "", 79, 1, NOW - 60, ()),),
        ),
        ("gpu-lost", "gpu-xid"),
    ),
    Report(
        "dcgm-exporter #26, #99, #423, #515, #564; gpu-operator #2103",
        "whose workload is that pod; labels of pods",
        lambda: node(entry(SOUND), gpus=BUSY),
        instead="vgpu_pod_info has the workload, and labels with --pod-labels",
    ),
    Report(
        "Koordinator #2545",
        "the annotation names the GPU by id",
        lambda: node(
            entry(SOUND),
            pods=pods_view(pod(UID, "train-0", Allocation(GPU, 9, 20 * GIB, 0.5))),
            gpus=[*BUSY, gpu(GPU_2, 1, 9)],
        ),
        instead="the UUID counts, not the minor number",
    ),
    Report(
        "opencost #3828, #3900; HAMi #3073",
        "what a team's idle share costs",
        lambda: node(
            entry(structs.replace(SOUND, last_kernel_time=int(NOW) - 86400)),
            gpus=[gpu(processes=(DeviceProcess(100, GIB),))],
        ),
        instead="idle is not wrong: the dashboard rightsizing has its hours and cost",
    ),
)


def table() -> str:
    """In Markdown: report, complaint, and what doctor says, with what was seen."""
    lines = ["| report | what they saw | what doctor says |", "| --- | --- | --- |"]
    for report in REPORTS:
        says = [
            f"**{finding.kind.id}** ({finding.kind.severity}): {finding.kind.title}: "
            + "; ".join(
                f"{seen.subject}: {seen.text}" if seen.subject else seen.text
                for seen in finding.seen
            )
            for finding in report.findings
        ]
        lines.append(
            f"| {report.reports} | {report.complaint} | "
            f"{'<br>'.join(says) or f'nothing is wrong: {report.instead}'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
