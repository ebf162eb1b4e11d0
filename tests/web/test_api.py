"""The snapshot as JSON: its values, and the schema that describes it."""

from __future__ import annotations

import copy
import gzip
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from msgspec import structs

from testing.exporter import running
from testing.polling import eventually
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
    pods_view,
    process,
    region,
    snapshot,
    use,
)
from tests.web.page_server import PageServer
from vgpumonitor import __version__
from vgpumonitor.controllers import CleanupHealth, FeedbackHealth
from vgpumonitor.diagnosis import KINDS
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot, PodAllocation, XidContainer
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import (
    DeviceHealth,
    DeviceProcess,
    MigDevice,
    ProcessUtilization,
)
from vgpumonitor.sources.pods import Allocation, MigAllocation, Pod, PodContainer, PodsView
from vgpumonitor.web.api import schema, snapshot_document

POD = Pod(
    UID,
    "team-a",
    "train-0",
    "Running",
    {"train": PodContainer("train")},
    allocations=(Allocation("", 3, 20 * GIB, 0.5),),
)
MIG = "MIG-8664316c-6888-5063-1e4d-f2a09cfbf1aa"
MIG_DEVICE = MigDevice(MIG, "1g.10gb", 7, 0, 10 * GIB, 2 * GIB, ())
VALIDATOR = Draft202012Validator(json.loads(schema()))


def document(found: NodeSnapshot) -> dict[str, Any]:
    """The document as a consumer gets it, after it has stood the schema."""
    read: dict[str, Any] = json.loads(json.dumps(snapshot_document(found)))
    VALIDATOR.validate(read)
    return read


def one(*entries: Any, **more: Any) -> dict[str, Any]:
    """The only container of a snapshot."""
    (container,) = document(snapshot(*entries, **more))["containers"]
    found: dict[str, Any] = container
    return found


def full() -> NodeSnapshot:
    """A snapshot with something of everything."""
    made = snapshot(
        entry(region(process(use(300 * MIB, 7 * MIB, 2 * GIB, sm=40), hostpid=100))),
        entry(
            region(process(use(data=MIB), hostpid=200), recent_kernel=-1, priority=5),
            OTHER,
            "infer",
        ),
        entry(None, OTHER, "idle"),
        entry(None, UID, "broken", error="not a regular file but a pipe"),
        pods=pods_view(POD),
        gpus=[
            gpu(
                throttled={"power": True, "thermal": False},
                pci_bus_id="00000000:3B:00.0",
                power_limit_watts=300.0,
                row_remap_pending=False,
                pcie_width=16,
                max_pcie_width=16,
                ecc_errors={"corrected": 2},
                processes=(
                    DeviceProcess(900, 5 * MIB),
                    DeviceProcess(100, 3 * GIB, ProcessUtilization(60, 20, 0, 1)),
                ),
            ),
            gpu(GPU_2, 1, 4, mig_devices=(MIG_DEVICE,)),
        ],
        live=(100, 200),
        on_devices={900: None},
    )
    return replace(
        made,
        xids=(
            DeviceXid(1, GPU_2, MIG, 94, 2, NOW - 7, (XidContainer("a", "b", "c"),)),
            DeviceXid(0, GPU, "", 4711, 1, NOW - 9, ()),
        ),
        health=replace(
            made.health,
            devices=DeviceHealth("NVML", True, {("nvmlDeviceGetPowerUsage", GPU): 3}),
            feedback=FeedbackHealth(5, {"recent_kernel": 1}, NOW - 2),
            cleanup=CleanupHealth(1, None),
            region_errors={"not_regular": 1, "empty": 0},
        ),
    )


