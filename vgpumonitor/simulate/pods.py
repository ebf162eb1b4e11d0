"""The simulated node's pods as ``kubectl get pods -A -o json`` prints them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from vgpumonitor.simulate.container import SimulatedContainer
from vgpumonitor.simulate.plan import MIB, Gpu, MigPart, PodPlan, template_hash

_ISOLATION = "koordinator.sh/gpu-isolation-provider"
_DEVICE_ALLOCATED = "scheduling.koordinator.sh/device-allocated"
_HAMI_ALLOCATED = "hami.io/vgpu-devices-allocated"
_HAMI_MIG = "hami.io/vgpu-mig-allocations"
_NODE = "hami.io/vgpu-node"
_SCHEDULERS = {
    "koordinator": "koord-scheduler",
    "hami": "hami-scheduler",
    "none": "default-scheduler",
}


def pod_list(pods: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(pods)}


def pod_object(
    pod: PodPlan, containers: Sequence[SimulatedContainer], node_name: str
) -> dict[str, Any]:
    """The pod as an object of the API; ``containers`` are its own, in the order of the plan."""
    inits = [container for container in containers if container.plan.init]
    mains = [container for container in containers if not container.plan.init]
    started = _time(min(container.state.started_at for container in containers))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "creationTimestamp": started,
            "labels": {"app": pod.app, **_labels(pod, node_name)},
            "ownerReferences": [_owner(pod)],
            "annotations": _annotations(pod, len(mains), node_name),
        },
        "spec": {
            "nodeName": node_name,
            "schedulerName": _SCHEDULERS[pod.scheduler],
            "initContainers": [_container(container) for container in inits],
            "containers": [_container(container) for container in mains],
        },
        "status": {
            "phase": "Succeeded" if all(c.plan.finished for c in mains) else "Running",
            "startTime": started,
            "initContainerStatuses": [_status(container) for container in inits],
            "containerStatuses": [_status(container) for container in mains],
        },
    }


def _labels(pod: PodPlan, node_name: str) -> dict[str, str]:
    labels = {}
    if pod.workload == "Deployment":
        labels["pod-template-hash"] = template_hash(pod.app)
    if pod.scheduler == "koordinator" and pod.isolated:
        labels |= {_ISOLATION: "HAMi-core", _NODE: node_name}
    return labels


def _owner(pod: PodPlan) -> dict[str, Any]:
    version = "batch/v1" if pod.workload == "Job" else "apps/v1"
    kind: str = pod.workload
    name = pod.app
    if pod.workload == "Deployment":
        kind, name = "ReplicaSet", f"{pod.app}-{template_hash(pod.app)}"
    uid = str(uuid5(NAMESPACE_URL, f"{pod.namespace}/{kind}/{name}"))
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}


def _annotations(pod: PodPlan, containers: int, node_name: str) -> dict[str, str]:
    mib = pod.memory // MIB
    if pod.scheduler == "none":
        return {}
    if pod.scheduler == "hami":
        # HAMi adds the MIG template and the place in it to the GPU's UUID.
        slot = "" if pod.mig is None else "[0-0]"
        devices = "".join(f"{gpu.uuid}{slot},NVIDIA,{mib},{pod.core}:" for gpu in pod.gpus)
        found = {_HAMI_ALLOCATED: f"{devices};" * containers, _NODE: node_name}
        return found if pod.mig is None else {**found, _HAMI_MIG: _mig(pod.gpus[0], pod.mig)}
    resources = {
        "koordinator.sh/gpu-core": str(pod.core),
        "koordinator.sh/gpu-memory": f"{mib}Mi",
        "koordinator.sh/gpu-memory-ratio": str(pod.memory_ratio),
    }
    entries = [
        {"minor": gpu.minor, "id": gpu.uuid, "resources": resources}
        for gpu in sorted(pod.gpus, key=lambda gpu: gpu.minor)
    ]
    return {_DEVICE_ALLOCATED: json.dumps({"gpu": entries}, separators=(",", ":"))}


def _mig(gpu: Gpu, part: MigPart) -> str:
    allocation = {
        "containerIndex": 0,
        "deviceIndex": 0,
        "gpuUUID": gpu.uuid,
        "migUUID": part.uuid,
        "profile": part.profile,
        "gpuInstanceID": part.gpu_instance_id,
        "computeInstanceID": part.compute_instance_id,
    }
    return json.dumps([allocation], separators=(",", ":"))


def _container(container: SimulatedContainer) -> dict[str, Any]:
    pod, plan = container.pod, container.plan
    if pod.scheduler == "koordinator":
        resources = {
            "koordinator.sh/gpu.shared": str(len(pod.gpus)),
            "koordinator.sh/gpu-core": str(pod.core * len(pod.gpus)),
            "koordinator.sh/gpu-memory-ratio": str(pod.memory_ratio * len(pod.gpus)),
        }
    elif pod.scheduler == "none":
        resources = {"nvidia.com/gpu.shared": str(len(pod.gpus))}
    else:
        resources = {
            "nvidia.com/gpu": str(len(pod.gpus)),
            "nvidia.com/gpumem": str(pod.memory // MIB),
            "nvidia.com/gpucores": str(pod.core),
        }
    environment = [{"name": "CUDA_TASK_PRIORITY", "value": str(plan.priority)}]
    return {
        "name": plan.name,
        "image": plan.image,
        "env": environment if plan.priority != 1 else [],
        "resources": {"requests": resources, "limits": resources},
    }


def _status(container: SimulatedContainer) -> dict[str, Any]:
    state = container.state
    status: dict[str, Any] = {
        "name": container.plan.name,
        "image": container.plan.image,
        "containerID": f"containerd://{state.container_id}",
        "restartCount": state.restarts,
        "ready": state.state == "running",
        "lastState": {},
    }
    ended = None
    if state.finished_at is not None:
        ended = {
            "terminated": {
                "exitCode": state.exit_code,
                "reason": "Completed" if state.exit_code == 0 else "Error",
                "finishedAt": _time(state.finished_at),
            }
        }
    if state.state == "running":
        status["state"] = {"running": {"startedAt": _time(state.started_at)}}
    elif state.state == "waiting":
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    else:
        return {**status, "state": ended}
    if ended is not None:
        status["lastState"] = ended
    return status


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
