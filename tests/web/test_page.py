"""The page in a real Chromium: its figures, its controls, and what it must never do."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from testing.tools import MissingToolError, require
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
from vgpumonitor import formatting
from vgpumonitor.diagnosis import KINDS
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot, XidContainer
from vgpumonitor.sources.containers import ContainersView
from vgpumonitor.sources.devices import DeviceHealth, DeviceProcess, ProcessUtilization
from vgpumonitor.sources.pods import Allocation, Pod, PodsView
from vgpumonitor.sources.processes import ContainerRef

pytestmark = pytest.mark.slow

#: What axe-core complains about in a page, with the elements.
Violations = Callable[[Page], list[dict[str, Any]]]

HERE = Path(__file__).parent
SCREENSHOTS = HERE.parent / "screenshots"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

POD = Pod(UID, "team-a", "train-0", allocations=(Allocation("", 3, 12 * GIB, 0.5),))
OTHER_POD = Pod(OTHER, "team-b", "infer-0")


def node(when: float = NOW, used: int = 3 * GIB) -> NodeSnapshot:
    """Two GPUs; a container on both, one blocked, one near its limit, one waiting, and
    dead and unattributed memory."""
    return snapshot(
        entry(
            region(
                process(use(data=used, sm=40), use(data=GIB, sm=5)),
                process(use(data=512 * MIB), use(), hostpid=300, pid=9),
                uuids=[GPU, GPU_2],
                priority=0,
            )
        ),
        entry(
            region(process(use(data=MIB), hostpid=101), recent_kernel=-1, priority=5),
            OTHER,
            "blocked",
        ),
        entry(region(process(use(data=39 * GIB // 4, sm=7), hostpid=102)), OTHER, "near"),
        entry(None, OTHER, "idle"),
        pods=pods_view(POD, OTHER_POD),
        gpus=[
            gpu(
                processes=(
                    DeviceProcess(900, 700 * MIB),
                    DeviceProcess(101, 2 * MIB, ProcessUtilization(core=35)),
                )
            ),
            gpu(GPU_2, 1, 4),
        ],
        live=(100, 101, 102),
        on_devices={900: None},
        time=when,
    )


def many(number: int) -> NodeSnapshot:
    entries = [
        entry(
            region(process(use(data=(place + 1) * MIB)), limit=2 * GIB),
            f"{place:08x}-6f55-4c5e-8a43-0f2c9b1f3a11",
            f"c{place}",
        )
        for place in range(number)
    ]
    return snapshot(*entries, gpus=[gpu(memory_total=2000 * GIB)])


def hostile() -> NodeSnapshot:
    """Markup and control characters wherever a container, or a pod's author, can write."""
    evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    made = snapshot(
        structs.replace(
            entry(None, container="one", error=f"bad {evil}"), path=f"{evil}\x1b\u202e.cache"
        ),
        entry(
            structs.replace(region(), problems=(("bad_uuid", f"the UUID is {evil}"),)), OTHER, "two"
        ),
        pods=pods_view(Pod(UID, "__proto__", evil), OTHER_POD),
        gpus=[gpu(name=evil, throttled={evil: True})],
        live=(),
    )
    return replace(
        made,
        node=evil,
        xids=(DeviceXid(0, GPU, evil, 31, 1, NOW, (XidContainer(evil, evil, evil),)),),
        health=replace(made.health, containers=ContainersView(error=evil), region_errors={evil: 1}),
    )


@pytest.fixture(scope="module")
def violations() -> Violations:
    script = node_module("axe-core") / "axe.min.js"

    def found(page: Page) -> list[dict[str, Any]]:
        page.evaluate(script.read_text())
        complaints: list[dict[str, Any]] = page.evaluate(
            """async () => (await axe.run()).violations.map(
                ({id, help, nodes}) => ({id, help, nodes: nodes.map((node) => node.html)}))"""
        )
        return complaints

    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer(node())
    yield server
    server.close()


