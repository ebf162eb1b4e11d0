"""The text against prometheus-client's own parsers and encoder, and against the contract."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Iterable
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from testing.client_library import ClientCollector
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
    identities,
    pods_view,
    process,
    region,
    snapshot,
    use,
)
from tests.metrics.contract import DOCUMENTED_HELP, LABELS
from vgpumonitor.controllers import CleanupHealth, FeedbackHealth
from vgpumonitor.metrics import documented, exporter, hami, vgpu
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.family import ContainerFamily, DeviceFamily, Family
from vgpumonitor.metrics.sets import families_for
from vgpumonitor.snapshot import (
    Container,
    ContainerDevice,
    NodeSnapshot,
    SnapshotBuilder,
    SourceViews,
)
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import (
    DeviceHealth,
    DeviceProcess,
    MigDevice,
    ProcessUtilization,
    XidErrors,
)
from vgpumonitor.sources.pods import Allocation, MigAllocation, Pod, PodContainer, PodsView
from vgpumonitor.sources.processes import ContainerRef

MIG = "MIG-8664316c-6888-5063-1e4d-f2a09cfbf1aa"


def everything() -> NodeSnapshot:
    """A snapshot in which each family has a sample."""
    gpus = (
        gpu(
            ecc_errors={"corrected": 2, "uncorrected": 0},
            throttled={"hw_slowdown": True, "sw_power_cap": False},
            memory_reserved=GIB,
            serial="1654922001234",
            vbios_version="96.00.74.00.01",
            pci_bus_id="00000000:3B:00.0",
            encoder_utilization=12,
            decoder_utilization=3,
            power_limit_watts=650.5,
            energy_joules=1234.5,
            memory_temperature_celsius=70,
            temperature_thresholds={"slowdown": 92, "shutdown": 95},
            clocks={"sm": 1_980_000_000},
            max_clocks={"sm": 1_990_000_000, "memory": 2_620_000_000},
            fan_speeds={0: 44, 1: 46},
            performance_state=2,
            throttled_seconds={"power": 5.5},
            remapped_rows={"corrected": 8, "uncorrected": 9},
            row_remap_pending=True,
            row_remap_failed=False,
            retired_pages={"single_bit": 6, "double_bit": 7},
            page_retirement_pending=False,
            pcie_generation=4,
            max_pcie_generation=5,
            pcie_width=8,
            max_pcie_width=16,
            pcie_replays=17,
            pcie_bytes={"transmit": 1 << 45, "receive": 0},
            nvlink_bytes={"receive": 1 << 40},
            nvlink_errors={"replay": 3},
            processes=(
                DeviceProcess(100, 3 * GIB, ProcessUtilization(35, 20, 2, 1)),
                DeviceProcess(200, 2 * GIB, ProcessUtilization()),
                DeviceProcess(999, GIB),
            ),
        ),
        gpu(
            GPU_2,
            1,
            4,
            name='odd "name"\\',
            mig_devices=(MigDevice(MIG, "1g.10gb", 7, 0, 10 * GIB, GIB, ()),),
        ),
    )
    pods = PodsView(
        {
            UID: Pod(
                UID,
                "team-a",
                "train-0",
                "Running",
                {"train": PodContainer("train")},
                container_names=("train",),
                allocations=(Allocation("", 3, 11520 * MIB, 0.5),),
            ),
            OTHER: Pod(
                OTHER,
                "team-b",
                "mig-0",
                "Running",
                mig_allocations=(MigAllocation("serve", 0, GPU_2, MIG, "1g.10gb", 7, 0),),
            ),
        },
        True,
        NOW - 5,
        {"hami.io/vgpu-devices-allocated": 1},
        invalid={UID: (("hami.io/vgpu-devices-allocated", "is [], not a string"),)},
    )
    readings = (
        entry(
            region(
                process(use(300 * MIB, 7 * MIB, GIB, sm=40, other=1), hostpid=100),
                process(use(data=50), hostpid=101, pid=8),
            )
        ),
        entry(region(uuids=(MIG,)), uid=OTHER, container="serve"),
        entry(None, container="waits"),
        entry(None, container="broken", error="magic number 7"),
    )
    views = SourceViews(
        time=NOW,
        containers=ContainersView(
            readings,
            up=True,
            errors={"bad_magic": 4},
            torn_reads=2,
            watch_events=17,
        ),
        pod_source="file",
        pods=pods,
        devices=gpus,
        xids=(XidErrors(0, GPU, 31, 3, NOW - 40),),
        known_devices=gpus,
        device_health=DeviceHealth(
            "NVML",
            True,
            {("nvmlDeviceGetPowerUsage", GPU): 3},
            failed_at={("nvmlDeviceGetPowerUsage", GPU): NOW - 15},
        ),
        identities=identities(readings, pods, (100,), {200: ContainerRef(UID, "")}),
        feedback=FEEDBACK,
        cleanup=CLEANUP,
        seconds={"regions": 0.25},
    )
    return SnapshotBuilder("node-1").build(views)


FEEDBACK = FeedbackHealth(rounds=5, writes={"recent_kernel": 2}, last_round=NOW - 1)
CLEANUP = CleanupHealth(removed=1, last_round=NOW - 2)
ALL = families_for("all", process_metrics=True)


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return {
        name: {tuple(sorted(s.labels.items())): s.value for s in family.samples}
        for family in text_string_to_metric_families(text)
        for name in [family.name + ("_total" if family.type == "counter" else "")]
    }


def joined(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode()


def text_of(*families: Family, of: NodeSnapshot | None = None) -> str:
    """The lines of these families alone."""
    whole = joined(Exposition(families).render(of or everything()))
    names = {family.name for family in families}
    return "".join(
        line + "\n"
        for line in whole.splitlines()
        if line.removeprefix("# HELP ").removeprefix("# TYPE ").split("{")[0].split(" ")[0] in names
    )


def only(name: str) -> Family:
    (family,) = [family for family in ALL if family.name == name]
    return family


class TestContract:
    def test_names_and_labels_in_both_directions(self) -> None:
        served = {
            family.name: {*family.labels, *(name for name, _ in family.constant)} for family in ALL
        }
        assert served == {name: set(labels) for name, labels in LABELS.items()}

    def test_every_family_has_a_sample_here_with_its_labels(self) -> None:
        found = parsed(joined(Exposition(ALL).render(everything())))
        for name, labels in LABELS.items():
            assert found[name], name
            for series in found[name]:
                assert {label for label, _ in series} == set(labels), name

    def test_documented_help(self) -> None:
        assert {
            family.name: family.help
            for family in families_for("documented")
            if family.name in LABELS
        }.items() >= DOCUMENTED_HELP.items()

    def test_zone_is_on_every_series_of_documented_and_hami(self) -> None:
        for family in families_for("documented,hami"):
            if not family.name.startswith("vgpumonitor_"):
                assert family.constant == (("zone", "vGPU"),), family.name

    def test_counters_and_only_they_end_with_total(self) -> None:
        for family in ALL:
            assert (family.type == "counter") == family.name.endswith("_total"), family.name


DOCUMENTED_TEXT = f"""\
# HELP vGPU_device_memory_usage_in_bytes vGPU device usage
# TYPE vGPU_device_memory_usage_in_bytes gauge
vGPU_device_memory_usage_in_bytes{{zone="vGPU",podnamespace="team-a",podname="train-0",\
ctrname="train",vdeviceid="0",deviceuuid="{GPU}"}} {307 * MIB + GIB + 1}
vGPU_device_memory_usage_in_bytes{{zone="vGPU",podnamespace="team-b",podname="mig-0",\
ctrname="serve",vdeviceid="0",deviceuuid="{MIG}"}} 0
"""


@pytest.mark.parametrize("module", [documented, hami, vgpu, exporter])
def test_what_a_set_shows_of_itself_is_what_it_serves(module: ModuleType) -> None:
    text = re.sub(r"(GPU|MIG)-[0-9a-f-]+", r"\1-…", joined(Exposition(ALL).render(everything())))
    shown = (module.__doc__ or "").partition(":\n")[2].replace("\n    ", "").split("\n")
    samples = [line for line in shown if line]
    assert len(samples) > 1
    assert set(samples) <= set(text.splitlines())


class TestText:
    def test_exactly(self) -> None:
        assert text_of(only("vGPU_device_memory_usage_in_bytes")) == DOCUMENTED_TEXT

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("HostGPUMemoryUsage", [21 * GIB, 20 * GIB]),
            ("HostCoreUtilization", [75, 75]),
            ("vGPU_device_memory_limit_in_bytes", [10 * GIB, 10 * GIB]),
            ("Device_utilization_desc_of_container", [40, 0]),
            ("Device_last_kernel_of_container", [60, 60]),
            ("MigInfo", [1]),
            ("hami_vgpu_memory_context_bytes", [300 * MIB, 0]),
            ("hami_vgpu_memory_module_bytes", [7 * MIB, 0]),
            ("hami_vgpu_memory_buffer_bytes", [GIB, 0]),
            ("hami_host_gpu_memory_controller_utilization_ratio", [30, 30]),
            ("vgpu_allocated_memory_bytes", [11520 * MIB]),
            ("vgpu_allocated_core_ratio", [0.5]),
            ("vgpu_memory_used_bytes", [300 * MIB, 7 * MIB, GIB, 1, 0, 0, 0, 0]),
            ("vgpu_core_limit_ratio", [0.5, 0.5]),
            ("vgpu_core_utilization_ratio", [0.4]),
            ("vgpu_nvml_memory_used_bytes", [5 * GIB]),
            ("vgpu_nvml_core_utilization_ratio", [0.35]),
            ("vgpu_nvml_memory_controller_utilization_ratio", [0.2]),
            ("vgpu_nvml_encoder_utilization_ratio", [0.02]),
            ("vgpu_nvml_decoder_utilization_ratio", [0.01]),
            ("vgpu_memory_bypassed_bytes", [2 * GIB, 0]),
            ("vgpu_device_up", [1, 1]),
            ("vgpu_device_memory_used_bytes", [20 * GIB, 20 * GIB]),
            ("vgpu_device_memory_reserved_bytes", [GIB]),
            ("vgpu_device_processes", [3, 0]),
            ("vgpu_device_xid_errors_total", [3]),
            ("vgpu_device_last_xid_timestamp_seconds", [NOW - 40]),
            ("vgpu_processes", [1, 0, 1, 0, 0, 0, 0, 0]),
            ("vgpu_dead_process_memory_bytes", [50, 0]),
            ("vgpu_last_kernel_timestamp_seconds", [NOW - 60, NOW - 60]),
            ("vgpu_device_power_watts", [250.5, 250.5]),
            ("vgpu_device_ecc_errors_total", [2, 0]),
            ("vgpu_device_throttled", [1, 0]),
            ("vgpu_device_encoder_utilization_ratio", [0.12]),
            ("vgpu_device_decoder_utilization_ratio", [0.03]),
            ("vgpu_device_power_limit_watts", [650.5]),
            ("vgpu_device_energy_joules_total", [1234.5]),
            ("vgpu_device_memory_temperature_celsius", [70]),
            ("vgpu_device_temperature_threshold_celsius", [92, 95]),
            ("vgpu_device_clock_hertz", [1.98e9]),
            ("vgpu_device_clock_max_hertz", [1.99e9, 2.62e9]),
            ("vgpu_device_fan_speed_ratio", [0.44, 0.46]),
            ("vgpu_device_performance_state", [2]),
            ("vgpu_device_throttled_seconds_total", [5.5]),
            ("vgpu_device_remapped_rows_total", [8, 9]),
            ("vgpu_device_row_remap_pending", [1]),
            ("vgpu_device_row_remap_failed", [0]),
            ("vgpu_device_retired_pages_total", [6, 7]),
            ("vgpu_device_page_retirement_pending", [0]),
            ("vgpu_device_pcie_replays_total", [17]),
            ("vgpu_device_pcie_bytes_total", [1 << 45, 0]),
            ("vgpu_device_pcie_link_generation", [4]),
            ("vgpu_device_pcie_link_generation_max", [5]),
            ("vgpu_device_pcie_link_width", [8]),
            ("vgpu_device_pcie_link_width_max", [16]),
            ("vgpu_device_nvlink_bytes_total", [1 << 40]),
            ("vgpu_device_nvlink_errors_total", [3]),
            ("vgpu_device_memory_unattributed_bytes", [GIB, 0]),
            ("vgpu_process_memory_used_bytes", [307 * MIB + GIB + 1]),
            ("vgpu_process_core_utilization_ratio", [0.4]),
            ("vgpu_process_nvml_memory_used_bytes", [3 * GIB, 2 * GIB]),
            ("vgpu_process_nvml_core_utilization_ratio", [0.35, 0]),
            ("vgpumonitor_regions", [2, 1, 1]),
            ("vgpumonitor_torn_reads_total", [2]),
            ("vgpumonitor_pod_source_synced_timestamp_seconds", [NOW - 5]),
            # Each from the first scrape on: increase() sees the first error.
            ("vgpumonitor_annotation_errors_total", [0, 1, 0, 0]),
            ("vgpumonitor_nvml_errors_total", [3]),
            ("vgpumonitor_feedback_writes_total", [2]),
            ("vgpumonitor_gc_removed_total", [1]),
        ],
    )
    def test_values(self, name: str, values: list[float]) -> None:
        found = parsed(text_of(only(name)))
        assert list(found[name].values()) == values

    def test_a_finding_has_a_series_and_what_is_in_order_has_none(self) -> None:
        (found,) = parsed(text_of(only("vgpumonitor_findings"))).values()
        assert {
            (dict(labels)["id"], dict(labels)["severity"]): v for labels, v in found.items()
        } == {
            ("process-bypasses", "warning"): 1,
            ("region-unreadable", "warning"): 1,
            ("annotation-invalid", "warning"): 1,
            ("gpu-memory-damaged", "warning"): 1,
            ("no-cuda-call", "info"): 1,
            ("nvml-calls-fail", "info"): 1,
        }

    def test_byte_counts_of_the_memory_description_are_labels(self) -> None:
        found = parsed(text_of(only("Device_memory_desc_of_container")))
        first = dict(next(iter(found["Device_memory_desc_of_container"])))
        assert {key: first[key] for key in ("context", "module", "data", "offset")} == {
            "context": str(300 * MIB),
            "module": str(7 * MIB),
            "data": str(GIB),
            "offset": "1",
        }

    def test_mig_of_a_container(self) -> None:
        (labels,) = parsed(text_of(only("MigInfo")))["MigInfo"]
        assert dict(labels)["instanceid"] == "7"
        assert dict(labels)["deviceuuid"] == GPU_2

    def test_label_values_are_escaped(self) -> None:
        text = text_of(only("vgpu_device_info"))
        assert r'name="odd \"name\"\\"' in text
        names = [dict(labels)["name"] for labels in parsed(text)["vgpu_device_info"]]
        assert names == ["A100", 'odd "name"\\']

    def test_what_names_a_gpu_and_where_it_is(self) -> None:
        first, second = map(dict, parsed(text_of(only("vgpu_device_info")))["vgpu_device_info"])
        facts = ("minor", "serial", "vbios_version", "pci_bus_id")
        assert [first[fact] for fact in facts] == [
            "3",
            "1654922001234",
            "96.00.74.00.01",
            "00000000:3B:00.0",
        ]
        assert [second[fact] for fact in facts] == ["4", "", "", ""]

    def test_a_gpu_that_is_down_has_its_names_and_nothing_else(self) -> None:
        snap = snapshot(gpus=(gpu(), gpu(GPU_2, 1).without_readings()))
        found = parsed(joined(Exposition(ALL).render(snap)))
        of_second = {
            name: value
            for name, samples in found.items()
            for labels, value in samples.items()
            if GPU_2 in dict(labels).values()
        }
        assert of_second == {"vgpu_device_info": 1, "vgpu_device_up": 0}

    def test_a_zero_byte_is_replaced_and_hurts_no_other_series(self) -> None:
        pod = Pod(UID, "team-a", "a\0b", "Running")
        snap = snapshot(entry(region(process(use(data=MIB)))), pods=PodsView({UID: pod}, True, NOW))
        text = joined(Exposition(ALL).render(snap))
        assert "\0" not in text
        found = parsed(text)
        for name in ("vGPU_device_memory_usage_in_bytes", "hami_vgpu_memory_used_bytes"):
            ((series, value),) = found[name].items()
            labels = dict(series)
            assert labels.get("pod", labels.get("podname")) == "a\ufffdb"
            assert value == MIB

    def test_a_percent_sign_is_nothing_special(self) -> None:
        snap = snapshot(
            entry(region(process(use(data=MIB)))),
            pods=PodsView({UID: Pod(UID, "100%", "%s%%(x)d", "Running")}, True, NOW),
            gpus=(gpu(processes=(DeviceProcess(100, MIB, ProcessUtilization()),)),),
            live=(100,),
        )
        found = parsed(joined(Exposition(ALL).render(snap)))
        for family in ALL:
            if isinstance(family, ContainerFamily | DeviceFamily):
                labels = dict(next(iter(found[family.name])))
                assert labels.get("namespace", labels.get("podnamespace")) == "100%", family.name
                assert labels.get("pod", labels.get("podname")) == "%s%%(x)d", family.name

    @pytest.mark.parametrize(
        ("layout", "time"), [("0", None), ("1.2", 0)], ids=["layout 0", "no kernel yet"]
    )
    def test_no_last_kernel_no_series(self, layout: str, time: int | None) -> None:
        snap = snapshot(entry(region(layout=layout, last_kernel_time=time)))
        for name in (
            "Device_last_kernel_of_container",
            "hami_container_last_kernel_elapsed_seconds",
            "vgpu_last_kernel_timestamp_seconds",
        ):
            assert parsed(text_of(only(name), of=snap))[name] == {}

    def test_a_kernel_of_the_future_was_no_seconds_ago(self) -> None:
        snap = snapshot(entry(region(last_kernel_time=int(NOW) + 500)))
        found = parsed(text_of(only("Device_last_kernel_of_container"), of=snap))
        assert list(found["Device_last_kernel_of_container"].values()) == [0]

    @pytest.mark.parametrize(
        ("hostpids", "driver", "live", "expected"),
        [
            ((100, 101), True, True, 27),
            ((100, 0), True, True, 98),
            ((100, 0), False, True, 20),
            ((100, 0), False, False, 0),
            ((0, 0), True, True, 98),
            ((0, 0), False, True, 0),
        ],
    )
    def test_core_utilization_of_the_witness_that_knows_more(
        self, hostpids: tuple[int, int], driver: bool, live: bool, expected: int
    ) -> None:
        """HAMi-core does not measure a process of which it has not found the host PID."""
        first, second = hostpids
        found = region(
            process(use(sm=20), hostpid=first), process(use(sm=7), hostpid=second, pid=8)
        )
        busy = DeviceProcess(308, GIB, ProcessUtilization(98, 0, 0, 0))  # Its PID inside is 8.
        snap = snapshot(
            entry(found),
            gpus=(gpu(processes=(busy,)),) if driver else (),
            live={each for each in hostpids if each} if live else (),
            on_devices={308: ContainerRef(UID, "")},
        )
        for name, of_set in (
            ("Device_utilization_desc_of_container", documented),
            ("hami_container_device_utilization_ratio", hami),
        ):
            (family,) = [each for each in of_set.FAMILIES if each.name == name]
            (samples,) = parsed(text_of(family, of=snap)).values()
            assert list(samples.values()) == [expected]

    def test_no_limit_no_series(self) -> None:
        snap = snapshot(entry(region(limit=0, sm_limit=0)))
        for name in ("vgpu_memory_limit_bytes", "vgpu_core_limit_ratio"):
            assert parsed(text_of(only(name), of=snap))[name] == {}
        name = "vGPU_device_memory_limit_in_bytes"
        assert list(parsed(text_of(only(name), of=snap))[name].values()) == [0]

    @pytest.mark.parametrize(("recent", "blocked"), [(-1, 1), (0, 0), (2, 0)])
    def test_blocked(self, recent: int, blocked: int) -> None:
        snap = snapshot(entry(region(process(use()), recent_kernel=recent)))
        found = parsed(text_of(only("vgpu_launches_blocked"), of=snap))
        assert list(found["vgpu_launches_blocked"].values()) == [blocked]


def test_equal_to_prometheus_clients_encoder() -> None:
    of = everything()

    registry = CollectorRegistry()
    registry.register(ClientCollector(of, ALL))
    theirs = parsed(generate_latest(registry).decode())
    assert len(theirs) == len(ALL)
    assert parsed(text_of(*ALL, of=of)) == theirs


def ours(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith(("python_", "process_"))
    }


class TestOpenMetrics:
    def test_is_accepted_by_the_strict_parser_and_equals_the_text(self) -> None:
        of = everything()
        exposition = Exposition(ALL)
        text = joined(exposition.render(of, openmetrics=True))
        assert text.endswith("# EOF\n")
        strict = ours(openmetrics_families(text))  # type: ignore[no-untyped-call]
        plain = ours(text_string_to_metric_families(joined(exposition.render(of))))
        assert strict == plain
        assert {name for name, _ in strict} == {family.name for family in ALL}

    def test_counters_lose_total_in_their_metadata(self) -> None:
        text = joined(Exposition(ALL).render(everything(), openmetrics=True))
        assert (
            '# TYPE vgpumonitor_torn_reads counter\nvgpumonitor_torn_reads_total{node="node-1"} 2\n'
            in text
        )


class TestNames:
    def test_select_families(self) -> None:
        text = joined(Exposition(ALL).render(everything(), names={"vgpu_priority", "MigInfo"}))
        assert set(parsed(text)) == {"vgpu_priority", "MigInfo"}

    def test_select_counters_by_either_name(self) -> None:
        for name in ("vgpumonitor_torn_reads", "vgpumonitor_torn_reads_total"):
            text = joined(Exposition(ALL).render(everything(), names={name}))
            assert parsed(text) == {"vgpumonitor_torn_reads_total": {(("node", "node-1"),): 2}}

    def test_no_other_family_is_made(self) -> None:
        def value(container: Container, device: ContainerDevice) -> float | None:
            raise AssertionError("nobody asked for it")

        other = DeviceFamily("other", "help", (), subject=lambda *_: (), values={(): value})
        exposition = Exposition([*ALL, other])
        text = joined(exposition.render(everything(), names={"vgpu_priority"}))
        assert list(parsed(text)["vgpu_priority"].values()) == [1, 1]

    def test_select_what_prometheus_client_knows(self) -> None:
        text = joined(Exposition(ALL).render(everything(), names={"python_info"}))
        assert set(parsed(text)) == {"python_info"}

    def test_without_a_selection_all_are_there(self) -> None:
        found = parsed(joined(Exposition(ALL).render(everything())))
        assert {"process_resident_memory_bytes", "python_info"} <= set(found)


def _uuid(_: Container, device: ContainerDevice) -> tuple[str, ...]:
    return (device.uuid,)


class TestKeptText:
    def test_is_the_same_after_a_change_as_made_afresh(self) -> None:
        builder, exposition = SnapshotBuilder("node-1"), Exposition(ALL)
        states = [
            (entry(region(process(use(data=MIB)))), entry(region(), uid=OTHER)),
            (entry(region(process(use(data=2 * MIB)))), entry(region(), uid=OTHER)),
            (entry(region(process(use(data=3 * MIB)), uuids=(GPU_2,))),),
            (entry(region(process(use(data=3 * MIB), use()), uuids=(GPU, GPU_2))),),
            (entry(region(process(use(data=3 * MIB), use()), uuids=(GPU, GPU_2), limit=0)),),
            (entry(region(last_kernel_time=0, uuids=(GPU, GPU_2), limit=0)),),
            (entry(region(last_kernel_time=None, layout="0")), entry(None, uid=OTHER)),
            (entry(None), entry(region(), uid=OTHER)),
            (entry(region()), entry(None, uid=OTHER, error="broken")),
            (),
            (entry(region(), uid=OTHER),),
        ]
        for state in states:
            snap = snapshot(*state, builder=builder)
            kept = parsed(joined(exposition.render(snap)))
            fresh = parsed(joined(Exposition(ALL).render(snap)))
            for name in LABELS:
                assert kept[name] == fresh[name], name

    def test_of_many_is_the_same_when_some_change_go_and_come(self) -> None:
        builder, exposition = SnapshotBuilder("node-1"), Exposition(ALL)
        of = {f"{place:08x}{UID[8:]}": region(limit=place * MIB) for place in range(40)}
        uids = list(of)

        def compare() -> None:
            snap = snapshot(*[entry(each, uid=uid) for uid, each in of.items()], builder=builder)
            kept = parsed(joined(exposition.render(snap)))
            fresh = parsed(joined(Exposition(ALL).render(snap)))
            assert {name: kept[name] for name in LABELS} == {name: fresh[name] for name in LABELS}

        compare()
        compare()
        of[uids[20]] = region(limit=1)
        compare()
        gone = of.pop(uids[2])
        compare()
        of[uids[2]] = gone
        compare()
        for uid in uids[3:30]:
            del of[uid]
        compare()

    def test_of_unchanged_containers_is_not_made_again(self) -> None:
        made = []

        def value(container: Container, device: ContainerDevice) -> float | None:
            made.append(container.container)
            return device.core_limit

        family = DeviceFamily("limit", "help", (), subject=lambda *_: (), values={(): value})
        builder, exposition = SnapshotBuilder("node-1"), Exposition([family])
        same = region()
        for limit in (10, 20, 30):
            changed = entry(region(sm_limit=limit), uid=OTHER, container="serve")
            text = joined(exposition.render(snapshot(entry(same), changed, builder=builder)))
            assert f"limit 50\nlimit {limit}\n" in text
        assert made == ["train", "serve", "serve", "serve"]

    def test_a_value_that_families_share_is_asked_for_once(self) -> None:
        asked = []

        def value(container: Container, device: ContainerDevice) -> float | None:
            asked.append(device.uuid)
            return None if device.index else 7

        families = [
            DeviceFamily(name, "help", ("uuid",), subject=_uuid, values={(): value})
            for name in ("one", "two")
        ]
        text = text_of(*families, of=snapshot(entry(region(uuids=(GPU, GPU_2)))))
        assert [line for line in text.splitlines() if line[0] != "#"] == [
            f'one{{uuid="{GPU}"}} 7',
            f'two{{uuid="{GPU}"}} 7',
        ]
        assert asked == [GPU, GPU_2]

    def test_is_in_memory_twice_at_most(self) -> None:
        """As what is kept of each container, and as what is served: of containers that are alike,
        all else is little beside it."""
        uids = [f"{place:08x}{UID[8:]}" for place in range(200)]
        of = snapshot(*[entry(region(process(use(data=MIB))), uid=uid) for uid in uids])
        exposition = Exposition(
            [each for each in ALL if isinstance(each, ContainerFamily | DeviceFamily)]
        )
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            size = sum(map(len, exposition.render(of)))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most - before < 2.5 * size

    def test_of_containers_that_went_goes_with_them(self) -> None:
        builder, exposition = SnapshotBuilder("node-1"), Exposition(ALL)
        exposition.render(snapshot(builder=builder))
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            uids = [f"{place:08x}{UID[8:]}" for place in range(200)]
            entries = [entry(region(process(use(data=MIB))), uid=uid) for uid in uids]
            exposition.render(snapshot(*entries, builder=builder))
            held = tracemalloc.get_traced_memory()[0] - before
            del entries
            exposition.render(snapshot(builder=builder))
            gc.collect()
            left = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert left < held / 10


class TestSets:
    @pytest.mark.parametrize(
        ("choice", "prefixes"),
        [
            ("documented", {"Host", "vGPU", "Device", "Mig"}),
            ("hami", {"hami_"}),
            ("vgpu", {"vgpu_"}),
            ("documented,vgpu", {"Host", "vGPU", "Device", "Mig", "vgpu_"}),
            ("all", {"Host", "vGPU", "Device", "Mig", "hami_", "vgpu_"}),
        ],
    )
    def test_choices(self, choice: str, prefixes: set[str]) -> None:
        names = [f.name for f in families_for(choice) if not f.name.startswith("vgpumonitor_")]
        assert {prefix for prefix in prefixes if any(n.startswith(prefix) for n in names)} == (
            prefixes
        )
        assert all(name.startswith(tuple(prefixes)) for name in names)

    def test_without_the_memory_description(self) -> None:
        whole = [family.name for family in families_for("documented")]
        less = [family.name for family in families_for("documented,-memory-desc")]
        assert set(whole) - set(less) == {"Device_memory_desc_of_container"}

    def test_an_unknown_word_is_named(self) -> None:
        with pytest.raises(
            ValueError, match="unknown metric set 'documentd': expected documented, hami, vgpu, all"
        ):
            families_for("documentd,vgpu")

    def test_labels_of_pods_are_those_that_were_chosen(self) -> None:
        pod = Pod(
            UID,
            "team-a",
            "train-0",
            "Running",
            containers={"train": PodContainer("train")},
            labels={"app.kubernetes.io/name": "llm", "team": "a"},
        )
        (family,) = (
            each
            for each in families_for("vgpu", pod_labels="app.kubernetes.io/name, cost-center")
            if each.name == "vgpu_pod_info"
        )
        text = text_of(family, of=snapshot(entry(region()), pods=pods_view(pod)))
        ((labels, value),) = parsed(text)["vgpu_pod_info"].items()
        assert value == 1
        assert [each for each in labels if each[0].startswith("label_")] == [
            ("label_app_kubernetes_io_name", "llm"),
            ("label_cost_center", ""),
        ]

    def test_labels_of_pods_that_would_have_one_name_are_named(self) -> None:
        with pytest.raises(
            ValueError, match=r"pod labels a\.b, a-b would all be label_a_b: expected one of them"
        ):
            families_for("vgpu", pod_labels="a.b,team,a-b")

    def test_process_metrics_are_off_unless_asked_for(self) -> None:
        off = {family.name for family in families_for("all")}
        on = {family.name for family in families_for("all", process_metrics=True)}
        assert on - off == {
            "vgpu_process_memory_used_bytes",
            "vgpu_process_core_utilization_ratio",
            "vgpu_process_nvml_memory_used_bytes",
            "vgpu_process_nvml_core_utilization_ratio",
        }
