"""The command: what it prints, its exit status, and exporters that can't be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from vgpumonitor.cli import main
from vgpumonitor.compare import command, fetch

VGPUMONITOR = """\
# HELP HostGPUMemoryUsage GPU device memory usage
# TYPE HostGPUMemoryUsage gauge
HostGPUMemoryUsage{deviceidx="0",deviceuuid="GPU-a",zone="vGPU"} 1e+09
HostGPUMemoryUsage{deviceidx="1",deviceuuid="GPU-b",zone="vGPU"} 2e+09
# TYPE vGPU_device_memory_usage_in_bytes gauge
vGPU_device_memory_usage_in_bytes{ctrname="c",podname="p",zone="vGPU"} 1000
vGPU_device_memory_usage_in_bytes{ctrname="c",podname="q",zone="vGPU"} 5
go_goroutines 7
process_open_fds 4
"""
OURS = """\
# TYPE HostGPUMemoryUsage gauge
HostGPUMemoryUsage{nodeid="n",deviceidx="0",deviceuuid="GPU-a",devicetype="T",zone="vGPU"} 1e+09
HostGPUMemoryUsage{nodeid="n",deviceidx="1",deviceuuid="GPU-b",devicetype="T",zone="vGPU"} 3e+09
# TYPE vGPU_device_memory_usage_in_bytes gauge
vGPU_device_memory_usage_in_bytes{podname="p",ctrname="c",zone="vGPU"} 1000
vGPU_device_memory_usage_in_bytes{podname="r",ctrname="c",zone="vGPU"} 6
# TYPE vgpu_region_info gauge
vgpu_region_info{layout="1.1"} 1
vgpu_region_info{layout="1.2"} 1
python_info{version="3"} 1
"""
MORE = """\
vgpu_priority{pod="p"} 1
vgpu_priority{pod="q"} 1
hami_vgpu_memory_used_bytes 5
"""
OTHER = b'a{pod="b"} 1\nc{pod="b"} 1\n'
HOSTILE = b'a{pod="[red]\x1b[31m"} 1\nc{pod="[red]\x1b[31m"} 1\n'


class _Handler(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, str, bytes]]] = {
        "/vgpumonitor": (200, "text/plain; version=0.0.4", VGPUMONITOR.encode()),
        "/metrics": (200, "text/plain; version=0.0.4; charset=utf-8", OURS.encode()),
        "/": (200, "text/html", b"<p>the page</p>"),
        "/ours": (200, "text/plain; version=0.0.4; charset=utf-8", OURS.encode()),
        "/more": (200, "text/plain", (OURS + MORE).encode()),
        "/page": (200, "text/html", b"<p>hello</p>"),
        "/broken": (200, "text/plain", b"a{ 1\n"),
        "/latin1": (200, "text/plain", b'a{x="\xe9"} 1\n'),
        "/hostile": (200, "text/plain", HOSTILE + OTHER),
        "/other": (200, "text/plain", OTHER),
        "/cut": (200, "text/plain", b""),
        "/nothing": (200, "text/plain", b"process_open_fds 4\n"),
    }
    hanging = threading.Event()
    live: ClassVar[dict[str, Iterator[str]]] = {}

    def do_GET(self) -> None:
        if self.path == "/login":
            status, kind, body = self.answers["/ours"]
            if self.headers["Authorization"] != "Basic YTpzZWNyZXQ=":
                status = 401
        elif self.path in self.live:
            body = next(self.live[self.path]).encode()
            status, kind = 200, "text/plain; version=0.0.4"
        elif self.path == "/hangs":
            self.hanging.wait(60)
            return
        else:
            status, kind, body = self.answers.get(self.path, (404, "text/plain", b""))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + (self.path == "/cut")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news: it goes when the other side failed."""


