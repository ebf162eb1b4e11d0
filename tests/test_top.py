"""``vgpumonitor top`` in a real terminal, into a pipe, and its parts."""

from __future__ import annotations

import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

from testing.exporter import free_port
from testing.polling import eventually
from testing.tools import require
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
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot, XidContainer
from vgpumonitor.sources.devices import DeviceProcess, ProcessUtilization
from vgpumonitor.sources.pods import Pod, PodsView
from vgpumonitor.sources.processes import ContainerRef
from vgpumonitor.top.draw import once, render
from vgpumonitor.top.fetch import FetchError, from_url
from vgpumonitor.top.rows import SORTS, rows_of
from vgpumonitor.top.view import View, parse_keys, press, shown
from vgpumonitor.web.api import snapshot_document

TLS = ssl.create_default_context()


def node(number: int = 3, when: float = NOW) -> NodeSnapshot:
    """``number`` containers on GPU 0, the one with the most memory with the fewest cores; a
    waiting one; dead and unattributed memory."""
    entries = [
        entry(
            region(
                process(use(data=(place + 1) * 100 * MIB, sm=40 - place), hostpid=1000 + place),
                limit=(10 - place % 9) * GIB,
                last_kernel_time=int(NOW) - 60 * place,
            ),
            UID,
            f"c{place:03}",
        )
        for place in range(number)
    ]
    return snapshot(
        *entries,
        entry(None, OTHER, "idle", changed=NOW - 60),
        pods=pods_view(Pod(UID, "team-a", "train-0"), Pod(OTHER, "team-b", "infer-0")),
        gpus=[gpu(processes=(DeviceProcess(900, 700 * MIB),)), gpu(GPU_2, 1, 4)],
        live=range(1000, 1000 + number),
        on_devices={900: None},
        time=when,
    )


def document(found: NodeSnapshot | None = None) -> dict[str, Any]:
    return snapshot_document(found or node())


def containers(found: dict[str, Any], view: View) -> list[str]:
    return [row.container for row in shown(rows_of(found), view)]


class TestRows:
    def test_are_one_per_container_and_device(self) -> None:
        found = document(
            snapshot(
                entry(region(process(use(data=MIB, sm=3), use(data=GIB)), uuids=[GPU, GPU_2])),
                entry(region(limit=0, sm_limit=100, last_kernel_time=None), OTHER, "free"),
                gpus=[gpu()],
            )
        )
        first, second, third = rows_of(found)
        assert (first.device, first.memory, first.cores) == ("0", MIB, 3)
        assert (first.memory_limit, first.core_limit, first.idle) == (10 * GIB, 50, 60)
        assert (second.device, second.memory, second.cores) == ("GPU-8664316c", GIB, 0)
        assert (third.memory_limit, third.core_limit, third.idle) == (None, None, None)

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ("memory", ["c002", "c001", "c000", "idle"]),
            ("cores", ["c000", "c001", "c002", "idle"]),
            ("idle", ["c002", "c001", "c000", "idle"]),
            ("limit", ["c002", "c001", "c000", "idle"]),
            ("name", ["c000", "c001", "c002", "idle"]),
            ("gpu", ["c000", "c001", "c002", "idle"]),
            ("state", ["c000", "c001", "c002", "idle"]),
        ],
    )
    def test_are_sorted(self, sort: str, expected: list[str]) -> None:
        assert containers(document(), View(sort=sort)) == expected

    def test_without_a_value_stay_last_in_reverse(self) -> None:
        found = containers(document(), View(sort="memory", reverse=True))
        assert found == ["c000", "c001", "c002", "idle"]

    @pytest.mark.parametrize(
        ("terms", "expected"),
        [
            ("TEAM-A c001", ["c001"]),
            ("waiting", ["idle"]),
            ("gpu 0 running", ["c002", "c001", "c000"]),
            ("nothing", []),
        ],
    )
    def test_are_filtered_by_every_term(self, terms: str, expected: list[str]) -> None:
        assert containers(document(), View(filter=terms)) == expected


