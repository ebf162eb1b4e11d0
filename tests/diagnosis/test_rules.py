"""Each kind of finding: the smallest node that has it, what is said of it, and one that has not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
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
from tests.diagnosis.nodes import NVML, busy, hami_pod, node, pod
from vgpumonitor.controllers import CleanupHealth, FeedbackHealth
from vgpumonitor.diagnosis import KINDS, Finding, Seen, findings
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import Device, DeviceHealth, DeviceProcess, MigDevice
from vgpumonitor.sources.pods import Allocation, PodsView
from vgpumonitor.sources.processes import ContainerRef
from vgpumonitor.xids import xid_of

TRAIN = "team-a/train-0/train"
#: A region in order: a process that lives, is known to HAMi-core, and has a core limit.
SOUND = region(process(use(data=GIB, sm=30)))
SECOND = region(process(use(data=GIB, sm=30), hostpid=200, pid=8))
XID_79 = DeviceXid(0, GPU, "", 79, 1, NOW - 3600, ())
TWO = pods_view(pod(), pod(OTHER, "train-1"))
LIFTED = {"utilization_switch": 0}
WRONG = {UID: (("hami.io/x", "is not valid JSON"),)}


def failing(call: tuple[str, str], times: int, last: float) -> DeviceHealth:
    return DeviceHealth("NVML", True, {call: times}, failed_at={call: last})


def sharers(*regions: object, **health: object) -> NodeSnapshot:
    """Containers of several pods that work on one GPU."""
    first, second = regions
    return node(
        entry(first),  # type: ignore[arg-type]
        entry(second, OTHER),  # type: ignore[arg-type]
        pods=TWO,
        gpus=[gpu(processes=(busy(100), busy(200)))],
        live=(100, 200),
        **health,  # type: ignore[arg-type]
    )


#: By kind: a node that has it, what is seen there, and a node that has not, as near as can be.
CASES: dict[str, tuple[Callable[[], NodeSnapshot], list[Seen], Callable[[], NodeSnapshot]]] = {
    "containers-directory-missing": (
        lambda: node(directory=ContainersView(error="no /x", loss="missing"), pods=pods_view()),
        [Seen("", "no /x")],
        lambda: node(directory=ContainersView(up=True), pods=pods_view()),
    ),
    "containers-directory-unreadable": (
        lambda: node(directory=ContainersView(error="denied", loss="unreadable")),
        [Seen("", "denied")],
        lambda: node(directory=ContainersView(error="no /x", loss="missing")),
    ),
    "containers-directory-stale": (
        lambda: node(directory=ContainersView(error="removed", loss="removed")),
        [Seen("", "removed")],
        lambda: node(directory=ContainersView(error="no /x", loss="missing")),
    ),
    "koordinator-no-directories": (
        lambda: node(pods=TWO),
        [
            Seen("team-a/train-0", "runs, has no directory, and no process of it is on a GPU"),
            Seen("team-a/train-1", "runs, has no directory, and no process of it is on a GPU"),
        ],
        # The memory ratio is 100: HAMi-core has nothing to do.
        lambda: node(pods=pods_view(pod(limited=False))),
    ),
    "hami-no-directories": (
        lambda: node(pods=pods_view(hami_pod())),
        [Seen("team-a/train-0", "runs, has no directory, and no process of it is on a GPU")],
        lambda: node(entry(SOUND), pods=pods_view(hami_pod())),
    ),
    "container-without-directory": (
        lambda: node(entry(SOUND), pods=TWO),
        [Seen("team-a/train-1", "runs, has no directory, and no process of it is on a GPU")],
        lambda: node(entry(SOUND), pods=pods_view(pod(), pod(OTHER, "new", phase="Pending"))),
    ),
    "no-cuda-call": (
        lambda: node(entry(None, changed=NOW - 3600)),
        [Seen(TRAIN, "its directory was made or changed 1 h ago")],
        lambda: node(entry(None, changed=NOW - 60)),
    ),
    "hami-core-not-loaded": (
        lambda: node(
            entry(None),
            gpus=[gpu(processes=(busy(300),))],
            on_devices={300: ContainerRef(UID, "")},
        ),
        [Seen(TRAIN, f"1.00 GiB on GPU 0, and no region file in {UID}_train")],
        lambda: node(entry(None), gpus=[gpu(processes=(busy(300),))], on_devices={300: None}),
    ),
    "process-bypasses": (
        lambda: node(
            entry(SOUND),
            gpus=[gpu(processes=(busy(100), busy(300, 2 * GIB)))],
            on_devices={300: ContainerRef(UID, "")},
        ),
        [Seen(TRAIN, "2.00 GiB on GPU 0")],
        lambda: node(entry(SOUND), gpus=[gpu(processes=(busy(100),))]),
    ),
    "isolation-not-requested": (
        lambda: node(pods=pods_view(pod(limited=False, labels={}))),
        [Seen("team-a/train-0", "allocated 20.0 GiB of 40.0 GiB of GPU 0")],
        # A whole GPU needs no limit.
        lambda: node(
            pods=pods_view(
                pod(UID, "whole", Allocation("", 3, 40 * GIB, 1.0), limited=False, labels={})
            )
        ),
    ),
    "region-unreadable": (
        lambda: node(entry(None, error="it is a pipe, expected a regular file")),
        [Seen(TRAIN, f"it is a pipe, expected a regular file ({UID}_train)")],
        lambda: node(entry(None)),
    ),
    "region-layout-unknown": (
        lambda: node(structs.replace(entry(None, error="version 9.9"), reason="unknown_layout")),
        [Seen(TRAIN, f"version 9.9 ({UID}_train)")],
        lambda: node(entry(None, error="it is a pipe")),
    ),
    "region-invalid": (
        lambda: node(
            entry(
                structs.replace(
                    region(process(use(data=50 * GIB, sm=30))),
                    problems=(("bad_uuid", "the UUID is b''"),),
                    missing=1,
                )
            )
        ),
        [Seen(TRAIN, "the UUID is b''"), Seen(TRAIN, "process slots never seen whole: 1")],
        lambda: node(entry(SOUND)),
    ),
    "nvml-down": (
        lambda: node(devices=DeviceHealth("NVML", False, {}, "Driver Not Loaded"), gpus=()),
        [Seen("", "Driver Not Loaded")],
        lambda: node(devices=None, gpus=()),
    ),
    "nvml-released": (
        lambda: node(devices=DeviceHealth("NVML", False, {}, lock_file="/tmp/lock"), gpus=()),
        [Seen("", "the lock file is /tmp/lock")],
        lambda: node(devices=DeviceHealth("NVML", False, {}, "Driver Not Loaded"), gpus=()),
    ),
    "no-gpu": (
        lambda: node(gpus=()),
        [Seen("", "NVML counts 0 GPUs")],
        lambda: node(devices=DeviceHealth("NVML", False, {}), gpus=()),
    ),
    "gpu-lost": (
        lambda: node(gpus=[gpu(up=False)], pods=pods_view()),
        [Seen(f"GPU 0 ({GPU})", "the driver knew it and does not answer for it any more")],
        lambda: node(pods=pods_view()),
    ),
    "gpu-xid": (
        lambda: replace(node(pods=pods_view()), xids=(XID_79,)),
        [
            Seen(
                "GPU 0",
                f"XID 79 1 h ago: {xid_of(79).meaning}. {xid_of(79).action}",
            )
        ],
        # A program's error.
        lambda: replace(node(pods=pods_view()), xids=(structs.replace(XID_79, xid=31),)),
    ),
    "gpu-memory-damaged": (
        lambda: node(
            gpus=[gpu(row_remap_failed=True, row_remap_pending=True, page_retirement_pending=True)]
        ),
        [
            Seen(f"GPU 0 ({GPU})", "the remapping of a memory row failed"),
            Seen(f"GPU 0 ({GPU})", "the remapping of a memory row is pending"),
            Seen(f"GPU 0 ({GPU})", "the retirement of a memory page is pending"),
        ],
        lambda: node(gpus=[gpu(row_remap_failed=False, row_remap_pending=False)]),
    ),
    "nvml-calls-fail": (
        lambda: node(devices=failing(("nvmlDeviceGetPowerUsage", GPU), 4, NOW - 15)),
        [Seen(GPU, "nvmlDeviceGetPowerUsage failed 4 times (last: 15 s ago)")],
        # Of a GPU that was lost and is back.
        lambda: node(devices=failing(("nvmlDeviceGetPowerUsage", GPU), 400, NOW - 3600)),
    ),
    "pods-refused": (
        lambda: node(pods=PodsView(problem="403: forbidden", refused=True)),
        [Seen("", "file, never read: 403: forbidden")],
        lambda: node(pods=PodsView(problem="503: unavailable")),
    ),
    "pods-of-another-node": (
        lambda: node(pods=PodsView(up=True, synced=NOW, problem="no pod of node 'x' is listed")),
        [Seen("", "no pod of node 'x' is listed")],
        lambda: node(pods=PodsView(up=True, synced=NOW)),
    ),
    "pods-unreadable": (
        lambda: node(pods=PodsView(synced=NOW - 200, problem="connection refused")),
        [Seen("", "file, last read 3 min ago: connection refused")],
        lambda: node(pods=PodsView(up=True, synced=NOW - 200)),
    ),
    "pods-source-none": (
        lambda: node(pod_source="none"),
        [Seen("", "--pods=none, or nothing else was there")],
        lambda: node(pod_source="kubernetes"),
    ),
    "annotation-invalid": (
        lambda: node(pods=replace(pods_view(pod(phase="Pending")), invalid=WRONG)),
        [Seen("team-a/train-0", "hami.io/x: is not valid JSON")],
        # It was, of a pod that is over.
        lambda: node(
            pods=replace(
                pods_view(pod(phase="Succeeded")), invalid=WRONG, annotation_errors={"hami.io/x": 2}
            )
        ),
    ),
    "host-processes-hidden": (
        lambda: node(live=None),
        [Seen("", "the procfs shows another PID namespace than the host's")],
        lambda: node(),
    ),
    "host-pid-unknown": (
        lambda: node(
            entry(
                region(
                    process(use(data=GIB), hostpid=0, pid=7),
                    process(use(data=GIB), hostpid=8, pid=8),
                )
            ),
            gpus=[gpu(processes=(busy(307), busy(408)))],
            on_devices={307: ContainerRef(UID, ""), 408: ContainerRef(UID, "")},
        ),
        [Seen(TRAIN, "process 7: HAMi-core found none; process 8: HAMi-core has 8, it is 408")],
        lambda: node(entry(SOUND)),
    ),
    "utilization-unmeasured": (
        lambda: node(
            entry(region(process(use(data=GIB)), sm_limit=0)),
            gpus=[gpu(processes=(busy(100, core=60),))],
        ),
        [Seen(TRAIN, "no core limit on GPU 0; the driver says 60%")],
        # Idle, by the driver: 0 % is right.
        lambda: node(
            entry(region(process(use(data=GIB)), sm_limit=0)),
            gpus=[gpu(processes=(busy(100, core=0),))],
        ),
    ),
    "core-limit-lifted": (
        lambda: sharers(structs.replace(SOUND, **LIFTED), SECOND),
        [
            Seen(
                TRAIN,
                "limit 50% on GPU 0, where 2 containers are at work; HAMi-core of "
                "HAMi 2.8.2 on, 2.9",
            )
        ],
        # Feedback decides, from the next round on.
        lambda: sharers(
            structs.replace(SOUND, **LIFTED), SECOND, feedback=FeedbackHealth(5, {}, NOW - 2)
        ),
    ),
    "driver-too-new": (
        lambda: node(
            entry(region(process(use(data=GIB)), layout="0")),
            gpus=[gpu(driver_version="575.51.03")],
        ),
        [Seen(TRAIN, "driver 575.51.03, HAMi-core of HAMi up to 2.4")],
        lambda: node(entry(region(process(use(data=GIB)), layout="0"))),
    ),
    "layouts-mixed": (
        lambda: sharers(structs.replace(SOUND, layout="1.1"), SECOND),
        [Seen("GPU 0", "HAMi 2.5.0 to 2.8.0: 1; HAMi 2.8.2 on, 2.9: 1")],
        lambda: sharers(SOUND, SECOND),
    ),
    "gpu-over-allocated": (
        lambda: node(
            pods=pods_view(
                pod(UID, "a", Allocation("", 3, 30 * GIB, 0.6), limited=False),
                pod(OTHER, "b", Allocation(GPU, None, 20 * GIB, 0.5), limited=False),
            )
        ),
        [Seen("GPU 0", "50.0 GiB of 40.0 GiB of memory"), Seen("GPU 0", "110% of its cores")],
        lambda: node(pods=TWO),
    ),
    "memory-oversubscribed": (
        lambda: node(entry(region(process(use(data=GIB, sm=30)), limit=60 * GIB))),
        [Seen(TRAIN, "limit 60.0 GiB, GPU 0 has 40.0 GiB")],
        lambda: node(entry(SOUND)),
    ),
    "dead-process-memory": (
        lambda: node(entry(SOUND), live=()),
        [Seen(TRAIN, "1.00 GiB of dead processes")],
        lambda: node(entry(region(process(use(data=MIB)))), live=()),
    ),
    "process-outlives-pod": (
        lambda: node(entry(SOUND), pods=pods_view(pod(OTHER, "other", phase="Pending"))),
        [Seen(f"{UID}/train", "host PIDs: 100")],
        # The list is older than the directory: the pod may be new.
        lambda: node(
            entry(SOUND, changed=NOW), pods=pods_view(pod(OTHER, "other", phase="Pending"))
        ),
    ),
    "memory-unattributed": (
        lambda: node(
            gpus=[gpu(processes=(busy(900, 3 * GIB),))], on_devices={900: None}, pods=pods_view()
        ),
        [Seen("GPU 0", "3.00 GiB")],
        lambda: node(
            gpus=[gpu(processes=(busy(900, 500 * MIB),))],
            on_devices={900: None},
            pods=pods_view(),
        ),
    ),
    "feedback-stopped": (
        lambda: node(feedback=FeedbackHealth(5, {}, NOW - 180)),
        [Seen("", "the last round was 3 min ago")],
        lambda: node(feedback=FeedbackHealth(5, {}, NOW - 4)),
    ),
    "feedback-twice": (
        lambda: node(feedback=FeedbackHealth(5, {}, NOW - 2, others=7, last_other=NOW - 30)),
        [
            Seen(
                "",
                "words that neither feedback nor HAMi-core wrote: 7 since the start, the last "
                "30 s ago",
            )
        ],
        lambda: node(feedback=FeedbackHealth(5, {}, NOW - 2, others=7, last_other=NOW - 3600)),
    ),
    "cleanup-stopped": (
        lambda: node(cleanup=CleanupHealth(1, NOW - 600)),
        [Seen("", "the last round was 10 min ago")],
        lambda: node(cleanup=CleanupHealth(1, NOW - 20)),
    ),
    "cleanup-twice": (
        lambda: node(cleanup=CleanupHealth(1, NOW - 20, by_others=3, last_by_others=NOW - 3600)),
        [Seen("", "directories that something else removed: 3 since the start, the last 1 h ago")],
        lambda: node(cleanup=CleanupHealth(1, NOW - 20, by_others=3, last_by_others=NOW - 90_000)),
    ),
    "directories-left": (
        lambda: node(
            entry(None, OTHER, changed=NOW - 90_000), pods=pods_view(pod(phase="Pending"))
        ),
        [Seen("", "directories of pods that are gone: 1; the oldest changed 1 d ago")],
        # HAMi after 2.10 removes it in time.
        lambda: node(entry(None, OTHER, changed=NOW - 200), pods=pods_view(pod(phase="Pending"))),
    ),
}


def by_id(snapshot: NodeSnapshot) -> dict[str, Finding]:
    return {finding.kind.id: finding for finding in findings(snapshot)}


def test_every_kind_that_an_exporter_can_see_has_a_case() -> None:
    assert list(CASES) == [kind.id for kind in KINDS if not kind.doctor]


@pytest.mark.parametrize("kind", CASES)
def test_a_node_that_has_it(kind: str) -> None:
    has, seen, _ = CASES[kind]
    found = by_id(has())[kind]
    assert list(found.seen)[: len(seen)] == seen


@pytest.mark.parametrize("kind", CASES)
def test_a_node_that_has_not(kind: str) -> None:
    _, _, has_not = CASES[kind]
    assert kind not in by_id(has_not())


def test_a_node_in_order_has_nothing() -> None:
    assert findings(node(entry(SOUND), gpus=[gpu(processes=(busy(100),))])) == ()


def test_the_worst_comes_first() -> None:
    made = node(
        entry(None, changed=NOW - 3600),
        entry(None, OTHER, error="it is a pipe"),
        pods=TWO,
        devices=DeviceHealth("NVML", False, {}),
        gpus=(),
    )
    told = [(finding.kind.severity, finding.kind.id) for finding in findings(made)]
    assert told == [
        ("critical", "nvml-down"),
        ("warning", "region-unreadable"),
        ("info", "no-cuda-call"),
    ]


class TestGates:
    """Which of koordlet's gates is missing, from what is there and what is not."""

    GPUS = (gpu(), gpu(GPU_2, 1, 4))

    def told(self, on: int) -> str:
        gpus = [
            replace(each, processes=(busy(300),) if place == on else ())
            for place, each in enumerate(self.GPUS)
        ]
        made = node(gpus=gpus, on_devices={300: ContainerRef(UID, "")})
        return by_id(made)["koordinator-no-directories"].seen[0].text

    def test_processes_on_the_allocated_gpu(self) -> None:
        assert self.told(0) == (
            "has no directory, and processes on GPU 0, as allocated: koordlet's gate GPUEnvInject "
            "seems to be on, and HamiCoreVGPUMonitor is not"
        )

    def test_processes_on_another_gpu(self) -> None:
        assert self.told(1) == (
            "has no directory, and processes on GPU 1, allocated GPU 0: koordlet's gate "
            "GPUEnvInject is off, or NRI is"
        )

    def test_one_gpu_tells_nothing(self) -> None:
        made = node(gpus=[gpu(processes=(busy(300),))], on_devices={300: ContainerRef(UID, "")})
        found = by_id(made)["koordinator-no-directories"]
        assert found.seen == (Seen("team-a/train-0", "has no directory, and processes on GPU 0"),)

    def test_nothing_is_said_of_a_directory_that_cannot_be_read(self) -> None:
        made = node(directory=ContainersView(error="denied", loss="unreadable"))
        assert "koordinator-no-directories" not in by_id(made)

    def test_a_finished_pod_needs_no_directory(self) -> None:
        assert findings(node(pods=pods_view(pod(phase="Succeeded")))) == ()