@dataclass
class Watched:
    """What pages said on the console, and whom they asked."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    @property
    def polls(self) -> int:
        return sum("/api/v1/snapshot" in url for url in self.requests)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def opened(browser: Browser, server: PageServer, watched: Watched) -> Iterator[Callable[..., Page]]:
    """Opens the page, shown. No test's page may say an error that the test doesn't expect
    (and then clears), or ask anybody but the exporter."""
    contexts = []

    def make(viewport: ViewportSize = DESKTOP, clock: bool = False, **options: Any) -> Page:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        if clock:
            page.clock.install()
        page.on("console", watched.heard)
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on("request", lambda request: watched.requests.append(request.url))
        page.goto(server.url)
        expect(page.locator("#updated")).to_contain_text("Updated")
        return page

    expect.set_options(timeout=20_000)
    yield make
    for context in contexts:
        context.close()
    assert watched.errors == []
    assert {url for url in watched.requests if not url.startswith((server.url, "data:"))} == set()


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def again(page: Page) -> None:
    """Makes the page ask at once: pause and go on."""
    page.click("#pause")
    page.click("#pause")


def figure(gpu: Locator, name: str) -> str:
    spans = gpu.locator(f".{name}-figure > *").all_inner_texts()
    return " ".join(" ".join(spans).split())


def facts_of(dialog: Locator) -> dict[str, str]:
    return dict(
        zip(
            dialog.locator("dt").all_inner_texts(),
            dialog.locator("dd").all_inner_texts(),
            strict=True,
        )
    )


def rows(page: Page) -> list[list[str]]:
    return [row.locator("th, td").all_inner_texts() for row in page.locator("#rows tr").all()]


def column(page: Page, name: str) -> list[str]:
    return page.locator(f"#rows .{name}").all_inner_texts()


class TestFigures:
    def test_of_the_table_are_the_apis(self, page: Page, server: PageServer) -> None:
        with urllib.request.urlopen(f"{server.url}/api/v1/snapshot", timeout=20) as response:
            document = json.load(response)
        names = {gpu["uuid"]: str(gpu["index"]) for gpu in document["devices"]}
        expected = []
        for found in document["containers"]:
            for device in found["devices"]:
                used, limit = device["memory_used_bytes"], device["memory_limit_bytes"]
                mark = "▲ " if used >= 0.9 * limit else ""
                state = {"running": "●running", "blocked": "‖blocked"}[found["status"]]
                expected.append(
                    [
                        found["namespace"],
                        found["pod"],
                        found["container"],
                        names[device["uuid"]],
                        mark + formatting.size(used),
                        formatting.size((device["driver"] or {}).get("memory_used_bytes")),
                        formatting.size(limit),
                        formatting.percent(device["core_utilization_percent"]),
                        formatting.percent(
                            (device["driver"] or {}).get("core_utilization_percent")
                        ),
                        formatting.percent(device["core_limit_percent"]),
                        formatting.ago(document["time"] - found["last_kernel_time"]),
                        state,
                    ]
                )
        shown = [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in rows(page)]
        shown = [[*row[:-1], row[-1].replace(" ", "")] for row in shown]
        assert len(expected) == 4
        assert sorted(shown[:-1]) == sorted(expected)
        assert shown[-1] == ["team-b", "infer-0", "idle", *"–" * 8, "◌waiting"]

    def test_of_the_gpus_are_the_apis(self, page: Page) -> None:
        first, second = page.locator("#gpus article").all()
        assert first.locator("h3").inner_text().split() == ["GPU", "0", "A100"]
        assert first.locator(".sensors").inner_text() == "61 °C · 251 W"
        assert figure(first, "memory") == (
            "Memory 20.0 GiB of 40.0 GiB used limits 30.0 GiB · allocated 12.0 GiB · "
            "✕ dead 512 MiB · ? in no container 700 MiB"
        )
        assert figure(first, "cores") == "Cores 75% containers 82% · limits 150%"
        assert second.locator(".bar").get_attribute("aria-label") == (
            "Memory: 20.0 GiB of 40.0 GiB used, limits 10.0 GiB; 1 container"
        )
        expect(page.locator("#totals")).to_have_text(
            "2 GPUs · 4 containers · 40.0 GiB of 80.0 GiB in use"
        )

    def test_of_the_bar_are_its_widths(self, page: Page) -> None:
        bar = page.locator("#gpus article").first.locator(".bar")
        whole = bar.evaluate("bar => bar.clientWidth")
        blocks = bar.locator(".block").all()
        widths = [block.evaluate("block => block.offsetWidth / 1") / whole for block in blocks]
        # Three limits of 10 GiB and 700 MiB in no container, of 40 GiB.
        assert widths == pytest.approx([0.25, 0.25, 0.25, 700 / 40960], abs=0.01)
        shares = blocks[0].evaluate(
            "block => [...block.children].map(part => part.offsetWidth / block.clientWidth)"
        )
        assert shares == pytest.approx([0.3, 0.05], abs=0.02)
        assert "unattributed" in (blocks[3].get_attribute("class") or "")
        expect(bar.locator(".end")).to_be_hidden()

    def test_limits_beyond_the_gpu_show_its_end(self, opened: Any, server: PageServer) -> None:
        entries = [entry(region(limit=30 * GIB), OTHER, name) for name in ("a", "b")]
        server.scraper.snapshot = snapshot(*entries, gpus=[gpu()])
        bar = opened().locator(".bar")
        expect(bar.locator(".end")).to_be_visible()
        end = bar.locator(".end").evaluate("end => end.offsetLeft / end.parentNode.clientWidth")
        assert end == pytest.approx(40 / 60, abs=0.01)

    def test_are_written_as_top_and_inspect_write_them(self, page: Page) -> None:
        counts = [0, 1, 1023, *(m << s for s in range(10, 60, 3) for m in (1, 3, 999, 1000, 1151))]
        seconds = [-1, 0, 0.9, 1, 59.9, 60, 239, 3599, 3600, 86399, 86400, 9e6]
        shares = [0, 0.4, 0.5, 1.5, 2.5, 37, 99.5, 250]
        uuids = [GPU, "MIG-8664316c-6888-5063-1e4d-f2a09cfbf100"]
        shown = page.evaluate(
            """async ([counts, seconds, shares, uuids]) => {
                const format = await import("/page/format.js");
                return [
                    counts.map(format.size), seconds.map(format.ago),
                    shares.map(format.percent), uuids.map(format.shortUuid),
                    [format.size(null), format.ago(null), format.percent(null)],
                ];
            }""",
            [counts, seconds, shares, uuids],
        )
        assert shown == [
            [formatting.size(count) for count in counts],
            [formatting.ago(passed) for passed in seconds],
            [formatting.percent(share) for share in shares],
            [formatting.short_uuid(uuid) for uuid in uuids],
            [formatting.NONE] * 3,
        ]

    def test_of_an_empty_node(self, opened: Any, server: PageServer) -> None:
        server.scraper.snapshot = snapshot(live=())
        page = opened()
        expect(page.locator("#empty")).to_contain_text("No container has used a shared GPU yet")
        expect(page.locator("#findings")).to_be_hidden()
        expect(page.locator("#table")).to_be_hidden()

    def test_what_is_the_matter_with_a_gpu_stands_on_it(
        self, opened: Any, server: PageServer
    ) -> None:
        server.scraper.snapshot = snapshot(
            gpus=[
                gpu(pcie_width=8, max_pcie_width=16, row_remap_pending=True),
                gpu(GPU_2, 1).without_readings(),
                gpu(GPU[:-1] + "9", 2),
            ]
        )
        page = opened()
        expect(page.locator("#gpus article")).to_have_count(3)
        narrow, lost, well = page.locator("#gpus article").all()
        expect(narrow.locator(".conditions")).to_have_text("! row remap pending · ! PCIe x8 of x16")
        expect(lost.locator(".conditions")).to_have_text("! lost")
        expect(lost.locator("h3")).to_contain_text("GPU 1")
        expect(well.locator(".conditions")).to_be_hidden()

    def test_without_a_driver_gpus_are_known_from_their_containers(
        self, opened: Any, server: PageServer
    ) -> None:
        server.scraper.snapshot = snapshot(entry(region(process(use(data=GIB)))))
        article = opened().locator("#gpus article")
        expect(article.locator("h3")).to_contain_text("GPU-8664316c")
        expect(article.locator(".memory-figure")).to_contain_text("1.00 GiB by containers")

    def test_what_is_not_known_is_unknown_and_no_zero(
        self, opened: Any, server: PageServer
    ) -> None:
        """A GPU whose driver tells nothing, with a container that was never seen whole, one whose
        limit can't be true, one in no region, and one that is; a pod without an amount."""
        torn = structs.replace(region(process(use(data=GIB))), torn=1, missing=1)
        nonsense = region(process(use(data=2 * GIB)), limit=1 << 60, sm_limit=100)
        allocations = Allocation(GPU, 3, None, None), Allocation(GPU, 3, 4 * GIB, 0.5)
        pods = pods_view(
            replace(POD, allocations=allocations[:1]),
            replace(OTHER_POD, allocations=allocations[1:]),
        )
        server.scraper.snapshot = snapshot(
            entry(torn),
            entry(nonsense, OTHER, "nonsense"),
            pods=pods,
            gpus=[
                gpu(memory_used=None, core_utilization=None, power_watts=None),
                gpu(GPU_2, 1, memory_used=GIB),
            ],
            unfound="unidentified",
        )
        page = opened()
        expect(page.locator("#totals")).to_have_text(
            "2 GPUs · 2 containers · 1.00 GiB of 40.0 GiB in use · use of 1 GPU unknown"
        )
        first = page.locator("#gpus article").first
        assert figure(first, "memory") == (
            "Memory 2.00 GiB and 1 unknown of 40.0 GiB by containers limits 10.0 GiB · "
            "allocated 4.00 GiB and 1 unknown"
        )
        assert figure(first, "cores") == "Cores unknown limits 50%"
        blocks = first.locator(".block").all()
        assert [block.get_attribute("title") for block in blocks] == [
            "team-a/train-0/train: unknown of 10.0 GiB",
            "team-b/infer-0/nonsense: 2.00 GiB limit unknown",
        ]
        assert [block.get_attribute("class") for block in blocks] == [
            "block limited unknown",
            "block unlimited",
        ]
        shown = [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in rows(page)]
        assert [row[2:-1] for row in shown] == [
            ["nonsense", "0", "2.00 GiB", "–", "–", "–", "–", "none", "1 min ago"],
            ["train", "0", "–", "–", "10.0 GiB", "–", "–", "50%", "1 min ago"],
        ]
        expect(page.locator("#help dt", has_text="–")).to_have_text("–")
        page.get_by_role("button", name="train-0").click()
        facts = facts_of(page.get_by_role("dialog"))
        assert facts["Memory"] == "unknown of 10.0 GiB"
        assert facts["Held by dead processes"] == "unknown"
        page.keyboard.press("Escape")
        page.get_by_role("button", name="infer-0").click()
        facts = facts_of(page.get_by_role("dialog"))
        assert facts["Memory"] == "2.00 GiB, limit unknown"
        assert facts["Cores"] == "not measured by HAMi-core, no limit"

    def test_of_a_node_of_which_nothing_is_known(self, opened: Any, server: PageServer) -> None:
        server.scraper.snapshot = snapshot(gpus=[gpu(memory_used=None, core_utilization=None)])
        page = opened()
        expect(page.locator("#totals")).to_have_text("1 GPU · 0 containers · use of 1 GPU unknown")
        article = page.locator("#gpus article")
        assert figure(article, "memory") == "Memory unknown of 40.0 GiB"
        assert figure(article, "cores") == "Cores unknown"


