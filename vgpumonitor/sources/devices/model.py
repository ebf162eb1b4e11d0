"""What a device is, whoever made it, and what every source of devices offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct


class ProcessUtilization(Struct, frozen=True, gc=False):
    """What a process had of a device since the last look, in percent."""

    core: int = 0
    memory_controller: int = 0
    encoder: int = 0
    decoder: int = 0


class DeviceProcess(Struct, frozen=True, gc=False):
    """A process on a device: its PID as this process's PID namespace sees it, the bytes that it
    holds, None where the driver can't tell, and its utilization, None likewise (MIG): one that
    did nothing has 0."""

    pid: int
    memory: int | None
    utilization: ProcessUtilization | None = None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG device. ``name`` is its profile, such as ``1g.10gb``; memory is in bytes. What the
    driver does not tell is None. MIG devices have no utilization."""

    uuid: str
    name: str | None
    gpu_instance_id: int
    compute_instance_id: int
    memory_total: int | None
    memory_used: int | None
    processes: tuple[DeviceProcess, ...] | None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU. ``index`` is the driver's. What the driver does not tell is None, or has no entry.

    One that is not ``up`` was seen before and is not there any more, or is lost: it has its names
    and nothing else.

    Memory is in bytes; ``memory_used`` leaves out what the driver reserves, ``memory_reserved``,
    which is None where the driver can't tell the two apart. Utilizations and ``fan_speeds`` (by
    fan) are in percent, ``clocks`` and ``max_clocks`` in hertz (graphics, sm, memory, video).
    ``temperature_thresholds`` are slowdown and shutdown; ``performance_state`` is from 0, the
    fastest, to 15. ``throttled`` says by reason whether it holds the clocks down now, and
    ``throttled_seconds``, with reasons of its own, for how long since the driver was loaded;
    ``energy_joules`` is since then, too. ``ecc_errors`` (corrected, uncorrected),
    ``retired_pages`` (single_bit, double_bit) and ``remapped_rows`` (corrected, uncorrected) are
    over the device's life. ``pcie_bytes`` and ``nvlink_bytes`` are by direction (receive,
    transmit), ``nvlink_errors`` by kind; those of NVLink are sums over the links.

    ``processes`` are those that compute and those that draw; on a device with MIG, those of its
    MIG devices. ``cuda_version`` is the newest that the driver supports, such as ``12.4``;
    ``pci_bus_id`` is such as ``00000000:3B:00.0``.
    """

    vendor: str
    index: int
    uuid: str
    minor: int | None = None
    name: str | None = None
    driver_version: str | None = None
    cuda_version: str | None = None
    up: bool = True
    serial: str | None = None
    vbios_version: str | None = None
    pci_bus_id: str | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    memory_reserved: int | None = None
    core_utilization: int | None = None
    memory_utilization: int | None = None
    encoder_utilization: int | None = None
    decoder_utilization: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: int | None = None
    memory_temperature_celsius: int | None = None
    temperature_thresholds: Mapping[str, int] = field(default_factory=dict)
    clocks: Mapping[str, int] = field(default_factory=dict)
    max_clocks: Mapping[str, int] = field(default_factory=dict)
    fan_speeds: Mapping[int, int] = field(default_factory=dict)
    performance_state: int | None = None
    throttled: Mapping[str, bool] = field(default_factory=dict)
    throttled_seconds: Mapping[str, float] = field(default_factory=dict)
    ecc_errors: Mapping[str, int] = field(default_factory=dict)
    remapped_rows: Mapping[str, int] = field(default_factory=dict)
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    retired_pages: Mapping[str, int] = field(default_factory=dict)
    page_retirement_pending: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    max_pcie_generation: int | None = None
    max_pcie_width: int | None = None
    pcie_replays: int | None = None
    pcie_bytes: Mapping[str, int] = field(default_factory=dict)
    nvlink_bytes: Mapping[str, int] = field(default_factory=dict)
    nvlink_errors: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[DeviceProcess, ...] | None = None
    mig_devices: tuple[MigDevice, ...] = ()

    def without_readings(self) -> Device:
        """It, once it is not up any more."""
        return Device(
            vendor=self.vendor,
            index=self.index,
            uuid=self.uuid,
            minor=self.minor,
            name=self.name,
            driver_version=self.driver_version,
            cuda_version=self.cuda_version,
            up=False,
            serial=self.serial,
            vbios_version=self.vbios_version,
            pci_bus_id=self.pci_bus_id,
        )


def parts_of(devices: Iterable[Device]) -> Iterator[Device | MigDevice]:
    """Each device, and its MIG devices after it."""
    for device in devices:
        yield device
        yield from device.mig_devices


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """How a device source, called ``source``, fares.

    ``up`` is whether its driver answers. ``errors`` counts failures by the driver's function
    and the UUID of the device asked about, which is empty where the call is about none or its
    UUID is not known; ``("timeout", "")`` are samples that were not there in time.
    ``failed_at`` is when each of them failed last, in Unix seconds. ``error`` is why the driver
    does not answer; ``lock_file`` is there for as long as it is not asked.
    """

    source: str
    up: bool
    errors: Mapping[tuple[str, str], int]
    error: str | None = None
    lock_file: str | None = None
    failed_at: Mapping[tuple[str, str], float] = field(default_factory=dict)


class XidErrors(Struct, frozen=True, gc=False):
    """What a GPU had of one XID (``vgpumonitor.xids``) since the start. ``device_index`` is the
    driver's when it told of the last one, at ``last_time`` (Unix seconds), whose instances are
    those of the MIG device that it was of, None where it was of the whole GPU."""

    device_index: int
    device_uuid: str
    xid: int
    count: int
    last_time: float
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None


class DeviceSource(Protocol):
    """A place that devices are known from. ``name`` is for people."""

    name: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def sample(self, timeout: float) -> tuple[Device, ...] | None:  # noqa: ASYNC109
        """The devices now, within ``timeout`` seconds: those that could be read by then, and
        those that are known to be down. None where there is nothing to tell."""

    @property
    def known(self) -> tuple[Device, ...]:
        """The devices as last seen, also while one or the driver is away: for what stays
        (UUID, minor, memory_total); all else is old."""

    @property
    def xids(self) -> tuple[XidErrors, ...]:
        """The XIDs that the driver told of since the start, also of GPUs that are gone."""

    def on_xid(self, call: Callable[[], object]) -> None:
        """``call`` is called, in a thread of the source's, for an XID that its GPU has not had
        lately."""

    def health(self) -> DeviceHealth: ...
