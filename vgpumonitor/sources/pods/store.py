"""The pods that a source knows, by UID, and the view that it shows of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable

from vgpumonitor.sources.pods.annotations import ANNOTATIONS
from vgpumonitor.sources.pods.model import Pod, PodsView
from vgpumonitor.sources.pods.objects import Errors, PodReading

log = logging.getLogger(__name__)

#: Pods that left and are still known.
MAX_DELETED = 4096


class PodStore:
    """Changed by its source, and shown when the source says so: ``view`` is a value that
    never changes. Not safe from several threads; ``view`` is. With ``node`` the source knows
    that node's pods only, and a complete state without any is suspicious."""

    def __init__(self, source: str, node: str | None = None) -> None:
        self.view = PodsView()
        self._source = source
        self._node = node
        self._no_pod: str | None = None
        self._pods: dict[str, Pod] = {}
        self._deleted: dict[str, Pod] = {}
        self._wrong: dict[str, Errors] = {}
        self._annotation_errors: Counter[str] = Counter()
        self._changed = False
        self._failure: str | None = None

    def replace(self, readings: Iterable[PodReading]) -> None:
        """These are all pods there are."""
        gone = set(self._pods)
        for reading in readings:
            self.put(reading)
            gone.discard(reading.pod.uid)
        for uid in gone:
            self.remove(uid)
        never_any = not self._pods and not self._deleted
        if self._node is not None and never_any and self._no_pod is None:
            self._no_pod = (
                f"no pod of node {self._node!r} is listed: --node-name has to be the pods' "
                "spec.nodeName"
            )
            log.warning(self._no_pod, extra={"source": self._source})

    def put(self, reading: PodReading) -> None:
        pod = reading.pod
        self._no_pod = None
        self._note_errors(pod, reading.errors)
        # A pod that is as before stays the same object, by which the join knows it.
        if self._pods.get(pod.uid) != pod:
            self._pods[pod.uid] = pod
            self._deleted.pop(pod.uid, None)
            self._changed = True

    def remove(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return
        self._wrong.pop(uid, None)
        self._deleted[uid] = pod
        if len(self._deleted) > MAX_DELETED:
            del self._deleted[next(iter(self._deleted))]
        self._changed = True

    def mark_synced(self, as_of: float | None = None) -> None:
        """The store is complete: shows it. ``as_of`` is the Unix time at which it was so (now,
        where the source says nothing else, and at the latest)."""
        if self._failure is not None:
            log.info("pods are known again", extra={"source": self._source})
            self._failure = None
        now = time.time()
        synced = now if as_of is None else min(as_of, now)
        self._show(up=True, synced=synced, problem=self._no_pod)

    def mark_stale(self, failure: str, refused: bool = False) -> None:
        """The source can't be reached or read, or denies access (``refused``): the pods stay.
        Logged once per ``failure``."""
        if failure != self._failure:
            log.warning("pods can't be read", extra={"source": self._source, "error": failure})
            self._failure = failure
        self._show(up=False, synced=self.view.synced, problem=failure, refused=refused)

    def _show(
        self, up: bool, synced: float | None, problem: str | None, refused: bool = False
    ) -> None:
        pods, deleted = self.view.pods, self.view.deleted
        if self._changed:
            pods, deleted = dict(self._pods), dict(self._deleted)
            self._changed = False
        invalid = {
            uid: wrong
            for uid, errors in self._wrong.items()
            if (wrong := tuple(error for error in errors if error[0] in ANNOTATIONS))
        }
        self.view = PodsView(
            pods, up, synced, dict(self._annotation_errors), deleted, problem, refused, invalid
        )

    def _note_errors(self, pod: Pod, errors: Errors) -> None:
        """Counts and logs what was not wrong in the same way before."""
        before = self._wrong.get(pod.uid, ())
        for where, message in errors:
            if (where, message) in before:
                continue
            if where in ANNOTATIONS:
                self._annotation_errors[where] += 1
            log.warning(
                "invalid field of a pod ignored",
                extra={
                    "namespace": pod.namespace,
                    "pod": pod.name,
                    "uid": pod.uid,
                    "where": where,
                    "error": message,
                },
            )
        if errors:
            self._wrong[pod.uid] = errors
        else:
            self._wrong.pop(pod.uid, None)
