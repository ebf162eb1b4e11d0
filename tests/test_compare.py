from __future__ import annotations

import math
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from vgpumonitor import compare as module
from vgpumonitor.cli import main
from vgpumonitor.compare import (
    CompareError,
    Comparison,
    Difference,
    FamilyComparison,
    Tolerance,
    compare,
    compare_families,
    families,
)

TOLERANCE = Tolerance()
TLS = ssl.create_default_context()

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
vGPU_device_memory_usage_in_bytes{podname="p",ctrname="c",zone="vGPU"} 1040
vGPU_device_memory_usage_in_bytes{podname="r",ctrname="c",zone="vGPU"} 6
# TYPE vgpu_region_info gauge
vgpu_region_info{layout="1.1"} 1
vgpu_region_info{layout="1.2"} 1
python_info{version="3"} 1
"""


def compared(a: str, b: str, tolerance: Tolerance = TOLERANCE) -> Comparison:
    return compare_families(families(a, "A"), families(b, "B"), tolerance)


def one(a: str, b: str, tolerance: Tolerance = TOLERANCE) -> FamilyComparison:
    (family,) = compared(a, b, tolerance).families
    return family


def test_extra_labels_do_not_part_series() -> None:
    comparison = compared(VGPUMONITOR, OURS)
    assert not comparison.equal
    assert comparison.families == (
        FamilyComparison(
            name="HostGPUMemoryUsage",
            labels_only_a=(),
            labels_only_b=("devicetype", "nodeid"),
            only_a=(),
            only_b=(),
            differing=(
                Difference(
                    (("deviceidx", "1"), ("deviceuuid", "GPU-b"), ("zone", "vGPU")), 2e9, 3e9
                ),
            ),
            alike=1,
        ),
        FamilyComparison(
            name="vGPU_device_memory_usage_in_bytes",
            labels_only_a=(),
            labels_only_b=(),
            only_a=(((("ctrname", "c"), ("podname", "q"), ("zone", "vGPU")), 5.0),),
            only_b=(((("ctrname", "c"), ("podname", "r"), ("zone", "vGPU")), 6.0),),
            differing=(),
            alike=1,
        ),
        FamilyComparison(
            name="vgpu_region_info",
            labels_only_a=(),
            labels_only_b=(),
            only_a=(),
            only_b=(((("layout", "1.1"),), 1.0), ((("layout", "1.2"),), 1.0)),
            differing=(),
            alike=0,
        ),
    )


def test_equal() -> None:
    comparison = compared(VGPUMONITOR, VGPUMONITOR)
    assert comparison.equal
    assert [(one.name, one.alike) for one in comparison.families] == [
        ("HostGPUMemoryUsage", 2),
        ("vGPU_device_memory_usage_in_bytes", 2),
    ]


def test_labels_that_hold_values_name_no_series() -> None:
    name = "Device_memory_desc_of_container"
    family = one(
        f'{name}{{podname="p",context="1",module="2",data="3",offset="4"}} 10\n',
        f'{name}{{podname="p",context="9",module="2",data="0",offset="0"}} 10\n',
    )
    assert (family.equal, family.alike) == (True, 1)


def test_empty_label_is_an_absent_one() -> None:
    family = one('a{x="",y="1"} 1\na{x="2",y="2"} 2\n', 'a{y="1"} 1\na{x="2",y="2"} 2\n')
    assert (family.equal, family.alike) == (True, 2)


def test_series_that_share_their_labels_are_paired_by_value() -> None:
    a = 'a{x="1"} 100\n'
    b = 'a{x="1",pid="1"} 5\na{x="1",pid="2"} 100\n'
    family = one(a, b)
    assert family.alike == 1
    assert family.differing == ()
    assert family.only_b == (((("pid", "1"), ("x", "1")), 5.0),)
    family = one(a, b.replace(" 100", " 200"))
    assert family.alike == 0
    assert family.differing == (Difference((("x", "1"),), 100.0, 5.0),)
    assert family.only_b == (((("pid", "2"), ("x", "1")), 200.0),)


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "alike"),
    [
        (100, 105, Tolerance(), True),
        (100, 95, Tolerance(), True),
        (100, 106, Tolerance(), False),
        (0, 0, Tolerance(), True),
        (0, 1, Tolerance(), False),
        (0, 1, Tolerance(absolute=1), True),
        (0, 1.5, Tolerance(absolute=1), False),
        (100, 101, Tolerance(relative=0), False),
        (100, 101, Tolerance(relative=0, absolute=2), True),
        (-100, 100, Tolerance(), False),
        (math.nan, math.nan, Tolerance(), True),
        (math.nan, 1, Tolerance(), False),
        (math.inf, math.inf, Tolerance(), True),
        (math.inf, 1e300, Tolerance(), False),
    ],
)
def test_tolerance(a: float, b: float, tolerance: Tolerance, alike: bool) -> None:
    assert tolerance.alike(a, b) is alike
    assert tolerance.alike(b, a) is alike
    assert one(f"a {a}\n", f"a {b}\n", tolerance).equal is alike


class _Handler(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, str, bytes]]] = {
        "/vgpumonitor": (200, "text/plain; version=0.0.4", VGPUMONITOR.encode()),
        "/metrics": (200, "text/plain; version=0.0.4; charset=utf-8", OURS.encode()),
        "/": (200, "text/html", b"<p>the page</p>"),
        "/ours": (200, "text/plain; version=0.0.4; charset=utf-8", OURS.encode()),
        "/page": (200, "text/html", b"<p>hello</p>"),
        "/broken": (200, "text/plain", b"a{ 1\n"),
        "/latin1": (200, "text/plain", b'a{x="\xe9"} 1\n'),
        "/hostile": (200, "text/plain", b'a{x="[red]\x1b[31m"} 1\n'),
        "/other": (200, "text/plain", b'a{x="b"} 1\n'),
        "/cut": (200, "text/plain", b""),
    }
    hanging = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/login":
            status, kind, body = self.answers["/ours"]
            if self.headers["Authorization"] != "Basic YTpzZWNyZXQ=":
                status = 401
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


def lines(text: str) -> list[str]:
    """The table's rows, without its frame and padding."""
    bare = "".join(" " if one in "│┃║" else one for one in text)
    return [" ".join(line.split()) for line in bare.splitlines() if "─" not in line]


