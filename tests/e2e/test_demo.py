"""``vgpumonitor demo``: a whole node, where there is none."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testing.exporter import Exporter, running, wait_for_exit
from testing.polling import eventually
from tests.metrics.contract import ADDED, DOCUMENTED_HELP, LABELS

#: Families that a demo has no sample of, and why.
WITHOUT_SAMPLES = {
    "vgpumonitor_annotation_errors_total": "no pod of it has a wrong annotation",
    "vgpumonitor_gc_removed_total": "demo does not clean up",
    "vgpumonitor_gc_failures_total": "demo does not clean up",
    "vgpumonitor_gc_last_round_timestamp_seconds": "demo does not clean up",
}


@pytest.fixture(scope="module")
def demo() -> Iterator[Exporter]:
    with running("demo", "--metrics=all", "--process-metrics", "--feedback") as exporter:
        eventually(lambda: exporter.samples().get("vgpu_device_info"))
        eventually(lambda: exporter.value("vgpumonitor_feedback_rounds_total"))
        yield exporter


def test_names_labels_and_helps_are_the_contract_in_both_directions(demo: Exporter) -> None:
    contract = {**LABELS, **ADDED}
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(demo.get("/metrics").decode())
        if not family.name.startswith(("python_", "process_"))
    }
    assert set(families) == set(contract)
    for name, family in families.items():
        assert family.documentation == DOCUMENTED_HELP.get(name, family.documentation)
        assert family.documentation, name
        for sample in family.samples:
            assert set(sample.labels) == set(contract[name]), name
    assert {name for name, family in families.items() if not family.samples} == set(WITHOUT_SAMPLES)


def test_host_container_allocation_dead_and_unattributed_series_together(demo: Exporter) -> None:
    def seen() -> bool:
        found = demo.samples()
        return (
            max(found["HostGPUMemoryUsage"].values()) > 1 << 30
            and max(found["vGPU_device_memory_usage_in_bytes"].values()) > 1 << 30
            and max(found["vgpu_allocated_memory_bytes"].values()) > 1 << 30
            and max(found["vgpu_dead_process_memory_bytes"].values()) > 1 << 20
            and max(found["vgpu_device_memory_unattributed_bytes"].values()) > 1 << 20
        )

    eventually(seen, 120)


def test_what_cards_hold_is_what_containers_and_others_use(demo: Exporter) -> None:
    """NVML and the regions of the simulated node tell one story: they are written one after
    the other, so they are compared until a scrape falls between two steps."""

    def agree() -> bool:
        found = demo.samples()
        used: dict[str, float] = {}
        for family in ("vgpu_memory_nvml_bytes", "vgpu_device_memory_unattributed_bytes"):
            for labels, value in found[family].items():
                uuid = dict(labels)["device_uuid"]
                used[uuid] = used.get(uuid, 0) + value
        cards = {
            dict(labels)["device_uuid"]: value
            for labels, value in found["vgpu_device_memory_used_bytes"].items()
        }
        with_mig = {dict(labels)["device_uuid"] for labels in found["vgpu_mig_device_info"]}
        compared = [uuid for uuid in cards if uuid not in with_mig]
        assert len(compared) == 3
        return all(abs(cards[uuid] - used.get(uuid, 0)) < 1 << 20 for uuid in compared)

    eventually(agree, 60)


def test_it_moves(demo: Exporter) -> None:
    before = demo.samples()["vgpu_memory_used_bytes"]
    eventually(lambda: demo.samples()["vgpu_memory_used_bytes"] != before)


def test_every_layout_is_there(demo: Exporter) -> None:
    layouts = {dict(labels)["layout"] for labels in demo.samples()["vgpu_region_info"]}
    assert layouts == {"0", "1.1", "1.1-postinit", "1.2"}


def test_nothing_is_left_of_it() -> None:
    with running("demo") as exporter:
        files = Path(f"/proc/{exporter.process.pid}/maps").read_text()
        match = re.search(r"(/\S*/vgpumonitor-demo-\w+)/", files)
        assert match is not None
        directory = Path(match[1])
        assert directory.is_dir()
        exporter.process.send_signal(signal.SIGTERM)
        wait_for_exit(exporter.process, 20)
        assert exporter.process.returncode == 0
        assert not directory.exists()