class TestSchema:
    def test_is_itself_right(self) -> None:
        Draft202012Validator.check_schema(json.loads(schema()))

    def test_describes_every_field_and_admits_no_other(self) -> None:
        objects = list(_objects(json.loads(schema())))
        assert len(objects) > 12
        for found in objects:
            if "properties" not in found:  # A map from names to values of one type.
                assert found["additionalProperties"]["type"] == "integer"
                continue
            assert found["additionalProperties"] is False
            assert sorted(found["required"]) == sorted(found["properties"])
            for name, field in found["properties"].items():
                inner = [field, *field.get("oneOf", [])]
                assert any("description" in part for part in inner), name

    @pytest.mark.parametrize("break_it", ["extra", "missing", "wrong"])
    def test_a_wrong_document_fails(self, break_it: str) -> None:
        broken = copy.deepcopy(document(full()))
        device = broken["containers"][0]["devices"][0]
        if break_it == "extra":
            device["more"] = 1
        elif break_it == "missing":
            del device["uuid"]
        else:
            device["memory_used_bytes"] = -1
        with pytest.raises(ValidationError):
            VALIDATOR.validate(broken)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for child in node.values():
            yield from _objects(child)
    elif isinstance(node, list):
        for child in node:
            yield from _objects(child)


class TestDocument:
    def test_of_an_empty_node(self) -> None:
        found = document(snapshot(live=()))
        assert found == {
            "version": 1,
            "exporter_version": __version__,
            "node": "node-1",
            "time": NOW,
            "devices": [],
            "containers": [],
            "allocations": [],
            "mig_allocations": [],
            "xid_errors": [],
            "sources": [
                {"name": "containers directory", "up": True, "synced": None, "error": None},
                {"name": "pods (file)", "up": True, "synced": NOW - 5, "error": None},
                {"name": "GPUs", "up": None, "synced": None, "error": None},
            ],
            "feedback": None,
            "cleanup": None,
            "region_errors": {},
            "findings": [],
        }

    def test_of_a_gpu(self) -> None:
        found = document(full())
        assert found["devices"][0] == {
            "uuid": GPU,
            "vendor": "NVIDIA",
            "index": 0,
            "minor": 3,
            "name": "A100",
            "driver_version": "570.1",
            "cuda_version": "12.8",
            "memory_total_bytes": 40 * GIB,
            "memory_used_bytes": 20 * GIB,
            "core_utilization_percent": 75,
            "memory_utilization_percent": 30,
            "up": True,
            "serial": None,
            "pci_bus_id": "00000000:3B:00.0",
            "power_watts": 250.5,
            "power_limit_watts": 300.0,
            "temperature_celsius": 61,
            "memory_temperature_celsius": None,
            "ecc_errors": {"corrected": 2},
            "throttled": ["power"],
            "conditions": [],
            "memory_reserved_bytes": None,
            "dead_memory_bytes": 0,
            "unattributed_memory_bytes": 5 * MIB,
            "mig_devices": [],
        }
        assert found["devices"][1]["mig_devices"] == [
            {
                "uuid": MIG,
                "name": "1g.10gb",
                "gpu_instance_id": 7,
                "compute_instance_id": 0,
                "memory_total_bytes": 10 * GIB,
                "memory_used_bytes": 2 * GIB,
            }
        ]

    @pytest.mark.parametrize(
        ("readings", "conditions"),
        [
            ({"pcie_width": 8, "max_pcie_width": 16}, ["PCIe x8 of x16"]),
            (
                {"pcie_generation": 3, "max_pcie_generation": 5},
                ["PCIe generation 3 of 5"],
            ),
            # An idle link slows down.
            ({"pcie_generation": 1, "max_pcie_generation": 5, "core_utilization": 0}, []),
            ({"pcie_width": 16, "max_pcie_width": None}, []),
            (
                {"row_remap_pending": True, "row_remap_failed": True},
                ["row remap failed", "row remap pending"],
            ),
            ({"page_retirement_pending": True}, ["page retirement pending"]),
        ],
    )
    def test_what_is_the_matter_with_a_gpu(
        self, readings: dict[str, Any], conditions: list[str]
    ) -> None:
        (found,) = document(snapshot(gpus=[gpu(**readings)]))["devices"]
        assert found["conditions"] == conditions

    def test_of_a_gpu_that_is_lost(self) -> None:
        (found,) = document(snapshot(gpus=[gpu().without_readings()]))["devices"]
        assert (found["up"], found["conditions"]) == (False, ["lost"])
        assert (found["index"], found["name"], found["memory_total_bytes"]) == (0, "A100", None)

    def test_of_a_container(self) -> None:
        used = 2 * GIB + 307 * MIB
        assert document(full())["containers"][0] == {
            "namespace": "team-a",
            "pod": "train-0",
            "container": "train",
            "pod_uid": UID,
            "pod_known": True,
            "status": "running",
            "region_state": "ok",
            "error": None,
            "path": f"{UID}_train",
            "layout": "1.2",
            "priority": 1,
            "core_limit_enforced": True,
            "launches_blocked": False,
            "blocked_by": [],
            "last_kernel_time": NOW - 60,
            "devices": [
                {
                    "index": 0,
                    "uuid": GPU,
                    "memory_used_bytes": used,
                    "memory_limit_bytes": 10 * GIB,
                    "memory_by_kind": {
                        "context": 300 * MIB,
                        "module": 7 * MIB,
                        "data": 2 * GIB,
                        "other": 0,
                    },
                    "device_uuid": GPU,
                    "device_index": 0,
                    "mig_uuid": None,
                    "dead_memory_bytes": 0,
                    "core_utilization_percent": 40,
                    "core_limit_percent": 50,
                    "driver": {
                        "memory_used_bytes": 3 * GIB,
                        "core_utilization_percent": 60,
                        "memory_controller_utilization_percent": 20,
                        "encoder_utilization_percent": 0,
                        "decoder_utilization_percent": 1,
                    },
                    "bypassed_memory_bytes": 0,
                    "implausible": [],
                }
            ],
            "processes": [
                {
                    "pid": 7,
                    "host_pid": 100,
                    "state": "running",
                    "devices": [
                        {
                            "uuid": GPU,
                            "memory_used_bytes": used,
                            "core_utilization_percent": 40,
                            "driver_memory_used_bytes": 3 * GIB,
                            "driver_core_utilization_percent": 60,
                        }
                    ],
                }
            ],
            "problems": [],
        }

    def test_of_the_rest(self) -> None:
        found = document(full())
        assert found["allocations"] == [
            {
                "namespace": "team-a",
                "pod": "train-0",
                "device_uuid": GPU,
                "device_minor": 3,
                "memory_bytes": 20 * GIB,
                "core_percent": 50,
            }
        ]
        assert found["xid_errors"] == [
            {
                "device_uuid": GPU_2,
                "device_index": 1,
                "mig_uuid": MIG,
                "xid": 94,
                "class": "application",
                "meaning": "a memory error that ECC could not correct hit one program; others go "
                "on",
                "action": "Restart the program. Reset the GPU when it is free.",
                "count": 2,
                "last_time": NOW - 7,
                "containers": [{"namespace": "a", "pod": "b", "container": "c"}],
            },
            {
                "device_uuid": GPU,
                "device_index": 0,
                "mig_uuid": None,
                "xid": 4711,
                "class": "unknown",
                "meaning": "an error that this version of vgpumonitor does not know",
                "action": "Look it up in NVIDIA's XID catalogue, and in the kernel's log: "
                "dmesg -T | grep -i xid.",
                "count": 1,
                "last_time": NOW - 9,
                "containers": [],
            },
        ]
        assert found["sources"][2]["up"] is True
        assert found["feedback"] == {"rounds": 5, "last_round": NOW - 2}
        assert found["cleanup"] == {"removed": 1, "last_round": None}
        assert found["region_errors"] == {"not_regular": 1}

    def test_of_mig_devices_that_were_given(self) -> None:
        pod = replace(POD, mig_allocations=(MigAllocation("train", 0, GPU, MIG, "1g.10gb", 7, 0),))
        found = document(snapshot(entry(region(uuids=[MIG])), pods=pods_view(pod)))
        assert found["mig_allocations"] == [
            {
                "namespace": "team-a",
                "pod": "train-0",
                "container": "train",
                "device_uuid": GPU,
                "mig_uuid": MIG,
                "profile": "1g.10gb",
                "gpu_instance_id": 7,
                "compute_instance_id": 0,
            }
        ]

    def test_an_allocation_may_name_no_gpu(self) -> None:
        made = replace(
            snapshot(), allocations=(PodAllocation("a", "b", "", None, None, None, None),)
        )
        (found,) = document(made)["allocations"]
        assert found["device_uuid"] is None
        assert found["core_percent"] is None

    @pytest.mark.parametrize(("limit", "sm_limit"), [(0, 0), (0, 100)])
    def test_no_limit_is_null(self, limit: int, sm_limit: int) -> None:
        (device,) = one(entry(region(limit=limit, sm_limit=sm_limit)))["devices"]
        assert (device["memory_limit_bytes"], device["core_limit_percent"]) == (None, None)
        assert device["implausible"] == []

    def test_what_a_gpu_cannot_have_is_null_and_named(self) -> None:
        found = region(process(use(data=50 * GIB, sm=101)), limit=16 * 40 * GIB + 1)
        (device,) = one(entry(found), gpus=[gpu()])["devices"]
        assert device["memory_used_bytes"] is None
        assert device["memory_by_kind"] == {"context": 0, "module": 0, "data": None, "other": None}
        assert device["memory_limit_bytes"] is None
        assert device["core_utilization_percent"] is None
        assert device["implausible"] == [
            "memory_limit_bytes",
            "memory_used_bytes",
            "core_utilization_percent",
        ]

    @pytest.mark.parametrize("time", [None, 0])
    def test_no_kernel_yet_is_null(self, time: int | None) -> None:
        assert one(entry(region(last_kernel_time=time)))["last_kernel_time"] is None

    def test_a_gpu_that_nvml_does_not_tell_is_there(self) -> None:
        dead = process(use(data=7 * MIB), hostpid=200)
        found = document(
            snapshot(
                entry(region(dead, uuids=[GPU_2])),
                entry(region(uuids=[MIG]), OTHER),
                gpus=[gpu(mig_devices=(MIG_DEVICE,))],
                live=(1,),
            )
        )
        assert [(one["uuid"], one["index"]) for one in found["devices"]] == [
            (GPU, 0),
            (GPU_2, None),
        ]
        assert found["devices"][1]["dead_memory_bytes"] == 7 * MIB

    def test_dead_memory_of_a_mig_device_is_its_gpus(self) -> None:
        dead = process(use(data=7 * MIB), hostpid=200)
        found = document(
            snapshot(
                entry(region(dead, uuids=[MIG])),
                gpus=[gpu(mig_devices=(MIG_DEVICE,))],
                live=(1,),
            )
        )
        assert [one["dead_memory_bytes"] for one in found["devices"]] == [7 * MIB]

    def test_dead_memory_is_unknown_where_that_of_a_container_is(self) -> None:
        found = document(
            snapshot(entry(region(process(use(data=MIB)))), gpus=[gpu()], unfound="unidentified")
        )
        assert found["containers"][0]["devices"][0]["dead_memory_bytes"] is None
        assert found["devices"][0]["dead_memory_bytes"] is None

    def test_text_of_a_container_stays_text_that_json_has(self) -> None:
        hostile = structs.replace(
            entry(None, error="<img src=x>\udcff\x1b[31m"), path='a/<b>"\udcfe\n.cache'
        )
        found = one(hostile)
        assert found["error"] == "<img src=x>\\udcff\x1b[31m"
        assert found["path"] == 'a/<b>"\\udcfe\n.cache'

    def test_problems_of_a_region(self) -> None:
        bad = structs.replace(
            region(), problems=(("bad_uuid", "the UUID is b'\\x00'"),), torn=2, missing=1
        )
        assert one(entry(bad))["problems"] == [
            {"reason": "bad_uuid", "message": "the UUID is b'\\x00'"},
            {
                "reason": "torn",
                "message": "2 process slots stayed half-written: 1 are left out, the others are as "
                "they were last seen whole",
            },
        ]

    def test_sources_that_are_down(self) -> None:
        made = snapshot(pods=PodsView(up=False))
        made = replace(
            made,
            health=replace(
                made.health,
                containers=ContainersView(error="can't look at \udcff"),
                devices=DeviceHealth("NVML", False, {}),
            ),
        )
        assert document(made)["sources"] == [
            {
                "name": "containers directory",
                "up": False,
                "synced": None,
                "error": "can't look at \\udcff",
            },
            {"name": "pods (file)", "up": False, "synced": None, "error": None},
            {"name": "GPUs (NVML)", "up": False, "synced": None, "error": None},
        ]