class TestTable:
    @pytest.mark.parametrize(
        ("heading", "name", "expected"),
        [
            ("Namespace", "namespace", ["team-a", "team-a", "team-b", "team-b", "team-b"]),
            ("Container", "container", ["blocked", "idle", "near", "train", "train"]),
            ("GPU", "gpu", ["0", "0", "0", "1", "–"]),
            ("Cores", "cores", ["40%", "7%", "5%", "0%", "–"]),
            ("State", "state", ["‖blocked", "●running", "●running", "●running", "◌waiting"]),
        ],
    )
    def test_sorts(self, page: Page, heading: str, name: str, expected: list[str]) -> None:
        def shown() -> list[str]:
            return [text.replace("\n", "").strip() for text in column(page, name)]

        header = page.get_by_role("columnheader", name=heading, exact=True)
        header.get_by_role("button").click()
        numbers = name == "cores"
        expect(header).to_have_attribute("aria-sort", "descending" if numbers else "ascending")
        assert shown() == expected
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", "ascending" if numbers else "descending")
        # What has no value stays last.
        known = [text for text in expected if text != "–"]
        assert shown() == known[::-1] + ["–"] * (len(expected) - len(known))
        assert page.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 1

    def test_memory_is_sorted_first_and_by_value(self, page: Page) -> None:
        expected = ["▲ 9.75 GiB", "3.00 GiB", "1.00 GiB", "1.00 MiB", "–"]
        assert [text.strip() for text in column(page, "memory")] == expected

    def test_filters(self, page: Page) -> None:
        found = page.locator("#found")
        expect(found).to_have_text("5 rows")
        page.fill("#filter", "TEAM-B near")
        expect(found).to_have_text("1 row of 5")
        assert column(page, "container") == ["near"]
        page.fill("#filter", "near train")
        expect(page.locator("#empty")).to_have_text("No container matches the filter.")
        page.fill("#filter", "")
        page.select_option("#gpu-filter", "1")
        assert column(page, "gpu") == ["1"]
        page.select_option("#gpu-filter", "all")
        page.select_option("#state-filter", "blocked")
        assert column(page, "container") == ["blocked"]

    def test_filter_and_order_are_in_the_address(self, page: Page) -> None:
        page.fill("#filter", "team-a")
        page.get_by_role("columnheader", name="GPU").get_by_role("button").click()
        page.reload()
        expect(page.locator("#rows tr")).to_have_count(2)
        expect(page.locator("#filter")).to_have_value("team-a")
        assert column(page, "gpu") == ["0", "1"]

    def test_a_gpu_shows_its_containers(self, page: Page) -> None:
        page.get_by_role("button", name="GPU 1").click()
        expect(page.locator("#rows tr")).to_have_count(1)
        expect(page.locator("#gpu-filter")).to_be_focused()

    def test_a_thousand_containers_are_pages(self, opened: Any, server: PageServer) -> None:
        server.scraper.snapshot = many(1000)
        page = opened()
        expect(page.locator("#page-number")).to_have_text("1–100 of 1,000")
        assert page.locator("#rows tr").count() == 100
        assert column(page, "container")[:2] == ["c999", "c998"]
        expect(page.get_by_role("button", name="Previous")).to_be_disabled()
        for _ in range(9):
            page.get_by_role("button", name="Next").click()
        expect(page.locator("#page-number")).to_have_text("901–1000 of 1,000")
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        assert column(page, "container")[-1] == "c0"
        assert page.locator(".block").count() == 1000
        page.fill("#filter", "c123")
        expect(page.locator("#found")).to_have_text("1 row of 1,000")
        expect(page.locator("#pages")).to_be_hidden()

    def test_an_update_of_a_thousand_writes_only_what_changed(
        self, opened: Any, server: PageServer
    ) -> None:
        server.scraper.snapshot = many(1000)
        page = opened()
        page.evaluate(
            """() => {
                window.written = [];
                new MutationObserver((records) => window.written.push(...records.map(
                    (record) => record.target.closest?.("[class]")?.className)))
                    .observe(document.getElementById("rows"), {childList: true, subtree: true});
            }"""
        )
        later = many(1000)
        server.scraper.snapshot = replace(later, time=NOW + 30)
        again(page)
        expect(page.locator("#rows .lastKernel").first).to_have_text("1 min ago")
        server.scraper.snapshot = replace(later, time=NOW + 65)
        again(page)
        expect(page.locator("#rows .lastKernel").first).to_have_text("2 min ago")
        assert page.evaluate("window.written") == ["lastKernel"] * 100


