from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing import pods
from vgpumonitor.sources.pods import Allocation, MigAllocation, Pod, PodContainer
from vgpumonitor.sources.pods.annotations import HAMI, KOORDINATOR
from vgpumonitor.sources.pods.objects import decode, node_of, pod_from_object, split_list

HASH = "0123456789abcdef0123456789abcdef"
GPU = "GPU-903ecef4-bb8d-d7fe-65e2-e327e6258e76"
#: 2026-03-04T05:06:07Z
THEN = 1772600767.0


def container(name: str, state: Any, last: Any = None) -> dict[str, Any]:
    return {"name": name, "state": state, "lastState": last or {}, "ready": True}


def terminated(at: Any = "2026-03-04T05:06:07Z") -> dict[str, Any]:
    return {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": at}}


def containers_of(status: dict[str, Any]) -> tuple[dict[str, PodContainer], list[str]]:
    pod, errors = pod_from_object({**pods.pod("p"), "status": status})
    return dict(pod.containers), [f"{where}: {message}" for where, message in errors]


def test_a_running_pod() -> None:
    pod, errors = pod_from_object(pods.pod("web-0", "a-uid", namespace="team"))
    assert pod == Pod(
        "a-uid",
        "team",
        "web-0",
        "Running",
        {"train": PodContainer("train")},
        container_names=("train",),
        workload_kind="Pod",
        workload="web-0",
    )
    assert errors == ()


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ([], ("Pod", "p")),
        ([{"kind": "ReplicaSet", "name": "web-5d4f", "controller": True}], ("Deployment", "web")),
        (
            [{"kind": "ReplicaSet", "name": "web-77aa", "controller": True}],
            ("ReplicaSet", "web-77aa"),
        ),
        ([{"kind": "Job", "name": "train-5d4f", "controller": True}], ("Job", "train-5d4f")),
        (
            [
                {"kind": "Config", "name": "other"},
                {"kind": "StatefulSet", "name": "db", "controller": True},
            ],
            ("StatefulSet", "db"),
        ),
        ([{"kind": 4, "name": "x", "controller": True}, "nonsense"], ("Pod", "p")),
    ],
)
def test_the_workload_is_the_controller(owners: list[Any], expected: tuple[str, str]) -> None:
    obj = pods.pod("p")
    obj["metadata"] |= {"ownerReferences": owners, "labels": {"pod-template-hash": "5d4f"}}
    pod, _ = pod_from_object(obj)
    assert (pod.workload_kind, pod.workload) == expected


@pytest.mark.parametrize(
    ("labels", "annotation", "limited"),
    [
        ({"koordinator.sh/gpu-isolation-provider": "HAMi-core"}, KOORDINATOR, True),
        ({}, KOORDINATOR, False),
        ({"koordinator.sh/gpu-isolation-provider": "other"}, KOORDINATOR, False),
        ({}, HAMI, True),
    ],
)
def test_whether_hami_core_is_to_limit_it(
    labels: dict[str, str], annotation: str, limited: bool
) -> None:
    text = {
        KOORDINATOR: '{"gpu":[{"minor":0,"resources":{"koordinator.sh/gpu-memory-ratio":"50"}}]}',
        HAMI: f"{GPU},NVIDIA,500,5:;",
    }[annotation]
    obj = pods.pod("p", annotations={annotation: text})
    obj["metadata"]["labels"] = labels
    assert pod_from_object(obj)[0].limited is limited


def test_ids_of_containers() -> None:
    now, before = "a" * 64, "b" * 64
    status = {
        **container("main", {"running": {}}, terminated()),
        "containerID": f"containerd://{now}",
    }
    status["lastState"]["terminated"]["containerID"] = f"containerd://{before}"
    short = {**container("side", {"running": {}}), "containerID": "containerd://4fa6"}
    found, errors = containers_of({"containerStatuses": [status, short]})
    assert found == {
        "main": PodContainer("main", ids=frozenset((now, before))),
        "side": PodContainer("side"),
    }
    assert errors == []