class TestSharers:
    def test_one_that_is_alone_at_work_has_no_limit(self) -> None:
        made = node(
            entry(structs.replace(SOUND, **LIFTED)),
            entry(SECOND, OTHER),
            pods=TWO,
            gpus=[gpu(processes=(busy(100), busy(200, core=0)))],
            live=(100, 200),
        )
        assert "core-limit-lifted" not in by_id(made)

    def test_without_samples_the_last_kernel_tells_who_works(self) -> None:
        lifted = structs.replace(
            SOUND, **LIFTED, recent_kernel=0, last_kernel_time=int(NOW) - 10, layout="1.1-postinit"
        )
        other = structs.replace(SECOND, recent_kernel=0, last_kernel_time=int(NOW) - 10)
        made = node(entry(lifted), entry(other, OTHER), pods=TWO, live=(100, 200))
        assert by_id(made)["core-limit-lifted"].seen[0].subject == TRAIN
        quiet = structs.replace(other, last_kernel_time=int(NOW) - 300)
        made = node(entry(lifted), entry(quiet, OTHER), pods=TWO, live=(100, 200))
        assert "core-limit-lifted" not in by_id(made)

    def test_a_dry_run_decides_nothing(self) -> None:
        made = sharers(
            structs.replace(SOUND, **LIFTED),
            SECOND,
            feedback=FeedbackHealth(5, {}, NOW - 2, dry_run=True),
        )
        assert "core-limit-lifted" in by_id(made)