class TestUpdates:
    def test_come_by_themselves(self, page: Page, server: PageServer) -> None:
        assert "3.00 GiB" in column(page, "memory")
        server.scraper.snapshot = node(NOW + 3, used=5 * GIB)
        expect(page.locator("#rows .memory", has_text="5.00 GiB")).to_have_count(1)
        expect(page.locator("#rows .memory", has_text="3.00 GiB")).to_have_count(0)

    def test_drop_and_add_containers(self, page: Page, server: PageServer) -> None:
        server.scraper.snapshot = snapshot(entry(region(), container="new"), gpus=[gpu()])
        again(page)
        expect(page.locator("#rows tr")).to_have_count(1)
        assert column(page, "container") == ["new"]
        expect(page.locator("#gpus article")).to_have_count(1)

    def test_keep_the_focus_on_its_container(self, page: Page, server: PageServer) -> None:
        row = page.locator("#rows tr", has_text="train").first
        row.get_by_role("button").focus()
        assert column(page, "container")[0] == "near"
        server.scraper.snapshot = node(NOW + 3, used=9 * GIB + 900 * MIB)
        expect(page.locator("#rows tr").first).to_contain_text("train")
        expect(page.locator("#rows tr").first.get_by_role("button")).to_be_focused()

    def test_are_no_news_for_a_screen_reader(self, page: Page, server: PageServer) -> None:
        page.evaluate(
            """() => {
                window.said = 0;
                for (const region of document.querySelectorAll("[role=status], [role=alert]"))
                    new MutationObserver(() => { window.said += 1; }).observe(
                        region, {childList: true, subtree: true, characterData: true});
            }"""
        )
        server.scraper.snapshot = node(NOW + 3, used=5 * GIB)
        expect(page.locator("#rows .memory", has_text="5.00 GiB")).to_have_count(1)
        assert page.evaluate("window.said") == 0
        page.fill("#filter", "team-a")
        expect(page.locator("#found")).to_have_text("2 rows of 5")
        assert page.evaluate("window.said") > 0

    def test_stop_while_the_page_is_hidden(self, opened: Any, watched: Watched) -> None:
        page = opened(clock=True)

        def hide(hidden: bool) -> None:
            page.evaluate(
                """(hidden) => {
                    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                    document.dispatchEvent(new Event("visibilitychange"));
                }""",
                hidden,
            )

        with page.expect_response("**/api/v1/snapshot"):
            page.clock.run_for(3000)
        hide(True)
        before = watched.polls
        page.clock.run_for(60_000)
        assert watched.polls == before
        with page.expect_response("**/api/v1/snapshot"):
            hide(False)

    def test_stop_while_paused(self, opened: Any, watched: Watched) -> None:
        page = opened(clock=True)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        before = watched.polls
        page.clock.run_for(60_000)
        assert watched.polls == before
        with page.expect_response("**/api/v1/snapshot"):
            page.get_by_role("button", name="Pause").click()

    def test_draw_the_cores_over_time(self, page: Page, server: PageServer) -> None:
        accent = """chart => {
            const canvas = chart.querySelector("canvas");
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let found = 0;
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 200 && data[at] < 60 && data[at + 1] > 100) found += 1;
            return found;
        }"""
        chart = page.locator("#gpus .chart").first
        assert chart.evaluate(accent) == 0
        for seconds in (10, 20):
            server.scraper.snapshot = node(NOW + seconds, used=(3 + seconds) * MIB)
            again(page)
            expect(page.locator("#rows .memory", has_text=f"{3 + seconds}.0 MiB")).to_have_count(1)
        # The line of the GPU is the only one in this colour.
        assert chart.evaluate(accent) > 50

    def test_are_remembered_for_a_quarter_of_an_hour(self, page: Page) -> None:
        history = page.evaluate(
            """async () => {
                const { History } = await import("/page/history.js");
                const history = new History();
                const looks = [];
                for (const [time, value] of [[10, 1], [13, 2], [13, 9], [40, 3], [912, 4]]) {
                    history.add(time, new Map([["a", value]]));
                    looks.push([[...history.times], [...history.get("a")]]);
                }
                history.add(915, new Map([["b", 5]]));
                return [...looks.slice(2), history.get("a"), history.get("b"), history.get("c")];
            }"""
        )
        # What came twice counts once, time without a snapshot is a gap in the line, and what
        # is more than 15 minutes old goes.
        assert history == [
            [[10, 13], [1, 2]],
            [[10, 13, 14, 40], [1, 2, None, 3]],
            [[13, 14, 40, 41, 912], [2, None, 3, None, 4]],
            [3, None, 4, None],
            [None, None, None, 5],
            [None] * 4,
        ]