def test_states_of_containers() -> None:
    found, errors = containers_of(
        {
            "containerStatuses": [
                container("runs", {"running": {}}, terminated()),
                container("ended", terminated()),
                container("waits-to-restart", {"waiting": {"reason": "CrashLoopBackOff"}},
                          terminated("2026-03-04T05:06:07.25Z")),
                container("pulls", {"waiting": {"reason": "ContainerCreating"}}),
                container("says-nothing", {}),
                container("restarted-says-nothing", None, terminated()),
            ],
            "initContainerStatuses": [
                container("init", terminated("2026-03-04T06:06:07+01:00")),
                container("sidecar", {"running": {}}),
            ],
            "ephemeralContainerStatuses": [
                container("debug", terminated("2026-03-04T05:06:07.123456789Z"))
            ],
        }
    )  # fmt: skip
    assert errors == []
    assert found == {
        "runs": PodContainer("runs"),
        "ended": PodContainer("ended", True, THEN),
        "waits-to-restart": PodContainer("waits-to-restart", True, THEN + 0.25),
        "pulls": PodContainer("pulls"),
        "says-nothing": PodContainer("says-nothing"),
        "restarted-says-nothing": PodContainer("restarted-says-nothing", True, THEN),
        "init": PodContainer("init", True, THEN),
        "sidecar": PodContainer("sidecar"),
        "debug": PodContainer("debug", True, THEN + 0.123456),
    }


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over(phase: str) -> None:
    pod, _ = pod_from_object(pods.pod("p", phase=phase))
    assert pod.finished


def test_a_container_without_a_status_is_not_finished() -> None:
    assert containers_of({"phase": "Pending"}) == ({}, [])


@pytest.mark.parametrize("at", [None, "0001-01-01T00:00:00Z"])
def test_an_end_at_no_known_time(at: Any) -> None:
    found, errors = containers_of({"containerStatuses": [container("c", terminated(at))]})
    assert found == {"c": PodContainer("c", True, None)}
    assert errors == []


@pytest.mark.parametrize("at", ["yesterday", "2026-03-04T05:06:07", 5])
def test_an_end_at_a_wrong_time_is_an_end(at: Any) -> None:
    found, errors = containers_of({"containerStatuses": [container("c", terminated(at))]})
    assert found == {"c": PodContainer("c", True, None)}
    assert errors == [
        f"status.containerStatuses[0]: finishedAt is {str(at)!r}, not an RFC 3339 time"
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "is missing, not an object"),
        ({"state": {}}, "name is missing, not a string"),
        ({"name": 3}, "name is a number, not a string"),
        ({"name": "x", "state": "gone"}, "state or lastState is not an object"),
        (
            {"name": "x", "state": {"terminated": 1}},
            "terminated is a number, not an object",
        ),
    ],
)
def test_a_wrong_status_is_lost_alone(wrong: Any, message: str) -> None:
    found, errors = containers_of(
        {"containerStatuses": [wrong, container("good", {"running": {}})]}
    )
    assert found == {"good": PodContainer("good")}
    assert errors == [f"status.containerStatuses[0]: {message}"]


def test_a_static_pod_is_known_by_its_hash() -> None:
    pod, errors = pod_from_object(pods.pod("etcd", annotations={"kubernetes.io/config.hash": HASH}))
    assert pod.uid == HASH
    assert errors == ()


def test_a_pod_can_t_take_the_uid_of_another() -> None:
    other = "11111111-2222-3333-4444-555555555555"
    pod, errors = pod_from_object(
        pods.pod("thief", "own", annotations={"kubernetes.io/config.hash": other})
    )
    assert pod.uid == "own"
    assert errors == (("kubernetes.io/config.hash", "is not 32 hexadecimal digits"),)


