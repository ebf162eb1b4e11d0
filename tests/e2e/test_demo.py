"""``vgpumonitor demo``: a whole node, where there is none."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testing.exporter import Exporter, free_ports, running, wait_for_exit
from testing.polling import eventually
from testing.region_files import put
from tests.metrics.contract import DOCUMENTED_HELP, LABELS

#: Families that a demo has no sample of, and why.
WITHOUT_SAMPLES = {
    "vgpu_device_fan_speed_ratio": "its GPUs have no fans: the server's cool them",
    "vgpu_device_retired_pages_total": "its GPUs are of generations that remap rows",
    "vgpu_device_page_retirement_pending": "its GPUs are of generations that remap rows",
    "vgpu_device_nvlink_bytes_total": "the one of its GPUs with NVLink is in MIG mode",
    "vgpu_device_nvlink_errors_total": "the one of its GPUs with NVLink is in MIG mode",
    "vgpumonitor_nvml_errors_total": "every call that its driver supports succeeds",
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
    # HAMi-core needs a moment to find its processes on the host.
    eventually(lambda: demo.samples().get("vgpu_process_core_utilization_ratio"), 60)
    eventually(lambda: demo.samples().get("vgpu_device_xid_errors_total"), 60)
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(demo.get("/metrics").decode())
        if not family.name.startswith(("python_", "process_"))
    }
    assert set(families) == set(LABELS)
    for name, family in families.items():
        assert family.documentation == DOCUMENTED_HELP.get(name, family.documentation)
        assert family.documentation, name
        for sample in family.samples:
            assert set(sample.labels) == set(LABELS[name]), name
    assert {name for name, family in families.items() if not family.samples} == set(WITHOUT_SAMPLES)


def test_host_container_allocation_dead_and_bypassed_series_together(demo: Exporter) -> None:
    def seen() -> bool:
        found = demo.samples()
        return (
            max(found["HostGPUMemoryUsage"].values()) > 1 << 30
            and max(found["vGPU_device_memory_usage_in_bytes"].values()) > 1 << 30
            and max(found["vgpu_allocated_memory_bytes"].values()) > 1 << 30
            and max(found["vgpu_dead_process_memory_bytes"].values()) > 1 << 20
            and max(found["vgpu_memory_bypassed_bytes"].values()) > 1 << 20
        )

    eventually(seen, 120)


def test_what_gpus_hold_is_what_containers_and_others_use(demo: Exporter) -> None:
    """NVML and the regions of the simulated node tell one story: they are written one after
    the other, so they are compared until a scrape falls between two steps."""

    def agree() -> bool:
        found = demo.samples()
        used: dict[str, float] = {}
        for family in ("vgpu_nvml_memory_used_bytes", "vgpu_device_memory_unattributed_bytes"):
            for labels, value in found[family].items():
                uuid = dict(labels)["device_uuid"]
                used[uuid] = used.get(uuid, 0) + value
        gpus = {
            dict(labels)["device_uuid"]: value
            for labels, value in found["vgpu_device_memory_used_bytes"].items()
        }
        with_mig = {dict(labels)["device_uuid"] for labels in found["vgpu_mig_device_info"]}
        compared = [uuid for uuid in gpus if uuid not in with_mig]
        assert len(compared) == 4
        return all(abs(gpus[uuid] - used.get(uuid, 0)) < 1 << 20 for uuid in compared)

    eventually(agree, 60)


def test_it_moves(demo: Exporter) -> None:
    before = demo.samples()["vgpu_memory_used_bytes"]
    eventually(lambda: demo.samples()["vgpu_memory_used_bytes"] != before)


def test_every_layout_is_there(demo: Exporter) -> None:
    layouts = {dict(labels)["layout"] for labels in demo.samples()["vgpu_region_info"]}
    assert layouts == {"0", "1.1", "1.1-postinit", "1.2"}


def test_each_pod_of_any_series_has_its_info(demo: Exporter) -> None:
    """The recording rules sum by workload, which vgpu_pod_info alone has."""
    pods = {
        name: {(of["namespace"], of["pod"]) for of in map(dict, series) if "pod" in of}
        for name, series in demo.samples().items()
        if name.startswith("vgpu_")
    }
    known = pods.pop("vgpu_pod_info")
    assert len(known) > 10
    assert {name: found - known for name, found in pods.items() if found - known} == {}


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


def test_it_says_in_two_lines_what_to_open_and_how_to_stop(demo: Exporter) -> None:
    def said() -> list[str]:
        return [line for line in demo.log.splitlines() if not line.startswith("time=")]

    assert eventually(lambda: len(said()) == 2 and said()) == [
        f"Open {demo.url}/ in a browser.",
        "Press Ctrl+C to stop; the demo leaves nothing behind.",
    ]


def test_several_nodes_differ_and_share_workloads() -> None:
    first = free_ports(3)
    with running("demo", "--nodes=3", "--node-name=gpu-node", port=first) as exporter:
        nodes = [Exporter(exporter.process, first + n, exporter.log_path) for n in range(3)]
        pages = [f"{node.url}/" for node in nodes]
        said = f"Open {pages[0]} in a browser (the other nodes: {pages[1]}, {pages[2]}).\n"
        eventually(lambda: said in exporter.log)
        names, models, pods, workloads = [], [], [], []
        for node in nodes:
            eventually(partial(node.value, "vgpumonitor_nvml_up"))
            found = {name: list(map(dict, series)) for name, series in node.samples().items()}
            names.append({labels["node"] for labels in found["vgpumonitor_build_info"]})
            models.append({labels["name"] for labels in found["vgpu_device_info"]})
            pods.append({(o["namespace"], o["pod"]) for o in found["vgpu_pod_info"]})
            workloads.append({(o["workload_kind"], o["workload"]) for o in found["vgpu_pod_info"]})
    assert names == [{"gpu-node-1"}, {"gpu-node-2"}, {"gpu-node-3"}]
    assert models[0] == {"NVIDIA L40S", "NVIDIA A100-SXM4-40GB"}
    assert models[1:] == [{"NVIDIA A100-SXM4-80GB"}, {"NVIDIA H100 80GB HBM3"}]
    assert len(pods[0]) > len(pods[1]) > len(pods[2])
    assert not pods[0] & pods[1] | pods[1] & pods[2] | pods[0] & pods[2]
    assert ("Deployment", "chat-api") in workloads[0] & workloads[1]
    assert ("Job", "llm-finetune") in workloads[0] & workloads[2]
    assert ("StatefulSet", "notebook-anna") in workloads[0]


def test_a_port_that_is_taken_is_named_whichever_node_it_is_of() -> None:
    first = free_ports(3)
    with socket.create_server(("127.0.0.1", first + 2)):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "vgpumonitor", "demo", "--nodes=3"),
                f"--listen-address=127.0.0.1:{first}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"Error: can't listen on 127.0.0.1:{first + 2}: the address is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_nodes_than_ports() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "demo", "--nodes=3", "--listen-address=:65534"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "3 nodes need as many ports, up to 65535" in done.stderr


def test_a_browser_opens_the_page(tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.new\nmv {opened}.new {opened}\n')
    browser.chmod(0o755)
    with running("demo", "--open", env={"BROWSER": str(browser)}) as exporter:
        eventually(opened.exists)
        assert opened.read_text() == f"{exporter.url}/\n"


#: What Python's standard library has on Linux alone, /proc, and watchdog's inotify are gone.
NOT_LINUX = """
import fcntl, mmap, os, select, sys