class TestConnection:
    def test_is_lost_and_found(self, page: Page, server: PageServer, watched: Watched) -> None:
        alert = page.get_by_role("alert")
        expect(alert).to_be_empty()
        server.stop()
        expect(alert).to_contain_text("Lost the exporter: no answer. Trying again.")
        expect(page.locator("body")).to_have_class("stale")
        assert len(rows(page)) == 5
        server.scraper.snapshot = node(NOW + 3, used=5 * GIB)
        server.start()
        expect(alert).to_be_empty()
        expect(page.locator("body")).to_have_class("")
        expect(page.locator("#rows .memory", has_text="5.00 GiB")).to_have_count(1)
        assert all("ERR_CONNECTION_REFUSED" in error for error in watched.errors)
        watched.errors.clear()

    def test_says_what_the_exporter_answers(
        self, page: Page, server: PageServer, watched: Watched, violations: Violations
    ) -> None:
        server.scraper.snapshot = None
        again(page)
        expect(page.get_by_role("alert")).to_contain_text("it answers with status 500")
        server.scraper.snapshot = node()
        expect(page.get_by_role("alert")).to_be_empty()
        assert all("status of 500" in error for error in watched.errors)
        watched.errors.clear()


def told(page: Page) -> list[str]:
    """The lines of what is wrong."""
    lines = page.locator("#finding-list summary").all_inner_texts()
    return [" ".join(line.split()) for line in lines]