class TestKeys:
    def test_of_the_terminal_are_told_apart(self) -> None:
        keys = parse_keys(b"m\x1b[A\x1b[B\x1b[5~\x1b[6~\x1b[H\x1b[F/a\x7f\r\x1b")
        assert " ".join(keys) == ("m up down pageup pagedown home end / a backspace enter escape")

    def test_choose_the_order(self) -> None:
        for name, (key, _, _) in SORTS.items():
            assert press(View(first=5, reverse=True), key, 10) == View(sort=name)
        assert len({key for key, _, _ in SORTS.values()} | set("qr/")) == len(SORTS) + 3
        assert press(View(), "r", 10) == View(reverse=True)

    def test_scroll(self) -> None:
        view = View(first=20)
        firsts = [press(view, key, 10) for key in ("up", "down", "pageup", "pagedown", "home")]
        assert [found.first for found in firsts if found] == [19, 21, 10, 30, 0]
        assert press(View(), "up", 10) == View()

    def test_type_a_filter(self) -> None:
        view: View | None = View(first=3)
        for key in ["/", "q", "x", "backspace", "enter"]:
            assert view is not None
            view = press(view, key, 10)
        assert view == View(filter="q")
        assert press(View(filter="q"), "escape", 10) == View()
        assert press(View(filter="q", typing=True), "escape", 10) == View()
        assert press(View(typing=True), "up", 10) == View(typing=True)

    def test_end(self) -> None:
        assert press(View(), "q", 10) is None


def screen(
    found: dict[str, Any] | None, view: View, width: int, height: int, trouble: str | None = None
) -> list[str]:
    console = Console(width=width, height=height, color_system=None)
    picture, _, _ = render(found, view, width, height, trouble)
    with console.capture() as captured:
        console.print(picture)
    return captured.get().splitlines()


class TestScreen:
    @pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 10), (120, 12)])
    @pytest.mark.parametrize("number", [0, 3, 60])
    def test_is_filled_and_not_overrun(self, width: int, height: int, number: int) -> None:
        lines = screen(document(node(number)), View(), width, height)
        assert len(lines) == height
        assert max(map(len, lines)) <= width

    def test_many_gpus_leave_room_for_containers(self) -> None:
        gpus = [gpu(f"{GPU[:-2]}{place:02}", place, place) for place in range(16)]
        made = snapshot(entry(region(uuids=[gpus[0].uuid])), gpus=gpus)
        lines = screen(document(made), View(), 80, 24)
        assert len(lines) == 24
        assert "and 6 more GPUs" in lines[11]
        assert any("no process" in line for line in lines)

    def test_scrolls_to_the_end_and_no_further(self) -> None:
        _, view, page = render(document(node(60)), View(first=10_000), 80, 24)
        assert view.first == 61 - page
        last = screen(document(node(60)), view, 80, 24)[-2]
        assert "waiting" in last

    def test_says_what_is_wrong(self) -> None:
        made = snapshot(
            entry(None, error="a pipe\x1b[31m"),
            pods=PodsView(up=False, synced=NOW - 200),
            live=(),
        )
        lines = once(document(made), View()).splitlines()
        assert [line for line in lines if line[:2] in ("▲ ", "! ", "i ")] == [
            f"! A region file can't be read  {UID}/train: a pipe\\x1b[31m ({UID}_train)",
            "! The pods can't be read  file, last read 3 min ago: no answer yet",
        ]
        text = "\n".join(screen(document(made), View(), 120, 24, trouble="no answer"))
        assert "a pipe\\x1b[31m" in text
        assert "! no answer" in text
        assert "\x1b" not in text

    def test_says_which_errors_gpus_had(self) -> None:
        names = (XidContainer("team-a", "train-0", "a\x1b[31m"), XidContainer("", OTHER, "b"))
        made = replace(
            node(1),
            xids=(
                DeviceXid(1, GPU_2, "", 79, 1, NOW - 5, ()),
                DeviceXid(0, GPU, "", 31, 3, NOW - 200, names),
            ),
        )
        lines = once(document(made), View()).splitlines()
        assert [line for line in lines if line.startswith("XID")] == [
            "XID 79 on GPU 1, 5 s ago: the GPU has fallen off the bus: the driver can't reach it "
            "any more. On it then: no container. Drain the node and switch its power off and on. "
            "If it comes back, check the GPU's seat, power and cooling, and have it replaced.",
            "XID 31 on GPU 0, 3 min ago (3 times): a program accessed GPU memory that it does not "
            f"have. On it then: team-a/train-0/a\\x1b[31m, {OTHER}/b. Restart the program. If it "
            "comes back, look for a fault in the program (compute-sanitizer finds invalid "
            "accesses); if different programs have it on this GPU only, test the GPU.",
        ]
        text = screen(document(made), View(), 80, 24)
        assert [line[:27] for line in text[4:6]] == [
            "XID 79 on GPU 1, 5 s ago: t",
            "XID 31 on GPU 0, 3 min ago ",
        ]
        assert len(text) == 24

    def test_before_the_first_answer(self) -> None:
        assert screen(None, View(), 80, 24) == ["Asking the exporter…"]
        assert screen(None, View(), 80, 24, "no answer") == ["no answer"]


