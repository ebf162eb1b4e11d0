"""``vgpumonitor serve`` as a process: its HTTP side, its flags, its end."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testing.exporter import Exporter, free_port, running, serve_arguments, wait_for_exit
from testing.polling import eventually
from testing.region_files import put
from testing.values import MIB, OTHER, UID

NAME = f"{UID}_train"
USED = (300 + 7 + 1024 + 310 + 8 + 2048 + 320 + 9 + 3072) * MIB + 3 * 4096
DOCUMENTED_OF_CONTAINERS = (
    "vGPU_device_memory_usage_in_bytes",
    "vGPU_device_memory_limit_in_bytes",
    "Device_memory_desc_of_container",
    "Device_utilization_desc_of_container",
    "Device_last_kernel_of_container",
)


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    directory = tmp_path / "containers"
    put("hami-2.9.0-three-processes", directory / NAME / f"{NAME}.cache")
    return directory


@pytest.fixture
def exporter(containers: Path) -> Iterator[Exporter]:
    with running(*serve_arguments(containers)) as made:
        yield made


class TestMetrics:
    def test_text(self, exporter: Exporter) -> None:
        found = exporter.samples()
        for name in DOCUMENTED_OF_CONTAINERS:
            assert len(found[name]) == 2, name
        assert exporter.value("vGPU_device_memory_usage_in_bytes", vdeviceid="0") == USED
        assert exporter.value("vGPU_device_memory_limit_in_bytes", vdeviceid="1") == 11520 * MIB
        assert exporter.value("Device_utilization_desc_of_container", vdeviceid="0") == 45
        assert exporter.value("vGPU_device_memory_usage_in_bytes", podname=UID, vdeviceid="0")

    def test_formats_and_compression(self, exporter: Exporter) -> None:
        def headers(**asked: str) -> tuple[str, str | None, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
            connection.request("GET", "/metrics", headers=asked)
            answer = connection.getresponse()
            return answer.headers["Content-Type"], answer.headers["Content-Encoding"], answer.read()

        kind, encoding, plain = headers()
        assert (kind, encoding) == ("text/plain; version=0.0.4; charset=utf-8", None)
        assert b"# EOF" not in plain
        openmetrics = (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )
        kind, encoding, body = headers(Accept=openmetrics, **{"Accept-Encoding": "gzip"})
        assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert encoding == "gzip"
        assert gzip.decompress(body).endswith(b"# EOF\n")
        kind, encoding, _ = headers(
            Accept="application/openmetrics-text;q=0", **{"Accept-Encoding": "gzip;q=0"}
        )
        assert (kind, encoding) == ("text/plain; version=0.0.4; charset=utf-8", None)

    def test_name_selects_families(self, exporter: Exporter) -> None:
        found = exporter.samples("/metrics?name[]=vgpu_priority&name[]=vgpumonitor_torn_reads")
        assert set(found) == {"vgpu_priority", "vgpumonitor_torn_reads_total"}

    def test_head(self, exporter: Exporter) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
        connection.request("HEAD", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 1000
        assert answer.read() == b""

    def test_many_at_once_get_the_same_collection(self, exporter: Exporter) -> None:
        together = threading.Barrier(20)

        def get() -> bytes:
            together.wait()
            return exporter.get("/metrics")

        with ThreadPoolExecutor(20) as threads:
            bodies = [each.result() for each in [threads.submit(get) for _ in range(20)]]
        assert all(b"vGPU_device_memory_usage_in_bytes{" in body for body in bodies)
        # Each collection tells its own duration and CPU seconds: two bodies of two are never equal.
        assert len(set(bodies)) < len(bodies)

    def test_restarted_container_leaves_no_second_series(
        self, exporter: Exporter, containers: Path
    ) -> None:
        assert exporter.value("vgpu_region_info", container="train", layout="1.2") == 1
        shutil.rmtree(containers / NAME)
        put("hami-2.8.1-three-processes", containers / NAME / f"{NAME}.cache")
        assert exporter.value("vgpu_region_info", container="train") == 1
        assert exporter.value("vgpu_region_info", layout="1.1-postinit") == 1
        assert exporter.value("vGPU_device_memory_usage_in_bytes", vdeviceid="0") == USED

    def test_removed_container_has_no_series(self, exporter: Exporter, containers: Path) -> None:
        assert exporter.value("vgpu_region_info", container="train") == 1
        shutil.rmtree(containers / NAME)
        found = exporter.samples()
        assert not [name for name in DOCUMENTED_OF_CONTAINERS if name in found]


class TestHealth:
    def test_healthz(self, exporter: Exporter) -> None:
        assert exporter.status("/healthz") == (200, "ok\n")

    def test_ready(self, exporter: Exporter) -> None:
        eventually(lambda: exporter.status("/readyz")[0] == 200)
        sources, _, found = exporter.status("/readyz")[1].partition("[!]")
        assert sources == "[+] containers directory ok\n[+] pods (none) ok\n"
        assert " info pods-source-none: No source of pods is used: --pods=none" in found

    def test_a_missing_hook_path_is_no_reason_to_end(self, tmp_path: Path) -> None:
        missing = tmp_path / "nowhere" / "containers"
        with running("serve", f"--hook-path={missing.parent}", "--nvml=off", "--pods=none") as it:
            status, text = it.status("/readyz")
            assert status == 503
            assert str(missing) in text
            for _ in range(2):
                count = it.value("vgpumonitor_region_errors_total", reason="no_directory")
            assert count is not None
            assert count >= 2
            assert it.log.count(str(missing)) == 1
            put("hami-2.9.0-three-processes", missing / NAME / "x.cache")
            assert it.value("vgpumonitor_regions", state="ok") == 1
            assert it.status("/readyz")[0] == 200

    def test_other_paths(self, exporter: Exporter) -> None:
        assert exporter.status("/nothing")[0] == 404


class TestEnd:
    def test_sigterm_answers_open_scrapes(self, exporter: Exporter) -> None:
        """A scrape that began before the signal is answered whole."""
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1)
            exporter.process.send_signal(signal.SIGTERM)
            body = b"H"
            while chunk := connection.recv(65536):
                body += chunk
        head, _, text = body.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        assert len(text) == length
        assert exporter.process.wait(10) == 0

    def test_idle_connections_do_not_hold_it(self, exporter: Exporter) -> None:
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=30):
            exporter.process.send_signal(signal.SIGTERM)
            wait_for_exit(exporter.process, 10)
        assert exporter.process.returncode == 0

    def test_a_second_instance_says_what_is_wrong(
        self, exporter: Exporter, containers: Path
    ) -> None:
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "vgpumonitor",
                *serve_arguments(containers, f"--listen-address=127.0.0.1:{exporter.port}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1
        assert f"can't listen on 127.0.0.1:{exporter.port}: the address is in use" in second.stderr
        assert "Traceback" not in second.stderr
        assert exporter.status("/healthz")[0] == 200


def test_an_address_that_is_not_this_machines_is_said_in_words(containers: Path) -> None:
    # Of TEST-NET-1, which nobody has (RFC 5737).
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "vgpumonitor"),
            *serve_arguments(containers, "--listen-address=192.0.2.1:9394"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "Error: can't listen on 192.0.2.1:9394: Cannot assign requested address"
    )


class TestFlags:
    def test_a_wrong_one_is_named(self) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "vgpumonitor", "serve", "--pods=file:"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 2
        assert "--pods" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_environment_and_second_names(self, containers: Path) -> None:
        port = free_port()
        env = {
            "HOOK_PATH": str(containers.parent),
            "NODE_NAME": "from-env",
            "VGPUMONITOR_PODS": "none",
            "VGPUMONITOR_NVML": "off",
            "VGPUMONITOR_METRICS": "vgpu",
            "HAMI_RESYNC_INTERVAL": "soon",
            "VGPUMONITOR_LOG_FORMAT": "json",
        }
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vgpumonitor",
                "serve",
                f"--metrics-bind-address=127.0.0.1:{port}",
            ],
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
        )
        it = Exporter(process, port, Path())
        try:
            eventually(lambda: it.status("/healthz")[0] == 200)
            found = it.samples()
            assert "vgpu_region_info" in found
            assert "vGPU_device_memory_usage_in_bytes" not in found
        finally:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
        lines = [json.loads(line) for line in log.decode().splitlines()]
        assert {"serving", "stopping"} <= {line["msg"] for line in lines}
        (ignored,) = [line for line in lines if line["msg"] == "environment variable ignored"]
        assert ignored["variable"] == "HAMI_RESYNC_INTERVAL"
        assert all({"time", "level", "logger"} <= set(line) for line in lines)

    def test_several_addresses_and_ipv6(self, containers: Path) -> None:
        second = free_port()
        with running(*serve_arguments(containers, f"--listen-address=[::1]:{second}")) as it:
            connection = http.client.HTTPConnection("::1", second, timeout=30)
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok\n"
            assert it.status("/healthz")[0] == 200

    def test_version(self) -> None:
        out = subprocess.run(
            [sys.executable, "-m", "vgpumonitor", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert out == "vgpumonitor, version 0.1.0\n"


@pytest.mark.parametrize(("liveness", "warns"), [("on", True), ("auto", False)])
def test_liveness_without_the_hosts_processes(
    containers: Path, tmp_path: Path, liveness: str, warns: bool
) -> None:
    """Asked for, it is done and warned of; auto leaves it."""
    (tmp_path / "proc" / "1").mkdir(parents=True)
    arguments = serve_arguments(containers)
    arguments.remove("--process-liveness=off")
    flags = f"--process-liveness={liveness}", f"--procfs={tmp_path / 'proc'}"
    with running(*arguments, *flags) as it:
        used = it.value("vGPU_device_memory_usage_in_bytes", vdeviceid="0")
        assert used == (0 if warns else USED)
        assert ("the host's processes are not visible" in it.log) == warns


class TestHostileContainersBesideGoodOnes:
    """Each is one directory; the good ones' series stay complete, scrape after scrape."""

    def test_all_at_once(self, exporter: Exporter, containers: Path) -> None:
        def directory(number: int) -> Path:
            path = containers / f"{OTHER[:-4]}{number:04x}_bad"
            path.mkdir()
            return path

        (directory(1) / "x.cache").touch()
        (directory(2) / "x.cache").write_bytes(b"\xff" * 2008953)
        os.mkfifo(directory(3) / "x.cache")
        (directory(4) / "x.cache").mkdir()
        (directory(5) / "x.cache").symlink_to("/etc/passwd")
        with (directory(6) / "x.cache").open("wb") as file:
            file.truncate(1 << 40)
        truncated = put("hami-2.9.0-three-processes", directory(7) / "x.cache")
        (containers / "lost+found").mkdir()
        assert exporter.value("vgpumonitor_regions", state="ok") == 2
        os.truncate(truncated, 500)
        for _ in range(3):
            assert exporter.value("vGPU_device_memory_usage_in_bytes", vdeviceid="0") == USED
        states = {
            dict(labels)["state"]: value
            for labels, value in exporter.samples()["vgpumonitor_regions"].items()
        }
        assert states == {"ok": 1, "waiting": 0, "unreadable": 7}
        reasons = {
            dict(labels)["reason"]: value
            for labels, value in exporter.samples()["vgpumonitor_region_errors_total"].items()
            if value
        }
        assert set(reasons) == {
            "bad_magic",
            "bad_name",
            "empty",
            "not_regular",
            "symlink",
            "truncated",
            "uninitialized",
        }
        assert exporter.log.count("reason=symlink") == 1
        assert exporter.log.count("reason=truncated") == 1


def test_events_bring_a_container_at_once(containers: Path) -> None:
    """Twenty containers; each has its series at the first scrape after its file is there."""
    with running(*serve_arguments(containers)) as it:
        seen = []
        for number in range(20):
            name = f"{OTHER[:-2]}{number:02x}_c"
            (containers / name).mkdir()
            put("hami-2.6.0-three-processes", containers / name / f"{name}.cache")
            seen.append(it.value("vgpumonitor_regions", state="ok"))
        assert seen == [number + 2 for number in range(20)]