class TestFindings:
    def test_processes_that_hami_core_does_not_know_of(
        self, opened: Any, server: PageServer
    ) -> None:
        """One beside the region's, and one in a container without a region: both are told, the
        first as more than HAMi-core's account, the second as the driver's alone."""
        server.scraper.snapshot = snapshot(
            entry(region(process(use(data=GIB)))),
            entry(None, OTHER, "around"),
            pods=pods_view(POD, OTHER_POD),
            gpus=[
                gpu(
                    processes=(
                        DeviceProcess(100, GIB, ProcessUtilization(core=10)),
                        DeviceProcess(207, 2 * GIB, ProcessUtilization(core=20)),
                        DeviceProcess(307, 4 * GIB, ProcessUtilization(core=30)),
                    )
                )
            ],
            live=(100,),
            on_devices={207: ContainerRef(UID, ""), 307: ContainerRef(OTHER, "")},
        )
        page = opened()
        assert told(page) == [
            "! warning A container uses a GPU without HAMi-core "
            f"team-b/infer-0/around: 4.00 GiB on GPU 0, and no region file in {OTHER}_around",
            "! warning Processes that HAMi-core does not know of use a GPU "
            "team-a/train-0/train: 2.00 GiB on GPU 0",
        ]
        shown = [[re.sub(r"\s+", " ", cell).strip() for cell in row] for row in rows(page)]
        assert [row[2:9] for row in shown] == [
            ["train", "0", "1.00 GiB", "3.00 GiB", "10.0 GiB", "0%", "30%"],
            ["around", "0", "–", "4.00 GiB", "–", "–", "30%"],
        ]
        assert [row[11] for row in shown] == [
            "●running bypasses with 2.00 GiB",
            "●running bypasses with 4.00 GiB",
        ]
        page.fill("#filter", "around bypass")
        assert column(page, "container") == ["around"]
        page.fill("#filter", "")
        blocks = page.locator("#gpus .block").all()
        assert [block.get_attribute("title") for block in blocks] == [
            "team-a/train-0/train: 3.00 GiB of 10.0 GiB",
            "team-b/infer-0/around: 4.00 GiB limit unknown",
        ]

    def test_are_told_with_their_reasons_the_worst_first(
        self, opened: Any, server: PageServer
    ) -> None:
        made = snapshot(
            entry(None, error="not a regular file but a pipe"),
            entry(region(process(use(data=50 * GIB))), OTHER),
            pods=PodsView({UID: POD}, up=False, synced=NOW - 200),
            gpus=[gpu()],
            live=(100,),
        )
        server.scraper.snapshot = replace(
            made, health=replace(made.health, devices=DeviceHealth("NVML", False, {}, "no driver"))
        )
        page = opened()
        assert told(page) == [
            "▲ critical NVML does not answer no driver",
            "! warning A region file can't be read team-a/train-0/train: "
            f"not a regular file but a pipe ({UID}_train)",
            "! warning A region file has contents that can't be true "
            f"{OTHER}/train: memory on GPU 0 is more than there can be",
            "! warning The pods can't be read file, last read 3 min ago: no answer yet",
        ]
        server.scraper.snapshot = snapshot(live=())
        again(page)
        expect(page.locator("#findings")).to_be_hidden()

    def test_unfold_and_stay_unfolded(self, opened: Any, server: PageServer) -> None:
        entries = [entry(None, OTHER, f"c{place}", error="empty") for place in range(30)]
        server.scraper.snapshot = snapshot(*entries, live=())
        page = opened()
        (kind,) = [kind for kind in KINDS if kind.id == "region-unreadable"]
        finding = page.locator("#finding-list > li")
        expect(finding).to_have_count(1)
        expect(finding).to_contain_text("c0: empty")
        expect(finding).to_contain_text("(and 29 others)")
        expect(finding.locator(".mend")).to_be_hidden()
        finding.locator("summary").click()
        expect(finding.locator(".mend")).to_have_text(f"What to do: {kind.mend}".replace("`", ""))
        expect(finding.locator(".document")).to_contain_text(kind.document)
        expect(finding.locator("code", has_text="vgpumonitor inspect")).to_be_visible()
        assert finding.locator(".seen li").count() == 21
        expect(finding.locator(".seen li").last).to_have_text("and 10 more")
        server.scraper.snapshot = snapshot(entries[0], live=())
        again(page)
        expect(finding.locator(".seen li")).to_have_text([f"{OTHER}/c0: empty ({OTHER}_c0)"])
        expect(finding.locator(".mend")).to_be_visible()