class TestFindings:
    def test_say_what_where_and_why(self) -> None:
        bad = entry(None, error="magic \x1b\udcff")
        found = document(snapshot(bad, pods=pods_view(POD), live=()))["findings"]
        (kind,) = [kind for kind in KINDS if kind.id == "region-unreadable"]
        assert found == [
            {
                "id": "region-unreadable",
                "severity": "warning",
                "title": kind.title,
                "why": kind.why,
                "mend": kind.mend,
                "document": "docs/troubleshooting.md#region-unreadable",
                "seen": [
                    {
                        "subject": "team-a/train-0/train",
                        "text": f"magic \x1b\\udcff ({UID}_train)",
                    }
                ],
            }
        ]


class TestStatus:
    @pytest.mark.parametrize(
        ("found", "status"),
        [
            (entry(None), "waiting"),
            (entry(None, error="empty"), "unreadable"),
            (entry(region()), "no_process"),
            (entry(region(process(use(), status=0))), "no_process"),
            (entry(region(process(use(), hostpid=999))), "no_process"),
            (entry(region(process(use()))), "running"),
            (entry(region(process(use(), status=2))), "suspended"),
            (entry(region(process(use(), status=2), process(use(), pid=8))), "running"),
            (entry(region(process(use()), recent_kernel=-1)), "blocked"),
        ],
    )
    def test_is_one_word(self, found: Any, status: str) -> None:
        assert one(found, live=(100,))["status"] == status