class TestMig:
    def test_a_limit_is_held_against_the_mig_device(self) -> None:
        mig = "MIG-8664316c-6888-5063-1e4d-f2a09cfbf1aa"
        part = MigDevice(mig, "1g.10gb", 7, 0, 10 * GIB, 0, ())
        made = node(
            entry(region(process(use(data=GIB)), uuids=(mig,), limit=12 * GIB)),
            gpus=[gpu(mig_devices=(part,))],
        )
        assert by_id(made)["memory-oversubscribed"].seen == (
            Seen(TRAIN, f"limit 12.0 GiB, GPU 0 ({mig}) has 10.0 GiB"),
        )


def test_a_figure_that_cannot_be_true_is_named() -> None:
    made = node(entry(region(process(use(data=50 * GIB, sm=30)))))
    assert by_id(made)["region-invalid"].seen == (
        Seen(TRAIN, "memory on GPU 0 is more than there can be"),
    )


def test_a_process_in_a_container_without_a_directory_beside_one_that_has_one() -> None:
    made = node(
        entry(SOUND),
        pods=pods_view(
            replace(pod(), containers={}, container_names=("train", "side")),
        ),
        gpus=[gpu(processes=(busy(100), DeviceProcess(300, 2 * GIB)))],
        on_devices={300: ContainerRef(UID, "")},
    )
    assert by_id(made)["hami-core-not-loaded"].seen == (
        Seen("team-a/train-0", "2.00 GiB on GPU 0, and no directory"),
    )