#: One that took the GPU with it, one of a program on a MIG device, and one that is news to us.
XIDS = (
    DeviceXid(2, "GPU-lost", "", 79, 1, NOW - 5, ()),
    DeviceXid(
        *(1, GPU_2, "MIG-1", 31, 4, NOW - 200),
        (XidContainer("team-a", "train-0", "train"), XidContainer("", OTHER, "infer")),
    ),
    DeviceXid(0, GPU, "", 4711, 1, NOW - 7200, (XidContainer("team-a", "train-0", "train"),)),
)


class TestXids:
    def test_say_what_they_mean_what_to_do_and_who_was_there(
        self, opened: Any, server: PageServer
    ) -> None:
        server.scraper.snapshot = replace(node(), xids=XIDS)
        page = opened()
        expect(page.get_by_role("heading", name="GPU errors (XID)")).to_be_visible()
        lost, program, unknown = (
            [re.sub(r" ?, at [0-9:]+", "", " ".join(text.split())) for text in texts]
            for texts in (
                one.locator("p").all_inner_texts() for one in page.locator("#xid-list li").all()
            )
        )
        assert lost == [
            "GPU 2: XID 79 hardware 5 s ago",
            "The GPU has fallen off the bus: the driver can't reach it any more. "
            "Drain the node and switch its power off and on. If it comes back, check the GPU's "
            "seat, power and cooling, and have it replaced.",
            "On the GPU then: no container",
        ]
        assert program[0] == "GPU 1: XID 31 program 3 min ago, 4 times since the exporter started"
        assert program[1].startswith("A program accessed GPU memory that it does not have. Restart")
        assert program[2] == (f"On its MIG device MIG-1 then: team-a/train-0/train, {OTHER}/infer")
        assert unknown[0] == "GPU 0: XID 4711 unknown 2 h ago"
        assert "Look it up in NVIDIA's XID catalogue" in unknown[1]

    def test_without_one_nothing_is_said(self, page: Page, server: PageServer) -> None:
        expect(page.locator("#xids")).to_be_hidden()
        server.scraper.snapshot = replace(node(), xids=XIDS)
        again(page)
        expect(page.locator("#xid-list li")).to_have_count(3)

    def test_many_are_counted(self, opened: Any, server: PageServer) -> None:
        many_xids = tuple(DeviceXid(0, GPU, "", code, 1, NOW, ()) for code in range(23))
        server.scraper.snapshot = replace(node(), xids=many_xids)
        page = opened()
        expect(page.locator("#xid-list li")).to_have_count(20)
        expect(page.locator("#xids-more")).to_have_text("3 older ones besides")


class TestDetail:
    def test_says_everything_of_a_container(self, page: Page) -> None:
        page.locator("#rows tr", has_text="blocked").get_by_role("button").click()
        dialog = page.get_by_role("dialog", name="team-b / infer-0 / blocked")
        expect(dialog).to_be_visible()
        facts = facts_of(dialog)
        assert facts["State"] == "blocked"
        assert facts["Blocked by"] == (
            "team-a/train-0/train (priority 0), team-b/infer-0/near (priority 1)"
        )
        assert facts["GPU"] == f"0 · {GPU}"
        assert facts["Memory by kind"] == "context 0 B · module 0 B · data 1.00 MiB · other 0 B"
        assert facts["Core limit holds now"] == "yes"
        assert facts["Last kernel"].startswith("1 min ago, at ")
        assert facts["File"] == f"{OTHER}_blocked"
        assert dialog.locator("tbody td").all_inner_texts() == [
            "7",
            "101",
            "running",
            "1.00 MiB",
            "2.00 MiB",
            "0%",
            "35%",
        ]

    def test_follows_updates(self, page: Page, server: PageServer) -> None:
        page.locator("#rows tr", has_text="3.00 GiB").get_by_role("button").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator("tbody")).to_contain_text("dead")
        server.scraper.snapshot = node(NOW + 3, used=5 * GIB)
        expect(dialog.locator("dl")).to_contain_text("5.00 GiB of 10.0 GiB")
        server.scraper.snapshot = snapshot(gpus=[gpu()])
        expect(dialog.locator("dl")).to_have_text("Stategone")

    def test_works_by_keyboard(self, page: Page) -> None:
        button = page.locator("#rows tr").first.get_by_role("button")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()