def test_allocations() -> None:
    obj = pods.pod(
        "p",
        annotations={
            "hami.io/vgpu-devices-allocated": f";{GPU},NVIDIA,500,5:;",
            "hami.io/vgpu-mig-allocations": json.dumps(
                [
                    {
                        "containerIndex": 1,
                        "deviceIndex": 0,
                        "gpuUUID": GPU,
                        "profile": "1g.5gb",
                        "migUUID": GPU.replace("GPU", "MIG"),
                        "gpuInstanceID": 6,
                        "computeInstanceID": 0,
                    }
                ]
            ),
            "scheduling.koordinator.sh/device-allocated": "?",
        },
    )
    obj["spec"]["initContainers"] = [{"name": "setup"}]
    pod, errors = pod_from_object(obj)
    assert pod.allocations == (Allocation(GPU, None, 500 * 2**20, 0.05),)
    assert pod.mig_allocations == (
        MigAllocation("train", 0, GPU, GPU.replace("GPU", "MIG"), "1g.5gb", 6, 0),
    )
    assert [where for where, _ in errors] == ["scheduling.koordinator.sh/device-allocated"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": None}, "metadata is missing, not an object"),
        ({"metadata": []}, "metadata is a list, not an object"),
        ({"metadata": {"namespace": "n", "name": "p"}}, "metadata.uid is missing, not a string"),
        (
            {"metadata": {"uid": "", "namespace": "n", "name": "p"}},
            "metadata.uid is empty, not a string",
        ),
        (
            {"metadata": {"uid": "u", "namespace": 1, "name": "p"}},
            "metadata.namespace is a number, not a string",
        ),
    ],
)
def test_a_pod_that_can_t_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        pod_from_object({**pods.pod("p"), **change})


def test_wrong_fields_are_lost_alone() -> None:
    obj = {**pods.pod("p"), "spec": 4, "status": "fine"}
    obj["metadata"]["annotations"] = []
    pod, errors = pod_from_object(obj)
    assert pod == Pod("uid-of-p", "team-a", "p", workload_kind="Pod", workload="p")
    assert errors == (
        ("metadata.annotations", "is a list, not an object"),
        ("status", "is a string, not an object"),
        ("spec", "is a number, not an object"),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "state", "lastState", "terminated", "finishedAt", "containerStatuses",
             "phase", "annotations", "containers", "nodeName"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(JSON, JSON, JSON)
def test_no_shape_raises_anything_else(spec: Any, status: Any, annotations: Any) -> None:
    obj = pods.pod("p")
    obj |= {"spec": spec, "status": status}
    obj["metadata"]["annotations"] = annotations
    pod, _ = pod_from_object(obj)
    assert (pod.uid, pod.namespace, pod.name) == ("uid-of-p", "team-a", "p")
    assert node_of(obj) is None or isinstance(node_of(obj), str)


@pytest.mark.parametrize("kind", ["List", "PodList"])
def test_lists(kind: str) -> None:
    document = {
        "kind": kind,
        "metadata": {"resourceVersion": "7", "continue": "abc"},
        "items": [pods.pod("one"), 5],
    }
    listed = split_list(json.dumps(document, indent=4).encode())
    assert (listed.resource_version, listed.next) == ("7", "abc")
    assert decode(listed.items[0]) == pods.pod("one")
    with pytest.raises(ValueError, match="is a number, not an object"):
        decode(listed.items[1])


def test_one_pod_is_a_list_of_one() -> None:
    listed = split_list(json.dumps(pods.pod("one")).encode())
    assert [decode(item) for item in listed.items] == [pods.pod("one")]


def test_an_empty_list_of_go() -> None:
    assert split_list(b'{"kind": "PodList", "metadata": {}, "items": null}').items == ()


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{", b'{"kind": "NodeList", "items": []}', b"\xff", b"{}"]
)
def test_no_lists(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        split_list(document)