class TestKept:
    def test_the_answer_to_the_last_snapshot(self) -> None:
        made = node(pods=TWO)
        assert findings(made) is findings(made)
        other = node(entry(SOUND), gpus=[gpu(processes=(busy(100),))])
        assert findings(other) == ()
        assert [finding.kind.id for finding in findings(made)] == ["koordinator-no-directories"]

    def test_not_the_snapshot(self) -> None:
        made = node(pods=TWO, devices=NVML)
        findings(made)
        gone = weakref.ref(made)
        del made
        gc.collect()
        assert gone() is None

    def test_of_a_container_what_still_holds(self) -> None:
        """The same containers in one snapshot after the other, as scrapes have them."""
        made = node(
            entry(SOUND),
            entry(None, OTHER, "idle", changed=NOW - 500),
            pods=pods_view(pod(), pod(OTHER, "other")),
            gpus=[gpu(processes=(busy(100),))],
        )
        assert by_id(made) == {}
        # Time passes, and more time.
        for minutes in (10, 11):
            (finding,) = findings(replace(made, time=made.time + 60 * minutes))
            (seen,) = finding.seen
            assert (finding.kind.id, seen.subject) == ("no-cuda-call", "team-a/other/idle")
            assert seen.text.endswith(f"{minutes + 8} min ago")
        # The GPU is another than it was, and then as it was.
        small = replace(made, devices=(gpu(memory_total=5 * GIB, processes=(busy(100),)),))
        assert by_id(small)["memory-oversubscribed"].seen == (
            Seen(TRAIN, "limit 10.0 GiB, GPU 0 has 5.00 GiB"),
        )
        assert "memory-oversubscribed" not in by_id(made)

    def test_not_what_a_later_list_of_pods_says(self) -> None:
        pods = pods_view(pod(OTHER, "other", phase="Pending"))
        made = node(entry(SOUND, changed=NOW), pods=pods)
        assert by_id(made) == {}
        later = replace(made, health=replace(made.health, pods=replace(pods, synced=NOW + 5)))
        assert by_id(later)["process-outlives-pod"].seen == (
            Seen(f"{UID}/train", "host PIDs: 100"),
        )

    def test_containers_that_share_a_gpu_while_they_do(self) -> None:
        made = CASES["layouts-mixed"][0]()
        assert "layouts-mixed" in by_id(made)
        assert "layouts-mixed" in by_id(replace(made, time=made.time + 5))
        assert "layouts-mixed" not in by_id(replace(made, containers=made.containers[:1]))