class TestSafety:
    def test_what_others_wrote_is_text(self, opened: Any, server: PageServer) -> None:
        server.scraper.snapshot = hostile()
        page = opened()
        evil = '<img src=x onerror="window.hacked=1">'
        for place in ("#node", ".name", ".sensors", "#versions"):
            expect(page.locator(place)).to_contain_text(evil)
        expect(page.locator("#rows .pod", has_text=evil)).to_have_count(1)
        for finding in page.locator("#finding-list summary").all():
            finding.click()
        reasons = page.locator("#finding-list .seen li").all_inner_texts()
        assert len(reasons) == 3
        assert all(evil in reason for reason in reasons)
        assert "__proto__" in column(page, "namespace")
        for button in range(2):
            page.locator("#rows button").nth(button).click()
            expect(page.locator("#detail-body")).to_contain_text(evil)
            page.keyboard.press("Escape")
        assert page.locator("img, iframe, body script").count() == 0
        assert page.evaluate("window.hacked") is None

    def test_policy_holds_inline_script_and_style_off(self, page: Page, watched: Watched) -> None:
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                document.body.append(script);
                document.body.insertAdjacentHTML(
                    "beforeend", "<p id=styled style='color:red'></p>");
            }"""
        )
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("getComputedStyle(styled).color") != "rgb(255, 0, 0)"
        assert len(watched.errors) == 2
        assert all("Content Security Policy" in error for error in watched.errors)
        watched.errors.clear()

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/", "text/html"),
            ("/page/page.css", "text/css"),
            ("/page/app.js", "text/javascript"),
            ("/page/icon.svg", "image/svg+xml"),
            ("/page/uplot/uPlot.iife.min.js", "text/javascript"),
        ],
    )
    def test_headers(self, server: PageServer, path: str, kind: str) -> None:
        with urllib.request.urlopen(server.url + path, timeout=20) as response:
            headers, body = response.headers, response.read()
        assert headers.get_content_type() == kind
        assert headers["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-cache"
        assert len(body) > 100
        request = urllib.request.Request(
            server.url + path, headers={"If-None-Match": headers["ETag"]}
        )
        with pytest.raises(urllib.error.HTTPError) as unchanged:
            urllib.request.urlopen(request, timeout=20)
        assert unchanged.value.code == 304
        unchanged.value.close()

    def test_uplot_is_the_package(self) -> None:
        package = node_module("uplot")
        vendored = HERE.parents[1] / "vgpumonitor" / "web" / "page" / "uplot"
        for name in ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"):
            assert (package / name).read_bytes() == (vendored / Path(name).name).read_bytes()


class TestAccess:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
    def test_axe_finds_nothing(
        self,
        opened: Any,
        server: PageServer,
        violations: Violations,
        viewport: ViewportSize,
        scheme: str,
    ) -> None:
        made = node()
        broken = entry(None, UID, "broken", error="empty")
        server.scraper.snapshot = replace(
            made,
            containers=made.containers + snapshot(broken).containers,
            health=replace(made.health, pods=PodsView(up=False)),
            xids=XIDS,
        )
        page = opened(viewport, color_scheme=scheme)
        expect(page.locator("#finding-list > li")).to_have_count(5)
        page.locator("#finding-list summary").first.click()
        name = f"{'phone' if viewport is PHONE else 'desktop'}-{scheme}"
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        assert violations(page) == []
        page.locator("#rows button").first.click()
        page.screenshot(path=SCREENSHOTS / f"{name}-detail.png")
        assert violations(page) == []

    def test_axe_finds_nothing_where_the_exporter_is_lost(
        self, page: Page, server: PageServer, watched: Watched, violations: Violations
    ) -> None:
        server.scraper.snapshot = None
        again(page)
        expect(page.get_by_role("alert")).not_to_be_empty()
        page.screenshot(path=SCREENSHOTS / "lost.png")
        assert violations(page) == []
        watched.errors.clear()

    def test_headings_sort_by_keyboard(self, page: Page) -> None:
        page.get_by_role("columnheader", name="Pod").get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert page.locator("#columns [aria-sort=ascending]").inner_text().startswith("Pod")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.locator("#columns [aria-sort=ascending]").inner_text().startswith("Container")

    @pytest.mark.parametrize("width", [320, 390, 700, 1024])
    def test_nothing_is_wider_than_the_screen(self, opened: Any, width: int) -> None:
        page = opened({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.get_by_role("row").count() >= 5

    def test_a_phone_sorts_by_a_choice(self, opened: Any) -> None:
        page = opened(PHONE)
        page.get_by_label("Sort").select_option("Container")
        assert column(page, "container")[0].endswith("blocked")

    def test_nothing_moves_where_that_is_asked_for(self, opened: Any) -> None:
        page = opened(reduced_motion="reduce")
        duration = "getComputedStyle(document.querySelector('.use')).transitionDuration"
        assert page.evaluate(duration) == "0s"
        assert opened().evaluate(duration) == "0.4s"

    def test_the_links_lead_somewhere(self, page: Page, server: PageServer) -> None:
        targets = page.locator("header nav a").evaluate_all("links => links.map(one => one.href)")
        assert [target.removeprefix(server.url) for target in targets] == [
            "/metrics",
            "/readyz",
            "/api/v1/snapshot",
            "/api/v1/schema",
            "/#help",
        ]
        for target in targets:
            with urllib.request.urlopen(target, timeout=20) as response:
                assert response.status == 200
        expect(page.locator("#help")).to_be_visible()


def node_module(name: str) -> Path:
    """A package of package.json. Raises MissingToolError."""
    path = HERE / "node_modules" / name
    if not path.is_dir():
        raise MissingToolError(f"{name} is not installed; `npm ci --prefix tests/web` does it")
    return path
