"""The command on nodes made of files, as a process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from testing import pods
from testing.exporter import free_port, running
from testing.nvml import simulated_nvml
from testing.region_files import put
from testing.tools import require
from testing.values import GIB, GPU, OTHER, UID
from vgpumonitor.simulate.nvml.state import Memory, SimulatedDevice, SimulatedNvml
from vgpumonitor.simulate.procfs import SimulatedProcfs, pod_cgroup

pytestmark = pytest.mark.slow

NAME = f"{UID}_train"
NVML = SimulatedNvml(
    devices=(
        SimulatedDevice(
            uuid=GPU,
            name="NVIDIA L40S",
            minor=3,
            memory=Memory(46 * GIB, 20 * GIB, GIB),
            utilization=(75, 30),
            compute={100000: 3 * GIB, 100001: 4 * GIB, 100002: 5 * GIB},
        ),
    ),
)


class Node:
    """A node with a pod of three processes, on which all is well."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hook_path = directory / "vgpu"
        put("hami-2.9.0-three-processes", self.hook_path / "containers" / NAME / f"{NAME}.cache")
        (self.hook_path / "libvgpu.so").write_bytes(b"\x7fELF")
        self.procfs = SimulatedProcfs(directory / "proc")
        for place in range(3):
            self.procfs.add(100000 + place, "python3", pod_cgroup(UID, "c" * 64), (7567 + place,))
        self.pods = pods.write(
            directory / "pods.json",
            pods.pod("train-0", UID, annotations={pods.HAMI: f"{GPU},NVIDIA,11520,50:;"}),
        )
        self.port = free_port()

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            f"--hook-path={self.hook_path}",
            f"--procfs={self.procfs.directory}",
            f"--pods=file:{self.pods}",
            "--node-name=node-1",
            f"--mig-lock-file={self.directory / 'lock'}",
        )

    def doctor(self, *arguments: str, width: int = 80) -> subprocess.CompletedProcess[str]:
        return doctor(
            *self.flags,
            f"--listen-address=127.0.0.1:{self.port}",
            *arguments,
            **simulated_nvml(NVML, self.directory),
            COLUMNS=str(width),
        )

    def json(self) -> tuple[int, Any]:
        done = self.doctor("--json")
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)