@pytest.mark.parametrize(
    ("call", "times"),
    [
        # Once may pass.
        (("nvmlDeviceGetPowerUsage", GPU), 1),
        # Findings of their own tell these.
        (("nvmlInit", ""), 9),
        (("timeout", ""), 9),
    ],
)
def test_failures_that_say_nothing_of_a_call(call: tuple[str, str], times: int) -> None:
    assert findings(node(pods=pods_view(), devices=failing(call, times, NOW))) == ()


def test_calls_of_a_gpu_that_is_lost_are_told_by_that_alone() -> None:
    made = node(
        pods=pods_view(),
        gpus=[gpu().without_readings()],
        devices=failing(("nvmlDeviceGetMemoryInfo", GPU), 40, NOW),
    )
    assert list(by_id(made)) == ["gpu-lost"]


def test_an_xid_that_nobody_knows_counts_as_one_of_the_gpu_as_in_the_alerts() -> None:
    made = replace(node(pods=pods_view()), xids=(structs.replace(XID_79, xid=4711),))
    assert by_id(made)["gpu-xid"].seen == (
        Seen("GPU 0", f"XID 4711 1 h ago: {xid_of(4711).meaning}. {xid_of(4711).action}"),
    )


class TestUnmeasured:
    """No core limit, on two GPUs."""

    REGION = region(process(use(data=GIB), use()), uuids=(GPU, GPU_2), sm_limit=0)

    def seen(self, *gpus: Device, **health: object) -> list[str]:
        made = node(entry(self.REGION), pods=pods_view(), gpus=gpus, **health)  # type: ignore[arg-type]
        finding = by_id(made).get("utilization-unmeasured")
        return [] if finding is None else [seen.text for seen in finding.seen]

    def test_is_told_of_the_gpu_that_it_works_on(self) -> None:
        second = gpu(GPU_2, 1, 4)
        assert self.seen(gpu(processes=(busy(100),)), second) == [
            "no core limit on GPU 0; the driver says 60%"
        ]

    def test_is_told_of_both_where_the_driver_tells_no_processes(self) -> None:
        unknown = [gpu(processes=None), gpu(GPU_2, 1, 4, processes=None)]
        assert self.seen(*unknown) == [
            f"no core limit on GPU {index}; the driver does not tell it either" for index in (0, 1)
        ]

    def test_names_a_gpu_that_has_no_index_by_its_uuid(self) -> None:
        assert self.seen(devices=None) == [
            f"no core limit on {uuid}; the driver does not tell it either" for uuid in (GPU, GPU_2)
        ]