def run(url_a: str, url_b: str) -> Result:
    return CliRunner().invoke(main, ["compare", url_a, url_b])


def test_command_lists_the_differences(base: str) -> None:
    done = run(f"{base}/vgpumonitor", f"{base}/ours")
    shown = lines(done.stdout)
    assert (done.exit_code, done.stderr) == (1, "")
    start = next(i for i, line in enumerate(shown) if line.startswith("HostGPUMemoryUsage"))
    assert shown[:2] == [f"A: {base}/vgpumonitor", f"B: {base}/ours"]
    assert shown[start:] == [
        "HostGPUMemoryUsage labels only in B: devicetype, nodeid",
        'HostGPUMemoryUsage {deviceidx="1",deviceuuid="GPU-b",zone="vGPU"} 2000000000 3000000000',
        'vGPU_device_memory_usage_in_bytes {ctrname="c",podname="q",zone="vGPU"} 5 missing',
        'vGPU_device_memory_usage_in_bytes {ctrname="c",podname="r",zone="vGPU"} missing 6',
        "vgpu_region_info missing 2 series",
        "2 series alike, 1 different, 1 only in A, 3 only in B",
    ]


def test_command_of_equal_ones(base: str) -> None:
    done = run(f"{base}/ours", f"{base}/ours")
    assert done.exit_code == 0
    assert lines(done.stdout)[-1] == ("6 series alike, 0 different, 0 only in A, 0 only in B")


@pytest.mark.parametrize("path", ["", "/"])
def test_an_address_alone_stands_for_its_metrics(base: str, path: str) -> None:
    done = run(base + path, f"{base}/metrics")
    assert done.exit_code == 0
    assert lines(done.stdout)[-1].startswith("6 series alike")


def test_command_shows_hostile_labels_as_text(base: str) -> None:
    done = run(f"{base}/hostile", f"{base}/other")
    assert done.exit_code == 1
    assert 'a {x="[red]\\u001b[31m"} 1 missing' in lines(done.stdout)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/absent", "{url}: status 404 Not Found, expected 200"),
        ("/page", "{url}: content type text/html, expected text/plain"),
        ("/broken", "{url}: invalid text format: could not convert string to float: '{{'"),
        (
            "/latin1",
            "{url}: 'utf-8' codec can't decode byte 0xe9 in position 5: invalid continuation byte",
        ),
        ("/hangs", "{url}: no complete answer within 0.5 s"),
    ],
)
def test_error_names_the_url(
    base: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "/hangs":
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    url = base + path
    for pair in ((url, f"{base}/ours"), (f"{base}/ours", url)):
        done = run(*pair)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"Error: {message.format(url=url)}\n"


def test_error_of_a_cut_answer(base: str) -> None:
    with pytest.raises(CompareError, match=f"^{base}/cut: "):
        compare(f"{base}/cut", f"{base}/ours", TOLERANCE, TLS)


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1/", "http://", "http://[::1"])
def test_error_of_a_wrong_url(base: str, url: str) -> None:
    with pytest.raises(CompareError) as caught:
        compare(f"{base}/ours", url, TOLERANCE, TLS)
    assert str(caught.value) == f"{url}: invalid URL: expected http:// or https:// and a host"


def test_login_in_the_url_is_sent_and_not_shown(base: str) -> None:
    with_login = base.replace("//", "//a:secret@")
    done = run(f"{with_login}/login", f"{with_login}/login")
    assert done.exit_code == 0
    assert "secret" not in done.stdout
    done = run(f"{with_login.replace('secret', 'guess')}/login", f"{base}/ours")
    assert done.exit_code == 2
    assert done.stderr == f"Error: {base}/login: status 401 Unauthorized, expected 200\n"
