"""A pod's JSON, as the API and ``kubectl get pods -o json`` give it, to a Pod."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from vgpumonitor.sources.pods.annotations import KOORDINATOR, parse_allocations
from vgpumonitor.sources.pods.model import Pod, PodContainer

#: Where a mirror pod has the UID that kubelet gave the static pod: the MD5 of its manifest.
CONFIG_HASH = "kubernetes.io/config.hash"

#: Koordinator's switch for HAMi-core, on a pod.
ISOLATION = "koordinator.sh/gpu-isolation-provider"
#: What a Deployment appends to the names of its ReplicaSets, and of their pods.
TEMPLATE_HASH = "pod-template-hash"

_MD5 = re.compile(r"[0-9a-f]{32}")
_CONTAINER_ID = re.compile(r"[a-z][a-z0-9.+-]*://([0-9a-f]{64})")
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")

#: What was wrong in a pod: the annotation's name or the field's path, and a message.
Errors = tuple[tuple[str, str], ...]


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    next: str = msgspec.field(name="continue", default="")


class _Document(msgspec.Struct):
    kind: str = ""
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class PodList:
    """A list of pods, each still JSON text: only one at a time is ever held as an object.
    ``next`` is the continue token, empty at the end."""

    items: tuple[msgspec.Raw, ...]
    resource_version: str
    next: str


@dataclass(frozen=True, slots=True)
class PodReading:
    """What one pod's JSON gave."""

    pod: Pod
    errors: Errors = field(default=())


def split_list(document: bytes | bytearray) -> PodList:
    """A PodList, a List, or one Pod. Raises ValueError."""
    try:
        decoded = msgspec.json.decode(document, type=_Document)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if decoded.kind == "Pod":
        return PodList((msgspec.Raw(document),), "", "")
    if decoded.kind not in ("List", "PodList"):
        raise ValueError(f"is of kind {decoded.kind[:48]!r}, not List, PodList or Pod")
    # Go writes an empty list as null.
    return PodList(
        tuple(decoded.items or ()), decoded.metadata.resource_version, decoded.metadata.next
    )


def decode(item: bytes | msgspec.Raw) -> Mapping[str, Any]:
    """One object's JSON text. Raises ValueError."""
    try:
        decoded = msgspec.json.decode(item)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(decoded, dict):
        raise ValueError(f"is {_kind(decoded)}, not an object")
    return decoded


def node_of(obj: Mapping[str, Any]) -> str | None:
    """The node that a pod is bound to."""
    spec = obj.get("spec")
    node = spec.get("nodeName") if isinstance(spec, dict) else None
    return node if isinstance(node, str) and node else None


def pod_from_object(obj: Mapping[str, Any]) -> tuple[Pod, Errors]:
    """The pod, and what in it could not be used. Raises ValueError where it has no UID,
    namespace or name."""
    errors: list[tuple[str, str]] = []
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata is {_kind(metadata)}, not an object")
    uid, namespace, name = (
        _required_text(metadata, key, "metadata") for key in ("uid", "namespace", "name")
    )
    annotations = _mapping(metadata, "annotations", "metadata", errors)
    config_hash = annotations.get(CONFIG_HASH)
    if config_hash is not None:
        # Anyone can write annotations: another form would let a pod take another's UID.
        if isinstance(config_hash, str) and _MD5.fullmatch(config_hash):
            uid = config_hash
        else:
            errors.append((CONFIG_HASH, "is not 32 hexadecimal digits"))
    status = _mapping(obj, "status", "", errors)
    phase = status.get("phase", "")
    if not isinstance(phase, str):
        errors.append(("status.phase", f"is {_kind(phase)}, not a string"))
        phase = ""
    init_containers, containers = (
        _container_names(obj, key, errors) for key in ("initContainers", "containers")
    )
    # Init containers come first, which is how HAMi counts them.
    parsed = parse_allocations(annotations, init_containers + containers)
    labels = {
        key: value
        for key, value in _mapping(metadata, "labels", "metadata", errors).items()
        if isinstance(value, str)
    }
    workload_kind, workload = _workload(metadata, labels, errors) or ("Pod", name)
    # Koordinator limits by HAMi-core only the pods that say so; HAMi and Volcano all of theirs.
    asked = KOORDINATOR not in annotations or labels.get(ISOLATION) == "HAMi-core"
    return (
        Pod(
            uid,
            namespace,
            name,
            phase,
            {container.name: container for container in _containers(status, errors)},
            parsed.allocations,
            parsed.mig_allocations,
            tuple(containers),
            labels,
            workload_kind,
            workload,
            parsed.limited and asked,
            parsed.mig,
        ),
        (*errors, *parsed.errors),
    )