class TestOnce:
    def test_is_plain_text_with_every_row(self) -> None:
        lines = once(document(node(200)), View()).splitlines()
        assert re.fullmatch(r"node-1  201 containers  \d\d:\d\d:\d\d", lines[0])
        assert lines[1].endswith(
            "20.0 GiB of 40.0 GiB  cores  75%  in no pod 700 MiB  250 W  61 °C  A100"
        )
        assert " ".join(lines[3].split()) == (
            "NAMESPACE POD CONTAINER GPU MEMORY DRIVER LIMIT CORES DRIVER LIMIT IDLE STATE"
        )
        assert len(lines) == 4 + 201
        assert lines[-1].split() == ["team-b", "infer-0", "idle", *"––––––––", "waiting"]
        assert not any(line != line.rstrip() for line in lines)

    def test_figures(self) -> None:
        dead = region(
            process(use(data=19 * GIB // 2, sm=12), hostpid=100),
            process(use(data=GIB), hostpid=101, pid=8),
            recent_kernel=-1,
            last_kernel_time=int(NOW) - 200,
        )
        driver = DeviceProcess(100, 39 * GIB // 4, ProcessUtilization(core=20))
        made = snapshot(entry(dead), gpus=[gpu(processes=(driver,))], live=(100,))
        lines = once(document(made), View()).splitlines()
        assert "dead 1.00 GiB" in lines[1]
        expected = f"– {UID} train 0 9.50 GiB 9.75 GiB 10.0 GiB 12% 20% 50% 3 min blocked"
        assert lines[-1].split() == expected.split()

    def test_what_is_the_matter_with_a_gpu_comes_first(self) -> None:
        narrow = gpu(pcie_width=8, max_pcie_width=16, page_retirement_pending=True)
        lines = once(document(snapshot(gpus=[narrow, gpu("GPU-2", 1).without_readings()])), View())
        assert "  page retirement pending  PCIe x8 of x16  20.0 GiB of 40.0 GiB" in lines
        assert "  lost  memory unknown  cores    –  A100\n" in lines

    def test_what_is_not_known_is_unknown_and_no_zero(self) -> None:
        """A GPU whose driver tells nothing, with a container that was never seen whole and one
        whose limit can't be true; and one that only the driver knows, without a limit that
        anybody would know."""
        torn = structs.replace(region(process(use(data=GIB))), torn=1, missing=1)
        nonsense = region(process(use(data=2 * GIB), hostpid=101), limit=1 << 60, sm_limit=100)
        driver = DeviceProcess(300, None, None)
        made = snapshot(
            entry(torn),
            entry(nonsense, OTHER, "nonsense"),
            gpus=[
                gpu(memory_used=None, core_utilization=None),
                gpu(GPU_2, 1, memory_used=None, processes=(driver,)),
            ],
            live=(100, 101),
            on_devices={300: ContainerRef(UID, "")},
        )
        lines = once(document(made), View()).splitlines()
        assert "2.00 GiB of 40.0 GiB by containers, 1 unknown  cores    –" in lines[1]
        assert "memory unknown of 40.0 GiB  cores  75%" in lines[2]
        assert "░" not in lines[2]
        shown = {" ".join(line.split()[2:4]): line.split()[4:] for line in lines[4:]}
        assert shown["train 0"][:6] == ["–", "–", "10.0", "GiB", "–", "–"]
        assert shown["nonsense 0"][:7] == ["2.00", "GiB", "–", "–", "–", "–", "none"]
        assert shown["train 1"][:6] == ["–"] * 6

    def test_a_blocked_container_says_for_whom_it_waits(self) -> None:
        high = Pod(OTHER, "team-a", "chat-0", "Running")
        low = Pod(UID, "team-a", "low", "Running")
        made = snapshot(
            entry(region(process(use()), recent_kernel=-1, priority=1)),
            entry(region(process(use()), recent_kernel=2, priority=0), OTHER, "chat"),
            pods=pods_view(low, high),
        )
        blocked = next(line for line in once(document(made), View()).splitlines() if "low" in line)
        assert blocked.endswith("blocked by chat-0")

    def test_a_container_that_bypasses_hami_core_says_so(self) -> None:
        processes = (DeviceProcess(100, GIB), DeviceProcess(207, 2 * GIB))
        made = document(
            snapshot(
                entry(region(process(use(data=GIB)))),
                entry(region(process(use(data=GIB), hostpid=101)), OTHER, "honest"),
                gpus=[gpu(processes=processes)],
                live=(100, 101),
                on_devices={207: ContainerRef(UID, "")},
            )
        )
        bypassing = View(filter="bypass")
        assert containers(made, bypassing) == ["train"]
        assert once(made, bypassing).splitlines()[-1].endswith("  running, bypasses with 2.00 GiB")
        narrow = next(line for line in screen(made, bypassing, 100, 24) if " train " in line)
        assert narrow.rstrip().endswith(" running, bypasses")


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer(node())
    yield server
    server.close()


def top(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vgpumonitor", "top", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


class TestCommand:
    def test_once_from_an_exporter(self, server: PageServer, tmp_path: Path) -> None:
        done = top(server.url, "--once", "--sort", "cores", "--filter", "team-a")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == once(document(), View(sort="cores", filter="team-a"))
        assert "\x1b" not in done.stdout
        assert [line.split()[2] for line in done.stdout.splitlines()[-3:]] == [
            "c000",
            "c001",
            "c002",
        ]

    def test_into_a_pipe_is_once(self, server: PageServer) -> None:
        assert top(server.url).stdout == once(document(), View())

    def test_without_a_terminal_of_unix(self, server: PageServer) -> None:
        """A system without termios and tty still prints plain text."""
        hidden = "import sys; sys.modules.update(termios=None, tty=None); "
        called = f"from vgpumonitor.cli import main; main(['top', {server.url!r}, '--once'])"
        done = subprocess.run(
            [sys.executable, "-c", hidden + called],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == once(document(), View())

    def test_an_interval_that_would_keep_the_exporter_busy_is_refused(self) -> None:
        done = top("http://localhost:9394", "--interval", "0")
        assert done.returncode == 2
        assert "'--interval': invalid duration '0': expected at least 0.1 s" in done.stderr

    def test_an_exporter_that_is_not_there_is_named(self) -> None:
        done = top(f"http://user:secret@127.0.0.1:{free_port()}", "--once")
        assert done.returncode == 1
        assert "can't get a snapshot from http://127.0.0.1:" in done.stderr
        assert done.stderr.endswith("/api/v1/snapshot: Connection refused\n")
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr


class TestFetch:
    def test_a_status_is_told(self, server: PageServer) -> None:
        server.scraper.snapshot = None
        with pytest.raises(FetchError, match="/api/v1/snapshot answered with status 500"):
            from_url(server.url, TLS)()

    def test_something_else_is_told(self, server: PageServer) -> None:
        text = "answered with status 404: expected the address of a vgpumonitor$"
        with pytest.raises(FetchError, match=text):
            from_url(f"{server.url}/elsewhere", TLS)()

    def test_a_scheme_that_it_does_not_speak_is_told(self, server: PageServer) -> None:
        with pytest.raises(FetchError, match=r"does not speak TLS: expected http:// in its URL$"):
            from_url(server.url.replace("http:", "https:"), TLS)()

    @pytest.mark.parametrize("url", ["localhost:9394", "ftp://x", "", "http://", "http://[::1"])
    def test_an_invalid_url_is_refused(self, url: str) -> None:
        with pytest.raises(FetchError, match="expected http:// or https:// and a host"):
            from_url(url, TLS)()


class Terminal:
    """A shell in tmux."""

    def __init__(self, socket: Path, width: int, height: int) -> None:
        self._tmux = [require("tmux"), "-S", str(socket), "-f", "/dev/null"]
        size = ["-x", str(width), "-y", str(height)]
        self._run("new-session", "-d", *size, "env", "PS1=$ ", "ENV=", "sh")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def line(self, text: str) -> None:
        self._run("send-keys", "-l", text)
        self._run("send-keys", "Enter")

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def lines(self) -> list[str]:
        return self._run("capture-pane", "-p").splitlines()

    def shows(self, *texts: str) -> bool:
        screen = "\n".join(self.lines())
        assert all(text in screen for text in texts), screen
        return True

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 80, 24)
    yield terminal
    terminal.close()


@pytest.mark.slow
class TestTerminal:
    def start(self, terminal: Terminal, server: PageServer) -> None:
        command = [sys.executable, "-m", "vgpumonitor", "top", server.url, "--interval", "0.2"]
        terminal.line("echo before; " + shlex.join(command))
        eventually(lambda: terminal.shows("node-1", "[q]uit", "c000"))

    def first(self, terminal: Terminal) -> str:
        """The container in the first row."""
        lines = terminal.lines()
        heading = next(place for place, line in enumerate(lines) if "CONTAINER" in line)
        return lines[heading + 1]

    def test_keys(self, terminal: Terminal, server: PageServer) -> None:
        server.scraper.snapshot = node(60)
        terminal.resize(200, 50)
        command = [sys.executable, "-m", "vgpumonitor", "top", server.url, "--interval", "0.2"]
        terminal.line("echo before; " + shlex.join(command))
        eventually(lambda: terminal.shows("node-1", "1–45 of 61", "[q]uit"))
        assert "c059" in self.first(terminal)
        for key, expected in (
            ("c", "c000"),
            ("r", "c059"),
            ("n", "c000"),
            ("Down", "c001"),
            ("NPage", "c016"),
            ("Up", "c015"),
            ("Home", "c000"),
            ("End", "c016"),
            ("l", "c053"),
        ):
            terminal.keys(key)
            eventually(lambda expected=expected: expected in self.first(terminal))  # type: ignore[misc]
        terminal.keys("/")
        terminal.keys("-l", "c04")
        eventually(lambda: terminal.shows("/c04▏"))
        terminal.keys("Enter")
        eventually(lambda: terminal.shows("1–10 of 10  /c04"))
        terminal.keys("Escape")
        eventually(lambda: terminal.shows("1–45 of 61"))
        terminal.keys("q")
        eventually(lambda: terminal.shows("before"))
        assert "CONTAINER" not in "\n".join(terminal.lines())
        terminal.line("stty -a")
        eventually(lambda: terminal.shows(" icanon", " echo "))

    def test_updates_sizes_and_a_lost_exporter(
        self, terminal: Terminal, server: PageServer
    ) -> None:
        self.start(terminal, server)
        narrow = terminal.lines()
        assert len(narrow) == 24
        assert "POD" in narrow[3]
        assert "NAMESPACE" not in narrow[3]
        assert "[q]uit  [/] filter  [r]everse  [mcinlgs] sort: memory" in narrow[23]
        terminal.resize(200, 50)
        eventually(lambda: terminal.shows("NAMESPACE"))
        eventually(lambda: "[m] memory" in terminal.lines()[49])
        terminal.resize(80, 24)
        eventually(lambda: "[mcinlgs]" in terminal.lines()[23])
        server.scraper.snapshot = node(5)
        eventually(lambda: terminal.shows("c004"))
        server.stop()
        eventually(lambda: terminal.shows("! can't get a snapshot from http://127.0.0.1:", "c004"))
        server.start()
        eventually(lambda: "can't get a snapshot" not in "\n".join(terminal.lines()))
        terminal.keys("C-c")
        eventually(lambda: terminal.shows("before"))
        terminal.line("stty -a")
        eventually(lambda: terminal.shows(" icanon", " echo "))

    def test_a_terminal_is_as_it_was_after_sigterm(
        self, terminal: Terminal, server: PageServer, tmp_path: Path
    ) -> None:
        command = shlex.join([sys.executable, "-m", "vgpumonitor", "top", server.url])
        pid = tmp_path / "pid"
        terminal.line(f"echo before; sh -c 'echo $$ > {pid}; exec {command}'")
        eventually(lambda: terminal.shows("node-1", "c000"))
        os.kill(int(pid.read_text()), signal.SIGTERM)
        eventually(lambda: terminal.shows("before"))
        terminal.line("stty -a")
        eventually(lambda: terminal.shows(" icanon", " echo "))
