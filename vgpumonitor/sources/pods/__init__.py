"""Where pods are known from: one module a source.

``model`` is what is kept of a pod, and the ``PodSource`` protocol. ``kubernetes``, ``file``,
``pod_logs`` and ``none`` are the sources; ``registry`` lists them by the word that ``--pods``
takes, and makes the one that is asked for. Sources of Kubernetes' objects decode them with
``objects``, whose ``annotations`` and ``quantity`` read what schedulers wrote; all keep their
pods in a ``store``, and ``watch`` tells those that read a directory when to look again.
"""

from vgpumonitor.sources.pods.model import (
    Allocation,
    MigAllocation,
    Pod,
    PodContainer,
    PodSource,
    PodsView,
)

__all__ = ["Allocation", "MigAllocation", "Pod", "PodContainer", "PodSource", "PodsView"]
