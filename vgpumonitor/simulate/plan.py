"""What is on the simulated node: its GPUs, and the pods that are placed on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from random import Random
from typing import Literal
from uuid import UUID

from vgpumonitor.region.layouts import Layout
from vgpumonitor.simulate import loads
from vgpumonitor.simulate.loads import Load

MIB = 1 << 20
#: The most that is allocated of a GPU's memory, in percent; the driver reserves some of the rest.
_ALLOCATED = 92
#: From how many GPUs without MIG on one of them is a single pod's.
_WITH_WHOLE = 4
#: The alphabet of the random parts of names in Kubernetes.
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

#: What a pod's controller is; of a Deployment, between the two, a ReplicaSet.
Workload = Literal["Deployment", "StatefulSet", "Job"]
#: By whom a pod was placed; ``none`` is NVIDIA's own device plugin with time-slicing.
Scheduler = Literal["koordinator", "hami", "none"]
#: The host PID that HAMi-core finds: the right one, never one, or the container's own, which newer
#: drivers tell.
HostPid = Literal["found", "never", "inner"]


@dataclass(frozen=True, slots=True)
class MigPart:
    """A MIG device of a GPU; ``memory_total`` is in bytes."""

    uuid: str
    profile: str
    gpu_instance_id: int
    compute_instance_id: int
    memory_total: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of the node; ``index`` is NVML's, ``memory_total`` is in bytes, ``full_watts`` what it
    draws under full load. With ``mig`` it is allocated only in these parts."""

    index: int
    minor: int
    uuid: str
    name: str
    memory_total: int
    full_watts: int
    mig: tuple[MigPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """A container. Without a ``load`` it never uses the GPU. ``hooked`` is false if it bypasses
    HAMi-core, and one with a ``bypass`` has one process more that does. ``zombies`` says that
    its killed processes stay zombies for a while. A ``finished`` one ended before the simulation
    began. ``first_call`` is the number of seconds from its start to its first CUDA call,
    ``quiet`` that since its last kernel. ``xid`` is one that its program has after a while."""

    name: str
    image: str
    layout: Layout
    load: Load | None
    processes: int = 1
    priority: int = 1
    hooked: bool = True
    bypass: bool = False
    host_pid: HostPid = "found"
    zombies: bool = False
    init: bool = False
    finished: bool = False
    first_call: int = 0
    quiet: int = 0
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class PodPlan:
    """A pod of the workload ``app``, and what is allocated to it on each of its GPUs: ``memory``
    in bytes, ``memory_ratio`` and ``core`` in percent; or the part ``mig`` of its only GPU."""

    uid: str
    namespace: str
    name: str
    workload: Workload
    app: str
    scheduler: Scheduler
    gpus: tuple[Gpu, ...]
    memory: int
    memory_ratio: int
    core: int
    containers: tuple[ContainerPlan, ...]
    mig: MigPart | None = None

    @property
    def isolated(self) -> bool:
        """Whether HAMi-core is to limit it, so that its containers have directories: not with a
        whole GPU, a MIG device of HAMi's, or time-slicing."""
        return self.mig is None and self.memory_ratio < 100 and self.scheduler != "none"

    @property
    def device_uuids(self) -> tuple[str, ...]:
        """The UUIDs of the devices that its containers see."""
        if self.mig is not None:
            return (self.mig.uuid,)
        return tuple(gpu.uuid for gpu in self.gpus)


@dataclass(frozen=True, slots=True)
class _Role:
    """A pod before it is placed; ``beside`` puts it on the GPU of the preceding role."""

    namespace: str
    app: str
    load: Load | None
    memory: int
    core: int
    kind: Workload = "Deployment"
    scheduler: Scheduler = "koordinator"
    gpus: int = 1
    processes: int = 1
    priority: int = 1
    hooked: bool = True
    bypass: bool = False
    host_pid: HostPid = "found"
    zombies: bool = False
    finished: bool = False
    init: str | None = None
    first_call: int = 0
    quiet: int = 0
    xid: int | None = None
    beside: bool = False
    mig: bool = False

    @property
    def whole(self) -> bool:
        return self.memory == 100

    @property
    def directories(self) -> int:
        if self.mig or self.whole or self.scheduler == "none":
            return 0
        return 1 if self.init is None else 2


@dataclass(frozen=True, slots=True)
class _Kind:
    """A node of a cluster: the ``model`` of its GPUs with its memory in MiB and its watts under
    full load, each of its ``roles`` once, and of the ordinary ones that fill it up. Beside the
    first node's it has ``share`` of the containers."""

    model: tuple[str, int, int]
    roles: tuple[_Role, ...]
    more: tuple[_Role, ...]
    share: float = 1.0
    mig: bool = False


_CHAT = (
    _Role("team-nlp", "chat-api", loads.chat, 30, 40, priority=0, init="fetch-weights"),
    _Role("team-nlp", "batch-embedding", loads.embedding, 25, 20, scheduler="hami", beside=True),
)
_ASR = _Role("team-speech", "asr-api", loads.inference, 20, 30, scheduler="hami", first_call=8)
_TWO_TOWER = _Role("team-ranking", "two-tower-train", loads.training, 30, 40)
_FINETUNE = _Role("team-research", "llm-finetune", loads.training, 100, 100, "Job")
#: Everything that the exporter tells apart is there once.
_MIXED = _Kind(
    ("NVIDIA L40S", 46068, 350),
    (
        _Role("team-vision", "resnet50-train", loads.training, 45, 60, host_pid="inner"),
        _Role(
            *("team-nlp", "reranker", loads.worker, 30, 40),
            scheduler="hami",
            processes=3,
            zombies=True,
        ),
        _Role("team-research", "notebook-anna", loads.notebook, 25, 20, "StatefulSet", quiet=3900),
        _Role("team-ranking", "feature-cache", loads.leak, 20, 20, bypass=True),
        _Role(
            *("team-speech", "wav2vec-train", loads.training, 30, 50, "Job"),
            gpus=2,
            processes=2,
            host_pid="never",
        ),
        *_CHAT,
        _Role("team-vision", "labelling-ui", None, 10, 10),
        _Role("team-research", "custom-cuda", loads.inference, 10, 10, hooked=False, xid=31),
        _Role("team-vision", "eval-nightly", loads.job, 15, 30, "Job", finished=True),
        _Role("team-vision", "segment-api", loads.inference, 0, 0, scheduler="hami", mig=True),
        _FINETUNE,
        _Role("team-vision", "thumbnailer", loads.inference, 10, 0, scheduler="none"),
    ),
    (
        _Role("team-research", "notebook-ben", loads.notebook, 15, 20, "StatefulSet", quiet=640),
        _ASR,
        _TWO_TOWER,
    ),
    mig=True,
)
_SERVING = _Kind(
    ("NVIDIA A100-SXM4-80GB", 81920, 400),
    (
        *_CHAT,
        _Role("team-speech", "tts-api", loads.inference, 35, 40, scheduler="hami", processes=2),
        _Role("team-ranking", "recommend-api", loads.inference, 30, 30, processes=2),
        _Role("team-vision", "ocr-api", loads.worker, 25, 30, zombies=True),
    ),
    (_ASR, _Role("team-vision", "detect-api", loads.inference, 15, 20)),
    0.75,
)
_TRAINING = _Kind(
    ("NVIDIA H100 80GB HBM3", 81559, 700),
    (
        _FINETUNE,
        _Role("team-nlp", "reward-train", loads.training, 60, 70, "Job"),
        _Role("team-vision", "diffusion-train", loads.training, 40, 50, "Job", processes=2),
        _Role("team-research", "notebook-chen", loads.notebook, 30, 30, "StatefulSet", quiet=14000),
    ),
    (_TWO_TOWER,),
    0.5,
)
_KINDS = (_MIXED, _SERVING, _TRAINING)
_PLAIN = _Role("team-nlp", "embedding-api", loads.inference, 20, 20, gpus=2)


def make_gpus(count: int, random: Random, number: int = 0, mig: bool = True) -> tuple[Gpu, ...]:
    """``count`` GPUs of the cluster's node ``number`` in the order of NVML's indices, that of their
    PCI addresses; the driver's minor numbers have the first two the other way round. With
    ``mig``, and at least four GPUs, the last one of a mixed node is divided into two MIG
    devices."""
    kind = _KINDS[number % len(_KINDS)]
    minors = [1, 0, *range(2, count)] if count > 1 else [0]
    name, mebibytes, watts = kind.model
    gpus = [
        Gpu(index, minor, f"GPU-{_uuid(random)}", name, mebibytes * MIB, watts)
        for index, minor in enumerate(minors)
    ]
    if mig and kind.mig and count >= 4:
        parts = tuple(
            MigPart(f"MIG-{_uuid(random)}", "3g.20gb", instance, 0, 19968 * MIB)
            for instance in (1, 2)
        )
        gpus[-1] = replace(
            gpus[-1],
            name="NVIDIA A100-SXM4-40GB",
            memory_total=40960 * MIB,
            full_watts=400,
            mig=parts,
        )
    return tuple(gpus)


def place_mixed(
    gpus: Sequence[Gpu],
    containers: int,
    layouts: Sequence[Layout],
    random: Random,
    number: int = 0,
) -> tuple[PodPlan, ...]:
    """Pods of the cluster's node ``number``, which have ``containers`` containers in all, or
    fewer on a node that is not the first: each of its kind once, then more of the ordinary
    ones."""
    kind = _KINDS[number % len(_KINDS)]
    containers = round(containers * kind.share)
    whole = len([gpu for gpu in gpus if not gpu.mig]) >= _WITH_WHOLE
    possible = [
        role for role in kind.roles if (gpus[-1].mig or not role.mig) and (whole or not role.whole)
    ]
    roles = _fitting([*possible, *islice(cycle(kind.more), containers)], containers)
    # A StatefulSet's pods on other nodes have the numbers before.
    return _place(roles, gpus, layouts, random, number // len(_KINDS) * containers)


def place_plain(
    gpus: Sequence[Gpu], containers: int, layouts: Sequence[Layout], random: Random
) -> tuple[PodPlan, ...]:
    """``containers`` pods, all alike: one container that serves inference on two GPUs."""
    return _place([_PLAIN] * containers, gpus, layouts, random)


def _fitting(roles: Iterable[_Role], containers: int) -> Iterator[_Role]:
    left = containers
    for role in roles:
        # Pods without a directory come with the others.
        if role.directories <= left and left:
            left -= role.directories
            yield role


def _place(
    roles: Iterable[_Role],
    gpus: Sequence[Gpu],
    layouts: Sequence[Layout],
    random: Random,
    first: int = 0,
) -> tuple[PodPlan, ...]:
    """Puts each role on the GPUs with the least memory allocated; if that is too much for a GPU,
    every pod gets less. ``first`` is the ordinal of the first pod of each StatefulSet."""
    ordinary = [gpu for gpu in gpus if not gpu.mig]
    roles = tuple(roles)
    # A pod that has a whole GPU has one for itself.
    whole = ordinary.pop() if any(role.whole for role in roles) else None
    shared = ordinary
    memory, core = dict.fromkeys(gpus, 0), dict.fromkeys(gpus, 0)
    placed: list[tuple[_Role, tuple[Gpu, ...]]] = []
    for role in roles:
        chosen: tuple[Gpu, ...]
        if role.mig:
            chosen = (gpus[-1],)
        elif role.whole and whole is not None:
            chosen = (whole,)
        elif role.beside and placed:
            chosen = placed[-1][1][: role.gpus]
        else:
            by_room = sorted(shared, key=lambda gpu: (memory[gpu], gpu.index))
            chosen = tuple(sorted(by_room[: role.gpus], key=lambda gpu: gpu.index))
        for gpu in chosen:
            memory[gpu] += role.memory
            core[gpu] += role.core
        placed.append((role, chosen))
    scale = (
        _scale(_ALLOCATED, [memory[gpu] for gpu in shared]),
        _scale(100, [core[gpu] for gpu in shared]),
    )
    mixture = cycle(layouts)
    ordinals: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(first))
    return tuple(
        _pod(role, next(ordinals[role.app]), chosen, scale, mixture, random)
        for role, chosen in placed
    )


def _scale(most: int, given: Iterable[int]) -> float:
    return min(1.0, most / max(1, *given))


def _pod(
    role: _Role,
    ordinal: int,
    gpus: tuple[Gpu, ...],
    scale: tuple[float, float],
    layouts: Iterator[Layout],
    random: Random,
) -> PodPlan:
    image = f"registry.example.com/{role.namespace}/{role.app}:1.{random.randrange(40)}"
    main = ContainerPlan(
        role.app.split("-")[0] if role.kind == "StatefulSet" else role.app,
        image,
        next(layouts),
        role.load,
        role.processes,
        role.priority,
        role.hooked,
        role.bypass,
        role.host_pid,
        role.zombies,
        finished=role.finished,
        first_call=role.first_call,
        quiet=role.quiet,
        xid=role.xid,
    )
    containers: tuple[ContainerPlan, ...] = (main,)
    if role.init is not None:
        init = ContainerPlan(role.init, image, next(layouts), loads.job, init=True, finished=True)
        containers = (init, main)
    memory_scale, core_scale = (1.0, 1.0) if role.whole else scale
    part = gpus[0].mig[0] if role.mig else None
    room = min(gpu.memory_total for gpu in gpus) * role.memory / 100 * memory_scale
    return PodPlan(
        _uuid(random),
        role.namespace,
        _name(role, ordinal, random),
        role.kind,
        role.app,
        role.scheduler,
        gpus,
        int(room) // MIB * MIB if part is None else part.memory_total,
        max(1, round(role.memory * memory_scale)),
        max(1, int(role.core * core_scale)) if role.core else 0,
        containers,
        part,
    )


def _name(role: _Role, ordinal: int, random: Random) -> str:
    if role.kind == "StatefulSet":
        return f"{role.app}-{ordinal}"
    parts = [role.app, _letters(random, 5)]
    if role.kind == "Deployment":
        parts.insert(1, template_hash(role.app))
    return "-".join(parts)


def template_hash(app: str) -> str:
    """What a Deployment's ReplicaSet has in its name, the same on every node."""
    return _letters(Random(app), 10)


def _letters(random: Random, number: int) -> str:
    return "".join(random.choices(_NAME_LETTERS, k=number))


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