class TestBlockedBy:
    def test_names_active_containers_of_higher_priority_on_a_shared_gpu(self) -> None:
        def named(name: str, uid: str = OTHER, **more: Any) -> Any:
            return entry(region(process(use(), use()), **more), uid, name)

        found = document(
            snapshot(
                named("blocked", UID, priority=2, recent_kernel=-1, uuids=[GPU, GPU_2]),
                named("first", priority=0, recent_kernel=2, uuids=[GPU_2]),
                named("both", priority=1, recent_kernel=1, uuids=[GPU, GPU_2]),
                named("same", priority=2, recent_kernel=2),
                named("uncounted", priority=-1, recent_kernel=2),
                named("quiet", priority=0, recent_kernel=0),
                named("elsewhere", priority=0, recent_kernel=2, uuids=[MIG]),
            )
        )
        blocked, *others = found["containers"]
        assert blocked["launches_blocked"] is True
        assert sorted((by["container"], by["priority"]) for by in blocked["blocked_by"]) == [
            ("both", 1),
            ("first", 0),
        ]
        assert {by["pod"] for by in blocked["blocked_by"]} == {OTHER}
        assert all(other["blocked_by"] == [] for other in others)


class TestHttp:
    @pytest.fixture
    def server(self) -> Iterator[PageServer]:
        server = PageServer(full())
        yield server
        server.close()

    def test_serves_the_document(self, server: PageServer) -> None:
        with urllib.request.urlopen(f"{server.url}/api/v1/snapshot", timeout=20) as response:
            assert json.load(response) == document(full())
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Encoding"] is None

    def test_compresses_where_asked(self, server: PageServer) -> None:
        request = urllib.request.Request(
            f"{server.url}/api/v1/snapshot", headers={"Accept-Encoding": "gzip"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert response.headers["Vary"] == "Accept-Encoding"
            assert json.loads(gzip.decompress(response.read())) == document(full())

    def test_serves_the_schema(self, server: PageServer) -> None:
        with urllib.request.urlopen(f"{server.url}/api/v1/schema", timeout=20) as response:
            assert response.headers.get_content_type() == "application/schema+json"
            assert json.load(response) == json.loads(schema())


def test_what_a_running_exporter_serves_stands_its_schema() -> None:
    with running("demo", "--gpus=2", "--containers=12") as exporter:
        served = json.loads(exporter.get("/api/v1/schema"))
        assert served == json.loads(schema())

        def complete() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(exporter.get("/api/v1/snapshot"))
            VALIDATOR.validate(found)
            assert len(found["devices"]) == 2
            assert any(container["status"] == "running" for container in found["containers"])
            return found

        found = eventually(complete)
        assert {gpu["uuid"] for gpu in found["devices"]} >= {
            allocated["device_uuid"] for allocated in found["allocations"]
        }
        assert b"<title>vgpumonitor</title>" in exporter.get("/")