def doctor(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "doctor", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **env},
        timeout=60,
        check=False,
    )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def without_privileges(*program: str, hook_path: Path) -> subprocess.CompletedProcess[str]:
    """``doctor --json`` of a Python ``program`` for which file modes hold, also for root."""
    wrapper = () if os.getuid() else (require("setpriv"), "--bounding-set=-all")
    return subprocess.run(
        [
            *(*wrapper, sys.executable, *program, "doctor", "--json"),
            *(f"--hook-path={hook_path}", "--pods=none", "--nvml=off"),
            f"--listen-address=127.0.0.1:{free_port()}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def ids(document: Any) -> dict[str, list[str]]:
    return {
        finding["id"]: [seen["text"] for seen in finding["seen"]]
        for finding in document["findings"]
    }


class TestNode:
    def test_in_order_but_for_the_exporter_that_does_not_run(self, node: Node) -> None:
        status, document = node.json()
        address = f"127.0.0.1:{node.port}"
        assert ids(document) == {"exporter-silent": [f"{address}: Connection refused"]}
        assert status == document["exit_status"] == 0
        assert document["node"] == "node-1"
        looked_at = document["looked_at"]
        assert re.fullmatch(r"user \d+, capabilities: .+", looked_at.pop("this process"))
        assert looked_at.pop("cgroups") in ("v1", "v2")
        assert looked_at == {
            "containers directory": f"{node.hook_path}/containers: 1 directory, 1 region file",
            "HAMi-core in use": "HAMi 2.8.2 on, 2.9 (layout 1.2): 1",
            "libvgpu.so": "libvgpu.so (release unknown, 4 B)",
            "GPUs": "NVML, 1 GPU, driver 570.124.06",
            "pods": "file: 1 on this node, 1 with GPUs",
            "host's processes": "seen",
            "koordlet": "none seen",
            "port": f"{address}: Connection refused",
        }

    @pytest.mark.parametrize("width", [80, 120])
    def test_a_table_says_what_is_wrong_and_what_to_do(self, node: Node, width: int) -> None:
        (node.hook_path / "containers" / NAME / f"{NAME}.cache").write_bytes(b"nothing of ours")
        done = node.doctor(width=width)
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        assert lines[0] == "node-1: 1 warning, 1 info"
        assert max(map(len, lines)) <= width
        text = " ".join(done.stdout.split())
        for part in ("A region file can't be read", "vgpumonitor inspect on the", "Looked at"):
            assert part in text
        assert "`" not in done.stdout

    def test_without_a_containers_directory(self, node: Node) -> None:
        (node.hook_path / "containers").rename(node.hook_path / "elsewhere")
        status, document = node.json()
        assert status == 2
        missing = f"{node.hook_path}/containers: No such file or directory"
        found = ids(document)
        assert missing in found["containers-directory-missing"][0]
        assert found["hami-no-directories"] == ["has no directory, and processes on GPU 0"]

    def test_a_hook_path_that_may_only_be_searched(self, tmp_path: Path) -> None:
        """As the exporter's user may have it: to search the directories above is enough."""
        hook_path = tmp_path / "vgpu"
        (hook_path / "containers").mkdir(parents=True)
        hook_path.chmod(0o311)
        done = without_privileges("-m", "vgpumonitor", hook_path=hook_path)
        hook_path.chmod(0o755)
        assert (done.returncode, done.stderr) == (0, "")
        looked_at = json.loads(done.stdout)["looked_at"]
        found = f"{hook_path}/containers: 0 directories, 0 region files"
        assert looked_at["containers directory"] == found
        assert looked_at["libvgpu.so"] == (
            f"{hook_path} is not there, not readable, or not mounted here"
        )

    def test_a_folder_of_sockets_that_root_alone_may_enter(self, tmp_path: Path) -> None:
        """As containerd makes NRI's: whether NRI is offered is unknown, and the rest is told."""
        nri, containerd = tmp_path / "nri", tmp_path / "containerd"
        nri.mkdir(mode=0)
        containerd.mkdir()
        places = f"Path({str(nri / 'nri.sock')!r}), Path({str(containerd)!r})"
        program = (
            "from pathlib import Path; from vgpumonitor.doctor import traces; "
            f"traces.NRI, traces.CONTAINERD = {places}; "
            "from vgpumonitor.cli import main; main()"
        )
        done = without_privileges("-c", program, hook_path=tmp_path)
        nri.chmod(0o755)
        assert (done.returncode, done.stderr) == (2, "")
        assert "containers-directory-missing" in ids(json.loads(done.stdout))

    def test_nothing_is_written(self, node: Node) -> None:
        def everything() -> dict[str, tuple[int, int]]:
            return {
                str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
                for path in node.directory.rglob("*")
                if path.name != "nvml.json" and path != node.directory
            }

        before = everything()
        node.doctor()
        assert everything() == before


class TestExporterHere:
    @contextmanager
    def exporter(self, node: Node, *arguments: str) -> Iterator[None]:
        env = simulated_nvml(NVML, node.directory)
        with running("serve", *node.flags[:2], *arguments, env=env) as exporter:
            node.port = exporter.port
            yield

    def test_what_only_it_knows_is_told_too(self, node: Node) -> None:
        with self.exporter(node, "--pods=none", "--node-name=node-1"):
            status, document = node.json()
        assert status == 0
        assert ids(document) == {"pods-source-none": ["--pods=none, or nothing else was there"]}
        assert "vgpumonitor" in document["looked_at"]["port"]

    def test_one_that_writes_beside_another_monitor(self, node: Node) -> None:
        node.procfs.add(900, "vGPUmonitor", "/kubepods")
        with self.exporter(node, "--pods=none", "--feedback"):
            status, document = node.json()
        assert status == 1
        assert ids(document)["monitors-compete"] == ["vGPUmonitor's PIDs: 900"]

    @pytest.mark.parametrize("cleans", [False, True])
    def test_what_is_left_to_clean_up_depends_on_whether_it_does(
        self, node: Node, cleans: bool
    ) -> None:
        left = node.hook_path / "containers" / f"{OTHER}_train"
        left.mkdir()
        os.utime(left, (1_700_000_000, 1_700_000_000))
        with self.exporter(node, "--pods=none", *(["--gc"] if cleans else [])):
            _, document = node.json()
        assert ("directories-left" in ids(document)) != cleans

    def test_another_program(self, node: Node) -> None:
        class NotFound(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", node.port), NotFound)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            status, document = node.json()
        finally:
            server.shutdown()
            server.server_close()
        assert status == 2
        assert ids(document)["port-taken"] == [
            f"127.0.0.1:{node.port}: it answers 404 to GET /api/v1/snapshot"
        ]

    def test_a_program_of_another_protocol(self, node: Node) -> None:
        def greet() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-other\r\n")

        server = socket.create_server(("127.0.0.1", node.port))
        threading.Thread(target=greet, daemon=True).start()
        with server:
            status, document = node.json()
        assert status == 2
        assert ids(document)["port-taken"] == [
            f"127.0.0.1:{node.port}: it speaks neither HTTP nor TLS"
        ]


class TestUrl:
    def test_the_findings_of_the_exporter_there(self, node: Node) -> None:
        (node.hook_path / "containers" / NAME / f"{NAME}.cache").write_bytes(b"nothing of ours")
        with running("serve", *node.flags, "--nvml=off") as exporter:
            served = json.loads(exporter.get("/api/v1/snapshot"))["findings"]
            done = doctor(exporter.url, "--json")
        assert (done.returncode, done.stderr) == (1, "")
        document = json.loads(done.stdout)
        assert document["findings"] == served
        assert list(ids(document)) == ["region-unreadable"]
        assert document["looked_at"] == {}

    def test_nobody_there(self) -> None:
        done = doctor(f"http://user:secret@127.0.0.1:{free_port()}")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Error: can't get a snapshot from http://127.0.0.1:" in done.stderr
        assert "secret" not in done.stderr