@contextmanager
def exporters() -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        _Handler.hanging.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with exporters() as url:
        yield url


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five looks, that take no time."""
    monkeypatch.setattr(fetch, "INTERVAL", 0.001)
    monkeypatch.setattr(command, "WAIT", 0.02)


@pytest.fixture
def live(base: str) -> Iterator[Callable[[str, Iterable[str]], str]]:
    """The URL of a path that has another text each time, the last one from then on."""

    def serve(path: str, texts: Iterable[str]) -> str:
        texts = tuple(texts)
        _Handler.live[path] = chain(texts, repeat(texts[-1]))
        return base + path

    yield serve
    _Handler.live.clear()


def run(url_a: str, url_b: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["compare", url_a, url_b, *options])


def test_command_shows_the_differences_and_what_one_side_has(base: str) -> None:
    done = run(f"{base}/vgpumonitor", f"{base}/ours")
    assert (done.exit_code, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"A: {base}/vgpumonitor",
        f"B: {base}/ours",
        "",
        "Only in B, 1 family, 2 series: vgpu_region_info",
        "Labels only in B: devicetype, nodeid, of HostGPUMemoryUsage",
        "",
        "GPU GPU-b: its one series differs",
        '  HostGPUMemoryUsage{deviceidx="1",deviceuuid="GPU-b",zone="vGPU"}'
        "  A 2000000000  B 3000000000",
        "",
        "Container q/c: its one series is only in A",
        '  vGPU_device_memory_usage_in_bytes{ctrname="c",podname="q",zone="vGPU"}  A 5  B missing',
        "",
        "Container r/c: its one series is only in B",
        '  vGPU_device_memory_usage_in_bytes{ctrname="c",podname="r",zone="vGPU"}  A missing  B 6',
        "",
        "2 series agree, 3 differ for 3 causes",
    ]


def test_command_of_equal_ones(base: str) -> None:
    done = run(f"{base}/ours", f"{base}/ours")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[2:] == ["", "6 series agree"]


def test_families_of_one_side_are_a_difference_only_where_asked(base: str) -> None:
    more = (f"{base}/ours", f"{base}/more")
    done = run(*more)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[3:] == [
        "Only in B, 2 families, 3 series: hami_vgpu_memory_used_bytes, vgpu_priority",
        "",
        "6 series agree",
    ]
    assert run(*more, "--strict").exit_code == 1
    assert run(*reversed(more), "--strict").exit_code == 1
    assert run(f"{base}/ours", f"{base}/ours", "--strict").exit_code == 0


def test_nothing_in_common_is_no_agreement(base: str) -> None:
    done = run(f"{base}/ours", f"{base}/nothing")
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: the two have no family in common: "
        "expected the same sets of families (serve --metrics), or --dcgm for a dcgm-exporter\n"
    )


def test_a_long_cause_is_shown_by_some_of_its_series(
    live: Callable[[str, Iterable[str]], str],
) -> None:
    a = live("/a", ["".join(f'x{{n="{n}"}} {n}\n' for n in range(9))])
    b = live("/b", ["".join(f'x{{n="{n}"}} {2 * n}\n' for n in range(9))])
    done = run(a, b)
    assert done.stdout.splitlines()[3:] == [
        "x: 8 of 9 series differ: B is A × 2",
        '  x{n="1"}  A 1  B 2',
        '  x{n="2"}  A 2  B 4',
        '  x{n="3"}  A 3  B 6',
        "  and 5 more (--list shows all)",
        "",
        "1 series agrees, 8 differ for 1 cause",
    ]
    listed = run(a, b, "--list").stdout.splitlines()
    assert listed[4:-2] == [f'  x{{n="{n}"}}  A {n}  B {2 * n}' for n in range(1, 9)]


def test_many_causes_are_a_line_each(live: Callable[[str, Iterable[str]], str]) -> None:
    def series(pod: str) -> str:
        return "".join(f'{name}{{pod="{pod}"}} 1\n' for name in "uvwxyz")

    pods = {f"p{n:02}": series(f"p{n:02}") for n in range(24)}
    a = live("/a", ["".join(pods.values())])
    b = live("/b", ["".join(text for pod, text in pods.items() if pod < "p10")])
    shown = run(a, b).stdout.splitlines()
    assert shown[-4:] == [
        "Pod p22: all its 6 series are only in A",
        "Pod p23: all its 6 series are only in A",
        "",
        "60 series agree, 84 differ for 14 causes",
    ]
    assert sum(line.startswith("Pod ") for line in shown) == 14
    assert sum("{" in line for line in shown) == 30
    assert sum("{" in line for line in run(a, b, "--list").stdout.splitlines()) == 84


def test_values_that_move_are_looked_at_again(live: Callable[[str, Iterable[str]], str]) -> None:
    a = live("/a", ["x_bytes 1\ny 1\n", "x_bytes 7\ny 1\n", "x_bytes 3\ny 1\n"])
    b = live("/b", ["x_bytes 5\ny 1\n", "x_bytes 2\ny 1\n", "x_bytes 9\ny 1\n"])
    done = run(a, b, "--wait=30")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "2 series agree (1 of them moved meanwhile)"
    a = live("/a", ["x_bytes 1\n", "x_bytes 7\n"])
    b = live("/b", ["x_bytes 5\n", "x_bytes 2\n"])
    assert run(a, b, "--wait=0").exit_code == 1


def test_tolerance_by_kind(live: Callable[[str, Iterable[str]], str]) -> None:
    a = live("/a", ["x_bytes 100\nx_power_watts 100\n"])
    b = live("/b", ["x_bytes 101\nx_power_watts 109\n"])
    assert run(a, b, "--tolerance=bytes=1").exit_code == 1
    assert run(a, b, "--tolerance=power=10%").exit_code == 1
    assert run(a, b, "--tolerance=bytes=1", "--tolerance=power=10%").exit_code == 0


def test_dcgm(live: Callable[[str, Iterable[str]], str]) -> None:
    device = 'gpu="0",UUID="GPU-a",device="nvidia0",modelName="T",Hostname="n"'
    dcgm = (
        f"DCGM_FI_DEV_FB_USED{{{device}}} 500\n"
        f"DCGM_FI_DEV_GPU_TEMP{{{device}}} 54\n"
        f"DCGM_FI_PROF_SM_ACTIVE{{{device}}} 0.5\n"
        f"DCGM_FI_PROF_SM_OCCUPANCY{{{device}}} 0.5\n"
    )
    ours = 'vgpu_device_temperature_celsius{device_uuid="GPU-a"} 55\n'
    memory = 'vgpu_device_memory_used_bytes{device_uuid="GPU-a"}'
    a, b = live("/a", [dcgm]), live("/b", [f"{ours}{memory} {500 << 20}\n"])
    done = run(a, b, "--dcgm")
    assert (done.exit_code, done.stdout.splitlines()[3:]) == (
        0,
        [
            "Not compared (needs DCGM's profiling): DCGM_FI_PROF_SM_ACTIVE, "
            "DCGM_FI_PROF_SM_OCCUPANCY",
            "",
            "2 series agree",
        ],
    )
    done = run(a, live("/c", [f"{ours}{memory} {600 << 20}\n"]), "--dcgm", "--wait=0")
    assert done.exit_code == 1
    assert '  DCGM_FI_DEV_FB_USED{UUID="GPU-a"}  A 500  B 600' in done.stdout.splitlines()
    done = run(b, b, "--dcgm")
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: neither serves DCGM's fields (DCGM_FI_…): "
        "expected one dcgm-exporter, and one vgpumonitor\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "size=1",
            "unknown kind of value 'size': expected bytes, utilization, temperature, power, clock, "
            "time, rate, other",
        ),
        (
            "power",
            "invalid tolerance 'power': expected a number or a percentage, such as power=5%",
        ),
        (
            "power=-1",
            "invalid tolerance 'power=-1': expected a number or a percentage, such as power=5%",
        ),
        (
            "power=nan",
            "invalid tolerance 'power=nan': expected a number or a percentage, such as power=5%",
        ),
    ],
)
def test_wrong_tolerance(base: str, text: str, message: str) -> None:
    done = run(base, base, f"--tolerance={text}")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"Error: Invalid value for '--tolerance': {message}"


@pytest.mark.parametrize("path", ["", "/"])
def test_an_address_alone_stands_for_its_metrics(base: str, path: str) -> None:
    done = run(base + path, f"{base}/metrics")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "6 series agree"


def test_command_shows_hostile_labels_as_text(base: str) -> None:
    done = run(f"{base}/hostile", f"{base}/other")
    assert done.exit_code == 1
    assert '  a{pod="[red]\\u001b[31m"}  A 1  B missing' in done.stdout.splitlines()
    assert "Pod [red]\\x1b[31m: all its 2 series are only in A" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/absent", "{url}: status 404 Not Found, expected 200"),
        ("/page", "{url}: content type text/html, expected text/plain"),
        (
            "/broken",
            "{url}: expected Prometheus's text format: could not convert string to float: '{{'",
        ),
        (
            "/latin1",
            "{url}: not UTF-8 at byte 5: expected Prometheus's text format",
        ),
        ("/hangs", "{url}: no complete answer within 0.5 s"),
    ],
)
def test_error_names_the_url(
    base: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "/hangs":
        monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    url = base + path
    for pair in ((url, f"{base}/ours"), (f"{base}/ours", url)):
        done = run(*pair)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"Error: {message.format(url=url)}\n"


def test_error_of_a_cut_answer(base: str) -> None:
    done = run(f"{base}/cut", f"{base}/ours")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {base}/cut: ")


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1/", "http://", "http://[::1"])
def test_error_of_a_wrong_url(base: str, url: str) -> None:
    done = run(f"{base}/ours", url)
    assert done.exit_code == 2
    assert done.stderr == f"Error: {url}: invalid URL: expected http:// or https:// and a host\n"


def test_login_in_the_url_is_sent_and_not_shown(base: str) -> None:
    with_login = base.replace("//", "//a:secret@")
    done = run(f"{with_login}/login", f"{with_login}/login")
    assert done.exit_code == 0
    assert "secret" not in done.stdout
    done = run(f"{with_login.replace('secret', 'guess')}/login", f"{base}/ours")
    assert done.exit_code == 2
    assert done.stderr == f"Error: {base}/login: status 401 Unauthorized, expected 200\n"
