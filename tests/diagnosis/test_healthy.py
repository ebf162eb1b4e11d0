"""Nodes on which all is well, by what shares their GPUs: nothing is found on them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from testing import pods
from testing.values import GIB, GPU, OTHER, UID, entry, gpu, pods_view, process, region, use
from tests.diagnosis.nodes import busy, node
from vgpumonitor.diagnosis import findings
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import DeviceProcess, MigDevice
from vgpumonitor.sources.pods import Pod
from vgpumonitor.sources.pods.annotations import HAMI, HAMI_MIG, KOORDINATOR, VOLCANO
from vgpumonitor.sources.pods.objects import pod_from_object
from vgpumonitor.sources.processes import ContainerRef

MIG = "MIG-2d6ec8e6-6ec2-5c31-8a2b-0e4b2ac9d4f7"
TRAIN = ContainerRef(UID, "")
SOUND = region(process(use(data=GIB, sm=30)))


def pod(uid: str = UID, **annotations: str) -> Pod:
    """Read as a source of pods reads it; ``annotations`` by the names of their constants."""
    names = {"hami": HAMI, "hami_mig": HAMI_MIG, "koordinator": KOORDINATOR, "volcano": VOLCANO}
    obj = pods.pod(
        f"train-{uid[:4]}",
        uid,
        annotations={names[name]: text for name, text in annotations.items()},
    )
    found, errors = pod_from_object(obj)
    assert errors == ()
    return found


def on_mig(shared: Pod) -> NodeSnapshot:
    part = MigDevice(MIG, "1g.10gb", 7, 0, 10 * GIB, GIB, (DeviceProcess(300, GIB),))
    return node(pods=pods_view(shared), gpus=[gpu(mig_devices=(part,))], on_devices={300: TRAIN})


def whole(*resources: tuple[str, str]) -> str:
    named = {f"koordinator.sh/{name}": value for name, value in resources}
    return json.dumps({"gpu": [{"minor": 3, "resources": named}]})


NODES: dict[str, Callable[[], NodeSnapshot]] = {
    "no GPU, no pod": lambda: node(pods=pods_view(), gpus=[], devices=None),
    "whole GPUs by NVIDIA's plugin": lambda: node(
        pods=pods_view(pod()), gpus=[gpu(processes=(busy(300),))], on_devices={300: TRAIN}
    ),
    "time-slicing": lambda: node(
        pods=pods_view(pod(), pod(OTHER)),
        gpus=[gpu(processes=(busy(300, 30 * GIB), busy(301, 9 * GIB)))],
        on_devices={300: TRAIN, 301: ContainerRef(OTHER, "")},
    ),
    "a whole GPU by Koordinator": lambda: node(
        pods=pods_view(
            pod(
                koordinator=whole(
                    ("gpu-core", "100"), ("gpu-memory", "40Gi"), ("gpu-memory-ratio", "100")
                )
            )
        ),
        gpus=[gpu(processes=(busy(300, 30 * GIB),))],
        on_devices={300: TRAIN},
    ),
    "HAMi": lambda: node(
        entry(SOUND),
        pods=pods_view(pod(hami=f"{GPU},NVIDIA,10240,50:;")),
        gpus=[gpu(processes=(busy(100),))],
    ),
    "Volcano": lambda: node(
        entry(SOUND),
        pods=pods_view(pod(volcano=f"{GPU},NVIDIA,10240,50:;")),
        gpus=[gpu(processes=(busy(100),))],
    ),
    "MIG by HAMi 2.10": lambda: on_mig(
        pod(
            hami=f"{GPU},NVIDIA,10240,0:;",
            hami_mig=json.dumps(
                [
                    {
                        "containerIndex": 0,
                        "deviceIndex": 0,
                        "gpuUUID": GPU,
                        "migUUID": MIG,
                        "profile": "1g.10gb",
                        "gpuInstanceID": 7,
                        "computeInstanceID": 0,
                    }
                ]
            ),
        )
    ),
    "MIG by HAMi before 2.10": lambda: on_mig(pod(hami=f"{GPU}[1-0],NVIDIA,10240,0:;")),
}


@pytest.mark.parametrize("made", NODES.values(), ids=NODES)
def test_nothing_is_found(made: Callable[[], NodeSnapshot]) -> None:
    assert [(finding.kind.id, finding.seen) for finding in findings(made())] == []


@pytest.mark.parametrize("name", [name for name in NODES if name.startswith("MIG")])
def test_what_is_on_mig_devices_is_isolated_by_them(name: str) -> None:
    snapshot = NODES[name]()
    assert [found.isolation for found in snapshot.pods] == ["mig"]
    assert [d.bypassed for c in snapshot.containers for d in c.devices] == [None]
