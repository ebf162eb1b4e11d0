"""The join of XIDs with the containers that were on the GPU then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vgpumonitor.snapshot.model import Container, DeviceXid, XidContainer
from vgpumonitor.sources.devices import Device, XidErrors

#: Seconds before an XID in which the containers that were seen on its GPU still count: the
#: program that is to blame is often gone when one looks. More than the usual scrape interval.
_RECENT = 120.0


class XidHistory:
    """Remembers, for each XID of a GPU, the containers that were on the GPU when it had it last:
    those of the snapshot before, if that was recent, and those of the snapshot after."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], DeviceXid] = {}
        self._containers: Sequence[Container] = ()
        self._time = 0.0

    def update(
        self,
        errors: Iterable[XidErrors],
        containers: Sequence[Container],
        devices: Iterable[Device],
        time: float,
    ) -> tuple[DeviceXid, ...]:
        """All XIDs, the last first. ``containers`` and ``devices`` are those of the snapshot that
        is made, at ``time``."""
        present = {device.uuid: device for device in devices}
        for error in errors:
            key = error.device_uuid, error.xid
            known = self._known.get(key)
            if known is not None and known.count == error.count:
                continue
            mig_uuid = _mig_uuid(present.get(error.device_uuid), error)
            before = self._containers if error.last_time - self._time <= _RECENT else ()
            named = {
                (one.namespace, one.pod, one.container): None
                for one in (*before, *containers)
                if _is_on(one, error.device_uuid, mig_uuid)
            }
            self._known[key] = DeviceXid(
                device_index=error.device_index,
                device_uuid=error.device_uuid,
                mig_uuid=mig_uuid,
                xid=error.xid,
                count=error.count,
                last_time=error.last_time,
                containers=tuple(XidContainer(*name) for name in named),
            )
        self._containers, self._time = containers, time
        return tuple(sorted(self._known.values(), key=lambda one: -one.last_time))


def _mig_uuid(device: Device | None, error: XidErrors) -> str:
    """Of the MIG device that it was of; empty where it was of the whole GPU, or that can't be
    told any more."""
    instances = error.gpu_instance_id, error.compute_instance_id
    for mig in () if device is None else device.mig_devices:
        if (mig.gpu_instance_id, mig.compute_instance_id) == instances:
            return mig.uuid
    return ""


def _is_on(container: Container, device_uuid: str, mig_uuid: str) -> bool:
    return any(
        device.device_uuid == device_uuid and mig_uuid in ("", device.mig_uuid)
        for device in container.devices
    )