for module, names in (
    (os, "O_PATH O_TMPFILE O_DIRECT memfd_create eventfd pidfd_open sched_getaffinity splice "
         "copy_file_range posix_fadvise posix_fallocate getrandom setresuid unshare setns"),
    (fcntl, "F_SETLEASE F_SETSIG F_NOTIFY F_ADD_SEALS"),
    (mmap, "MAP_POPULATE"),
    (select, "epoll"),
):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def no_proc(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.addaudithook(no_proc)

import watchdog.observers


def no_observer():
    raise AttributeError("this system's libc has no inotify")


watchdog.observers.Observer = no_observer
"""


def test_without_what_only_linux_has(tmp_path: Path) -> None:
    """As on macOS: the demo with all of its regions, and the commands that look at it."""
    (tmp_path / "sitecustomize.py").write_text(NOT_LINUX)
    env = {"PYTHONPATH": str(tmp_path)}

    def command(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "vgpumonitor", *arguments],
            env={**os.environ, **env},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    with running("demo", env=env) as exporter:

        def whole() -> bool:
            found = exporter.samples()
            return (
                (exporter.value("vgpumonitor_regions", state="ok") or 0) >= 10
                and exporter.value("vgpumonitor_regions", state="unreadable") == 0
                and sum(found["vgpumonitor_regions"].values()) == 14
                and {dict(labels)["layout"] for labels in found["vgpu_region_info"]}
                == {"0", "1.1", "1.1-postinit", "1.2"}
                and len(found["vgpu_device_info"]) == 5
                and max(found["vGPU_device_memory_usage_in_bytes"].values()) > 1 << 30
                and max(found["vgpu_allocated_memory_bytes"].values()) > 1 << 30
                and exporter.value("vgpumonitor_pod_source_up") == 1
            )

        eventually(whole, 60)
        document = json.loads(exporter.get("/api/v1/snapshot"))
        assert document["version"] == 1
        shown = command("top", "--once", exporter.url)
        names = {dict(labels)["pod"] for labels in exporter.samples()["vgpu_memory_used_bytes"]}
        assert any(name in shown for name in names)
        log = exporter.log
    assert "Traceback" not in log
    assert "this system's libc has no inotify" in log
    uid = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11"
    put("hami-2.9.0-three-processes", tmp_path / "containers" / f"{uid}_train" / "x.cache")
    assert "1.2" in command("inspect", str(tmp_path / "containers"))