def _container_names(obj: Mapping[str, Any], key: str, errors: list[tuple[str, str]]) -> list[str]:
    """Of the specification. A nameless one keeps its place."""
    spec = _mapping(obj, "spec", "", errors)
    return [
        name if container and isinstance(name := container.get("name"), str) else ""
        for _, container in _objects(spec, key, "spec", errors)
    ]


def _workload(
    metadata: Mapping[str, Any], labels: Mapping[str, str], errors: list[tuple[str, str]]
) -> tuple[str, str] | None:
    """Kind and name of the pod's controller; of a ReplicaSet, its Deployment's."""
    for _, owner in _objects(metadata, "ownerReferences", "metadata", errors):
        if owner is None or owner.get("controller") is not True:
            continue
        kind, name = owner.get("kind"), owner.get("name")
        if not isinstance(kind, str) or not isinstance(name, str):
            continue
        suffix = f"-{labels.get(TEMPLATE_HASH, '')}"
        if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
            return "Deployment", name.removesuffix(suffix)
        return kind, name
    return None


def _containers(status: Mapping[str, Any], errors: list[tuple[str, str]]) -> Iterator[PodContainer]:
    for key in _STATUSES:
        for where, container in _objects(status, key, "status", errors):
            if container is None:
                continue
            try:
                yield _container(container, where, errors)
            except ValueError as error:
                errors.append((where, str(error)))


def _container(
    status: Mapping[str, Any], where: str, errors: list[tuple[str, str]]
) -> PodContainer:
    """A container is finished once it terminated, also while it waits for its restart."""
    name = _required_text(status, "name", "")
    state = status.get("state") or {}
    last = status.get("lastState") or {}
    if not isinstance(state, dict) or not isinstance(last, dict):
        raise ValueError("state or lastState is not an object")
    terminated = state.get("terminated")
    if terminated is None and state.get("running") is None:
        # Kubernetes' default for a state that says nothing is waiting.
        terminated = last.get("terminated")
    ids = frozenset(_container_ids(status, state.get("terminated"), last.get("terminated")))
    if terminated is None:
        return PodContainer(name, ids=ids)
    if not isinstance(terminated, dict):
        raise ValueError(f"terminated is {_kind(terminated)}, not an object")
    try:
        finished_at = _time(terminated.get("finishedAt"))
    except ValueError as error:
        errors.append((where, str(error)))
        finished_at = None
    return PodContainer(name, True, finished_at, ids)


def _container_ids(*statuses: object) -> Iterator[str]:
    for status in statuses:
        text = status.get("containerID") if isinstance(status, dict) else None
        found = _CONTAINER_ID.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            yield found[1]


def _time(value: object) -> float | None:
    """Unix seconds of an RFC 3339 time; None where there is none, or Go's zero time."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"finishedAt is {str(value)[:48]!r}, not an RFC 3339 time")
    seconds = time.timestamp()
    return seconds if seconds > 0 else None


def _required_text(obj: Mapping[str, Any], key: str, where: str) -> str:
    value = obj.get(key)
    if not isinstance(value, str) or not value:
        path = f"{where}.{key}" if where else key
        raise ValueError(f"{path} is {_kind(value)}, not a string")
    return value


def _mapping(
    obj: Mapping[str, Any], key: str, where: str, errors: list[tuple[str, str]]
) -> Mapping[str, Any]:
    value = obj.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        error = f"{where}.{key}" if where else key, f"is {_kind(value)}, not an object"
        if error not in errors:
            errors.append(error)
        return {}
    return value


def _objects(
    obj: Mapping[str, Any], key: str, where: str, errors: list[tuple[str, str]]
) -> Iterable[tuple[str, Mapping[str, Any] | None]]:
    """The objects in a list, with their paths; None in the place of anything else."""
    values = obj.get(key)
    if values is None:
        return
    if not isinstance(values, list):
        errors.append((f"{where}.{key}", f"is {_kind(values)}, not a list"))
        return
    for place, value in enumerate(values):
        path = f"{where}.{key}[{place}]"
        if isinstance(value, dict):
            yield path, value
        else:
            errors.append((path, f"is {_kind(value)}, not an object"))
            yield path, None


#: JSON's types by those that msgspec decodes them to.
_JSON_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    if value == "":
        return "empty"
    return _JSON_KINDS[type(value)]
